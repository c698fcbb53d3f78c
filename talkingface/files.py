"""Files that appear complete or not at all, and their hashes."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import secrets
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from talkingface.errors import OutputError

_TEMPORARY = ".talkingface-"
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # a folder may be shared by several machines
_SWEPT: set[Path] = set()


def output_error(path: Path, error: OSError) -> OutputError:
    """Say in one line why `path` could not be written and what to do."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space or choose another folder",
        errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
        errno.EFBIG: "the file grew past the size limit; raise the limit or choose another folder",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "no permission to write there; choose another folder",
        errno.EPERM: "no permission to write there; choose another folder",
        errno.ENOTDIR: "a part of this path is a file, not a folder; choose another folder",
        errno.EEXIST: "a part of this path is a file, not a folder; choose another folder",
        errno.EISDIR: "this is a folder; give a file name",
    }
    number = errno.ENOSPC if _is_short_write(error) else error.errno or 0
    reason = advice.get(number, f"{error.strerror or error}; choose another folder")
    return OutputError(f"{path}: cannot be written, {reason}")


def _is_short_write(error: OSError) -> bool:
    """Whether numpy says so of an array: on a full disk it gives no error number."""
    return error.errno is None and " requested and " in str(error)


# What would befall every file in this place.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


def is_unwritable(error: OSError) -> bool:
    """Whether the next file fails as well: the disk is full, the folder read-only or forbidden."""
    return error.errno in _UNWRITABLE or _is_short_write(error)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, for a file that is written in place: errors of the system name it.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on a clean exit it takes the place of `path`, otherwise it is removed.

    Folders are made. The suffix is kept, since encoders choose the container by it. The temporary file is new and
    nobody else's: its name cannot be guessed, and a link that lies there is not followed. It is on the disk, not only
    in the memory of the system, before it takes the place of what was there.

    Raises:
        OutputError: If the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = _new_file(path.parent, path.suffix)  # fails now, not after minutes of work
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _new_file(folder: Path, suffix: str) -> Path:
    while True:
        file = folder / f"{_TEMPORARY}{_HOST}-{os.getpid()}-{secrets.token_hex(6)}{suffix}"
        with suppress(FileExistsError):
            # O_EXCL also refuses a link of that name.
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return file


def _to_disk(file: Path) -> None:
    # Windows forces nothing onto the disk through a descriptor that only reads.
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Not every file system offers it; that is no reason to lose the file. A full disk may show here first.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are no more left behind in a folder; once per process and folder."""
    folder = folder.absolute()
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    for file in folder.glob(f"{_TEMPORARY}{_HOST}-*"):
        owner = file.name.removeprefix(f"{_TEMPORARY}{_HOST}-").partition("-")[0]
        if owner.isdecimal() and not alive(int(owner)):
            with suppress(OSError):
                file.unlink()


def alive(process: int) -> bool:
    """Whether a process of this machine is still there, as far as can be told."""
    if os.name == "nt":
        return True  # signal 0 is Ctrl-C there, nothing to ask with
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's, or not to be asked: left alone
    return True


def write_text(path: Path, text: str) -> None:
    r"""Write a text file whole or not at all.

    A path may hold bytes that are no UTF-8. They are written as `\udce9`, which JSON reads back as the same path.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def writable_folder(path: str | Path) -> Path:
    """Make a folder and try to write into it: hours of work must not end at one that cannot be written.

    Raises:
        OutputError: it cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def check_can_be_made(folder: str | Path) -> None:
    """See that a folder can be written, or made where it is not there yet; makes nothing.

    Raises:
        OutputError: it cannot; the message names what is in the way.
    """
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise output_error(there, error) from error


def file_sha256(path: str | Path) -> str:
    """Hash of a file in hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV. Text that a spreadsheet would carry out, a clip named `=cmd()` say, gets a `'` in front.

    Numbers stay as they are, negative ones too.
    """
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")  # the writer would leave it bare, and readers end the line there
    if not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(value)
    except ValueError:
        return f"'{text}"
    return text
