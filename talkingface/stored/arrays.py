"""numpy files (`.npy`, `.npz`) whose headers are checked against what was expected, and against the file's own size.

`np.load` makes room for whatever a header declares: terabytes, from a hundred bytes. Here an array is read once its
kind and shape are what the caller wants and the file is long enough to hold it. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from talkingface.errors import DataError
from talkingface.stored.regular import REMEDY, size_of

# Arrays may be compressed: numbers of landmarks by a tenth, frames without a face a thousandfold.
_FREE_BYTES = 32 * 2**20  # of content, whatever the size of the file
_MOST_PER_BYTE = 50  # of content beyond that, for every byte of the file

BROKEN = (
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    TokenError,
    RecursionError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # a member that asks for a password
    struct.error,
    zlib.error,
    BadZipFile,
)
"""What readers of numpy's files raise at damaged ones. Not `OSError`: a disk that fails, or a folder that is not ours,
makes no file wrong; nor `MemoryError`, once the file is known to hold as much as it says."""

_PIECE = 2**20  # bytes that are read at once


class Wanted(NamedTuple):
    """What an array must be.

    Attributes:
        kinds: letters of numpy's kinds: `f` floats, `i` and `u` whole numbers, `b` truth values, `U` text.
        shape: length of each axis: a number, or a name for any length, the same in all arrays of a file; None: any.
    """

    kinds: str
    shape: tuple[int | str, ...] | None


class Header(NamedTuple):
    """What a `.npy` file says of its array; `start`: the byte where its numbers begin."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers; a Python integer, which does not overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


def npy_header(path: str | os.PathLike[str], wanted: Wanted) -> Header:
    """The checked header of a `.npy` file, without its numbers.

    Raises:
        DataError: it is missing or damaged, not what is wanted, or shorter than it says.
    """
    size = size_of(path)
    with _told(path), open(path, "rb") as stream:
        return _checked(stream, size, wanted, {})


def read_npy(path: str | os.PathLike[str], wanted: Wanted, finite: bool = True) -> np.ndarray:
    """An array from a `.npy` file.

    Args:
        path: the file.
        wanted: what it must be.
        finite: refuse NaN and infinite numbers.

    Raises:
        DataError: it is missing or damaged, not what is wanted, or shorter than it says.
    """
    size = size_of(path)
    with _told(path), open(path, "rb") as stream:
        header = _checked(stream, size, wanted, {})
        array = _array(stream, header)
    if finite:
        _check_finite(path, array)
    return array


def mapped_npy(path: str | os.PathLike[str], wanted: Wanted) -> np.ndarray:
    """The finite numbers of a `.npy` file, read from the disk where they are looked at; processes share the memory.

    Raises:
        DataError: as of `read_npy`.
    """
    # As a plain array: those of the kind `memmap` are slower at everything.
    array = map_npy(path, npy_header(path, wanted)).view(np.ndarray)
    _check_finite(path, array)
    return array


def _check_finite(path: str | os.PathLike[str], array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{path}: holds numbers that are not finite; {REMEDY}")


def map_npy(path: str | os.PathLike[str], header: Header) -> np.ndarray:
    """The array behind a checked header, read from the disk where it is looked at.

    Raises:
        DataError: it has gone, or was cut short since.
    """
    order = "F" if header.fortran else "C"
    if not header.nbytes:
        return np.empty(header.shape, header.dtype)
    with _told(path):
        return np.memmap(path, header.dtype, "r", header.start, header.shape, order)


def read_npz(
    path: str | os.PathLike[str], wanted: Mapping[str, Wanted], optional: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays from a `.npz` file; others in it are not looked at.

    Args:
        path: the file.
        wanted: what each of them must be; axes of one name have one length.
        optional: names of those that may be absent.

    Raises:
        DataError: the file is missing or damaged, lacks an array, or one is not what is wanted.
    """
    size = size_of(path)
    lengths: dict[str, int] = {}
    with _told(path), ZipFile(path) as archive:
        members = _members(archive, wanted, optional, size)
        return {name: _member(archive, info, name, wanted[name], lengths) for name, info in members.items()}


def _members(
    archive: ZipFile, wanted: Mapping[str, Wanted], optional: Collection[str], size: int
) -> dict[str, ZipInfo]:
    known = archive.NameToInfo
    if lacking := [name for name in wanted if f"{name}.npy" not in known and name not in optional]:
        raise ValueError(f"it has no array '{lacking[0]}'")
    members = {name: known[f"{name}.npy"] for name in wanted if f"{name}.npy" in known}
    if any(info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for info in members.values()):
        raise ValueError("it is compressed in a way that numpy does not write")
    declared = sum(info.file_size for info in members.values())
    if declared > _FREE_BYTES + _MOST_PER_BYTE * size:
        raise ValueError(f"it declares {declared:,} bytes, more than a file of {size:,} bytes holds")
    return members


def _member(archive: ZipFile, info: ZipInfo, name: str, wanted: Wanted, lengths: dict[str, int]) -> np.ndarray:
    try:
        with archive.open(info) as stream:
            return _array(stream, _checked(stream, info.file_size, wanted, lengths))
    except BROKEN as error:
        raise ValueError(f"'{name}': {_reason(error)}") from None


def _checked(stream: IO[bytes], size: int, wanted: Wanted, lengths: dict[str, int]) -> Header:
    """Read the header of an array of `size` bytes in all, and see that it is what is wanted.

    Raises:
        ValueError: it is not, or any other of `BROKEN`.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream)
    except MemoryError:  # Python says so of brackets without end
        raise ValueError("its header is nested too deeply") from None
    header = Header(shape, dtype, fortran, stream.tell())
    if dtype.kind not in wanted.kinds or not _fits(shape, wanted.shape, lengths):
        raise ValueError(f"it holds {dtype} {shape}, expected {_describe(wanted, lengths)}")
    if header.start + header.nbytes > size:
        raise ValueError(f"it ends before its {header.nbytes:,} bytes")
    return header


_KINDS = {"f": "floats", "i": "whole numbers", "u": "whole numbers", "b": "truth values", "U": "text"}


def _describe(wanted: Wanted, lengths: Mapping[str, int]) -> str:
    kinds = " or ".join(dict.fromkeys(_KINDS[kind] for kind in wanted.kinds))
    axes = [str(lengths.get(axis, axis) if isinstance(axis, str) else axis) for axis in wanted.shape or ()]
    return kinds if wanted.shape is None else f"{kinds} ({', '.join(axes)})"


def _fits(shape: Sequence[int], wanted: Sequence[int | str] | None, lengths: dict[str, int]) -> bool:
    """Whether a shape is the wanted one; notes the lengths of axes with names."""
    if min(shape, default=0) < 0 or (wanted is not None and len(shape) != len(wanted)):
        return False
    if wanted is None:
        return True
    expected = (axis if isinstance(axis, int) else lengths.setdefault(axis, n) for axis, n in zip(wanted, shape))
    return list(expected) == list(shape)


def _array(stream: IO[bytes], header: Header) -> np.ndarray:
    """The numbers behind a checked header, in the byte order of this machine."""
    content = np.empty(header.nbytes, np.uint8)
    rest = memoryview(content)
    # In pieces: a member of an archive makes a copy of all that it is asked for at once.
    while rest.nbytes:
        count = stream.readinto(rest[:_PIECE])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends before its {header.nbytes:,} bytes")
        rest = rest[count:]
    array: np.ndarray = np.ndarray(header.shape, header.dtype, content, order="F" if header.fortran else "C")
    return array if header.dtype.isnative else array.astype(header.dtype.newbyteorder("="))


@contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within, a file that is damaged, and one that the system does not give out, are told as what they are."""
    try:
        yield
    except BROKEN as error:
        raise _unreadable(path, error) from None
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        # A damaged archive may point to a place before the beginning.
        if error.errno in (None, errno.EINVAL):
            raise _unreadable(path, error) from None
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _unreadable(path: str | os.PathLike[str], error: BaseException) -> DataError:
    return DataError(f"{Path(path)}: unreadable ({_reason(error)}); {REMEDY}")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
