"""MFCC as SyncNet was trained on: the defaults of python_speech_features 0.6, in float64.

Facts of that package kept here because the numbers depend on them: rectangular window, power spectrum divided by the
transform's length, filter edges floored to bins, natural logarithm, liftering, and log energy as coefficient 0.
"""

from __future__ import annotations

import math

import numpy as np

RATE = 16000
FRAME, STEP, FFT = 400, 160, 512
FILTERS, COEFFICIENTS, LIFTER = 26, 13, 22
PREEMPHASIS = 0.97


def pcm16(audio: np.ndarray) -> np.ndarray:
    """Samples as 16-bit integers, (n,) int16.

    Float samples that came from a PCM16 file (whole multiples of 1/32768) get exactly the file's values back; others
    are scaled by 32767, rounded and clipped. The product is taken in float64: in float32 a few samples round the other
    way.
    """
    if audio.dtype == np.int16:
        return audio
    exact = audio.astype(np.float64) * 32768.0
    from_file = np.array_equal(exact, np.round(exact))
    scaled = exact if from_file else np.round(audio.astype(np.float64) * 32767.0)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def filterbank() -> np.ndarray:
    """(26, 257) triangular filters, evenly spaced in mel from 0 to 8000 Hz."""
    mel = np.linspace(0.0, 2595.0 * math.log10(1.0 + RATE / 2 / 700.0), FILTERS + 2)
    edges = np.floor((FFT + 1) * 700.0 * (10.0 ** (mel / 2595.0) - 1.0) / RATE)
    bank = np.zeros((FILTERS, FFT // 2 + 1))
    for row, (left, middle, right) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rising, falling = np.arange(int(left), int(middle)), np.arange(int(middle), int(right))
        bank[row, rising] = (rising - left) / (middle - left)
        bank[row, falling] = (right - falling) / (right - middle)
    return bank


def power_spectrum(pcm: np.ndarray) -> np.ndarray:
    """(frames, 257) power spectrum of pre-emphasised frames of 400 samples every 160; the last one is zero-padded."""
    signal = pcm.astype(np.float64)
    signal = np.concatenate([signal[:1], signal[1:] - PREEMPHASIS * signal[:-1]])
    frames = 1 if len(signal) <= FRAME else 1 + math.ceil((len(signal) - FRAME) / STEP)
    signal = np.concatenate([signal, np.zeros(max(0, (frames - 1) * STEP + FRAME - len(signal)))])
    windows = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::STEP][:frames]
    return np.square(np.abs(np.fft.rfft(windows, FFT))) / FFT


def _no_zeros(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0.0, np.finfo(np.float64).eps, values)


def energies(pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filter energies (frames, 26) and frame energy (frames,), zeros replaced by the smallest step of float64."""
    power = power_spectrum(pcm)
    return _no_zeros(power @ filterbank().T), _no_zeros(power.sum(axis=1))


def mfcc(pcm: np.ndarray) -> np.ndarray:
    """(frames, 13) float64 coefficients of int16 samples (n,) at 16 kHz, 100 frames per second."""
    from scipy.fft import dct

    bands, energy = energies(pcm)
    order = np.arange(COEFFICIENTS)
    result = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    result = result * (1.0 + LIFTER / 2.0 * np.sin(np.pi * order / LIFTER))
    result[:, 0] = np.log(energy)
    return result
