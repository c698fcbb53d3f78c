"""Errors a user can meet: each carries one clear line, and the command line turns it into exit code 2."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

# Of these the next file fails as well; others (name too long, file too large) are about one file.
_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "ENOTDIR", "EEXIST")
_LASTING = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}  # Windows has not all of them


class TalkingFaceError(Exception):
    """Something the user can mend: the message names the file or key, the reason and what to do."""


class ConfigError(TalkingFaceError):
    """One or more configuration values are unknown, of the wrong type, or contradict each other."""


class RegistryError(TalkingFaceError):
    """A model, data set or metric name is not known, or a plug-in is malformed."""


class MediaError(TalkingFaceError):
    """A video, image or audio file is missing, empty, damaged, or lacks the stream that is needed."""


class NoFaceError(TalkingFaceError):
    """No usable face was found in a video or image."""


class DataError(TalkingFaceError):
    """A data set, file list or preprocessed clip is missing or unusable."""


class CheckpointError(TalkingFaceError):
    """A checkpoint is missing, unreadable, unsafe, of another model, or does not fit."""


class TrainingDiverged(TalkingFaceError):
    """A loss or a weight became NaN or infinite; the last good checkpoint was kept."""


class NothingLearnt(TalkingFaceError):
    """A stage has ended, or is to begin, without what the stages after it need; its checkpoint was kept."""


class OutputError(TalkingFaceError):
    """A result cannot be written: folder missing, read-only, or the disk is full; or a video cannot be encoded."""

    @property
    def lasting(self) -> bool:
        """Whether the next file fails as well: disk or quota full, folder read-only, forbidden or a file."""
        return getattr(self.__cause__, "errno", None) in _LASTING


class PackageMissing(TalkingFaceError):
    """A command needs packages of an extra that are not installed; the message has the command that installs them."""


class Unavailable(TalkingFaceError):
    """A metric cannot be computed here, for the reason given; reports show `n/a`, never a number."""


def closest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where a known name is close, else nothing."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean '{match[0]}'?" if match else ""


def unknown(what: str, name: str, names: Iterable[str], candidates: Iterable[str] | None = None) -> str:
    """Message for an unknown name: the closest one and the list."""
    # Compared in small letters, shown as it is written; names win over aliases of the same spelling.
    pool = {c.lower(): c for c in (*(candidates or ()), *names)}
    match = difflib.get_close_matches(name.lower(), list(pool), n=1, cutoff=0.5)
    hint = f", did you mean '{pool[match[0]]}'?" if match else ""
    return f"unknown {what} '{name}'{hint} (known: {', '.join(sorted(names))})"


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    r"""A text as a terminal may show it: what would steer it, or turn its writing round, is written as `\x1b`.

    Names of files, clips and networks are somebody else's; one of them may clear the screen or rewrite a line. Line
    ends and tabs stay.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_NO_MEMORY = (
    "DefaultCPUAllocator",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "Insufficient memory",
)


def out_of_memory(error: BaseException) -> str | None:
    """What a user can do about an error that means too little memory; None for any other error.

    Python, numpy, torch, OpenCV, FFmpeg and the system each say it in their own way, and none of them is imported here.
    """
    kind, text = type(error).__name__, str(error)
    if kind == "OutOfMemoryError":
        return "the GPU memory does not suffice; use a smaller batch or --device=cpu"
    is_one = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if not is_one and not (
        (isinstance(error, RuntimeError) or kind == "error") and any(part in text for part in _NO_MEMORY)
    ):
        return None
    asked = re.search(r"\d[\d.]* ?(?:bytes|[KMGTPE]i?B)\b", text)
    return (
        f"the memory of this machine does not suffice{f' ({asked[0]} were asked for)' if asked else ''}; use a smaller"
        " batch_size, fewer num_workers, or smaller and shorter input"
    )


def first_line(error: BaseException, most: int = 120) -> str:
    """What an error of a library says, short enough for a part of one line."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= most else f"{line[: most - 3]}..."
