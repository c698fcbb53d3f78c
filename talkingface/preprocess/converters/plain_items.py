"""Lists in old pickles, item by item: a dump of any length in the memory of one item, and nothing in it is carried out.

The pickle is run opcode by opcode with the stand-ins of `plain`. What would be appended to the outermost list, or to
the lists of an outermost mapping, is handed out instead, and large values are forgotten afterwards.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from talkingface.errors import DataError
from talkingface.preprocess.converters.plain import COPIED, MOST_BYTES, UNREADABLE, PlainUnpickler, StandInArray, plain
from talkingface.stored.regular import read_bytes, size_of

_KEPT = 2**16  # bytes of a value that later items may refer to: a vector of a speaker, a name
_LONGEST_LINE = 2**12  # of names and of numbers written as text
_APPEND, _APPENDS, _STOP = pickle.APPEND[0], pickle.APPENDS[0], pickle.STOP[0]


class Item(NamedTuple):
    """One of the items.

    Attributes:
        key: of its list in the outermost mapping; None where a list is outermost.
        value: of plain containers, numbers, text and numpy arrays.
    """

    key: Any
    value: Any


def load_pickle(path: str | Path) -> Any:
    """The whole of a small pickle of plain data.

    Raises:
        DataError: missing, damaged, or it names anything else (which could run code).
    """
    size = len(read_bytes(path, MOST_BYTES))
    with _opened(path) as file:
        return _told(path, lambda: plain(_ItemUnpickler(_Limited(file, size), size).load(), {}))


def pickled_items(path: str | Path) -> Iterator[Item]:
    """Items of a pickled list, or of all lists of a pickled mapping, in order.

    Raises:
        DataError: the file is missing or damaged, holds something else, or names anything but plain data.
    """
    size = size_of(path)
    with _opened(path) as file:
        items = _ItemUnpickler(_Limited(file, size), size).items()
        while (item := _told(path, lambda: next(items, None))) is not None:
            yield item


def _opened(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _told(path: str | Path, read: Any) -> Any:
    try:
        return read()
    except UNREADABLE as error:
        refused = isinstance(error, pickle.UnpicklingError) and str(error).startswith("refused")
        what = f"{error}" if refused else f"not a readable pickle ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {' '.join(what.split())[:300]}") from None


class _Limited:
    """A file that is asked for no more than it can have: room is made before it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def read(self, count: int) -> bytes:
        if count > min(self.left, MOST_BYTES):
            raise EOFError("it ends before its values, or one of them is of no size that arrays have")
        data = self.file.read(count)
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self.file.readline(_LONGEST_LINE)
        self.left -= len(data)
        return data


class _Gone:
    """Stands for a large value of an item that has been handed out."""


class _ItemUnpickler(PlainUnpickler):
    """Hands items out where they would be collected."""

    def __init__(self, file: _Limited, size: int) -> None:
        super().__init__(file, COPIED * size + 2**20)  # type: ignore[arg-type]
        self._known = 0  # entries of the memo that have been looked at

    def items(self) -> Iterator[Item]:
        """See `pickled_items`; raises what unpickling raises."""
        self._begin()
        while (code := self._next_code()) != _STOP:
            if code in (_APPEND, _APPENDS) and self._collects(code):
                for value in self._collected(code):
                    yield self._handed_out(value, self.stack)
                continue
            self.dispatch[code](self)
            while self._holds_more_than_one():
                yield self._handed_out(self.stack.pop(0), self.metastack[-1])
        if len(self.stack) != 1 or not isinstance(self.stack[0], (list, dict)):
            raise pickle.UnpicklingError("refused: neither a list nor a mapping of lists")

    def _begin(self) -> None:
        """What `load` does before the first opcode."""
        self._unframer = pickle._Unframer(self._file_read, self._file_readline)  # type: ignore[attr-defined]
        self.read, self.readinto = self._unframer.read, self._unframer.readinto
        self.readline = self._unframer.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0

    def _next_code(self) -> int:
        key = self.read(1)
        if not key:
            raise EOFError("it ends before its values")
        return key[0]

    def _is_outermost(self, before: list[list[Any]], last: list[Any]) -> bool:
        """Whether the list on top of `last`, below which `before` lies, is one whose items are handed out."""
        if not last or not isinstance(last[-1], list):
            return False
        if not before:
            return len(last) == 1
        return len(before) == 1 and len(before[0]) == 1 and isinstance(before[0][0], dict) and len(last) % 2 == 0

    def _collects(self, code: int) -> bool:
        """Whether the next opcode would put items into such a list."""
        if code == _APPEND:
            return self._is_outermost(self.metastack, self.stack[:-1])
        return bool(self.metastack) and self._is_outermost(self.metastack[:-1], self.metastack[-1])

    def _collected(self, code: int) -> list[Any]:
        """The items that it would put there."""
        return [self.stack.pop()] if code == _APPEND else self.pop_mark()

    def _holds_more_than_one(self) -> bool:
        """Whether behind a finished item of such a list the next one has begun."""
        if len(self.stack) < 2 or not self.metastack or not self._is_outermost(self.metastack[:-1], self.metastack[-1]):
            return False
        first = self.stack[0]
        return isinstance(first, tuple) or (isinstance(first, StandInArray) and first.is_filled and self._keyed())

    def _keyed(self) -> bool:
        """Whether the outermost is a mapping, whose lists hold arrays; those of a list are the beginnings of tuples."""
        return len(self.metastack) == 2

    def _handed_out(self, value: Any, level: list[Any]) -> Item:
        """An item of the list on top of `level`, below which lies its key where there is one."""
        item = Item(level[-2] if len(level) >= 2 else None, plain(value, {}))
        self._forget()
        return item

    def _forget(self) -> None:
        """Drop large values from the memo, to which no later item may refer."""
        fresh = [key for key in self.memo if isinstance(key, int) and key >= self._known]
        for key in fresh:
            if _bytes_of(self.memo[key]) > _KEPT:
                self.memo[key] = _Gone
        self._known = max((*fresh, self._known))


def _bytes_of(value: Any) -> int:
    """What a value takes, roughly; the outermost containers are still filled, and count nothing."""
    if isinstance(value, StandInArray):
        return value.bytes_
    if isinstance(value, (bytes, str)):
        return len(value)
    return sum(map(_bytes_of, value)) if isinstance(value, tuple) else 0
