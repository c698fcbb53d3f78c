"""Training data of IPLAP: windows of landmarks for the first stage, faces and sketches for the second.

Both need only prepared clips (landmarks, mel, faces). Specification of the sampling: docs/iplap.md#data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.clips.pack import file_stamp, load_pack
from talkingface.clips.windows import window_starts
from talkingface.faces.mesh import IPLAP_CONTENT, IPLAP_ORDER, IPLAP_POSE, LIPS_INNER_20, LIPS_OUTER_20
from talkingface.faces.sketch import draw_sketches
from talkingface.models.iplap.points import ClipPoints, clip_points, stored_points
from talkingface.sound.mel import COLUMNS_PER_SECOND, MEL_WIDTH, mel_windows

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore
    from talkingface.models.iplap.config import IPLAPConfig

POSE, CONTENT = len(IPLAP_POSE), len(IPLAP_CONTENT)
PACK_ARRAYS = ("landmarks", "mel", "valid", "found", "starts")
PACK_VERSION = 1  # of what `LandmarkWindows` reads of a clip; a change of its code needs a new one
LIPS = len(LIPS_OUTER_20) + len(LIPS_INNER_20)


def sounding_starts(starts: np.ndarray, frames: int, mel_columns: int, fps: float) -> np.ndarray:
    """Those of the windows of `frames` frames beginning at `starts` whose mel windows all lie inside the clip."""
    last_column = np.floor(COLUMNS_PER_SECOND * (starts + frames - 1 - 2) / fps) + MEL_WIDTH
    return starts[(last_column <= mel_columns) & (starts >= 2)]


def box_shapes(boxes: np.ndarray) -> np.ndarray:
    """(n, 2) height and width in pixels of boxes (n, 4)."""
    return np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)


def pick_references(found: np.ndarray, start: int, frames: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct reference frames outside a window; a clip with too few of them gives repeats.

    Args:
        found: (F,) bool, frames whose face was detected.
        start: first frame of the window.
        frames: length of the window; 0 admits every frame.
        count: references wanted.
        rng: source of randomness.
    """
    allowed = found.copy()
    allowed[start : start + frames] = False
    others = np.flatnonzero(allowed)
    if not len(others):
        others = np.flatnonzero(found)
    return rng.choice(others, size=count, replace=len(others) < count)


class LandmarkWindowOptions(DatasetOptions):
    """Options of the first stage's data.

    Attributes:
        references: Nl, reference landmark sets per item.
        min_frames: clips with fewer frames that have a face are left out.
    """

    references: int = Field(15, ge=1)
    min_frames: int = Field(25, ge=1)


class LandmarkWindows(ClipDataset):
    """Windows of T frames: audio and upper-face landmarks in, lips and jaw out.

    Landmarks and mels of all clips are one mapped file (`clips.pack`): a batch is gathered from it at once, later
    starts do not open the clips, and processes share its pages.
    Item: `mels` (T, 1, 80, 16), `pose` (T, 2, 74), `content` (T, 2, 57), `reference_pose` (Nl, 2, 74),
    `reference_content` (Nl, 2, 57), all float32; landmarks relative to the face box.
    """

    Options = LandmarkWindowOptions
    options: LandmarkWindowOptions
    model_config: IPLAPConfig

    def __init__(self, clips: Sequence[ClipFolder], *args: Any, **kwargs: Any) -> None:
        super().__init__(clips, *args, **kwargs)
        self.clips = list({clip.clip_id: clip for clip in self.clips}.values())
        self._number = {clip.clip_id: number for number, clip in enumerate(self.clips)}
        names, pack = [clip.clip_id for clip in self.clips], self._pack
        self._valid = [pack.array(name, "valid") for name in names]
        self._found = [pack.array(name, "found") for name in names]
        self._starts = [pack.array(name, "starts") for name in names]
        # Where in the file the numbers of each clip begin. A row of landmarks or mel may then begin at any number.
        self._first_point = np.array([pack.start(name, "landmarks") for name in names])
        self._first_mel = np.array([pack.start(name, "mel") for name in names])
        self._bands = pack.array(names[0], "mel").shape[1]

    @property
    def frames(self) -> int:
        """T, frames per window."""
        return self.model_config.landmark.window

    @property
    def min_frames(self) -> int:
        """Shortest clip that holds a window with its audio, and a frame outside it."""
        return max(self.options.min_frames, self.frames + 5)

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        found = self._look(clip)
        return found if isinstance(found, str) else None

    def _reasons(self, clips: Sequence[ClipFolder]) -> Iterator[str | None]:
        crop = self.model_config.crop
        about = {"version": PACK_VERSION, "crop": crop.model_dump(), "frames": [self.frames, self.min_frames]}
        needs = ("landmarks", "mel", crop.artefact)
        self._pack = load_pack(
            "landmarks", about, PACK_ARRAYS, clips, partial(file_stamp, artefacts=needs), self._look, self.each
        )
        return iter([self._pack.reason(clip.clip_id) for clip in clips])

    def _look(self, clip: ClipFolder) -> str | dict[str, np.ndarray]:
        """What goes into the pack, or why the clip cannot serve.

        `landmarks` (F, 2, 131), `mel` (L, 80), `valid` and `found` (F,), `starts` (n,).
        """
        # The faces are the second stage's, but a crop that does not fit must not come out after days of training.
        crop = self.model_config.crop
        if reason := super().usable(clip) or clip.lacks_crops(crop):
            return reason
        # What older code has cut is known only as it was cut: its landmarks are pixels of the crop.
        boxes = clip.faces(crop.artefact).boxes if clip.imported else None
        points, mel = clip_points(stored_points(clip), crop, boxes), clip.mel()
        if points.valid.sum() < self.min_frames:
            return f"fewer than {self.min_frames} frames with a face"
        starts = window_starts(points.valid, self.frames, context=2)
        starts = sounding_starts(starts, self.frames, mel.shape[1], clip.fps)
        if not len(starts):
            return f"no {self.frames} consecutive frames with a face and sound"
        columns = np.ascontiguousarray(mel.T, dtype=np.float32)
        flags = {"valid": points.valid, "found": points.found}
        return {"landmarks": points.relative, "mel": columns, "starts": starts.astype(np.int64), **flags}

    def mean_content(self) -> np.ndarray:
        """(2, 57) mean lips and jaw over all frames with a face."""
        total, count = np.zeros((1, 2, CONTENT), np.float32), 0
        for clip, valid in zip(self.clips, self._valid, strict=True):
            content = self._pack.array(clip.clip_id, "landmarks")[valid][..., POSE:]
            # The sum so far goes in front: numbers are added in one order, however they are cut into clips.
            total = np.concatenate([total, content]).sum(axis=0, keepdims=True)
            count += len(content)
        return total[0] / np.float32(count)

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        return self._gather([self._choose(clip, rng)])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Several items by one gather, as views of shared arrays."""
        return self._gather([self._choose(*self.draw(int(key))) for key in keys])

    def _gather(self, choices: Sequence[tuple[int, int, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """The items of clip number, first frame of the window and reference frames."""
        number = np.array([n for n, _, _ in choices])
        start = np.array([s for _, s, _ in choices])
        fps = np.array([self.clips[n].fps for n in number])
        frames = start[:, None] + np.arange(self.frames)
        shown = self._points(number, frames)
        references = self._points(number, np.stack([r for _, _, r in choices]))
        columns = np.floor(COLUMNS_PER_SECOND * (frames - 2) / fps[:, None]).astype(np.int64)
        columns = columns[..., None] + np.arange(MEL_WIDTH)
        mel = _rows(self._pack.floats, self._first_mel[number][:, None, None] + self._bands * columns, self._bands)
        arrays = {
            "mels": mel.swapaxes(-1, -2)[:, :, None],
            "pose": shown[..., :POSE],
            "content": shown[..., POSE:],
            "reference_pose": references[..., :POSE],
            "reference_content": references[..., POSE:],
        }
        return [{name: values[row] for name, values in arrays.items()} for row in range(len(choices))]

    def _points(self, number: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(n, k, 2, 131) landmarks of frames (n, k) of the clips with these numbers (n,)."""
        length = 2 * len(IPLAP_ORDER)
        rows = _rows(self._pack.floats, self._first_point[number][:, None] + length * frames, length)
        return rows.reshape(*frames.shape, 2, len(IPLAP_ORDER))

    def _choose(self, clip: ClipFolder, rng: np.random.Generator) -> tuple[int, int, np.ndarray]:
        """Clip number, first frame of the window and reference frames of an item."""
        number = self._number[clip.clip_id]
        starts = self._starts[number]
        start = int(starts[rng.integers(len(starts))])
        return number, start, pick_references(self._found[number], start, self.frames, self.options.references, rng)


def _rows(numbers: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """(..., length) stretches of `numbers` (m,) that begin at `starts` (...)."""
    # As items of their size they are copied whole, a third faster than number by number.
    stretch = np.dtype((np.void, length * numbers.itemsize))
    items = np.ndarray((len(numbers) - length + 1,), stretch, numbers, strides=numbers.strides)
    return items[starts].view(numbers.dtype).reshape(*starts.shape, length)


class RenderWindowOptions(DatasetOptions):
    """Options of the second stage's data.

    Attributes:
        references: N, reference frames per item.
        min_frames: clips with fewer frames that have a face are left out.
        exclude_target_from_refs: keep the window out of the references; published: off, a leak.
    """

    references: int = Field(3, ge=1)
    min_frames: int = Field(25, ge=1)
    exclude_target_from_refs: bool = True


class RenderWindows(ClipDataset):
    """Target face, the sketches around it, reference faces with their sketches, and the audio.

    Item: `target` (S, S, 3), `references` (N, S, S, 3) uint8 RGB; `sketches` (T, S, S), `reference_sketches` (N, S, S)
    uint8; `mel` (1, 80, 16) float32; `lips` (2, 40) float32, the target's lips relative to the crop.
    """

    Options = RenderWindowOptions
    options: RenderWindowOptions
    model_config: IPLAPConfig

    @property
    def frames(self) -> int:
        """T, driving sketches per face."""
        return self.model_config.landmark.window

    @property
    def min_frames(self) -> int:
        """Shortest clip that holds a window and a frame outside it."""
        return max(self.options.min_frames, self.frames + 1)

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        if reason := super().usable(clip) or clip.lacks_crops(self.model_config.crop):
            return reason
        faces = clip.faces(self.model_config.crop.artefact)
        if reason := self.model_config.crop.differs_from(faces.meta):
            return reason
        valid = faces.valid
        if valid.sum() < self.min_frames:
            return f"fewer than {self.min_frames} frames with a face"
        if not len(window_starts(valid, self.frames)):
            return f"no {self.frames} consecutive frames with a face"
        return None

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        _, points, _, starts = self._arrays(clip)
        start = int(starts[rng.integers(len(starts))])
        hidden = self.frames if self.options.exclude_target_from_refs else 0
        return self._window(clip, start, pick_references(points.found, start, hidden, self.options.references, rng))

    def stretch(self, count: int) -> list[dict[str, np.ndarray]]:
        """Items of up to `count` consecutive frames of the first clip, all with the same references, for a preview."""
        return self.of_readable(lambda clip: self._stretch(clip, count))

    def _stretch(self, clip: ClipFolder, count: int) -> list[dict[str, np.ndarray]]:
        _, points, _, starts = self._arrays(clip)
        runs = np.split(starts, np.flatnonzero(np.diff(starts) > 1) + 1)
        run = next((run for run in runs if len(run) >= count), max(runs, key=len))[:count]
        shown, rng = len(run) + self.frames - 1, np.random.default_rng(0)
        references = pick_references(points.found, int(run[0]), shown, self.options.references, rng)
        return [self._window(clip, int(start), references) for start in run]

    def _window(self, clip: ClipFolder, start: int, references: np.ndarray) -> dict[str, np.ndarray]:
        """The item whose window begins at a frame."""
        faces, points, mel, _ = self._arrays(clip)
        middle = start + self.frames // 2
        pictures = self.crops(clip, faces, np.array([middle, *references]))
        drawn = np.concatenate([np.arange(start, start + self.frames), references])
        sketches = self._draw(points, drawn)
        lips = points.relative[middle][:, -LIPS:]
        return {
            "target": pictures[0],
            "references": pictures[1:],
            "sketches": sketches[: self.frames],
            "reference_sketches": sketches[self.frames :],
            "mel": mel_windows(mel, [middle], clip.fps),
            "lips": lips,
        }

    def _arrays(self, clip: ClipFolder) -> tuple[FaceStore, ClipPoints, np.ndarray, np.ndarray]:
        """Faces, landmarks, mel and possible first frames of a clip."""
        return self.cached(clip, "arrays", lambda: self._read_arrays(clip))

    def _read_arrays(self, clip: ClipFolder) -> tuple[FaceStore, ClipPoints, np.ndarray, np.ndarray]:
        faces = clip.faces(self.model_config.crop.artefact)
        # The boxes the crops were really cut with, whatever made them.
        points = clip_points(stored_points(clip), self.model_config.crop, faces.boxes)
        return faces, points, clip.mel(), window_starts(points.valid, self.frames)

    def _draw(self, points: ClipPoints, frames: np.ndarray) -> np.ndarray:
        size = self.model_config.crop.size
        sketches = draw_sketches(points.relative[frames], box_shapes(points.boxes[frames]), size, rounded=True)
        return np.rint(sketches * 255).astype(np.uint8)
