"""What speech recognisers hear, whose letters steer DINet and LawDNet: one function each, and their common rows.

All front ends give 50 rows of 29 numbers per second; a video frame at 25 fps has two of them. From the official
implementations of DeepSpeech 0.1 and of deepspeech.pytorch V3 (SeanNaren).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from talkingface.sound import SAMPLE_RATE
from talkingface.sound.mel import MelConfig, melspectrogram
from talkingface.sound.mfcc import mfcc, pcm16

ROWS_PER_SECOND, WIDTH = 50, 29
FRAME_SAMPLES = 640
"""Of a video frame at 25 fps."""

_ROW_SAMPLES = SAMPLE_RATE // ROWS_PER_SECOND
_CEPSTRA, _CONTEXT = 26, 9  # DeepSpeech hears 9 rows before and 9 after its own
_SPECTRUM, _HOP = 320, 160
_BLOCK = 6000  # columns of a spectrogram worked on at once, a minute
_LOGMEL = MelConfig(n_fft=2 * _ROW_SAMPLES, win=2 * _ROW_SAMPLES, hop=_ROW_SAMPLES, n_mels=WIDTH)

PerFrame = Literal["every_second", "mean"]


def fitted(audio: np.ndarray, frames: int, fps: float = 25.0) -> np.ndarray:
    """Samples (n,) at 16 kHz cut or filled up with silence to the end of a video; the array given is not written to.

    Files hold more sound than pictures: encoders fill up their last block. Cut before the features are made, the rows
    equal the frames.

    Args:
        audio: the samples.
        frames: of the video.
        fps: its rate; at 25 fps a frame has 640 samples.
    """
    wanted = round(frames * SAMPLE_RATE / fps)
    return np.pad(audio[:wanted], (0, max(0, wanted - len(audio))))


def frame_rows(rows: np.ndarray, frames: np.ndarray, how: PerFrame = "every_second") -> np.ndarray:
    """Rows (T, D), 50 per second, of `fitted` sound -> those of video frames (...), (..., D); others are not looked at.

    Args:
        rows: two per frame; of the last one, one may be missing.
        frames: numbers at 25 fps.
        how: `every_second`, as all published features are used, or the `mean` of both, which skips no sound.
    """
    first = 2 * np.asarray(frames)
    if how == "every_second":
        return rows[first]
    return (rows[first] + rows[np.minimum(first + 1, len(rows) - 1)]) / 2


def frame_windows(rows: np.ndarray, before: int = 2, after: int = 2) -> np.ndarray:
    """The rows around each frame, (F, D) -> (F, D, before + 1 + after); beyond an end the outermost row repeats."""
    padded = np.pad(rows, ((before, after), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, before + 1 + after, axis=0)


def logmel(audio: np.ndarray) -> np.ndarray:
    """Log-mel bands in [-4, 4], no network and no file: (n // 320, 29) float32 of samples (n,) in [-1, 1].

    A row is the spectrum around the middle of its 20 ms; windows of 40 ms overlap so that all samples count alike.
    """
    rows = len(audio) // _ROW_SAMPLES
    # Columns are centred on multiples of 20 ms: half a row of silence in front moves them to the middles.
    ahead = np.pad(audio, (_ROW_SAMPLES // 2, 0))
    return np.ascontiguousarray(melspectrogram(ahead, _LOGMEL)[:, 1 : rows + 1].T)


# -- DeepSpeech 0.1 ----------------------------------------------------------------------------------------------------


def deepspeech_input(audio: np.ndarray) -> np.ndarray:
    """What the graph of DeepSpeech 0.1 reads: (T, 494) float32, T = 50 per second, of samples (n,) at 16 kHz.

    Normalised by mean and deviation of the whole, silence around it included. So the rows of a moment depend on how
    much is heard besides: as published, in training and use.
    """
    cepstra = mfcc(pcm16(audio), _CEPSTRA)[::2]
    mean, deviation = _window_statistics(cepstra)
    # Before they are repeated: windows are 19 times as many numbers.
    normalised = ((cepstra - mean) / deviation).astype(np.float32)
    return context_windows(normalised, beyond=-mean / deviation)


def context_windows(cepstra: np.ndarray, beyond: float = 0.0) -> np.ndarray:
    """(T, 26) -> (T, 494): 19 rows around each, one after the other, and a constant beyond the ends."""
    padded = np.pad(cepstra, ((_CONTEXT, _CONTEXT), (0, 0)), constant_values=beyond)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _CONTEXT + 1, axis=0)
    return windows.transpose(0, 2, 1).reshape(len(cepstra), -1)


def _window_statistics(cepstra: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of all windows together, from how many of them each row is in: no large copies."""
    rows = np.arange(len(cepstra))
    times = np.minimum(rows + _CONTEXT, rows[-1]) - np.maximum(rows - _CONTEXT, 0) + 1
    total = len(cepstra) * (2 * _CONTEXT + 1) * cepstra.shape[1]
    mean = float(times @ cepstra.sum(axis=1) / total)
    silent = total - times.sum() * cepstra.shape[1]  # zeros beyond the ends
    squares = times @ np.square(cepstra - mean).sum(axis=1) + silent * mean**2
    return mean, float(np.sqrt(squares / total))


# -- DeepSpeech 2 ------------------------------------------------------------------------------------------------------


def deepspeech2_spectrogram(audio: np.ndarray) -> np.ndarray:
    """log(1 + magnitude) of a centred transform with zeros around, (161, 1 + n // 160) float32, samples in [-1, 1]."""
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(_SPECTRUM) / _SPECTRUM)
    padded = np.pad(np.asarray(audio, np.float64), _SPECTRUM // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _SPECTRUM)[::_HOP]
    blocks = (frames[first : first + _BLOCK] * window for first in range(0, len(frames), _BLOCK))
    return np.concatenate([np.log1p(np.abs(np.fft.rfft(block))).astype(np.float32) for block in blocks]).T


def deepspeech2_input(audio: np.ndarray) -> np.ndarray:
    """The spectrogram with mean 0 and deviation 1 over all of it; silence gives zeros and no division by zero."""
    spectrogram = deepspeech2_spectrogram(audio)
    deviation = float(spectrogram.std(dtype=np.float64, ddof=1))
    # The published code adds nothing and fails on silence; this moves the numbers by 3e-5 of the largest at most.
    return ((spectrogram - spectrogram.mean(dtype=np.float64)) / (deviation + 1e-5)).astype(np.float32)
