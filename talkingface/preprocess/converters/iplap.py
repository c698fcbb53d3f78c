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
    numbered,
    pack_faces,
    record,
    register_converter,
)
from talkingface.preprocess.converters.plain import load_plain
from talkingface.preprocess.step import Rejected

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
        count = max(frames) + 1
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
    if not isinstance(mel, np.ndarray) or mel.ndim != 2 or mel.shape[1] != 80:
        shape = getattr(mel, "shape", type(mel).__name__)
        raise DataError(f"{folder / 'audio.npy'}: expected a mel spectrogram (frames, 80), found {shape}")
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
        rows = np.array([*stored["pose_landmarks"], *stored["content_landmarks"]], dtype=np.float64)
        points = np.full((facemesh.N_POINTS, 2), np.nan, dtype=np.float32)
        points[rows[:, 0].astype(int)] = rows[:, 1:3]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a landmark file of IP_LAP ({type(error).__name__}: {error})") from None
    if np.isnan(points[list(facemesh.IPLAP_ORDER)]).any():
        raise DataError(f"{path}: has {len(rows)} points, but not all 131 that IP_LAP uses")
    return points
