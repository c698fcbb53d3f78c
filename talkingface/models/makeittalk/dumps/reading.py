"""Dumps, clip by clip, in the memory of one clip."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from talkingface.clips.dump_tree import Dump
from talkingface.errors import DataError
from talkingface.models.makeittalk.dumps.repairs import HeadMotion, described
from talkingface.preprocess.converters.plain_items import load_pickle, pickled_items
from talkingface.sound.voice_mel import BANDS

_LONGEST_NAME = 100
_ID_LETTERS = 11  # of a video's name, under which `emb.pickle` has its speaker
_MOST_WIDE = 4096  # values of a speaker's vector


class Names(NamedTuple):
    """What a dump calls a clip: a number, and the name of its video without suffix."""

    number: int
    name: str


class DumpedClip(NamedTuple):
    """What the files say of one clip, unchecked but for their kinds.

    Attributes:
        names: as the file of sounds has them.
        sound: (T, 80) rows.
        vector: (n,) of the speaker, or None.
        faces: of any kind; None where the file of landmarks has ended.
        face_names: as the file of landmarks has them.
        head: how the head moves, or None.
    """

    names: Names
    sound: np.ndarray
    vector: np.ndarray | None
    faces: Any
    face_names: Names | None
    head: HeadMotion | None


class _Ids:
    """Names of clips, each once."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.known: set[str] = set()

    def of(self, names: Names, position: int) -> str:
        """The name of the clip at a place in its dump."""
        clip_id = f"{self.status}/{names.number:05d}_{names.name}"
        clip_id = f"{clip_id}~{position}" if clip_id in self.known else clip_id
        self.known.add(clip_id)
        return clip_id


def looked_through(dump: Dump) -> Iterator[str]:
    """Names of the clips of a dump, in its order; all of its files are read, so that none is trusted in part.

    Raises:
        DataError: a file is missing or damaged, or holds something else than clips.
    """
    if not dump.faces.is_file():
        raise DataError(f"{dump.faces}: is missing beside {dump.sound.name}; a dump is both files")
    for path in (dump.faces, *([dump.gaze] if dump.gaze.is_file() else [])):
        for _ in pickled_items(path):
            pass
    ids = _Ids(dump.status)
    for position, item in enumerate(pickled_items(dump.sound)):
        yield ids.of(_names(dump.sound, position, item.value)[0], position)


def dumped_clips(dump: Dump, vectors: Path) -> Iterator[tuple[str, DumpedClip | DataError]]:
    """All clips of a dump with their names, in its order; in place of one that is none comes what is wrong with it.

    Args:
        dump: its files.
        vectors: speakers by the names of videos, for dumps that do not have them; need not be there.

    Raises:
        DataError: a file is missing or damaged, or holds something else than clips.
    """
    ids = _Ids(dump.status)
    known = load_pickle(vectors) if vectors.is_file() else {}
    pairs = zip_longest(pickled_items(dump.sound), pickled_items(dump.faces), heads(dump.gaze))
    for position, (sound, face, head) in enumerate(pairs):
        if sound is None:
            return  # landmarks without sound: nobody asks for them by a name
        names, vector = _names(dump.sound, position, sound.value)
        vector = _vector(known, names.name) if vector is None else vector
        clip_id = ids.of(names, position)
        clip: DumpedClip | DataError
        try:
            rows = _sound(dump.sound, position, sound.value[0])
            found = _names(dump.faces, position, face.value)[0] if face else None
            clip = DumpedClip(names, rows, vector, face.value[0] if face else None, found, head)
        except DataError as error:  # raised from here it would end the clips behind it, too
            clip = error
        yield clip_id, clip


def heads(path: Path) -> Iterator[HeadMotion]:
    """Motion of the heads of all clips, in the order of the dump; nothing where there is no such file."""
    if not path.is_file():
        return
    # The lists lie behind each other: each is read by itself.
    for anchored, transforms in zip(_list_of(path, "anchor_t_shape"), _list_of(path, "rot_trans"), strict=False):
        yield HeadMotion(anchored, transforms)


def _list_of(path: Path, key: str) -> Iterator[Any]:
    return (item.value for item in pickled_items(path) if item.key == key)


def plain_name(name: str) -> str:
    """A name that can be one of a folder."""
    letters = re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".")
    return letters[:_LONGEST_NAME] or "clip"


def _names(path: Path, position: int, value: Any) -> tuple[Names, np.ndarray | None]:
    """Number, name and speaker of an item `(array, (number, name, vector))`."""
    about = value[1] if isinstance(value, tuple) and len(value) >= 2 else None
    if not isinstance(about, tuple) or len(about) < 2 or not isinstance(about[0], (int, np.integer)):
        raise DataError(f"{path}: clip {position} is no (array, (number, name, ...)), but {described(value)}")
    if not isinstance(about[1], str) or not 0 <= int(about[0]) < 10**9:
        raise DataError(f"{path}: clip {position} has no number and name that could be")
    names = Names(int(about[0]), plain_name(os.path.splitext(about[1])[0]))
    return names, _as_vector(about[2]) if len(about) > 2 else None


def _sound(path: Path, position: int, rows: Any) -> np.ndarray:
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != BANDS or rows.dtype.kind != "f":
        raise DataError(f"{path}: clip {position}: expected sound (rows, {BANDS}), found {described(rows)}")
    return rows


def _vector(known: Any, name: str) -> np.ndarray | None:
    """The speaker of a video: under its name, or under that of the film it was cut from."""
    found = known if isinstance(known, Mapping) else {}
    return _as_vector(found.get(name, found.get(name[:_ID_LETTERS])))


def _as_vector(value: Any) -> np.ndarray | None:
    """A vector of finite numbers; None for anything else."""
    fits = isinstance(value, np.ndarray) and value.dtype.kind == "f" and 1 < value.size <= _MOST_WIDE
    return value.reshape(-1).astype(np.float32) if fits and np.isfinite(value).all() else None
