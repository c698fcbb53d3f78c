"""Features of sound: mels, MFCC, pitch, who speaks. Only numpy and scipy. What models hear is mono at one rate."""

SAMPLE_RATE = 16000
"""Hz of all sound that is analysed; files for people keep the full band."""
