"""Training data of both landmark stages: rows of sound and faces 62.5 times per second, from any prepared clip."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.folder import ClipFolder
from talkingface.models.makeittalk.networks.pieces import FACE, WINDOW
from talkingface.models.makeittalk.space import PICKED, most_closed
from talkingface.sound.moments import Moments
from talkingface.sound.rows import Rows, held_at
from talkingface.stored.arrays import Wanted

if TYPE_CHECKING:
    from talkingface.models.makeittalk.config import MakeItTalkConfig

SEGMENT = 512
"""Windows of a published segment."""

_LEAST = 10  # windows of a segment, as published

HEAD = "head_motion"
"""Fact of registered faces: whether they also tell how the head moves; those of a video do."""

_FACES = Wanted("f", ("frames", 2, 68, 3))
_DROPPED = 0.2  # longest share of a clip that is left out at its beginning, as published


class Motion(NamedTuple):
    """What the items of a clip are cut from, T rows.

    Attributes:
        sound: (T, bands) as the front end made them.
        speaker: (256,) who speaks.
        still: (T, 204) registered faces.
        moving: (T, 204) the same with the motion of the head.
        rest: (204,) the registered face of the most closed lips, or the mean of a few.
        valid: (T,) bool, rows with a face.
    """

    sound: np.ndarray
    speaker: np.ndarray
    still: np.ndarray
    moving: np.ndarray
    rest: np.ndarray
    valid: np.ndarray


def padded(rows: np.ndarray) -> np.ndarray:
    """Rows (T, C) with the last one repeated, so that a window begins at every row: (T + 17, C)."""
    return np.concatenate([rows, np.repeat(rows[-1:], WINDOW - 1, axis=0)])


def from_row(first: Any, count: int, rows: int) -> np.ndarray:
    """Places (..., count) of rows from `first` (...) on, of so many; the last one goes on behind them."""
    return np.minimum(np.asarray(first)[..., None] + np.arange(count), rows - 1)


def places_of(sound: Rows, fps: float, frames: int) -> np.ndarray:
    """Places (T,) among so many faces, `fps` a second, of the rows of sound that count: as many as both last."""
    places = sound.times() * fps
    # The face ends with its last frame.
    return places[places <= frames - 1 + 1e-6]


def rows_with_a_face(faces: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(T,) bool, whether there is a face at each place among registered ones (F, 2, 68, 3)."""
    known = np.where(np.isfinite(faces).all(axis=(1, 2, 3)), 0.0, np.nan)
    return np.isfinite(held_at(known, places))


def read_motion(clip: ClipFolder, config: MakeItTalkConfig) -> Motion:
    """What the items of a clip are cut from."""
    sound = clip.features(config.sound.artefact)
    faces = clip.array(config.faces_artefact, _FACES)
    places = places_of(sound, clip.fps, len(faces))
    rows, valid = held_at(faces, places), rows_with_a_face(faces, places)
    still, moving = (np.nan_to_num(rows[:, k]).astype(np.float32) for k in range(2))
    picked = still[valid][::PICKED] if valid.any() else still[:1]  # registered already
    rest = most_closed(picked, config.content.resting)
    speaker = np.zeros(1, np.float32) if sound.vector is None else sound.vector
    return Motion(
        sound=sound.values[: len(places)],
        speaker=speaker,
        still=still.reshape(-1, FACE),
        moving=moving.reshape(-1, FACE),
        rest=rest.reshape(FACE).astype(np.float32),
        valid=valid,
    )


class MotionDataset(ClipDataset):
    """Base of both: clips with sound and registered faces."""

    model_config: MakeItTalkConfig

    @property
    def least_rows(self) -> int:
        """Rows with a face that a clip must have."""
        return 2 * WINDOW

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        config = self.model_config
        if reason := super().usable(clip) or config.sound.made_by_others(clip.record(config.sound.artefact)):
            return reason
        for artefact in (config.sound.artefact, config.faces_artefact):
            if not clip.has(artefact):
                return f"has no {artefact}; run preprocess"
        sound, faces = clip.features(config.sound.artefact), clip.array(config.faces_artefact, _FACES)
        rows = int(rows_with_a_face(faces, places_of(sound, clip.fps, len(faces))).sum())
        if rows < self.least_rows:
            return f"{rows} rows with a face, fewer than {self.least_rows}"
        return self.lacking(clip, sound)

    def lacking(self, clip: ClipFolder, sound: Rows) -> str | None:
        """What else a clip with enough faces lacks, or None; `sound` is its own, which is read once."""
        return None

    def motion(self, clip: ClipFolder) -> Motion:
        """What the items of a clip are cut from."""
        return self.cached(clip, "motion", lambda: read_motion(clip, self.model_config))

    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (bands,) of the sound of all clips, of which one at a time is held."""
        heard = reduce(Moments.with_those_of, self.each(self._moments, self.clips))
        return heard.mean.astype(np.float32), np.maximum(heard.deviation, 1e-3).astype(np.float32)

    def _moments(self, clip: ClipFolder) -> Moments:
        sound = clip.features(self.model_config.sound.artefact)
        frames = clip.array_rows(self.model_config.faces_artefact, _FACES)
        return Moments.of(sound.values[: len(places_of(sound, clip.fps, frames))])


class ContentOptions(DatasetOptions):
    """Options of stage `content`.

    Attributes:
        windows: windows in an item, all of one clip, each drawn by itself.
        sampling: `mixed` draws them from anywhere in the clip; `published` takes consecutive ones, up to 512, as many
            as there are: such items make no batches.
        faces: with `mixed`, the resting face of an item in training is the most closed of so many that are drawn; with
            a `content.resting` of its own for each that takes part.
    """

    windows: int = Field(32, ge=1)
    faces: int = Field(3, ge=1)
    sampling: Literal["mixed", "published"] = "mixed"


class ContentWindows(MotionDataset):
    """Windows of sound and the face in their first row.

    Item: `windows` (n, 18, bands), `face` (204,) the resting face of the clip, `target` (n, 204).
    """

    Options = ContentOptions
    options: ContentOptions

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        motion = self.motion(clip)
        if self.options.sampling == "published":
            starts = self._consecutive(np.flatnonzero(motion.valid), rng)
        else:
            starts = np.sort(rng.choice(np.flatnonzero(motion.valid), self.options.windows))
        windows = motion.sound[from_row(starts, WINDOW, len(motion.sound))]
        mixed = self.training and self.options.sampling == "mixed"
        rest = self._some_rest(motion, rng) if mixed else motion.rest
        return {"windows": windows, "face": rest, "target": motion.still[starts]}

    def _some_rest(self, motion: Motion, rng: np.random.Generator) -> np.ndarray:
        """The most closed of a few faces of a clip, or the mean of several such.

        One and the same face in all items of a clip would be learnt by heart, as its name; the branch would then be off
        by a constant for every other face.
        """
        count = self.model_config.content.resting
        few = motion.still[rng.choice(np.flatnonzero(motion.valid), self.options.faces * count)]
        return most_closed(few.reshape(-1, 68, 3), count).reshape(FACE)

    def _consecutive(self, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        first = int(rng.integers(0, max(1, int(_DROPPED * len(valid))))) if self.training else 0
        whole, rest = divmod(len(valid) - first, SEGMENT)
        start = first + SEGMENT * int(rng.integers(max(1, whole + (rest >= _LEAST))))
        return valid[start : start + SEGMENT]


class SpeakerOptions(DatasetOptions):
    """Options of stage `speaker`.

    Attributes:
        rows: length of a sequence; published: 256 to 512.
    """

    rows: int = Field(512, ge=2 * WINDOW, le=SEGMENT)


class SpeakerSequences(MotionDataset):
    """Sequences of sound and of faces whose head moves.

    Item: `rows` (L + 17, bands), `speaker` (256,), `face` (204,), `target` (L, 204), `mask` (L,) bool: the rows that
    are there, one at least.
    """

    Options = SpeakerOptions
    options: SpeakerOptions

    def lacking(self, clip: ClipFolder, sound: Rows) -> str | None:
        """How the head moves, and who speaks."""
        if not clip.facts(self.model_config.faces_artefact).get(HEAD, True):
            return "does not tell how the head moves: its dump came without *_gaze.pickle"
        if sound.vector is None or sound.vector.size < 2:
            return "has no vector of its speaker: set model.sound.speaker to statistics or resemblyzer"
        return None

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, Any]:
        """One item from a clip."""
        length, motion = self.options.rows, self.motion(clip)
        start = self._start(motion.valid, rng)
        part = slice(start, start + length)
        target, mask = motion.moving[part], motion.valid[part]
        missing = length - len(mask)
        return {
            "rows": motion.sound[from_row(start, length + WINDOW - 1, len(motion.sound))],
            "speaker": motion.speaker,
            "face": motion.rest,
            "target": np.pad(target, ((0, missing), (0, 0))),
            "mask": np.pad(mask, (0, missing)),
        }

    def _start(self, valid: np.ndarray, rng: np.random.Generator) -> int:
        """Where a sequence begins; between faces that are far apart it is moved to one of them."""
        length = self.options.rows
        spare = max(0, len(valid) - length)
        start = int(rng.integers(spare + 1))
        if not valid[start : start + length].any():
            start = int(np.clip(rng.choice(np.flatnonzero(valid)) - length // 2, 0, spare))
        return start
