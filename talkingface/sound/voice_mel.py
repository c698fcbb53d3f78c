"""The log-mel of MakeItTalk and AutoVC: 62.5 rows per second, 80 wide, about 0 to 1.

Official implementation of AutoVC (K. Qian et al., ICML 2019), on whose features MakeItTalk's networks were trained.
Sound is levelled first, as 16-bit numbers, because that is what the published features are made of.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, filtfilt

from talkingface.sound import SAMPLE_RATE
from talkingface.sound.mel import MelConfig, magnitudes, mel_basis

HOP = 256
ROWS_PER_SECOND = SAMPLE_RATE / HOP
BANDS = 80
LEVEL_DB = -20.0
"""Loudness of all sound, in dB of full scale."""

SILENCE = -0.16
"""Value of a row without any sound."""

MEL = MelConfig(n_fft=1024, hop=HOP, win=1024, n_mels=BANDS, fmin=90.0, fmax=7600.0, pad_mode="reflect")
_FLOOR, _REFERENCE_DB, _RANGE_DB = 1e-5, 16.0, 100.0
_CUTOFF_HZ, _ORDER = 30.0, 5
_DITHER = 1e-6


def row_count(samples: int) -> int:
    """Rows of that many samples; row k is centred at sample 256 k."""
    return samples // HOP + 1


def as_pcm(audio: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit numbers, cut off towards zero, as published."""
    return np.clip(np.trunc(np.asarray(audio, np.float64) * 32767), -32768, 32767).astype(np.int16)


def level_db(pcm: np.ndarray) -> float:
    """Loudness of 16-bit samples in dB of full scale, -inf for silence.

    Kept: the root of the mean square is cut to a whole number first, which counts for quiet sound.
    """
    rms = np.floor(np.sqrt(np.square(pcm.astype(np.float64)).mean())) if len(pcm) else 0.0
    return float(20 * np.log10(rms / 32768)) if rms else -np.inf


def levelled(pcm: np.ndarray, level: float = LEVEL_DB) -> np.ndarray:
    """16-bit samples brought to a loudness by one gain, rounded down; silence stays as it is."""
    now = level_db(pcm)
    if not np.isfinite(now):
        return pcm
    gain = 10.0 ** ((level - now) / 20)
    return np.clip(np.floor(pcm.astype(np.float64) * gain), -32768, 32767).astype(np.int16)


def high_passed(samples: np.ndarray) -> np.ndarray:
    """Samples (n,) without what lies below 30 Hz, a little quieter, and with a trace of noise.

    The noise is the same for all sounds: it keeps the logarithm of silence from being taken of nothing.
    """
    samples = np.asarray(samples, np.float64)
    if samples.size and samples.size % HOP == 0:
        samples = np.append(samples, _DITHER)
    coefficients = butter(_ORDER, _CUTOFF_HZ, btype="highpass", fs=SAMPLE_RATE)
    clean = filtfilt(*coefficients, samples, padlen=min(3 * (_ORDER + 1), samples.size - 1))
    return 0.95 * clean + (np.random.RandomState(0).random_sample(samples.size) - 0.5) * _DITHER


def scaled_mel(filtered: np.ndarray) -> np.ndarray:
    """Rows (T, 80) float32 of what `high_passed` gives."""
    half = MEL.n_fft // 2
    # The transform reflects half a window at either end, which needs more sound than the shortest has.
    padded = np.pad(filtered, (0, max(0, half + 1 - len(filtered))))
    basis = mel_basis(MEL).astype(np.float64)
    blocks = []
    for magnitude in magnitudes(padded, MEL):
        level = 20 * np.log10(np.maximum(_FLOOR, basis @ magnitude)) - _REFERENCE_DB
        blocks.append(((level + _RANGE_DB) / _RANGE_DB).T.astype(np.float32))
    return np.concatenate(blocks)[: row_count(len(filtered))]


def voice_signal(audio: np.ndarray) -> np.ndarray:
    """Mono samples (n,) in [-1, 1] at 16 kHz -> float64, levelled and filtered: what mel and pitch are taken from.

    Raises:
        ValueError: there are none, or they are not mono.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"a voice needs a non-empty mono waveform (n,), got shape {audio.shape}")
    return high_passed(levelled(as_pcm(audio)) / 32768)


def voice_mel(audio: np.ndarray) -> np.ndarray:
    """Mono samples (n,) in [-1, 1] at 16 kHz -> rows (T, 80) float32, `SILENCE` where nothing is heard.

    Returns:
        T = n // 256 + 1 rows; row k is centred at sample 256 k.
    """
    return scaled_mel(voice_signal(audio))
