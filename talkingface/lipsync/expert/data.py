"""Training data of the lip-sync expert: windows of 5 mouths and 0.2 s of sound, several from each clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
from pydantic import Field, model_validator

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.clips.windows import known_columns, window_starts
from talkingface.config.sections import Section
from talkingface.lipsync.expert.inputs import MEL
from talkingface.networks.sync_expert import FRAMES
from talkingface.sound.mel import COLUMNS_PER_SECOND, MEL_WIDTH, cut_mel, cut_windows, frame_columns

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore

ROWS_BESIDE = 2
MEL_FLOOR = -4.0  # what silence is in the mel
MEL_PER_DB = 0.08  # 100 dB span 8 units
PUBLISHED_MIN_FRAMES = 16  # clips of 15 pictures and fewer are skipped


class SyncAugmentation(Section):
    """Random changes of a training clip; all windows of an item change alike: nothing but sync tells them apart.

    Attributes:
        gain_db: largest change of loudness.
        brightness: largest shift of the grey level, share of the full range.
        contrast: largest relative change of contrast.
        roll: largest rotation of the crop in degrees.
        shift: largest shift of the crop, share of its side.
        flip: mirror `none`, at `random` (half of the items), or `always`, as HyperLips was trained by mistake.
    """

    gain_db: float = Field(6.0, ge=0)
    brightness: float = Field(0.1, ge=0, lt=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    roll: float = Field(3.0, ge=0, le=45)
    shift: float = Field(0.02, ge=0, lt=0.5)
    flip: Literal["none", "random", "always"] = "random"


class SyncWindowOptions(DatasetOptions):
    """Options of the expert's data.

    Attributes:
        objective: `in_clip` takes several windows of a clip and compares every mouth with every sound among them;
            `published` takes one sound with the mouths of its own or of another window, whichever a fair coin says.
        windows: K, windows of a clip in an item (`in_clip`, and validation with either).
        min_frames: clips with fewer frames are left out.
        min_negative_shift: least distance in frames between the starts of two windows of an item. Published: 0, any
            two different frames, so that a "negative" may be a fortieth of a second off. Short clips get less.
        hard_negatives: share of the windows that stand `hard_range` frames beside another one of the item, on average
            over items and in training alone. With `published` the probability that the other window of an item does.
        hard_range: see `hard_negatives`.
        augment: null switches all augmentation off, as published.
    """

    objective: Literal["in_clip", "published"] = "in_clip"
    windows: int = Field(8, ge=2)
    min_frames: int = Field(PUBLISHED_MIN_FRAMES, ge=FRAMES)
    min_negative_shift: int = Field(0, ge=0)
    hard_negatives: float = Field(0.0, ge=0, lt=1)
    hard_range: tuple[int, int] = (2, 8)
    augment: SyncAugmentation | None = SyncAugmentation()

    @model_validator(mode="after")
    def _fits(self) -> SyncWindowOptions:
        low, high = self.hard_range
        if not 1 <= low <= high:
            raise ValueError(f"hard_range must be two rising numbers from 1 on, got {low}, {high}")
        if self.hard_negatives and high < self.min_negative_shift:
            raise ValueError(
                f"hard_range ends at {high} frames, but min_negative_shift keeps windows {self.min_negative_shift}"
                " apart: there would be no hard negatives"
            )
        return self


class ClipWindows(NamedTuple):
    """What the windows of one clip are cut from; `sound` is the mel (80, L), or rows by frame (F, width)."""

    faces: FaceStore
    sound: np.ndarray
    starts: np.ndarray


class SyncWindows(ClipDataset):
    """Windows of one clip.

    Item: `faces` (K, 5, S/2, S, 3) uint8 RGB, lower halves of consecutive crops; `mel` (K, 1, 80, 16) float32, the
    sound from the first of these frames on; `starts` (K,) int64, where in the clip the sound begins, in frames. In
    training with objective `published`, K = 1 and there is `in_sync` (1,) float32: 0 where the mouths are those of
    another window.
    """

    Options = SyncWindowOptions
    options: SyncWindowOptions

    @property
    def min_frames(self) -> int:
        """Shortest clip that serves."""
        return self.options.min_frames

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        if reason := super().usable(clip) or self.lacking(clip):
            return reason
        faces = clip.faces(self.model_config.crop.artefact)
        if reason := self.model_config.crop.differs_from(faces.meta):
            return reason
        if len(self._possible_starts(clip, faces)) < self.options.windows:
            return f"fewer than {self.options.windows} windows of {FRAMES} frames with a face and sound"
        return None

    def lacking(self, clip: ClipFolder) -> str | None:
        """Which artefact a clip lacks, or None."""
        return clip.lacks_crops(self.model_config.crop)

    def _possible_starts(self, clip: ClipFolder, faces: FaceStore) -> np.ndarray:
        """First frames of all windows that a clip holds."""
        return sync_starts(faces.valid, known_columns(clip, clip.mel_columns(MEL)), clip.fps)

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        published = self.training and self.options.objective == "published"
        starts = self._draw_starts(self.source(clip).starts, 2 if published else self.options.windows, rng)
        if not published:
            return self._item(clip, starts, starts, rng if self.training else None)
        in_sync = rng.random() < 0.5
        shown = starts[:1] if in_sync else starts[1:]
        return {**self._item(clip, shown, starts[:1], rng), "in_sync": np.array([in_sync], np.float32)}

    def windows(self, clip: ClipFolder, starts: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """An item of the windows that begin at given frames, as they are."""
        return self._item(clip, np.asarray(starts), np.asarray(starts), None)

    def whole(self, clip: ClipFolder) -> tuple[Iterator[np.ndarray], np.ndarray, np.ndarray, float]:
        """What `embed_clip` embeds of a clip: its mouths, its sound, first frames of all windows (n,), and frame rate.

        Mouths are those of all frames, (S/2, S, 3) each, black where there is no face; they are read while they are
        asked for, and damage inside a file shows then. The sound is the mel (80, L).
        """
        faces, mel, starts = self.source(clip)
        return (crop[len(crop) // 2 :] for crop in self.each_crop(clip, faces)), mel, starts, clip.fps

    def heard(self, clip: ClipFolder, range_db: float) -> np.ndarray:
        """(n,) bool of all windows of a clip: something in them is less than `range_db` below its loudest sound."""
        _, mel, starts = self.source(clip)
        level = mel.max(axis=0)
        loud = level > max(level.max() - MEL_PER_DB * range_db, MEL_FLOOR + 0.1)
        return cut_windows(loud[None], frame_columns(starts, clip.fps)).any(axis=(1, 2))

    def loudness(self, clip: ClipFolder, frames: int) -> np.ndarray:
        """Loudness around each of so many frames, (frames,); empty where it is not known."""
        mel = self.source(clip).sound
        columns = COLUMNS_PER_SECOND / clip.fps * (np.arange(frames)[:, None] + np.linspace(-0.5, 1.5, 5))
        return mel.mean(axis=0)[np.clip(columns.astype(int), 0, mel.shape[1] - 1)].mean(axis=1)

    def source(self, clip: ClipFolder) -> ClipWindows:
        """Crops, mel and possible first frames of a clip."""
        return self.cached(clip, "source", lambda: self._read_source(clip))

    def _read_source(self, clip: ClipFolder) -> ClipWindows:
        faces = clip.faces(self.model_config.crop.artefact)
        return ClipWindows(faces, clip.mel(MEL), self._possible_starts(clip, faces))

    def _draw_starts(self, starts: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` different starts in random order; in training hard negatives stand close to another one."""
        options = self.options
        if not self.training:  # runs with other negatives are measured on the same windows
            return rng.permutation(spread_starts(starts, count, 1, rng))
        hard = self._hard_windows(count, rng)
        chosen = spread_starts(starts, count - hard, options.min_negative_shift, rng).tolist()
        low, high = max(options.hard_range[0], options.min_negative_shift), options.hard_range[1]
        for _ in range(hard):
            distance = np.abs(starts[:, None] - np.array(chosen)).min(axis=1)
            near = starts[(distance >= low) & (distance <= high)]
            free = near if len(near) else starts[distance > 0]
            chosen.append(int(free[rng.integers(len(free))]))
        return rng.permutation(chosen)

    def _hard_windows(self, count: int, rng: np.random.Generator) -> int:
        """How many of `count` windows are hard negatives: the share asked for on average, and never all."""
        share = self.options.hard_negatives
        if not share:
            return 0
        wanted = share if self.options.objective == "published" else share * count
        return min(math.floor(wanted + rng.random()), count - 1)

    def _item(
        self, clip: ClipFolder, shown: np.ndarray, heard: np.ndarray, rng: np.random.Generator | None
    ) -> dict[str, np.ndarray]:
        """The item with mouths and sounds of windows at given frames; augmented with an `rng`."""
        crops = self._crops(clip, shown)
        mel = sync_mel_windows(self.source(clip).sound, heard, clip.fps)
        if rng is None or self.options.augment is None:
            faces = crops[:, :, crops.shape[2] // 2 :]
        else:
            change = draw_change(self.options.augment, rng)
            faces, mel = change.faces(crops, lower_half(crops.shape[2])), change.mel(mel)
        return {"faces": faces, "mel": mel, "starts": heard}

    def _crops(self, clip: ClipFolder, starts: np.ndarray) -> np.ndarray:
        """(K, 5, S, S, 3) whole crops."""
        return self.crops(clip, self.source(clip).faces, starts[:, None] + np.arange(FRAMES))


def sync_starts(valid: np.ndarray, mel_columns: int | range, fps: float = 25.0) -> np.ndarray:
    """First frames of the windows whose frames all have a face and whose sound is known.

    Args:
        valid: (F,) bool, frames with a face.
        mel_columns: length of the clip's mel, or its `known_columns`.
        fps: frame rate.
    """
    known = range(mel_columns) if isinstance(mel_columns, int) else mel_columns
    starts = window_starts(valid, FRAMES)
    first = frame_columns(starts, fps)
    return starts[(first >= known.start) & (first + MEL_WIDTH <= known.stop)]


def sync_mel_windows(mel: np.ndarray, starts: np.ndarray, fps: float = 25.0) -> np.ndarray:
    """(80, L) mel -> (n, 1, 80, 16), the sound of the windows that begin at the frames `starts`."""
    return cut_mel(mel, frame_columns(starts, fps))


def sync_row_windows(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rows of a front end (F, width), one per frame -> those around windows from given frames, (n, width, 9).

    All that generators hear for the five frames: two rows before the first to two behind the last.
    """
    around = np.asarray(starts)[:, None] + np.arange(-ROWS_BESIDE, FRAMES + ROWS_BESIDE)
    return np.ascontiguousarray(rows[around].transpose(0, 2, 1))


def spread_starts(starts: np.ndarray, count: int, distance: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` of the rising `starts`, at least `distance` frames from each other, or as far as they allow."""
    gap = 1 if count < 2 else max(1, min(distance, (len(starts) - 1) // (count - 1)))
    # Drawing until all lie far enough apart could take for ever, and drawing one after the other favours the ends.
    # So `gap - 1` places are taken out for every pair of neighbours, plain places are drawn from what is left, and the
    # k-th of them, rising, gets back the k gaps that lie before it: any allowed choice comes out equally often.
    drawn = np.sort(rng.choice(len(starts) - (count - 1) * (gap - 1), size=count, replace=False))
    return starts[drawn + (gap - 1) * np.arange(count)]


Part = tuple[slice, slice]
"""Rows and columns of a crop."""


def lower_half(side: int) -> Part:
    """Of a square crop: what experts of Wav2Lip's kind see."""
    return slice(side // 2, side), slice(0, side)


class Change(NamedTuple):
    """One draw of the augmentation."""

    gain_db: float
    brightness: float
    contrast: float
    angle: float
    shift: tuple[float, float]
    mirrored: bool

    def mel(self, mel: np.ndarray) -> np.ndarray:
        """The mel of a louder or softer sound; digital silence stays silent."""
        moved = np.clip(mel + np.float32(MEL_PER_DB * self.gain_db), MEL_FLOOR, -MEL_FLOOR)
        return np.where(mel <= MEL_FLOOR, mel, moved)

    def faces(self, crops: np.ndarray, part: Part) -> np.ndarray:
        """(K, 5, H, W, 3) uint8 crops -> a part of each changed crop, (K, 5, h, w, 3)."""
        rows, columns = part
        levels = (np.arange(256) / 255 - 0.5) * (1 + self.contrast) + 0.5 + self.brightness
        table = np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        matrix = self._matrix(crops.shape[2:4]) - [[0, 0, columns.start], [0, 0, rows.start]]
        changed = np.empty((*crops.shape[:2], *size[::-1], 3), np.uint8)
        whole = crops.reshape(-1, *crops.shape[2:])
        for crop, into in zip(whole, changed.reshape(-1, *changed.shape[2:]), strict=True):
            cv2.warpAffine(crop, matrix, size, into, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        return cv2.LUT(changed.reshape(-1, size[0]), table).reshape(changed.shape)

    def _matrix(self, size_hw: tuple[int, int]) -> np.ndarray:
        """Affine map from a crop to the turned, moved, mirrored one."""
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        size = np.array(size_hw[::-1])
        middle = (size - 1) / 2
        turn = np.array([[cosine, -sine], [sine, cosine]])
        turn = np.diag([-1.0, 1.0]) @ turn if self.mirrored else turn
        offset = middle - turn @ middle + size * np.array(self.shift)
        return np.concatenate([turn, offset[:, None]], axis=1)


def draw_change(options: SyncAugmentation, rng: np.random.Generator) -> Change:
    """Draw how an item is changed."""
    gain, light, contrast, angle, right, down = rng.uniform(-1, 1, 6)
    mirrored = {"none": False, "always": True, "random": bool(rng.random() < 0.5)}[options.flip]
    return Change(
        options.gain_db * gain,
        options.brightness * light,
        options.contrast * contrast,
        options.roll * angle,
        (options.shift * right, options.shift * down),
        mirrored,
    )
