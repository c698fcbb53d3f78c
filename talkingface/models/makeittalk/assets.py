"""Constants that the published weights were trained with, read from the official folder that the user imports.

They are not shipped: their licence is CC BY-NC 4.0 (Y. Zhou et al., Adobe Research and UMass), and whatever is made
with them is for non-commercial use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from talkingface.errors import DataError, unknown
from talkingface.preprocess.converters.plain_items import load_pickle

CANONICAL_FILE = "STD_FACE_LANDMARKS.txt"
MEL_FILE = "MEAN_STD_AUTOVC_RETRAIN_MEL_AU.txt"
VOICE_FILE = "obama_emb.txt"
STYLES_FILE = "emb.pickle"
NON_COMMERCIAL = "non-commercial (CC BY-NC 4.0, MakeItTalk's released assets)"

_MOST_BYTES = 2**20
_BANDS = 80
_VOICE = 256  # values of a speaker's vector


class MelScale(NamedTuple):
    """How rows of mel are normalised before the landmark networks hear them.

    Attributes:
        mean: (80,).
        deviation: (80,).
    """

    mean: np.ndarray
    deviation: np.ndarray

    def normalised(self, rows: np.ndarray) -> np.ndarray:
        """(T, 80) -> (T, 80) float32."""
        return ((rows - self.mean) / self.deviation).astype(np.float32)


def read_canonical(path: str | Path) -> np.ndarray:
    """The published mean face, (68, 3).

    Raises:
        DataError: missing, or something else.
    """
    return _numbers(path, 68 * 3).reshape(68, 3)


def read_mel_scale(path: str | Path) -> MelScale:
    """Means and deviations of the converted mel.

    Raises:
        DataError: missing, or something else.
    """
    mean, deviation = _numbers(path, 2 * _BANDS).reshape(2, _BANDS)
    if (deviation <= 0).any():
        raise DataError(f"{path}: expected 80 means, then 80 deviations above zero; copy the official file again")
    return MelScale(mean, deviation)


def read_voice(path: str | Path) -> np.ndarray:
    """The embedding of the voice that all others are converted to, (256,).

    Raises:
        DataError: missing, or something else.
    """
    return _numbers(path, _VOICE)


def read_style(path: str | Path, key: str) -> np.ndarray:
    """The vector (256,) float32 of one of the speakers whose videos the published weights were trained on.

    Args:
        path: a pickle of plain data; anything else in it is refused.
        key: the first 11 letters of the video's name.

    Raises:
        DataError: the file is missing or something else, or has no such speaker.
    """
    styles = load_pickle(path)
    if not isinstance(styles, Mapping) or not styles:
        raise DataError(
            f"{path}: expected speakers' vectors by the names of their videos; copy the official file again"
        )
    if key not in styles:
        raise DataError(f"{path}: " + unknown("speaker", key, sorted(map(str, styles))))
    vector = styles[key]
    if not isinstance(vector, np.ndarray) or vector.size != _VOICE or not np.isfinite(vector).all():
        raise DataError(f"{path}: '{key}' has no vector of {_VOICE} finite numbers; copy the official file again")
    return vector.reshape(_VOICE).astype(np.float32)


def _numbers(path: str | Path, count: int) -> np.ndarray:
    """So many finite numbers of a text file, whatever stands between them."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; it is part of MakeItTalk's official folder")
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path}: too large for {count} numbers; copy the official file again")
    try:
        found = np.array(path.read_text(encoding="utf-8").replace(",", " ").split(), np.float64)
    except ValueError:
        raise DataError(f"{path}: expected {count} numbers and nothing else; copy the official file again") from None
    if found.size != count or not np.isfinite(found).all():
        raise DataError(f"{path}: expected {count} finite numbers, found {found.size}; copy the official file again")
    return found
