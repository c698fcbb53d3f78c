"""Training data of HyperLipsHR: single frames, each Base's face with its sketch and the true face."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from pydantic import Field

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.clips.pack import file_stamp, load_pack
from talkingface.config.sections import Section
from talkingface.faces.mesh import IPLAP_ORDER, N_POINTS
from talkingface.models.hyperlips_hr.features import Features, crop_sides, sketched
from talkingface.stored.arrays import Wanted

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore
    from talkingface.models.hyperlips_hr.config import HyperLipsHRConfig

BOXES = "lip_boxes@hr"
DRAWN = np.array(IPLAP_ORDER)
"""The points of a mesh that sketches show."""
_PACK_VERSION = 1  # of what `HRFrames` reads of a clip; a change of its code needs a new one


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
        mesh: points `DRAWN` (F, 131, 2) of the smoothed features, by variant; none where no sketches are drawn.
        boxes: (F, 4) int64 lip boxes in pixels of the target; 0 where there are none.
        frames: (n,) frames that have all of it.
    """

    target: FaceStore
    hyper: dict[str, FaceStore]
    mesh: dict[str, np.ndarray]
    boxes: np.ndarray
    frames: np.ndarray


class HRFrames(ClipDataset):
    """Single frames.

    Features, lip boxes and the frames that serve are one mapped file of all clips (`clips.pack`): each clip is smoothed
    once, not for every item, and later starts do not open the clips.
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
        pixels = config.hr_crop.size**2 + count * config.crop.size**2
        return self._frames_fit(math.ceil(math.sqrt(pixels)), self._processes)

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None; a frame without mesh is left out, and its clip stays."""
        found = self._look(clip)
        return found if isinstance(found, str) else None

    def _reasons(self, clips: Sequence[ClipFolder]) -> Iterator[str | None]:
        config, sketch, meshes = self.model_config, self.model_config.sketch, self._meshes()
        about = {"version": _PACK_VERSION, "crop": config.hr_crop.model_dump(), "frames": self.min_frames}
        about |= {"hyper": self._hyper(), "mesh": meshes, "weights": config.base_weights}
        if meshes and sketch.smooth == "one_euro":
            about |= {"slowest": sketch.slowest, "gain": sketch.gain}
        stamp = partial(file_stamp, artefacts=(config.hr_crop.artefact, BOXES, *self._hyper(), *meshes))
        self._pack = load_pack("hr", about, ("boxes", "frames", *meshes), clips, stamp, self._look, self.each)
        return iter([self._pack.reason(clip.clip_id) for clip in clips])

    def _look(self, clip: ClipFolder) -> str | dict[str, np.ndarray]:
        """What goes into the pack, or why the clip cannot serve.

        `boxes` (F, 4) and `frames` (n,), see `ClipArrays`; under the name of each mesh its points (F, 131, 2).
        """
        config = self.model_config
        if reason := super().usable(clip) or clip.lacks_crops(config.hr_crop):
            return reason
        if reason := config.hr_crop.differs_from(clip.faces(config.hr_crop.artefact).meta):
            return reason
        for artefact in self._hyper():
            if reason := clip.made_by_others(artefact, config.base_weights):
                return reason
        found = self._read(clip)
        return found if len(found["frames"]) else "no frame with Base's face, its mesh and the lips"

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
        config, side = self.model_config, float(crop_sides(arrays.target.boxes[index])[0])
        points = _whole(arrays.mesh[variant][frame]) if arrays.mesh else None
        return {
            "hyper": face,
            "sketch": sketched(points, config.sketch.style, config.crop.size, side),
            "target": self.crops(clip, arrays.target, index)[0],
            "boxes": np.array(arrays.boxes[frame]),
        }

    def arrays(self, clip: ClipFolder) -> ClipArrays:
        """What the items of a clip are cut from."""
        names, hyper = (self.model_config.hr_crop.artefact, *self._hyper()), self._hyper()
        target, *drawn = self.cached(clip, "stores", lambda: [clip.faces(name) for name in names])
        of_clip = partial(self._pack.array, clip.clip_id)
        mesh = dict(zip(hyper, map(of_clip, self._meshes())))
        return ClipArrays(target, dict(zip(hyper, drawn, strict=True)), mesh, of_clip("boxes"), of_clip("frames"))

    def _hyper(self) -> list[str]:
        """Artefacts of Base's faces that are read."""
        first = self.model_config.hyper_artefact
        return [first, f"{first}+1"] if self.model_config.hyper.neighbour else [first]

    def _meshes(self) -> list[str]:
        """Artefacts of the features on them; none where no sketches are drawn."""
        drawn = self.model_config.sketch.style != "none"
        return [name.replace("hyper@", "hyper_mesh@") for name in self._hyper()] if drawn else []

    def _read(self, clip: ClipFolder) -> dict[str, np.ndarray]:
        """See `_look`."""
        config = self.model_config
        target = clip.faces(config.hr_crop.artefact)
        boxes = clip.array(BOXES, Wanted("f", (len(target), 4)))
        pixels = np.floor(np.nan_to_num(boxes, nan=0.0) * config.hr_crop.size)
        there = target.valid & (pixels[:, 1] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 2])
        valid = {artefact: clip.faces(artefact).valid for artefact in self._hyper()}
        meshes = {}
        for name, drawn in zip(self._meshes(), valid.values()):
            points = clip.array(name, Wanted("f", (len(target), N_POINTS, 2)))
            there &= np.isfinite(points).all(axis=(1, 2))
            meshes[name] = self._smoothed(drawn, points, clip.fps)[:, DRAWN].astype(np.float32)
        frames = np.flatnonzero(np.logical_and.reduce([there, *valid.values()])).astype(np.int64)
        return {"boxes": pixels.astype(np.int64), "frames": frames, **meshes}

    def _smoothed(self, valid: np.ndarray, points: np.ndarray, fps: float) -> np.ndarray:
        """Features (F, 478, 2) as they are followed in use; `valid` (F,): frames that Base has drawn."""
        features, smooth = Features(self.model_config.sketch, 1, fps), points.copy()
        before = False
        for k, there in enumerate(valid):
            known = features.next(points[k], before) if there else None
            if known is not None:
                smooth[k] = known
            before = bool(there)
        return smooth


def _whole(points: np.ndarray) -> np.ndarray:
    """A mesh (478, 2) with these points `DRAWN`, and zeros that nobody draws."""
    mesh = np.zeros((N_POINTS, 2), np.float32)
    mesh[DRAWN] = points
    return mesh


def damaged(face: np.ndarray, damage: Degradation, rng: np.random.Generator) -> np.ndarray:
    """A face (S, S, 3) uint8 blurred and with noise, both of a random strength."""
    blur, noise = damage.blur * rng.random(), damage.noise * rng.random()
    if blur > 0.1:
        face = cv2.GaussianBlur(face, (0, 0), blur)
    if noise > 0:
        face = np.clip(face + rng.normal(0, noise, face.shape), 0, 255).round().astype(np.uint8)
    return face
