"""Training data: a window of faces with its sound, and a reference window of the same clip.

Specification of the sampling: docs/wav2lip.md#data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.clips.windows import known_columns, window_starts
from talkingface.lipsync.expert.inputs import MEL
from talkingface.media import FPS
from talkingface.networks.sync_expert import FRAMES
from talkingface.sound.mel import MEL_WIDTH, cut_mel, frame_columns

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore
    from talkingface.lipsync.half_face.config import HalfFaceConfig

TRAINING_OFFSET = -1  # of the sound of a single frame, in frames: the window is roughly centred on the frame


def sounding_starts(starts: np.ndarray, frames: int, columns: range, fps: float = FPS) -> np.ndarray:
    """Those of the windows beginning at `starts` whose mel windows all lie inside the mel `columns`.

    As published, frame 0 never begins a window: its own sound would begin before the clip.
    """
    last_window = starts + max(0, frames - FRAMES)
    last = np.maximum(frame_columns(last_window, fps), frame_columns(starts + frames - 1, fps, TRAINING_OFFSET))
    inside = (frame_columns(starts, fps, TRAINING_OFFSET) >= columns.start) & (last + MEL_WIDTH <= columns.stop)
    return starts[inside]


class FaceWindowOptions(DatasetOptions):
    """Options of the generator's data.

    Attributes:
        frames: T, frames per window; 5 as published, 1 for a first stage without the sync loss (which needs 5). Of
            longer windows every 5 consecutive frames are judged.
        min_frames: clips with fewer frames are left out (published: more than 15).
        exclude_overlap: keep the frames of the window out of the reference window. Published: off, only the first
            frames differ.
    """

    frames: int = Field(5, ge=1)
    min_frames: int = Field(16, ge=2)
    exclude_overlap: bool = False


class ClipArrays(NamedTuple):
    """What the items of a clip are cut from: faces, mel (80, L), and first frames of windows and references."""

    faces: FaceStore
    mel: np.ndarray
    starts: np.ndarray
    references: np.ndarray


class FaceWindows(ClipDataset):
    """Windows of T faces, reference windows from elsewhere in the clip, and their sound.

    Item: `target` and `reference` (T, S, S, 3) uint8 RGB; `mels` (T, 1, 80, 16), the sound of each frame, and `mel`
    (W, 1, 80, 16), that of each window of 5 frames among them (of the frames there are, if fewer), float32.
    """

    Options = FaceWindowOptions
    options: FaceWindowOptions
    model_config: HalfFaceConfig

    @property
    def min_frames(self) -> int:
        """Shortest clip that holds a window, which does not begin at frame 0, and a reference."""
        return max(self.options.min_frames, self.options.frames + 2)

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        if reason := super().usable(clip) or clip.lacks_crops(self.model_config.crop):
            return reason
        faces = clip.faces(self.model_config.crop.artefact)
        if reason := self.model_config.crop.differs_from(faces.meta):
            return reason
        starts, references = self._windows(clip, faces, clip.mel_columns(MEL))
        if not len(starts):
            return f"no {self.options.frames} consecutive frames with a face and sound"
        # The first or the last of the rising references is the furthest from any window.
        nearest = self._nearest
        if (
            not len(references)
            or not ((starts - references[0] >= nearest) | (references[-1] - starts >= nearest)).all()
        ):
            return f"no second window of {self.options.frames} frames to take a reference from"
        return None

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        arrays = self.cached(clip, "arrays", lambda: self._read_arrays(clip))
        start = int(rng.choice(arrays.starts))
        return self.window(clip, start, int(rng.choice(self._others(arrays.references, start))))

    def window(self, clip: ClipFolder, start: int, reference: int) -> dict[str, np.ndarray]:
        """The item whose windows begin at frames `start` and `reference`."""
        arrays = self.cached(clip, "arrays", lambda: self._read_arrays(clip))
        frames = np.arange(self.options.frames)
        faces = self.crops(clip, arrays.faces, np.concatenate([start + frames, reference + frames]))
        count = len(frames)
        windows = start + np.arange(max(1, count - FRAMES + 1))
        first = [frame_columns(start + frames, clip.fps, TRAINING_OFFSET), frame_columns(windows, clip.fps)]
        sound = cut_mel(arrays.mel, np.concatenate(first))
        return {"target": faces[:count], "reference": faces[count:], "mels": sound[:count], "mel": sound[count:]}

    def stretch(self, count: int) -> list[dict[str, np.ndarray]]:
        """Windows one after the other from the first clip, `count` frames in all where it has as many, for a preview.

        All have the same reference, the window furthest from the middle.
        """
        return self.of_readable(lambda clip: self._stretch(clip, count))

    def _stretch(self, clip: ClipFolder, count: int) -> list[dict[str, np.ndarray]]:
        arrays = self.cached(clip, "arrays", lambda: self._read_arrays(clip))
        steps = -(-count // self.options.frames)
        run = np.split(arrays.starts, np.flatnonzero(np.diff(arrays.starts) > 1) + 1)[0]
        shown = run[:: self.options.frames][:steps]
        far = np.abs(arrays.references - (shown[0] + shown[-1]) / 2).argmax()
        return [self.window(clip, int(start), int(arrays.references[far])) for start in shown]

    def _read_arrays(self, clip: ClipFolder) -> ClipArrays:
        faces, mel = clip.faces(self.model_config.crop.artefact), clip.mel(MEL)
        return ClipArrays(faces, mel, *self._windows(clip, faces, mel.shape[1]))

    def _windows(self, clip: ClipFolder, faces: FaceStore, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """First frames of the windows, and of the references, of a clip with so many columns of mel."""
        windows, known = window_starts(faces.valid, self.options.frames), known_columns(clip, columns)
        starts = sounding_starts(windows, self.options.frames, known, clip.fps)
        return starts, window_starts(faces.found, self.options.frames)

    def _others(self, references: np.ndarray, start: int) -> np.ndarray:
        """First frames of the windows that may be the reference of the one at `start`."""
        return references[np.abs(references - start) >= self._nearest]

    @property
    def _nearest(self) -> int:
        """Frames between the starts of a window and of its reference, at least."""
        return self.options.frames if self.options.exclude_overlap else 1
