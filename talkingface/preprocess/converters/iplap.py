"""IP_LAP's folders: a pickled landmark file and a face picture per frame, and a mel per clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from talkingface.clips.folder import default_file
from talkingface.errors import DataError
from talkingface.faces import mesh as facemesh
from talkingface.faces.crop import CropConfig
from talkingface.faces.track import LandmarkTrack, fill_gaps
from talkingface.preprocess.converters.base import (
    PICTURES,
    Converter,
    copy_audio,
    crop_options,
    frame_total,
    numbered,
    pack_faces,
    record,
    register_converter,
)
from talkingface.preprocess.converters.plain import load_plain
from talkingface.preprocess.step import Rejected

_FARTHEST = 10  # sides of the crop
CROP = CropConfig(size=128, margin_mode="px", margin=5.0, box="frame", rule="iplap")  # as published


@register_converter("iplap")
class IPLAPConverter(Converter):
    """Folders `landmarks`, `faces` and `audio`, each `<speaker>/<clip>/`.

    Sketches are not needed, they are drawn from the landmarks. The old files hold landmarks relative to the crop and no
    boxes, so the crop itself becomes the picture: pixels of the track are pixels of the 128 x 128 crop.
    """

    main = "landmarks"

    @property
    def advice(self) -> str:
        """The published crop, which is not the default."""
        return crop_options(CROP)

    def convert(self, clip_id: str, target: Path) -> dict[str, Any]:
        """Write `landmarks`, and what else there is of `faces`, `mel` and `audio`."""
        frames = numbered(self.roots["landmarks"] / clip_id, (".npy",))
        if not frames:
            raise Rejected("no landmark files")
        count = frame_total(frames)
        self._track(frames, count).save(target / default_file("landmarks"))
        steps = {"landmarks": record([default_file("landmarks")])}
        if "faces" in self.roots:
            pictures = numbered(self.roots["faces"] / clip_id, PICTURES)
            steps[CROP.artefact] = pack_faces(pictures, count, target, CROP)
        if "audio" in self.roots:
            steps |= _sound(self.roots["audio"] / clip_id, target)
        return {"frames": count, "steps": steps}

    def _track(self, frames: dict[int, Path], count: int) -> LandmarkTrack:
        points = np.full((count, facemesh.N_POINTS, 2), np.nan, dtype=np.float32)
        found = np.zeros(count, dtype=bool)
        for index, path in frames.items():
            points[index] = read_iplap_landmarks(path) * CROP.size
            found[index] = True
        valid = fill_gaps(points, found, self.options.max_gap)
        return LandmarkTrack(
            points_px=points,
            found=found,
            valid=valid,
            size=(CROP.size, CROP.size),
            layout="mediapipe478",
            provider="mediapipe",
            version="imported from IP_LAP files",
        )


def _sound(folder: Path, target: Path) -> dict[str, Any]:
    """Records of the mel, and of the sound track where it was kept."""
    mel = load_plain(folder / "audio.npy")
    if not isinstance(mel, np.ndarray) or mel.ndim != 2 or mel.shape[1] != 80 or mel.dtype.kind not in "fiu":
        shape = getattr(mel, "shape", type(mel).__name__)
        raise DataError(f"{folder / 'audio.npy'}: expected a mel spectrogram (frames, 80), found {shape}")
    if not np.isfinite(mel).all():
        raise DataError(f"{folder / 'audio.npy'}: holds numbers that are not finite")
    np.save(target / default_file("mel"), np.ascontiguousarray(mel.T, dtype=np.float32))
    steps = {"mel": record([default_file("mel")])}
    if (folder / "audio.wav").is_file():
        steps["audio"] = copy_audio(folder / "audio.wav", target)[0]
    return steps


def read_iplap_landmarks(path: str | Path) -> np.ndarray:
    """One of IP_LAP's landmark files.

    Args:
        path: a pickled dict of `pose_landmarks` and `content_landmarks`, lists of (mesh index, x, y) relative to the
            crop.

    Returns:
        (478, 2) float32, NaN at points the file does not name.

    Raises:
        DataError: the file is damaged, holds code, or lacks points.
    """
    stored = load_plain(path)
    try:
        rows = [row for part in ("pose_landmarks", "content_landmarks") for row in map(_row, stored[part])]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"{path}: not a landmark file of IP_LAP ({type(error).__name__}: {error})") from None
    points = np.full((facemesh.N_POINTS, 2), np.nan, dtype=np.float32)
    for index, x, y in rows:
        points[index] = x, y
    if np.isnan(points[list(facemesh.IPLAP_ORDER)]).any():
        raise DataError(f"{path}: has {len(rows)} points, but not all 131 that IP_LAP uses")
    return points


def _row(row: Any) -> tuple[int, float, float]:
    """One landmark: number, x and y relative to the crop.

    Raises:
        ValueError: it is none.
    """
    index, x, y = row[:3]
    if not isinstance(index, (int, float, np.number)) or not 0 <= int(index) < facemesh.N_POINTS:
        raise ValueError("a landmark has a number that the mesh does not have")
    if not all(isinstance(value, (int, float, np.number)) for value in (x, y)) or max(abs(x), abs(y)) > _FARTHEST:
        raise ValueError("a landmark lies nowhere near the crop")
    return int(index), float(x), float(y)
