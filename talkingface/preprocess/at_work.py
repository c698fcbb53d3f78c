"""Which clip a process was working on when it died.

Native code (decoders, detectors) may end its process without a word, and so does the system when memory runs out. So a
note lies in the clip's folder while the clip is at work, from before native code sees it; whatever ends the work other
than the death of the process removes it. A note that nobody holds is thus a death, and it counts how many there were.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NOTE = ".at-work"
MOST_DEATHS = 2
"""From so many on a clip is passed over. One may be the clip's fault or that of whoever killed the process."""


def deaths(folder: Path) -> int:
    """How many processes died while they worked on a clip; those that are at work now do not count."""
    try:
        descriptor = os.open(folder / NOTE, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return 0
    try:
        return _count(descriptor) if _lock(descriptor) else 0
    finally:
        os.close(descriptor)


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Leave a note while a clip is at work, one death more than it says so far: so it is right if this process dies.

    It is not forced onto the disk: it has to outlive the process, not the machine.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / NOTE, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if not _lock(descriptor):  # another command is at work on this clip, and keeps the count
            yield
            return
        text = b"%d\n" % (_count(descriptor) + 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text)
        try:
            yield
        finally:
            # Where an open file cannot be removed, the note says at least that nobody has died.
            os.ftruncate(descriptor, 0)
            forget(folder)
    finally:
        os.close(descriptor)
        if fcntl is None:
            forget(folder)


def forget(folder: Path) -> None:
    """Remove the note."""
    with contextlib.suppress(OSError):
        (folder / NOTE).unlink()


def _count(descriptor: int) -> int:
    text = os.read(descriptor, 10).strip()
    return int(text) if text.isdigit() else 0


def _lock(descriptor: int) -> bool:
    """Whether no living process holds the note; the system drops the lock of one that dies."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True
