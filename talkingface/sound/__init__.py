"""Features of sound: mel, MFCC, shifting in time. Only numpy and scipy."""
