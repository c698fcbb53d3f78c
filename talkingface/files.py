"""Files that appear complete or not at all, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from talkingface.errors import OutputError


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
    reason = advice.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
    return OutputError(f"{path}: cannot be written, {reason}")


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on a clean exit it takes the place of `path`, otherwise it is removed.

    Folders are made. The suffix is kept, since encoders choose the container by it.

    Raises:
        OutputError: If the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    # Hidden, and beside its place: a rename is atomic only within a file system. The process id keeps workers apart.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # fails now, not after minutes of work, where nothing can be written
        yield temporary
        # Unlike `rename` it also replaces on Windows.
        os.replace(temporary, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


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
        trial = folder / f".write-test-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def file_sha256(path: str | Path) -> str:
    """Hash of a file in hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
