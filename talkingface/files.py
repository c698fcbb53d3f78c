"""Files that appear complete or not at all, and their hashes."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from talkingface.errors import OutputError

_TEMPORARY = ".talkingface-"
# As they were named once: `.last.pt.42.tmp`, `.log.jsonl.42.tmp`, `.o.42.tmp.mp4`.
_FORMER = re.compile(r"\..+\.(?:pt|jsonl)\.(\d+)\.tmp|\..+\.(\d+)\.tmp\.\w+")
_FORGOTTEN = 7 * 86400  # seconds after which nobody writes to a temporary file any more, wherever he is
_SWEPT: set[Path] = set()


def _place() -> str:
    """Where process numbers mean what they mean here: a folder may be shared by several machines and containers.

    Containers count their processes each from 1, also those that share the name of their machine.
    """
    try:
        space = os.readlink("/proc/self/ns/pid")
    except (OSError, AttributeError):  # no Linux
        space = ""
    return hashlib.sha256(f"{socket.gethostname()}{space}".encode()).hexdigest()[:8]


_HOST = _place()


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
def atomic_output(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path`; on a clean exit it takes the place of `path`, otherwise it is removed.

    Folders are made. The suffix is kept, since encoders choose the container by it. The temporary file is new and
    nobody else's: its name cannot be guessed, and a link that lies there is not followed.

    Args:
        path: the file.
        durable: it is on the disk, not only in the memory of the system, before it takes the place of what was there.
            That takes some milliseconds. Without it the order of writes and renames holds all the same for a process
            that dies, whose files the system has; after a power cut the file may be empty, or the one of before. So it
            is left out for what can be made again, and whose reader takes a damaged file for a missing one.

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
        if durable:
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
        file = folder / f"{_TEMPORARY}{writer()}-{secrets.token_hex(6)}{suffix}"
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
    """Remove temporary files whose writers are no more; once per process and folder.

    Those of other machines, of which nobody here knows whether they live, go when they have not changed for a week.
    """
    folder = folder.absolute()
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if entry.name.startswith(".")]:
            with suppress(OSError):  # another process may have removed it
                if _is_left(entry):
                    os.unlink(entry.path)


def _is_left(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(_TEMPORARY):
        old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _FORGOTTEN
        return old or writer_is_gone(entry.name.removeprefix(_TEMPORARY))
    # These do not say on which machine they were made, but nobody makes them any more.
    former = _FORMER.fullmatch(entry.name)
    return former is not None and not alive(int(former[1] or former[2]))


def writer() -> str:
    """This process, as names of temporary files tell it."""
    return f"{_HOST}-{os.getpid()}"


def writer_is_gone(tag: str) -> bool:
    """Whether a name that begins with a `writer` is that of a process of this machine that is no more."""
    place, _, rest = tag.partition("-")
    number = rest.partition("-")[0]
    return place == _HOST and number.isdecimal() and not alive(int(number))


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


def write_text(path: Path, text: str, durable: bool = True) -> None:
    r"""Write a text file whole or not at all; `durable`: see `atomic_output`.

    A path may hold bytes that are no UTF-8. They are written as `\udce9`, which JSON reads back as the same path.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_output(path, durable) as temporary:
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
