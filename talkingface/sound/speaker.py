"""Who speaks: what a speaker encoder hears of a voice, and a vector of plain statistics that needs no network.

Rules of Resemblyzer 0.1.4 (L. Wan et al., "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018), whose
vectors MakeItTalk's and AutoVC's networks were trained with. The network itself is `networks.speaker_encoder`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.ndimage import binary_dilation

from talkingface.sound import SAMPLE_RATE
from talkingface.sound.mel import MelConfig, magnitudes, mel_basis
from talkingface.sound.pitch import Tracker, track_pitch
from talkingface.sound.voice_mel import scaled_mel, voice_signal

Detector = Literal["webrtc", "energy"]

SPEAKER = 256
"""Values of a speaker's vector, whatever made it."""

PARTIAL_ROWS = 160
"""Rows of a partial window: 1.6 s."""

MEL = MelConfig(n_fft=400, hop=160, win=400, n_mels=40, fmin=0.0, fmax=8000.0)
_QUIETEST_DB = -30.0  # quieter sound is made this loud
_STEP_ROWS = 50  # between partial windows: two per second
_LEAST_COVERED = 0.75  # share of the last window that must be sound
_PIECE = 60 * SAMPLE_RATE  # of long sound, embedded by itself

_VOICED_WINDOW = 480  # samples of 30 ms that are voiced or not
_MEAN_WINDOWS, _GROWN_WINDOWS = 8, 7
_VAD_STRICTNESS = 3
_BELOW_LOUD_DB = 35.0  # `energy`: less than this below the loud part of the sound is a voice
_MIDDLE_HZ = 160.0  # between the voices of most men and most women

# -- what the encoder hears --------------------------------------------------------------------------------------------


def default_detector() -> Detector:
    """`webrtc`, the published one, where the package webrtcvad (or webrtcvad-wheels) is installed."""
    return "webrtc" if importlib.util.find_spec("webrtcvad") else "energy"


def prepared_voice(audio: np.ndarray, detector: Detector | None = None) -> np.ndarray:
    """Mono samples (n,) in [-1, 1] at 16 kHz, made louder where they are quiet, without their long silences.

    Args:
        audio: samples.
        detector: who says what is voice; None: see `default_detector`.

    Returns:
        (m,) float32. Sound without any voice is kept as it is.
    """
    audio = np.asarray(audio, np.float32)
    rms = math.sqrt(np.square(audio * 32767.0).mean()) if len(audio) else 0.0
    change = _QUIETEST_DB - 20 * math.log10(rms / 32767) if rms else 0.0
    louder = audio * np.float32(10 ** (change / 20)) if change > 0 else audio
    spoken = without_silence(louder, detector or default_detector())
    return spoken if len(spoken) else louder


def without_silence(audio: np.ndarray, detector: Detector) -> np.ndarray:
    """The samples (n,) of all windows of 30 ms that are voice, or near it; what fills no window is left out."""
    windows = audio[: len(audio) - len(audio) % _VOICED_WINDOW].reshape(-1, _VOICED_WINDOW)
    if not len(windows):
        return windows.reshape(-1)
    voiced = (_webrtc_voiced if detector == "webrtc" else _energy_voiced)(windows)
    # Means of eight windows, three before and four after each; the ends count as silence.
    around = np.pad(voiced.astype(np.float64), ((_MEAN_WINDOWS - 1) // 2, _MEAN_WINDOWS // 2))
    means = np.lib.stride_tricks.sliding_window_view(around, _MEAN_WINDOWS).mean(axis=1)
    kept = binary_dilation(np.round(means).astype(bool), np.ones(_GROWN_WINDOWS))
    return windows[kept].reshape(-1)


def _webrtc_voiced(windows: np.ndarray) -> np.ndarray:
    import webrtcvad

    detector = webrtcvad.Vad(mode=_VAD_STRICTNESS)
    pcm = np.round(windows * 32767).astype("<i2")
    return np.array([detector.is_speech(window.tobytes(), SAMPLE_RATE) for window in pcm])


def _energy_voiced(windows: np.ndarray) -> np.ndarray:
    power = np.square(windows.astype(np.float64)).mean(axis=1)
    loud = np.percentile(power, 95)
    return (power > loud * 10 ** (-_BELOW_LOUD_DB / 10)) & (power > 0)


def encoder_mel(voice: np.ndarray) -> np.ndarray:
    """Rows (n // 160 + 1, 40) float32 of power, 100 per second, no logarithm."""
    basis = mel_basis(MEL).astype(np.float64)
    signal = np.asarray(voice, np.float64)
    blocks = [(basis @ np.square(magnitude)).T.astype(np.float32) for magnitude in magnitudes(signal, MEL)]
    return np.concatenate(blocks)


def partial_starts(samples: int) -> list[int]:
    """First rows of the partial windows of that many samples; the last one may reach beyond the end."""
    rows = math.ceil((samples + 1) / MEL.hop)
    starts = list(range(0, max(1, rows - PARTIAL_ROWS + _STEP_ROWS + 1), _STEP_ROWS))
    covered = (samples - starts[-1] * MEL.hop) / (PARTIAL_ROWS * MEL.hop)
    return starts[:-1] if covered < _LEAST_COVERED and len(starts) > 1 else starts


def partial_mels(voice: np.ndarray) -> np.ndarray:
    """Partial windows (N, 160, 40) float32 of a voice (n,), silence beyond its end."""
    starts = partial_starts(len(voice))
    end = (starts[-1] + PARTIAL_ROWS) * MEL.hop
    mel = encoder_mel(np.pad(voice, (0, max(0, end - len(voice)))))
    return np.stack([mel[start : start + PARTIAL_ROWS] for start in starts])


def pieces(voice: np.ndarray) -> Iterator[np.ndarray]:
    """Pieces of a minute of a voice (n,); a shorter voice is one, what remains after the last full one is left out."""
    for first in range(0, max(1, len(voice) // _PIECE)):
        yield voice[first * _PIECE : (first + 1) * _PIECE]


# -- without a network -------------------------------------------------------------------------------------------------


def voice_statistics(audio: np.ndarray, tracker: Tracker | None = None) -> np.ndarray:
    """A vector of a voice that tells high ones from low, and bright ones from dark.

    Means and deviations of the mel's rows, deviations of its steps from row to row, and of the pitch: share of voiced
    rows, mean, deviation and quantiles. Each part is centred on what is common to voices, so that the vectors of two
    do not all point the same way.

    Args:
        audio: mono samples (n,) in [-1, 1] at 16 kHz.
        tracker: of the pitch, see `track_pitch`.

    Returns:
        (256,) float32 of unit length.
    """
    signal = voice_signal(audio)
    rows = scaled_mel(signal).astype(np.float64)
    loudness = rows.mean(axis=1)
    heard = rows[loudness > loudness.max() - 0.3]  # within 30 dB of the loudest
    timbre = heard.mean(axis=0)
    steps = np.diff(rows, axis=0) if len(rows) > 1 else np.zeros_like(rows)
    parts = (
        timbre - timbre.mean(),
        heard.std(axis=0) - 0.1,
        steps.std(axis=0) - 0.05,
        _pitch_statistics(track_pitch(signal, "auto", tracker)),
    )
    vector = np.concatenate(parts)
    return (vector / max(np.linalg.norm(vector), 1e-9)).astype(np.float32)


def _pitch_statistics(log_f0: np.ndarray) -> np.ndarray:
    """(16,); zeros but for the share of voiced rows where none is."""
    voiced = log_f0[np.isfinite(log_f0)]
    share = len(voiced) / len(log_f0) - 0.5
    if not len(voiced):
        return np.array([share, *[0.0] * 15])
    around = voiced - math.log(_MIDDLE_HZ)
    return np.array([share, around.mean(), voiced.std(), *np.quantile(around, np.linspace(0, 1, 13))])
