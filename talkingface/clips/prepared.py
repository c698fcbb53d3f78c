"""Which clips lie prepared below a folder, also where lists write their names in another case."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from talkingface.clips.held_out import warn_once
from talkingface.clips.hyperlips_tree import FACES, FOLDERS, HyperLipsTree
from talkingface.clips.meta import META_FILE, read_meta
from talkingface.errors import DataError
from talkingface.stored.jsons import read_json


def prepared_ids(preprocessed_root: str | os.PathLike[str]) -> list[str]:
    """Ids of all clips that have a `clip.json`, sorted."""
    root = Path(preprocessed_root)
    # Beside clips converted from it the old tree may still lie: millions of pictures, among which there are no clips.
    passed = FOLDERS if HyperLipsTree(root).has_faces() else ()
    ids: list[str] = []
    for folder, folders, files in os.walk(root):
        if META_FILE in files:
            ids.append(Path(folder).relative_to(root).as_posix())
        if folder == os.fspath(root):
            folders[:] = [name for name in folders if name not in passed]
    return sorted(ids)


CONVERTED_FILE = "converted.json"
"""In the folder of clips that a converter has made: its kind and options, what they were made from, and their names."""


def converted_ids(preprocessed_root: str | os.PathLike[str]) -> list[str]:
    """Ids of the clips that the last conversion made and that are there; where none is noted, of all clips."""
    there, noted = prepared_ids(preprocessed_root), Path(preprocessed_root) / CONVERTED_FILE
    if not noted.is_file():
        return there
    try:
        names = set(read_json(noted).get("clips", ()))
    except (DataError, AttributeError, TypeError):
        return there
    return [clip_id for clip_id in there if clip_id in names]


def conversion_advice(preprocessed_root: str | os.PathLike[str]) -> str:
    """The command that makes clips of HyperLips' pictures in this folder, or beside it.

    Empty where there are none, or clips that are prepared already.
    """
    tree = HyperLipsTree.near(preprocessed_root) if str(preprocessed_root) else None
    if tree is None or prepared_ids(preprocessed_root):
        return ""
    options = [f"--root={tree.root}"]
    if tree.root.resolve() != Path(preprocessed_root).resolve():
        options.append(f"--out={preprocessed_root}")
    command = shlex.join(["python", "run_talkingface.py", "convert-data", "--kind=hyperlips", *options])
    return f"{tree.root / FACES}: holds the pictures of HyperLips' own preprocessing; `{command}` makes clips of them"


class AnyCase:
    """Names of prepared clips below a folder, whatever the case of their parts; every folder is read once.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, str] = {}
        self._read: dict[Path, dict[str, list[str]]] = {}

    def find(self, clip_id: str) -> str:
        """The name of the clip as it is on disk; as it was given where there is no such clip."""
        if clip_id not in self._found:
            places = [p for p in self._places(self.root, clip_id.split("/")) if (p / META_FILE).is_file()]
            if len(places) > 1:  # a run that found no video has left one that failed, and a conversion another one
                places.sort(key=lambda place: read_meta(place).get("status") != "ok")
            found = places[0] if places else self.root / clip_id
            self._found[clip_id] = there = found.relative_to(self.root).as_posix()
            _report(clip_id, there)
        return self._found[clip_id]

    def _places(self, folder: Path, parts: list[str]) -> Iterator[Path]:
        """Folders that the name may mean, the one of the same case first."""
        if not parts:
            yield folder
            return
        names = self._names(folder).get(parts[0].casefold(), ())
        for name in sorted(names, key=lambda name: (name != parts[0], name)):
            yield from self._places(folder / name, parts[1:])

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """What lies in a folder, by its name without case."""
        if folder not in self._read:
            self._read[folder] = names = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                names.setdefault(path.name.casefold(), []).append(path.name)
        return self._read[folder]


def _report(named: str, there: str) -> None:
    """Say once that lists and folders differ in case."""
    if named != there:
        mine, theirs = next(pair for pair in zip(named.split("/"), there.split("/"), strict=True) if len({*pair}) > 1)
        warn_once(f"file lists write '{mine}' where the folder of the clips is '{theirs}': they are taken for the same")
