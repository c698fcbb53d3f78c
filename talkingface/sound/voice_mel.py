"""The log-mel of MakeItTalk and AutoVC: 62.5 rows per second, 80 wide, about 0 to 1.

Official implementation of AutoVC (K. Qian et al., ICML 2019), on whose features MakeItTalk's networks were trained.
Sound is levelled first, as 16-bit numbers, because that is what the published features are made of.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import butter, lfilter, lfilter_zi

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
_BLOCK = 1 << 16  # samples worked on at once: whole copies of a long sound are what a process would be sized by


def row_count(samples: int) -> int:
    """Rows of that many samples; row k is centred at sample 256 k."""
    return samples // HOP + 1


def as_pcm(audio: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit numbers, cut off towards zero, as published."""
    pcm = np.empty(len(audio), np.int16)
    for part in _blocks(len(audio)):
        pcm[part] = np.clip(np.trunc(np.asarray(audio[part], np.float64) * 32767), -32768, 32767)
    return pcm


def level_db(pcm: np.ndarray) -> float:
    """Loudness of 16-bit samples in dB of full scale, -inf for silence.

    Kept: the root of the mean square is cut to a whole number first, which counts for quiet sound.
    """
    return Level().hear(pcm)


class Level:
    """How loud a voice is that arrives in windows: all of it until now, so that a pause is not taken for a voice."""

    def __init__(self) -> None:
        self._squares = self._heard = 0

    def hear(self, pcm: np.ndarray, before: int = 0) -> float:
        """Loudness of the voice up to the end of a window, see `level_db`.

        Args:
            pcm: (n,) 16-bit samples of the window.
            before: samples of the voice before them; those that an earlier window had, too, count once.
        """
        new = pcm[max(0, self._heard - before) :]
        # Squares of 16-bit numbers add up without rounding, in whatever order.
        self._squares += sum(int(np.square(new[part].astype(np.int64)).sum()) for part in _blocks(len(new)))
        self._heard += len(new)
        rms = np.floor(np.sqrt(self._squares / self._heard)) if self._heard else 0.0
        return float(20 * np.log10(rms / 32768)) if rms else -np.inf


def levelled(pcm: np.ndarray, level: float = LEVEL_DB, now: float | None = None) -> np.ndarray:
    """16-bit samples brought to a loudness by one gain, rounded down; silence stays as it is.

    Args:
        pcm: (n,).
        level: the loudness in dB.
        now: how loud they are; None: see `level_db`.
    """
    now = level_db(pcm) if now is None else now
    if not np.isfinite(now):
        return pcm
    gain, loud = 10.0 ** ((level - now) / 20), np.empty_like(pcm)
    for part in _blocks(len(pcm)):
        loud[part] = np.clip(np.floor(pcm[part].astype(np.float64) * gain), -32768, 32767)
    return loud


def high_passed(samples: np.ndarray) -> np.ndarray:
    """Samples (n,) without what lies below 30 Hz, a little quieter, and with a trace of noise.

    The noise is the same for all sounds: it keeps the logarithm of silence from being taken of nothing.
    """
    samples = np.asarray(samples)
    if samples.size and samples.size % HOP == 0:
        samples = np.append(samples, _DITHER)
    clean = _both_ways(samples, min(3 * (_ORDER + 1), samples.size - 1))
    random = np.random.RandomState(0)
    for part in _blocks(clean.size):
        clean[part] = 0.95 * clean[part] + (random.random_sample(clean[part].size) - 0.5) * _DITHER
    return clean


def _both_ways(samples: np.ndarray, beyond: int) -> np.ndarray:
    """What `scipy.signal.filtfilt` gives, number for number, without its five copies of the sound.

    Args:
        samples: (n,).
        beyond: samples by which either end is continued, turned about its last one.
    """
    numerator, denominator = butter(_ORDER, _CUTOFF_HZ, btype="highpass", fs=SAMPLE_RATE)
    resting = lfilter_zi(numerator, denominator)
    whole = np.empty(samples.size + 2 * beyond)
    inner = slice(beyond, beyond + samples.size)
    whole[inner] = samples
    whole[: inner.start] = 2 * whole[inner.start] - whole[inner.start + beyond : inner.start : -1]
    whole[inner.stop :] = 2 * whole[inner.stop - 1] - whole[inner.stop - 2 : inner.stop - 2 - beyond : -1]
    for signal in (whole, whole[::-1]):
        state = resting * signal[0]
        for part in _blocks(signal.size):
            signal[part], state = lfilter(numerator, denominator, signal[part], zi=state)
    return whole[inner]


def _blocks(length: int) -> Iterator[slice]:
    """Consecutive parts of a long sound."""
    return (slice(first, first + _BLOCK) for first in range(0, length, _BLOCK))


def scaled_mel(filtered: np.ndarray) -> np.ndarray:
    """Rows (T, 80) float32 of what `high_passed` gives."""
    half = MEL.n_fft // 2
    # The transform reflects half a window at either end, which needs more sound than the shortest has.
    padded = filtered if len(filtered) > half else np.pad(filtered, (0, half + 1 - len(filtered)))
    basis = mel_basis(MEL).astype(np.float64)
    blocks = []
    for magnitude in magnitudes(padded, MEL):
        level = 20 * np.log10(np.maximum(_FLOOR, basis @ magnitude)) - _REFERENCE_DB
        blocks.append(((level + _RANGE_DB) / _RANGE_DB).T.astype(np.float32))
    return np.concatenate(blocks)[: row_count(len(filtered))]


def voice_signal(audio: np.ndarray, now: float | None = None) -> np.ndarray:
    """Mono samples (n,) in [-1, 1] at 16 kHz -> float64, levelled and filtered: what mel and pitch are taken from.

    Args:
        audio: the samples.
        now: loudness in dB of the voice that they are of; None: their own.

    Raises:
        ValueError: there are none, or they are not mono.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"a voice needs a non-empty mono waveform (n,), got shape {audio.shape}")
    return high_passed(levelled(as_pcm(audio), now=now) / 32768)


def voice_mel(audio: np.ndarray, now: float | None = None) -> np.ndarray:
    """Mono samples (n,) in [-1, 1] at 16 kHz -> rows (T, 80) float32, `SILENCE` where nothing is heard.

    Args:
        audio: the samples.
        now: loudness in dB of the voice that they are of; None: their own.

    Returns:
        T = n // 256 + 1 rows; row k is centred at sample 256 k.
    """
    return scaled_mel(voice_signal(audio, now))
