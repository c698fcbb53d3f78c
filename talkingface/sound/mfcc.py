"""MFCC as SyncNet and DeepSpeech were trained on: the defaults of python_speech_features 0.6, in float64.

Facts of that package kept here because the numbers depend on them: rectangular window, power spectrum divided by the
transform's length, filter edges floored to bins, natural logarithm, liftering, and log energy as coefficient 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.fft import dct

from talkingface.sound import SAMPLE_RATE

FRAME, STEP, FFT = 400, 160, 512
FILTERS, COEFFICIENTS, LIFTER = 26, 13, 22
PREEMPHASIS = 0.97
BLOCK = 1000  # frames worked on at once, 10 s: float64 spectra of all would take 30 times as much as the sound


def pcm16(audio: np.ndarray) -> np.ndarray:
    """Samples as 16-bit integers, (n,) int16.

    Float samples that came from a PCM16 file (whole multiples of 1/32768) get exactly the file's values back; others
    are scaled by 32767, rounded and clipped. The product is taken in float64: in float32 a few samples round the other
    way.
    """
    if audio.dtype == np.int16:
        return audio
    # In blocks as well: float64 copies of hours of sound would not fit beside it.
    blocks = [slice(first, first + STEP * BLOCK) for first in range(0, len(audio), STEP * BLOCK)]
    from_file = all(_is_whole(audio[block].astype(np.float64) * 32768.0) for block in blocks)
    pcm = np.empty(len(audio), np.int16)
    for block in blocks:
        exact = audio[block].astype(np.float64) * (32768.0 if from_file else 32767.0)
        pcm[block] = np.clip(np.round(exact), -32768, 32767)
    return pcm


def _is_whole(values: np.ndarray) -> bool:
    return np.array_equal(values, np.round(values))


def filterbank() -> np.ndarray:
    """(26, 257) triangular filters, evenly spaced in mel from 0 to 8000 Hz."""
    mel = np.linspace(0.0, 2595.0 * math.log10(1.0 + SAMPLE_RATE / 2 / 700.0), FILTERS + 2)
    # Floored to whole bins as published, so low filters are a few bins wide and not quite triangles.
    edges = np.floor((FFT + 1) * 700.0 * (10.0 ** (mel / 2595.0) - 1.0) / SAMPLE_RATE)
    bank = np.zeros((FILTERS, FFT // 2 + 1))
    for row, (left, middle, right) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rising, falling = np.arange(int(left), int(middle)), np.arange(int(middle), int(right))
        bank[row, rising] = (rising - left) / (middle - left)
        bank[row, falling] = (right - falling) / (right - middle)
    return bank


def frame_count(pcm: np.ndarray) -> int:
    """Frames of 400 samples every 160; the last one may reach beyond the end."""
    return 1 if len(pcm) <= FRAME else 1 + math.ceil((len(pcm) - FRAME) / STEP)


def power_spectrum(pcm: np.ndarray, first: int, stop: int) -> np.ndarray:
    """(stop - first, 257) power spectrum of the pre-emphasised frames first to stop; zeros beyond the last sample."""
    begin, end = first * STEP, (stop - 1) * STEP + FRAME
    before = max(begin - 1, 0)  # pre-emphasis takes the sample before each; the first of all has none
    samples = pcm[before:end].astype(np.float64)
    emphasised = np.concatenate([samples[:1], samples[1:] - PREEMPHASIS * samples[:-1]])[begin - before :]
    # The last frame is filled up with silence.
    signal = np.concatenate([emphasised, np.zeros(end - begin - len(emphasised))])
    windows = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::STEP]
    return np.square(np.abs(np.fft.rfft(windows, FFT))) / FFT


def _no_zeros(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0.0, np.finfo(np.float64).eps, values)


def energies(pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filter energies (frames, 26) and frame energy (frames,), zeros replaced by the smallest step of float64."""
    bands, energy = zip(*_energy_blocks(pcm), strict=True)
    return np.concatenate(bands), np.concatenate(energy)


def _energy_blocks(pcm: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`energies`, a block of frames at a time."""
    bank, frames = filterbank().T, frame_count(pcm)
    for first in range(0, frames, BLOCK):
        power = power_spectrum(pcm, first, min(frames, first + BLOCK))
        yield _no_zeros(power @ bank), _no_zeros(power.sum(axis=1))


def mfcc(pcm: np.ndarray, coefficients: int = COEFFICIENTS) -> np.ndarray:
    """(frames, coefficients) float64 of int16 samples (n,) at 16 kHz, 100 frames per second; at most 26."""
    # Liftering raises the higher coefficients, which would be small beside the first ones.
    lifter = 1.0 + LIFTER / 2.0 * np.sin(np.pi * np.arange(coefficients) / LIFTER)
    result = np.empty((frame_count(pcm), coefficients))
    first = 0
    for bands, energy in _energy_blocks(pcm):
        block = result[first : first + len(energy)]
        block[:] = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :coefficients] * lifter
        # Coefficient 0 would be the mean of the log bands but for a factor; the energy of the frame takes its place, as
        # published.
        block[:, 0] = np.log(energy)
        first += len(energy)
    return result
