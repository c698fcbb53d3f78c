"""What a data set reads of all its clips, in one file that is mapped into memory: a start that does not open each clip.

A pack lies in `<preprocessed_root>/.packs/` and may be deleted at any time. It is named by what was read and of which
clips, and says of each clip which version of its files it holds: what has changed, or is new, is read again, all else
is copied. It appears whole or not at all, so that two processes may make it at once; those that use it share its pages.

Layout: `MAGIC`, arrays one behind the other, index (JSON), where the index begins (8 bytes), `MAGIC`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePath
from typing import IO, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from talkingface.clips.folder import ClipFolder
from talkingface.errors import DataError, OutputError
from talkingface.files import atomic_output
from talkingface.stored.regular import size_of

log = logging.getLogger("talkingface")

FOLDER = ".packs"
MAGIC = b"TFPACK01"
MOST_PACKS = 8  # of one kind; the one that was used longest ago goes
_ALIGNED = 8  # bytes
_TRAILER = 8 + len(MAGIC)

_Version = tuple[int, int]
Arrays = Mapping[str, np.ndarray]
Look = Callable[[ClipFolder], "str | Arrays"]
"""Reads the arrays of a clip, or says why it cannot serve. A `DataError` is a reason for now, and not kept."""

Each = Callable[[Callable[[ClipFolder], Any], Sequence[ClipFolder]], Iterable[Any]]
"""Applies a function to clips, in order."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Place(_Part):
    """Where an array lies in the file."""

    dtype: Literal["float32", "int64", "bool"]
    offset: int = Field(ge=0, multiple_of=_ALIGNED)
    shape: list[int]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class _Entry(_Part):
    """A clip: the version of its files, and either arrays or why it cannot serve."""

    stamp: str
    reason: str = ""
    arrays: dict[str, _Place] = {}


class _Index(_Part):
    entries: dict[str, _Entry]


class ClipPack:
    """Arrays of clips in one mapped file; not to be written to.

    Args:
        data: the mapped file, (n,) uint8.
        entries: what is in it, by clip id.
        path: the file, None for one without a name.
        version: tells the mapped file from one that has taken its place since, see `_version`.
    """

    def __init__(
        self, data: np.ndarray, entries: Mapping[str, _Entry], path: Path | None, version: _Version | None = None
    ) -> None:
        self._data, self._entries, self._path, self._version = data, dict(entries), path, version

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the file for itself, if it is still the same one; else it gets the numbers."""
        if self._path is None or not _is_still(self._path, self._version):
            return ClipPack, (self._data, self._entries, None)
        return _again, (self._entries, self._path, self._version)

    def reason(self, clip_id: str) -> str | None:
        """Why a clip cannot serve, None if it can."""
        return self._entries[clip_id].reason or None

    def array(self, clip_id: str, name: str) -> np.ndarray:
        """An array of a clip, read from the disk where it is looked at."""
        place = self._entries[clip_id].arrays[name]
        return self._data[place.offset : place.offset + place.nbytes].view(place.dtype).reshape(place.shape)

    def start(self, clip_id: str, name: str) -> int:
        """Where in `floats` the numbers of an array begin."""
        return self._entries[clip_id].arrays[name].offset // 4

    @cached_property
    def floats(self) -> np.ndarray:
        """The whole file as (m,) float32."""
        return self._data[: len(self._data) // 4 * 4].view(np.float32)

    def current(self, stamps: Mapping[str, str], names: Collection[str]) -> dict[str, _Entry]:
        """The entries of clips whose files are still those that were read, and that have the arrays of these names."""
        found = {}
        for clip_id, stamp in stamps.items():
            entry = self._entries.get(clip_id)
            if stamp and entry and entry.stamp == stamp and (entry.reason or entry.arrays.keys() == set(names)):
                found[clip_id] = entry
        return found

    def with_reasons(self, reasons: Mapping[str, str]) -> ClipPack:
        """The same with more clips that cannot serve."""
        more = {clip_id: _Entry(stamp="", reason=reason) for clip_id, reason in reasons.items()}
        return ClipPack(self._data, {**self._entries, **more}, self._path, self._version)

    def holds(self, clip_id: str) -> bool:
        """Whether a clip could be read, be it another version of its files."""
        return clip_id in self._entries


def load_pack(
    kind: str,
    about: Any,
    names: Collection[str],
    clips: Sequence[ClipFolder],
    stamp: Callable[[ClipFolder], str],
    look: Look,
    each: Each,
) -> ClipPack:
    """The pack of some clips, made where it is not there and mended where clips have changed.

    Args:
        kind: first part of its name.
        about: plain values that decide, beside the clips' files, what `look` gives; with a version of `look` itself.
        names: the arrays that `look` gives.
        clips: the clips.
        stamp: the version of a clip's files, see `file_stamp`; empty: not known, so the clip is read at every start.
        look: reads a clip.
        each: applies it to many.
    """
    wanted = {clip.clip_id: clip for clip in clips}
    stamps = {clip_id: stamp(clip) for clip_id, clip in wanted.items()}
    folder, family = _folder(clips), f"{kind}-{_digest(about)}"
    path = None if folder is None else folder / f"{family}-{_digest(sorted(wanted))}.pack"
    found = list(_others(path, family))
    sources = [(pack, pack.current(stamps, names)) for pack in found]
    own = bool(found) and found[0]._path == path
    if own and len(sources[0][1]) == len(wanted):
        return found[0]
    reused: dict[str, tuple[ClipPack, _Entry]] = {}
    for pack, entries in sources:
        reused |= {clip_id: (pack, entry) for clip_id, entry in entries.items() if clip_id not in reused}
    missing = [clip for clip_id, clip in wanted.items() if clip_id not in reused]
    job = _Job(stamps, reused, missing, look, each)
    # What cannot be read again is no cause to copy all the rest.
    own = own and len(sources[0][1]) + len(missing) == len(wanted)
    if own and not any(stamps[clip.clip_id] and found[0].holds(clip.clip_id) for clip in missing):
        reasons = job.reasons_again()
        if reasons is not None:
            return found[0].with_reasons(reasons)
    try:
        made = _write(job, path) if path is not None else _write_nameless(job)
    except OutputError as error:
        log.info("what is read of all clips cannot be kept: %s", error)
        made = _write_nameless(job)
    _remove_oldest(path, kind)
    return made


def file_stamp(clip: ClipFolder, artefacts: Iterable[str]) -> str:
    """The version of a clip's artefacts: what preprocessing noted of them, and size and time of their files.

    Empty where one of the files is not there.
    """
    facts: list[Any] = [len(clip), clip.fps, clip.imported]
    try:
        for artefact in artefacts:
            facts.append(clip.record(artefact).get("fingerprint", ""))
            for name in clip.files(artefact):
                found = os.stat(clip.path / name)
                facts += [name, found.st_size, found.st_mtime_ns]
    except (OSError, DataError):
        return ""
    return _digest(facts)


class _Job:
    """What goes into a new pack.

    Args:
        stamps: versions of all clips.
        reused: clips that another pack has.
        missing: the others.
        look: reads a clip.
        each: applies it to many.
    """

    def __init__(
        self,
        stamps: Mapping[str, str],
        reused: Mapping[str, tuple[ClipPack, _Entry]],
        missing: Sequence[ClipFolder],
        look: Look,
        each: Each,
    ) -> None:
        self._stamps, self._reused, self._missing, self._look, self._each = stamps, reused, missing, look, each
        self._tried: dict[str, str | Arrays | DataError] = {}

    def reasons_again(self) -> dict[str, str] | None:
        """Why none of the missing clips can serve now; None where one has something to be kept in a file."""
        reasons: dict[str, str] = {}
        for clip, found in zip(self._missing, self._each(self._try, self._missing), strict=True):
            self._tried[clip.clip_id] = found
            if isinstance(found, DataError):
                reasons[clip.clip_id] = _shown(clip, found)
            elif isinstance(found, str) and not self._stamps[clip.clip_id]:
                reasons[clip.clip_id] = found
            else:
                return None
        return reasons

    def write(self, stream: IO[bytes]) -> dict[str, str]:
        """Write the whole file; returns the clips that cannot be read now, with the reasons, which are not in it."""
        unreadable: dict[str, str] = {}
        entries: dict[str, _Entry] = {}
        stream.write(MAGIC)
        for clip_id, (pack, entry) in self._reused.items():
            arrays = {name: pack.array(clip_id, name) for name in entry.arrays}
            entries[clip_id] = _Entry(stamp=entry.stamp, reason=entry.reason, arrays=_append(stream, arrays))
        for clip, found in zip(self._missing, self._each(self._try, self._missing), strict=True):
            if isinstance(found, DataError):
                unreadable[clip.clip_id] = _shown(clip, found)
            else:
                reason = found if isinstance(found, str) else ""
                arrays = _append(stream, {} if isinstance(found, str) else found)
                entries[clip.clip_id] = _Entry(stamp=self._stamps[clip.clip_id], reason=reason, arrays=arrays)
        _pad(stream)
        start = stream.tell()
        stream.write(_Index(entries=entries).model_dump_json().encode())
        stream.write(start.to_bytes(8, "little") + MAGIC)
        return unreadable

    def _try(self, clip: ClipFolder) -> str | Arrays | DataError:
        if clip.clip_id in self._tried:
            return self._tried[clip.clip_id]
        try:
            return self._look(clip)
        except DataError as error:
            return error


def _shown(clip: ClipFolder, error: DataError) -> str:
    """An error as the reason of a clip: files are named below its folder."""
    return str(error).replace(f"{clip.path}{os.sep}", "")


def _append(stream: IO[bytes], arrays: Arrays) -> dict[str, _Place]:
    places = {}
    for name, array in arrays.items():
        _pad(stream)
        places[name] = _Place(dtype=array.dtype.name, offset=stream.tell(), shape=list(array.shape))
        stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return places


def _pad(stream: IO[bytes]) -> None:
    stream.write(bytes(-stream.tell() % _ALIGNED))


def _write(job: _Job, path: Path) -> ClipPack:
    with atomic_output(path) as temporary, temporary.open("wb") as stream:
        unreadable = job.write(stream)
    made = _open(path)
    if made is None:
        raise OutputError(f"{path}: cannot be read back; choose another folder")
    return made.with_reasons(unreadable)


def _write_nameless(job: _Job) -> ClipPack:
    """A pack for this run alone, in a file that goes with it: it need not be held in memory either."""
    with tempfile.TemporaryFile() as stream:
        unreadable = job.write(stream)
        stream.flush()
        data = _map(stream)
    return ClipPack(data, _entries(data), None).with_reasons(unreadable)


def _open(path: Path) -> ClipPack | None:
    """A pack that is there and whole, else None."""
    try:
        if size_of(path) <= _TRAILER:
            return None
        data, version = _map_named(path)
        return ClipPack(data, _entries(data), path, version)
    except (OSError, ValueError, DataError):
        return None


def _map(file: Any) -> np.ndarray:
    """A file as (n,) uint8, as a plain array: those of the kind `memmap` are slower at everything."""
    return np.memmap(file, np.uint8, "r").view(np.ndarray)


def _entries(data: np.ndarray) -> dict[str, _Entry]:
    """The checked index of a mapped file.

    Raises:
        ValueError: it is not a whole pack.
    """
    start = int.from_bytes(data[-_TRAILER : -len(MAGIC)].tobytes(), "little")
    if data[: len(MAGIC)].tobytes() != MAGIC or data[-len(MAGIC) :].tobytes() != MAGIC or start > len(data):
        raise ValueError("no pack")
    entries = _Index.model_validate_json(data[start:-_TRAILER].tobytes()).entries
    for entry in entries.values():
        for place in entry.arrays.values():
            if min(place.shape, default=0) < 0 or place.offset + place.nbytes > start:
                raise ValueError("an array beyond the end of the file")
    return entries


def _map_named(path: Path) -> tuple[np.ndarray, _Version]:
    """A file that has a name, mapped, and which one it is."""
    with path.open("rb") as stream:
        return _map(stream), _version(os.fstat(stream.fileno()))


def _version(found: os.stat_result) -> _Version:
    """What no other file has as long as this one is mapped; not its time, which every start sets."""
    return found.st_ino, found.st_size


def _is_still(path: Path, version: _Version | None) -> bool:
    try:
        return _version(path.stat()) == version
    except OSError:
        return False


def _again(entries: Mapping[str, _Entry], path: Path, version: _Version) -> ClipPack:
    """A pack in another process.

    Raises:
        DataError: the file was replaced or removed after the pack was sent.
    """
    try:
        data, found = _map_named(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: removed while a process that reads it began; start again") from error
    if found != version:
        raise DataError(f"{path}: replaced while a process that reads it began; start again")
    return ClipPack(data, entries, path, version)


def _folder(clips: Sequence[ClipFolder]) -> Path | None:
    """Where the packs of these clips lie; None where the clips do not lie below one folder by their names."""
    roots = set()
    for clip in clips:
        parts = PurePath(clip.clip_id).parts
        inside = bool(parts) and clip.path.parts[-len(parts) :] == parts
        roots.add(clip.path.parents[len(parts) - 1] if inside else None)
    root = roots.pop() if len(roots) == 1 else None
    return None if root is None else root / FOLDER


def _others(path: Path | None, family: str) -> Iterator[ClipPack]:
    """The pack at `path` if it is there, then others of the same content, the newest first."""
    if path is None:
        return
    rest = sorted((other for other in path.parent.glob(f"{family}-*.pack") if other != path), key=_used, reverse=True)
    for file in (path, *rest):
        pack = _open(file) if file.is_file() else None
        if pack is not None:
            if file == path:
                with suppress(OSError):
                    os.utime(file)
            yield pack


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove_oldest(path: Path | None, kind: str) -> None:
    """Leave `MOST_PACKS` of a kind; whoever still has a removed one mapped keeps it."""
    if path is None:
        return
    for file in sorted(path.parent.glob(f"{kind}-*.pack"), key=_used, reverse=True)[MOST_PACKS:]:
        with suppress(OSError):
            file.unlink()


def _digest(value: Any) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, default=str).encode("utf-8", "surrogateescape")
    ).hexdigest()[:16]
