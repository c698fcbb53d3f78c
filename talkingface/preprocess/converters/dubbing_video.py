"""One video of an old tree of DINet or LawDNet: which frames have a picture, what is heard at each, what is missing.

Nothing is taken on trust: lists name pictures that are gone, features end before the pictures or behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from talkingface.clips.dubbing_tree import FEATURES, DubbingTree
from talkingface.faces.dubbing_crop import BLOCK
from talkingface.preprocess.converters.base import PICTURES, numbered
from talkingface.preprocess.converters.dubbing_lists import ListedClip, ListedVideo, PictureName, read_rows
from talkingface.sound.recogniser import WIDTH

MOST_HELD = 3
"""Frames behind the last row of features for which it is held; sound tracks end a little early."""

FEWEST = 6
"""Clips of a video: one to draw and five references."""

_SAME = 1e-3  # logits that were written twice, as text and as JSON


@dataclass
class OldVideo:
    """What a tree holds of a video.

    Attributes:
        tree: where it lies.
        name: of the video.
        listed: what the training JSON says of it; None: nothing.
        landmarks: in crops, by picture; None where no face was found.
        defects: how often something was not as it should be, by what it was; filled as the rest is asked for.
        names: of the pictures by frame; known once `pictures` has been asked for.
    """

    tree: DubbingTree
    name: str
    listed: ListedVideo | None
    landmarks: Mapping[PictureName, np.ndarray | None]
    defects: Counter[str] = field(default_factory=Counter)
    names: dict[int, PictureName] = field(default_factory=dict)

    def pictures(self) -> dict[int, Path]:
        """Files of the crops by frame, in order; those on the disk, and those that the JSON alone names.

        Frames in which the old script found no face have none.
        """
        found, listed = self._on_disk(), self._in_list()
        if self.listed and self.listed.counted > len(self.listed.clips):
            left = self.listed.counted - len(self.listed.clips)
            self.defects["clips that the JSON counts but does not list"] += left
        for name in listed.keys() - found.keys():
            if (path := _inside(self.tree.root, listed[name])) is not None:
                found[name] = path
        self.defects["pictures that the JSON lists are not there"] += len(listed.keys() - found.keys())
        faceless = {name for name in found if name in self.landmarks and self.landmarks[name] is None}
        self.defects["pictures in which the old script found no face"] += len(faceless)
        if len({name.clip for name in found}) < FEWEST:
            self.defects[f"fewer clips than the {FEWEST} that published sampling needs"] += 1
        numbers = self.numbers(found)
        self.names = {numbers[name]: name for name in found}
        return dict(sorted((numbers[name], path) for name, path in found.items() if name not in faceless))

    def numbers(self, names: Iterable[PictureName]) -> dict[PictureName, int]:
        """Frames of pictures: their numbers count through the video, or begin anew in every clip."""
        names = list(names)
        anew = max((name.clip for name in names), default=0) > 1 and max(name.number for name in names) < BLOCK
        return {name: name.clip * BLOCK + name.number if anew else name.number for name in names}

    def rows(self, recogniser: str, frames: int) -> np.ndarray | None:
        """What a recogniser heard at each frame, (frames, 29) float32, NaN where nobody knows; None without any."""
        listed, path = self._listed_rows(recogniser, frames), self.tree.features(self.name, recogniser)
        if path is None:
            self.defects[f"no text file of {recogniser}"] += self.tree.folder(FEATURES[recogniser][0]) is not None
            known = listed
        else:
            text = read_rows(path)
            known = self._of_frames(text, frames)
            if listed is not None and listed.shape == known.shape and (np.abs(listed - known) > _SAME).any():
                self.defects[f"rows of {recogniser} differ between JSON and text, whose are taken"] += 1
        return self._usable(known, recogniser)

    def _on_disk(self) -> dict[PictureName, Path]:
        found = {}
        for clip, folder in self.tree.clips(self.name).items():
            pictures = numbered(folder, PICTURES)
            if len(pictures) != BLOCK:
                self.defects[f"clips of other than {BLOCK} pictures"] += 1
            found |= {PictureName(self.name, clip, number): path for number, path in pictures.items()}
        return found

    def _in_list(self) -> dict[PictureName, str]:
        clips = self.listed.clips if self.listed else []
        return {name: path for clip in clips for name, path in clip.pictures.items()}

    def _listed_rows(self, recogniser: str, frames: int) -> np.ndarray | None:
        """Rows of the JSON at their frames; None where it has none of this recogniser."""
        clips = [clip for clip in (self.listed.clips if self.listed else []) if recogniser in clip.rows]
        if not clips:
            return None
        short = sum(len(clip.rows[recogniser]) < len(clip.pictures) for clip in clips)
        self.defects[f"listed clips with fewer rows of {recogniser} than pictures"] += short
        width = max(clip.rows[recogniser].shape[1] for clip in clips)
        rows = np.full((frames, width), np.nan, np.float32)
        numbers = self.numbers(self._in_list())
        for clip in clips:
            self._place(clip, clip.rows[recogniser], numbers, rows)
        return rows

    @staticmethod
    def _place(clip: ListedClip, heard: np.ndarray, numbers: Mapping[PictureName, int], rows: np.ndarray) -> None:
        for name, row in zip(clip.pictures, heard, strict=False):
            if numbers[name] < len(rows) and len(row) == rows.shape[1]:
                rows[numbers[name]] = row

    def _of_frames(self, rows: np.ndarray, frames: int) -> np.ndarray:
        """Rows of a text file for so many frames, NaN behind its end."""
        if len(rows) > frames + 1:  # DeepSpeech 2 always gives one more
            self.defects["rows of features behind the last frame, left out"] += len(rows) - frames
        whole = np.full((frames, rows.shape[1]), np.nan, np.float32)
        whole[: min(frames, len(rows))] = rows[:frames]
        return whole

    def _usable(self, rows: np.ndarray | None, recogniser: str) -> np.ndarray | None:
        if rows is None:
            return None
        if rows.shape[1] != WIDTH:
            self.defects[f"features of {recogniser} of another width than {WIDTH}, left out"] += 1
            return None
        if not np.isfinite(rows).all(axis=1).any():
            self.defects[f"features of {recogniser} without any number (silent sound), left out"] += 1
            return None
        return rows


def held(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (F, width) without gaps, and which frames (F,) may be used.

    A row that is not known is the last known one, or the first; its frame is of use where that is at most `MOST_HELD`
    frames before.
    """
    known = np.flatnonzero(np.isfinite(rows).all(axis=1))
    frames = np.arange(len(rows))
    last = known[np.clip(np.searchsorted(known, frames, side="right") - 1, 0, None)]
    age = frames - last
    return rows[last], (age >= 0) & (age <= MOST_HELD)


def _inside(root: Path, path: str) -> Path | None:
    """A path of the JSON below the folder that it begins in; None where it leads elsewhere, or to no file."""
    relative = PurePosixPath(path.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not (root / relative).is_file():
        return None
    return root / relative
