"""A lock on a run folder, so that two trainings never write into one."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from talkingface.files import output_error
from talkingface.stored.jsons import parse_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger("talkingface")

FILE = "run.lock"
_HELD: set[Path] = set()  # a process does not shut itself out, so it remembers


class TakenError(Exception):
    """Another training holds the lock; the message says which."""


@dataclass(frozen=True)
class FolderLock:
    """The right to write into a folder, from `take` to `release` or to the end of the process, however that comes.

    The system forgets the lock of a process that dies, also of one on another machine where the file system is shared
    (NFS). Where a file system knows no locks there is none, with a warning.
    """

    folder: Path
    descriptor: int

    @classmethod
    def take(cls, folder: Path) -> FolderLock:
        """Lock a folder that is there.

        Raises:
            TakenError: somebody else has.
            OutputError: the folder cannot be written.
        """
        folder = folder.resolve()
        if folder in _HELD:
            raise TakenError(f"this process ({os.getpid()}) trains there already")
        path = folder / FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                _claim(descriptor, folder)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise output_error(path, error) from error
        _HELD.add(folder)
        return cls(folder, descriptor)

    @property
    def current(self) -> bool:
        """Whether the folder is still the one that was locked; another process may have removed it just before."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), (self.folder / FILE).stat())
        except OSError:
            return False

    def release(self) -> None:
        """Give the folder free. The file stays: removing it could let two others in."""
        _HELD.discard(self.folder)
        os.close(self.descriptor)

    def withdraw(self) -> None:
        """Give the folder free, and remove it where nothing but the lock was put into it."""
        empty = self.current and [path.name for path in self.folder.iterdir()] == [FILE]
        if empty:
            # While the lock is held: who takes it in between would hold a file that is no more.
            with suppress(OSError):
                (self.folder / FILE).unlink()
        self.release()
        if empty:
            # An open file stays in its folder: on Windows, which has not removed it, and under another name on NFS.
            with suppress(OSError):
                if fcntl is None:
                    (self.folder / FILE).unlink()
                self.folder.rmdir()


def is_held(folder: Path) -> bool | None:
    """Whether somebody trains in a folder; None where nobody can say, as in folders from before there were locks."""
    if folder.resolve() in _HELD:
        return True  # not to be asked: closing the file would give the lock away
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _claim(descriptor: int, folder: Path) -> None:
    """Lock an open file and write into it who holds it.

    Raises:
        TakenError: somebody else has.
    """
    told = os.read(descriptor, 1000)
    if not _locked(descriptor, folder):
        raise TakenError(_holder(told))
    _tell(descriptor)


def _locked(descriptor: int, folder: Path) -> bool:
    """Lock an open file; False where somebody else has."""
    if fcntl is None:
        log.warning("%s: this system knows no locks; see that only one training writes there", folder)
        return True
    try:
        # Not flock: worker processes would inherit that one and keep it after this process was killed.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        log.warning("%s: this file system knows no locks (%s); see that only one training writes there", folder, error)
    return True


def _tell(descriptor: int) -> None:
    """Write down who holds the lock."""
    told = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(told).encode())


def _holder(told: bytes) -> str:
    """Who holds a lock, from what is written in its file."""
    try:
        who = parse_json(told.decode())
        process = str(int(who["process"]))[:20]
        return f"process {process} on {str(who['host'])[:64]} trains there since {str(who['since'])[:19]}"
    except (ValueError, LookupError, TypeError, OverflowError):
        return "another process trains there"
