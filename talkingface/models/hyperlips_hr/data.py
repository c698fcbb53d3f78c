"""Training data of HyperLipsHR: single frames, each Base's face with its sketch and the true face."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from pydantic import Field

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import Section
from talkingface.models.hyperlips_hr.features import Features, crop_sides, sketched
from talkingface.stored.arrays import Wanted

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore
    from talkingface.models.hyperlips_hr.config import HyperLipsHRConfig

BOXES = "lip_boxes@hr"
_MESH = Wanted("f", ("frames", "points", 2))
_BOXES = Wanted("f", ("frames", 4))
_MESH_PIXELS = 478 * 2 * 4 / 3
"""Pixels that take as much memory as the features of a frame."""


class Degradation(Section):
    """Random damage to Base's faces in training: on clips that Base was trained on they are better than on others.

    Attributes:
        blur: largest deviation of a Gaussian, pixels of Base's face.
        noise: largest deviation of noise, grey levels.
        neighbour: share of the frames that show Base's face for the sound of the next frame; needs `hyper.neighbour`.
    """

    blur: float = Field(0.0, ge=0)
    noise: float = Field(0.0, ge=0)
    neighbour: float = Field(0.0, ge=0, le=1)


class HRFrameOptions(DatasetOptions):
    """Options of the decoder's data.

    Attributes:
        min_frames: clips with fewer frames are left out (published: more than 15).
        degrade: damage to Base's faces, in training alone.
    """

    min_frames: int = Field(16, ge=1)
    degrade: Degradation = Degradation()


class ClipArrays(NamedTuple):
    """What the items of a clip are cut from.

    Attributes:
        target: true faces at the size that is drawn.
        hyper: Base's faces, by variant (`raw`, `raw+1`).
        mesh: smoothed features (F, 478, 2) by variant.
        boxes: (F, 4) lip boxes in shares of the crop.
        frames: (n,) frames that have all of it.
    """

    target: FaceStore
    hyper: dict[str, FaceStore]
    mesh: dict[str, np.ndarray]
    boxes: np.ndarray
    frames: np.ndarray


class HRFrames(ClipDataset):
    """Single frames.

    Item: `hyper` (S, S, 3) uint8 RGB, Base's face; `sketch` (S, S) uint8, 0 or 255; `target` (R, R, 3) uint8 RGB;
    `boxes` (4,) int64 top, bottom, left, right of the lips in pixels of the target, the ends exclusive.
    """

    Options = HRFrameOptions
    options: HRFrameOptions
    model_config: HyperLipsHRConfig
    on_host = ("boxes",)

    @property
    def min_frames(self) -> int:
        """Shortest clip that serves."""
        return self.options.min_frames

    def share(self, processes: int) -> None:
        """Base's crops, which the shared memory would hold, are not read here."""
        self._processes = max(1, processes)

    def _keeps_crops(self, size: int) -> bool:
        """Whether all that is read of every frame is kept, or none of it: pictures would drive each other out."""
        count, config = len(self._hyper()), self.model_config
        pixels = config.hr_crop.size**2 + count * (config.crop.size**2 + _MESH_PIXELS)
        return self._frames_fit(math.ceil(math.sqrt(pixels)), self._processes)

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None; a frame without mesh is left out, and its clip stays."""
        config = self.model_config
        if reason := super().usable(clip) or clip.lacks_crops(config.hr_crop):
            return reason
        if reason := config.hr_crop.differs_from(clip.faces(config.hr_crop.artefact).meta):
            return reason
        for artefact in self._hyper():
            if reason := clip.made_by_others(artefact, config.base_weights):
                return reason
        if not len(self._arrays(clip, smooth=False).frames):
            return "no frame with Base's face, its mesh and the lips"
        return None

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        arrays = self.arrays(clip)
        frame, damage = int(rng.choice(arrays.frames)), self.options.degrade if self.training else Degradation()
        variants = list(arrays.hyper)
        other = len(variants) > 1 and damage.neighbour > 0 and rng.random() < damage.neighbour
        return self.item(clip, frame, variants[-1 if other else 0], damage, rng)

    def undamaged(self, key: int) -> dict[str, np.ndarray]:
        """Item `key` with Base's face as it was drawn, in training, too."""
        clip, rng = self.draw(key)
        return self.of_readable(lambda other: self.item(other, int(rng.choice(self.arrays(other).frames))), clip)

    def item(
        self,
        clip: ClipFolder,
        frame: int,
        variant: str | None = None,
        damage: Degradation | None = None,
        rng: np.random.Generator | None = None,
    ) -> dict[str, np.ndarray]:
        """The item of one frame."""
        arrays = self.arrays(clip)
        variant = variant or next(iter(arrays.hyper))
        index = np.array([frame])
        face = self.crops(clip, arrays.hyper[variant], index)[0]
        if damage is not None and rng is not None:
            face = damaged(face, damage, rng)
        config, points = self.model_config, arrays.mesh[variant][frame]
        side = float(crop_sides(arrays.target.boxes[index])[0])
        return {
            "hyper": face,
            "sketch": sketched(points, config.sketch.style, config.crop.size, side),
            "target": self.crops(clip, arrays.target, index)[0],
            "boxes": np.floor(arrays.boxes[frame] * config.hr_crop.size).astype(np.int64),
        }

    def arrays(self, clip: ClipFolder) -> ClipArrays:
        """What the items of a clip are cut from."""
        return self.cached(clip, "arrays", lambda: self._arrays(clip))

    def _hyper(self) -> list[str]:
        """Artefacts of Base's faces that are read."""
        first = self.model_config.hyper_artefact
        return [first, f"{first}+1"] if self.model_config.hyper.neighbour else [first]

    def _arrays(self, clip: ClipFolder, smooth: bool = True) -> ClipArrays:
        config, hyper, mesh = self.model_config, {}, {}
        target, boxes = clip.faces(config.hr_crop.artefact), clip.array(BOXES, _BOXES)
        pixels = np.floor(np.nan_to_num(boxes, nan=0.0) * config.hr_crop.size)
        there = target.valid & (pixels[:, 1] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 2])
        for artefact in self._hyper():
            hyper[artefact] = store = clip.faces(artefact)
            there &= store.valid
            if config.sketch.style == "none":
                mesh[artefact] = np.zeros((len(store), 1, 2), np.float32)
                continue
            points = clip.array(artefact.replace("hyper@", "hyper_mesh@"), _MESH)
            mesh[artefact] = self._smoothed(store, points, clip.fps) if smooth else points
            there &= np.isfinite(points).all(axis=(1, 2))
        return ClipArrays(target, hyper, mesh, boxes, np.flatnonzero(there))

    def _smoothed(self, store: FaceStore, points: np.ndarray, fps: float) -> np.ndarray:
        """Features as they are followed in use."""
        features, smooth = Features(self.model_config.sketch, 1, fps), points.copy()
        before = False
        for k, valid in enumerate(store.valid):
            known = features.next(points[k], before) if valid else None
            if known is not None:
                smooth[k] = known
            before = bool(valid)
        return smooth


def damaged(face: np.ndarray, damage: Degradation, rng: np.random.Generator) -> np.ndarray:
    """A face (S, S, 3) uint8 blurred and with noise, both of a random strength."""
    blur, noise = damage.blur * rng.random(), damage.noise * rng.random()
    if blur > 0.1:
        face = cv2.GaussianBlur(face, (0, 0), blur)
    if noise > 0:
        face = np.clip(face + rng.normal(0, noise, face.shape), 0, 255).round().astype(np.uint8)
    return face
