"""Training data of the image translation: two pictures of one person, the landmarks of the wanted one drawn."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.faces.affine import mapped
from talkingface.models.makeittalk.clip_faces import to_crop
from talkingface.models.makeittalk.drawing import SIDE, draw_landmarks
from talkingface.models.makeittalk.head_mesh import HeadMesh, inside_mask

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore
    from talkingface.models.makeittalk.config import MakeItTalkConfig


class PairOptions(DatasetOptions):
    """Options of stage `translate`.

    Attributes:
        pairs: `published`: two frames of one video, the earlier one is wanted; `speaker`: the portrait comes from
            another clip of the same speaker where there is one.
    """

    pairs: Literal["published", "speaker"] = "published"


class TranslatePairs(ClipDataset):
    """Portrait and wanted picture.

    Item, S pixels a side: `portrait`, `target` (S, S, 3) uint8 RGB, `drawing` (S, S, 3) uint8 BGR, `inside` (S, S)
    uint8, 255 between the inner lips of the wanted picture; `moved` (S, S, 3) uint8 RGB, the portrait whose landmarks
    have moved there.
    """

    Options = PairOptions
    options: PairOptions
    model_config: MakeItTalkConfig

    @property
    def min_frames(self) -> int:
        """Two pictures."""
        return 2

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        artefact = self.model_config.heads_artefact
        if reason := super().usable(clip):
            return reason
        if not clip.has(artefact):
            return f"has no {artefact}; run preprocess"
        return None if clip.faces(artefact).found.sum() >= 2 else "fewer than two frames with a face"

    def share(self, processes: int) -> None:
        """Head crops are not face crops: no memory is shared for them."""
        self._processes = max(1, processes)

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        lender = self._lender(clip, rng)
        faces = self._found(clip)
        first, second = np.sort(rng.choice(faces, 2, replace=False))
        if lender is not clip:
            second = int(rng.choice(self._found(lender)))
        return self.pair(clip, int(first), lender, int(second))

    def pair(self, clip: ClipFolder, wanted: int, lender: ClipFolder, shown: int) -> dict[str, np.ndarray]:
        """The item that asks for frame `wanted` of a clip, of a portrait that is frame `shown` of its lender."""
        portrait, target = self._crop(lender, shown), self._crop(clip, wanted)
        points, resting = self._points(clip)[wanted], self._points(lender)[shown]
        item = drawn_input(portrait, resting, points, self.model_config.translate.input)
        return {"portrait": portrait, "target": target, **item}

    def _lender(self, clip: ClipFolder, rng: np.random.Generator) -> ClipFolder:
        own = self._by_speaker.get(clip.speaker, []) if self.options.pairs == "speaker" else []
        if len(own) < 2:
            return clip
        place = int(rng.integers(len(own) - 1))
        return own[place + (place >= own.index(clip))]  # any but the clip itself

    @cached_property
    def _by_speaker(self) -> dict[str, list[ClipFolder]]:
        """The clips of each speaker who is known, in order."""
        clips: dict[str, list[ClipFolder]] = defaultdict(list)
        for clip in self.clips:
            if clip.speaker:
                clips[clip.speaker].append(clip)
        return dict(clips)

    def _heads(self, clip: ClipFolder) -> FaceStore:
        """The index of its head crops, which is read and checked as a whole when it is opened."""
        return self.cached(clip, "heads", lambda: clip.faces(self.model_config.heads_artefact))

    def _found(self, clip: ClipFolder) -> np.ndarray:
        return np.flatnonzero(self._heads(clip).found)

    def _crop(self, clip: ClipFolder, frame: int) -> np.ndarray:
        return self.crops(clip, self._heads(clip), np.array([frame]))[0]

    def _points(self, clip: ClipFolder) -> np.ndarray:
        """Landmarks (F, 68, 2) in pixels of the crop."""

        def make() -> np.ndarray:
            store, points = self._heads(clip), clip.track().ibug68()
            box = store.boxes[np.flatnonzero(store.valid)[0]]
            return mapped(points, to_crop(box, store.size)).astype(np.float32)

        return self.cached(clip, "points", make)


def drawn_input(portrait: np.ndarray, resting: np.ndarray, points: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """What the network is told of a wanted face; see `TranslatePairs`.

    Args:
        portrait: (S, S, 3) uint8 RGB.
        resting: (68, 2) its landmarks in its pixels.
        points: (68, 2) wanted ones.
        kind: `translate.input`.
    """
    size = portrait.shape[0]
    # Pixel centres: a picture of 256 shows pixel x of one of S at (x + 0.5) 256 / S - 0.5.
    drawing = draw_landmarks((np.asarray(points) + 0.5) * (SIDE / size) - 0.5, size)
    moved = HeadMesh(resting).move(portrait, points) if kind == "warped" else portrait
    return {"drawing": drawing, "inside": inside_mask(points, (size, size)), "moved": moved}
