"""Where the files of MakeItTalk's published code lie: dumps of whole clips, and the text trees they were made of.

Dumps: `<prefix>_{train,val,test}_{au,fl}.pickle`, lists over the clips of sound and of landmarks, in the folder itself
or in `dump/` below it; beside them `<prefix>_<status>_gaze.pickle`, `emb.pickle`, and `<prefix>.json` where we wrote
them. Texts: `raw_fl3d/fan_<number>_<name>_3d.txt`, `raw_wav/<number>_<name>_audio.wav`, `filename_index.txt`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

STATUSES = ("train", "val", "test")
READ_BY_OTHERS = "autovc_retrain_mel"
"""The family that the published code reads; another one lies beside it in the published folder."""

_DUMP = re.compile(r"(?P<prefix>.+)_(?P<status>train|val|test)_au\.pickle")
_INDEX, _POINTS, _SOUNDS, _REGISTERED = "filename_index.txt", "raw_fl3d", "raw_wav", "register_fl3d"
_TEXT = re.compile(r"fan_(?P<number>\d{1,9})_(?P<name>.+)_3d\.txt")


class Dump(NamedTuple):
    """The files of one part of a family."""

    status: str
    sound: Path
    faces: Path
    gaze: Path


class TextClip(NamedTuple):
    """The files of one clip of the text trees; they need not be there."""

    number: int
    name: str
    points: Path
    sound: Path


class DumpTree:
    """One folder with such files.

    Args:
        root: the folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        below = self.root / "dump"
        self.folder = below if _has_dumps(below) else self.root

    @property
    def has_dumps(self) -> bool:
        """Whether there are dumps."""
        return _has_dumps(self.folder)

    @property
    def has_texts(self) -> bool:
        """Whether there are landmarks as text."""
        return (self.root / _POINTS).is_dir()

    def prefixes(self) -> list[str]:
        """The families of dumps, sorted."""
        names = (_DUMP.fullmatch(path.name) for path in self.folder.glob("*_au.pickle"))
        return sorted({found["prefix"] for found in names if found})

    def dumps(self, prefix: str) -> list[Dump]:
        """The parts of a family that are there: for training, for validation, for testing."""
        base = {status: f"{prefix}_{status}" for status in STATUSES}
        parts = [
            Dump(status, *(self.folder / f"{name}_{kind}.pickle" for kind in ("au", "fl", "gaze")))
            for status, name in base.items()
        ]
        return [part for part in parts if part.sound.is_file()]

    def about(self, prefix: str) -> Path:
        """What we note beside the dumps of a family."""
        return self.folder / f"{prefix}.json"

    @property
    def vectors(self) -> Path:
        """The vectors of speakers, by the names of their videos."""
        return self.folder / "emb.pickle"

    def sound(self, number: int, name: str) -> Path:
        """The sound file of a clip, `name` without suffix."""
        return self.root / _SOUNDS / f"{number:05d}_{name}_audio.wav"

    def texts(self) -> list[TextClip]:
        """Clips of the text trees: those of the index, where there is one, else the files that are there."""
        found = self._indexed() if (self.root / _INDEX).is_file() else self._there()
        return [TextClip(number, name, self._points(number, name), self.sound(number, name)) for number, name in found]

    def _points(self, number: int, name: str) -> Path:
        """Landmarks of a clip: as they were found, else smoothed, else registered."""
        base = f"fan_{number:05d}_{name}"
        places = [self.root / _REGISTERED / f"{base}_3d_{kind}.txt" for kind in ("fl_sm", "fl_reg")]
        places += [self.root / _REGISTERED / f"{base}_{kind}.txt" for kind in ("fl_sm", "fl_reg")]
        raw = self.root / _POINTS / f"{base}_3d.txt"
        return next((path for path in (raw, *places) if path.is_file()), raw)

    def _indexed(self) -> list[tuple[int, str]]:
        lines = (self.root / _INDEX).read_text(encoding="utf-8", errors="replace").splitlines()
        words = (line.split(maxsplit=1) for line in lines)
        return [(int(w[0]), os.path.splitext(w[1].strip())[0]) for w in words if len(w) == 2 and w[0].isdecimal()]

    def _there(self) -> list[tuple[int, str]]:
        names = (_TEXT.fullmatch(path.name) for path in (self.root / _POINTS).iterdir())
        return sorted((int(found["number"]), found["name"]) for found in names if found)


def _has_dumps(folder: Path) -> bool:
    return any(_DUMP.fullmatch(path.name) for path in folder.glob("*_au.pickle"))
