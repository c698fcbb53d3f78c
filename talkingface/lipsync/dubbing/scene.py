"""Where the face is in every frame of a video, and which frames show a generator what the face looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talkingface.clips.references import lenders
from talkingface.errors import DataError, NoFaceError
from talkingface.faces.affine import crop_by_matrix
from talkingface.lipsync.dubbing.sampling import opening_of
from talkingface.networks.dubbing.encoders import REFERENCES

if TYPE_CHECKING:
    from talkingface.clips.source import Source
    from talkingface.lipsync.dubbing.config import DubbingCropConfig, DubbingInference


class FaceScene(NamedTuple):
    """Faces of a video.

    Attributes:
        crop: how they are cut out.
        matrices: (F, 2, 3) from frame to crop; NaN where there is no face.
        valid: (F,) bool, frames with a face.
        found: (F,) bool, those whose face was detected.
        openings: (F,) area of the open mouth over the squared distance of the eyes.
    """

    crop: DubbingCropConfig
    matrices: np.ndarray
    valid: np.ndarray
    found: np.ndarray
    openings: np.ndarray

    @classmethod
    def look(cls, crop: DubbingCropConfig, source: Source) -> FaceScene:
        """The faces of a source.

        Raises:
            NoFaceError: there are none.
            DataError: the detector finds boxes only.
        """
        track = source.landmarks()
        if not track.valid.any():
            raise NoFaceError(f"{source.path}: no face found in any of its {len(track)} frames")
        matrices = crop.steady().matrices(track)
        valid = track.valid & np.isfinite(matrices).all(axis=(1, 2))
        return cls(crop, matrices, valid, valid & track.found, opening_of(track))

    def cut(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """The crop (H, W, 3) of a frame from its picture."""
        return crop_by_matrix(picture, self.matrices[frame], self.crop.size_hw, self.crop.half_pixel)


class Lent(NamedTuple):
    """Reference crops (5, H, W, 3) uint8 RGB and the frames (F,) bool of the source that they serve.

    `alone`: no other frame could lend, so that what is to be drawn must be hidden in them, too.
    """

    serves: np.ndarray
    faces: np.ndarray
    alone: bool


def lend(scene: FaceScene, source: Source, settings: DubbingInference, shut: bool = False) -> list[Lent]:
    """References of all frames of a source; none of a video that is compared with itself shows its own mouth.

    Args:
        scene: of the source.
        source: what is dubbed.
        settings: which frames show the face.
        shut: show the most closed mouths instead.

    Raises:
        DataError: a frame that was named has no face, or may not lend.
    """
    origin = source.reference or source
    other = scene if origin is source else FaceScene.look(scene.crop, origin)
    groups = lenders(source, scene.found, None if origin is source else other.found)
    found = []
    for group in groups:
        alone = not len(group.candidates)
        candidates = np.flatnonzero(other.found) if alone else group.candidates
        if shut:
            frames = most_closed(candidates, other.openings)
        else:
            frames = chosen(candidates, other.openings, settings, str(origin.path))
        needed, place = np.unique(frames, return_inverse=True)
        pictures = origin.read(needed.tolist())
        crops = np.stack([other.cut(picture, int(k)) for picture, k in zip(pictures, needed, strict=True)])
        found.append(Lent(group.serves, crops[place], alone))
    return found


def most_closed(candidates: np.ndarray, openings: np.ndarray) -> np.ndarray:
    """The five of some frames (n,) whose mouths are open least, by openings (F,); repeated where there are fewer."""
    return np.resize(candidates[np.argsort(openings[candidates], kind="stable")][:REFERENCES], REFERENCES)


def chosen(candidates: np.ndarray, openings: np.ndarray, settings: DubbingInference, name: str) -> np.ndarray:
    """Five frames out of candidates (n,), repeated where there are fewer.

    Args:
        candidates: frame numbers, at least one.
        openings: (F,) of the mouths.
        settings: `references` and `seed`.
        name: of the video, for the message.

    Raises:
        DataError: a frame that was named is no candidate.
    """
    rule = settings.references
    if rule == "spread":
        ordered = candidates[np.argsort(openings[candidates], kind="stable")]
        return ordered[np.linspace(0, len(ordered) - 1, REFERENCES).round().astype(int)]
    if rule == "random":
        rng = np.random.default_rng(settings.seed)
        return rng.choice(candidates, REFERENCES, replace=len(candidates) < REFERENCES)
    if unfit := [frame for frame in rule if frame not in candidates]:
        raise DataError(
            f"{name}: model.inference.references names frame {unfit[0]}, which shows no face or may not lend here;"
            " name another one, or take spread"
        )
    return np.array(rule)
