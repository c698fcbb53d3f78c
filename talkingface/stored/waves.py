"""Wave files of prepared clips, without PyAV."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np

from talkingface.errors import DataError
from talkingface.stored.regular import REMEDY, size_of


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """(n,) float32 in [-1, 1) of a mono PCM16 wave file.

    Raises:
        DataError: it is missing or damaged, of another kind or rate, empty, or shorter than its header says.
    """
    size = size_of(path)
    try:
        with wave.open(os.fspath(path), "rb") as stream:
            kind = (stream.getsampwidth(), stream.getnchannels(), stream.getframerate())
            frames = stream.getnframes()
            if kind != (2, 1, sample_rate):
                raise DataError(f"{path}: expected mono PCM16 at {sample_rate} Hz; {REMEDY}")
            # Checked before reading: room is made for all that the header declares.
            if 2 * frames > size:
                raise DataError(f"{path}: ends before its {frames:,} samples; {REMEDY}")
            data = stream.readframes(frames)
    except (OSError, EOFError, wave.Error, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: unreadable ({error or type(error).__name__}); {REMEDY}") from None
    if len(data) != 2 * frames:
        raise DataError(f"{path}: ends before its {frames:,} samples; {REMEDY}")
    if not frames:
        raise DataError(f"{path}: holds no sample; {REMEDY}")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
