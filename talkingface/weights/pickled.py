"""What a file of `torch.save` asks for, told from its pickle without carrying it out.

`torch.load(weights_only=True)` runs no code, but it believes sizes: 400 bytes may ask for a terabyte. Here the opcodes
are read, not run: only what tensors and plain values need is admitted, and no more memory than the file can fill.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from talkingface.errors import CheckpointError

MOST_OPCODES = 2_000_000
"""Of one pickle, each of which makes at most one small object; a large model with its optimisers has 200 000."""

MOST_VALUES = 2_000_000
"""Values in a file, each counted as often as it is referred to."""

DEEPEST = 100
"""Levels of nesting."""

SHRUNK = 10
"""Weights that were packed again hardly shrink; what grows more than this while unpacking is no checkpoint."""

MOST_REPEATED = 2**26
"""Elements of a tensor that repeats fewer, as `expand` makes it; the largest layer that we know of has 25 million."""

COPIED = 4
"""Times its own length that a pickle may have copied: each of its values can be copied again and again."""

MOST_SIDES = 64
"""Axes of a tensor."""

_SMALL = 2**20  # bytes that need no reason
_REFERENCE = 8  # bytes

_CALLS = {
    "collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex", "_codecs.encode",
    "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch._utils._rebuild_parameter",
}  # fmt: skip
_TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"}
_ITEM_SIZES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "ComplexDouble": 16, "ComplexFloat": 8,
    "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
}  # fmt: skip
_FORMER = {"__builtin__": "builtins", "copy_reg": "copyreg"}

# Torch carries some names out whatever stands in their place, and of these modules nothing but harm is in a checkpoint.
_NEVER_STRANGE = {"os", "posix", "nt", "sys", "subprocess", "builtins", "collections", "torch", "_codecs"}
_STRANGE_ALL_THE_SAME = ("builtins.dict", "builtins.list", "builtins.object", "collections.defaultdict", "torch.optim.")
_DAMAGED = "cut short, damaged or not a checkpoint; copy or download it again"
_BROKEN = (OSError, ValueError, LookupError, TypeError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class _Global:
    """A name that the pickle refers to, as `module.name`."""

    name: str


@dataclass(eq=False)
class _Made:
    """Something that would be made by calling a name.

    Attributes:
        by: the name.
        bytes_: what its parts or characters take.
    """

    by: str
    bytes_: int = 0


@dataclass(frozen=True)
class _Storage:
    """A piece of memory that tensors lie in."""

    elements: int


class _Refused(Exception):
    """Why the file is not read."""


def check(path: Path, objects: bool = False) -> set[str]:
    """Refuse a file that asks for code, or for more memory than it holds.

    Args:
        path: the file.
        objects: admit names of classes and functions that are not ours; whoever reads the file then must make nothing
            of them, see `inert`.

    Returns:
        These names, as `module.name`.

    Raises:
        CheckpointError: with the reason.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # as torch tells its two formats apart
            file.seek(0)
            look = _check_archive if zipped else _check_stream
            return look(file, path.stat().st_size, objects)
    except _Refused as error:
        raise CheckpointError(f"{path}: refused: {error}") from None
    except (*_BROKEN, RuntimeError):  # zipfile has the last one for a password
        raise CheckpointError(f"{path}: not a readable checkpoint: {_DAMAGED}") from None


def check_storage(content: bytes) -> None:
    """Refuse a storage that an old pickle holds as bytes of `torch.save`, in its format before torch 1.6.

    Raises:
        ValueError: it asks for code or for more memory than it holds, or is none.
    """
    try:
        _check_stream(io.BytesIO(content), len(content), objects=False)
    except _Refused as error:
        raise ValueError(f"refused: {error}") from None
    except (*_BROKEN, RuntimeError):
        raise ValueError("not a storage of torch.save") from None


def _check_archive(file: BinaryIO, size: int, objects: bool) -> set[str]:
    """The format since torch 1.6: a zip with a pickle and one member per storage, none of them compressed."""
    _check_end(file, size)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if min(member.header_offset for member in members) or any(m.filename != m.orig_filename for m in members):
            raise _Refused("its list of parts can be read in two ways")
        sizes = {member.filename.lower(): member.file_size for member in members}
        if len(sizes) < len(members):
            raise _Refused("two parts of the file have one name")
        if sum(sizes.values()) > max(SHRUNK * size, _SMALL) or sum(m.compress_size for m in members) > size:
            raise _Refused(f"{_amount(sum(sizes.values()))} would be unpacked from {_amount(size)}")
        root = members[0].filename.partition("/")[0]
        content = archive.read(f"{root}/data.pkl")
    asks = _Asks(len(content), objects)
    asks.read(io.BytesIO(content))
    for key, bytes_ in asks.storages.items():
        there = sizes.get(f"{root}/data/{key}".lower(), 0)
        if bytes_ > there:
            raise _Refused(f"a tensor asks for {_amount(bytes_)} where the file holds {_amount(there)}")
    return asks.strangers


def _check_end(file: BinaryIO, size: int) -> None:
    """The list of parts must end where the file says and nothing may stand around it, lest torch reads another list.

    Python's zipfile shifts all places by what stands before the archive, torch takes them as they are written.
    """
    length = min(size, 98)
    file.seek(size - length)
    tail = file.read(length).rjust(98, b"\0")
    record, locator, last = tail[:56], tail[56:76], tail[76:]
    mark, *_, listed, place, _ = struct.unpack("<4s4H2LH", last)
    end = size - len(last)
    if locator.startswith(b"PK\x06\x07"):  # large archives say it once more, in 64 bits
        end -= len(locator) + len(record)
        listed, place = struct.unpack("<2Q", record[40:])
        if struct.unpack("<Q", locator[8:16]) != (end,) or not record.startswith(b"PK\x06\x06"):
            raise _Refused("its list of parts can be read in two ways")
    if mark != b"PK\x05\x06":
        raise zipfile.BadZipFile
    if place + listed != end:
        raise _Refused("its list of parts can be read in two ways")


def _check_stream(file: BinaryIO, size: int, objects: bool) -> set[str]:
    """The format before: a row of pickles (mark, version, machine, content, storages), then the storages."""
    asks = _Asks(size, objects)
    for _ in range(5):
        asks.read(file)
    if (wanted := sum(asks.storages.values())) > size:
        raise _Refused(f"its tensors ask for {_amount(wanted)}, the whole file has {_amount(size)}")
    return asks.strangers


class _Asks:
    """Goes through a pickle with stand-ins for all that it would make.

    Attributes:
        storages: bytes of each storage, by key.
        left: bytes that may still be copied.
        strangers: names of classes and functions that are not ours.
    """

    def __init__(self, size: int, objects: bool) -> None:
        self.objects = objects
        self.strangers: set[str] = set()
        self.storages: dict[str, int] = {}
        self.left = COPIED * size + _SMALL
        self.opcodes = 0

    def read(self, file: Any) -> None:
        """Go through one pickle, to its end."""
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            self.opcodes += 1
            if self.opcodes > MOST_OPCODES:
                raise _Refused(f"more than {MOST_OPCODES} values in one file")
            step = _STEPS.get(opcode.name)
            if step is None:
                raise _Refused("not written by torch.save, or holds more than tensors and plain values")
            step(self, argument)

    def push(self, value: Any) -> None:
        """What an opcode leaves behind; of containers only the size is needed here."""
        self.stack.append(value)

    def fill(self, parts: tuple[Any, ...]) -> None:
        """Put parts into the container that lies on top."""
        if not isinstance(self.stack[-1], _Made):
            raise _Refused("something is filled that is no container")
        self.stack[-1].bytes_ += _REFERENCE * len(parts)

    def copy(self, *values: Any) -> int:
        """Bytes of a copy of the values, which count as often as it is made."""
        bytes_ = sum(map(_length, values))
        self.left -= bytes_
        if self.left < 0:
            raise _Refused("it asks for more memory than the file holds, by copying its values again and again")
        return bytes_

    def name(self, text: str) -> None:
        """A reference to a class or function."""
        module, _, name = text.partition(" ")
        full = f"{_FORMER.get(module, module)}.{name}"
        value = getattr(torch, name, None) if module in ("torch", "torch.cuda") else None
        known = full in _CALLS or full in _TENSORS or _item_size(full) is not None
        if not (known or isinstance(value, torch.dtype) or _empty_tensor(full)):
            if self.objects and _strange(full):
                self.strangers.add(full)
                return self.push(_Global(full))
            raise _Refused(f"the file holds more than tensors and plain values (pickled code or classes: {full})")
        self.push(_Global(full))

    def pop_mark(self) -> tuple[Any, ...]:
        """What was pushed since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return tuple(items)

    def mark(self) -> None:
        """Begin to collect."""
        self.marks.append(self.stack)
        self.stack = []

    def take(self, count: int) -> tuple[Any, ...]:
        """The last `count` values."""
        if len(self.stack) < count:
            raise IndexError
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def call(self) -> None:
        """A function with arguments."""
        function, arguments = self.take(2)
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise _Refused("something is called that is no function")
        if function.name in _TENSORS:
            _check_tensor(arguments)
        elif function.name == "_codecs.encode" and arguments[1:] != ("latin1",):
            raise _Refused("text in an encoding that torch.save does not write")
        elif function.name == "torch.nn.parameter.Parameter" and not isinstance(arguments[0], _Made):
            raise _Refused("a parameter is made of something that is no tensor")
        elif not self.callable(function.name, arguments):
            raise _Refused(f"{function.name} is called")
        copies = function.name not in _TENSORS
        self.push(_Made(function.name, self.copy(*arguments) if copies else 0))

    def callable(self, name: str, arguments: tuple[Any, ...]) -> bool:
        """Whether a name may be called: one that makes plain values, a stranger's, a class of empty tensors."""
        return name in _CALLS or name in self.strangers or (_empty_tensor(name) and not arguments)

    def build(self) -> None:
        """Attributes of an ordered mapping; the storage of a tensor as torch 0.1 wrote it."""
        made, state = self.take(2)
        if isinstance(made, _Made) and _empty_tensor(made.by) and isinstance(state, tuple):
            _check_tensor(state)
        elif not isinstance(made, _Made) or made.by not in {"collections.OrderedDict", *self.strangers}:
            raise _Refused("an object is filled that is no mapping")
        else:
            self.copy(state)
        self.push(made)

    def storage(self) -> None:
        """A reference to memory beside the pickle: ("storage", class, key, device, elements)."""
        (reference,) = self.take(1)
        kind, type_, key, _, elements = reference[:5]
        item = _item_size(type_.name) if isinstance(type_, _Global) else None
        if kind != "storage" or item is None or type(elements) is not int or elements < 0:
            raise _Refused("a reference that is no storage")
        if type(key) is not str or not key.isascii():  # other letters name other parts in Python than in torch
            raise _Refused("a storage without a plain name")
        self.storages[key] = max(elements * item, self.storages.get(key, 0))
        self.push(_Storage(elements))


def _strange(name: str) -> bool:
    """Whether a name may have a stand-in."""
    return name.startswith(_STRANGE_ALL_THE_SAME) or name.partition(".")[0] not in _NEVER_STRANGE


def _check_tensor(arguments: tuple[Any, ...]) -> None:
    """A tensor may not reach beyond its storage, nor repeat a small one into a giant one."""
    storage, offset, shape, strides = arguments[:4]
    if len(shape) > MOST_SIDES:
        raise _Refused(f"a tensor of more than {MOST_SIDES} axes")
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise _Refused("a tensor without a storage or of no size")
    end = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if math.prod(shape) else 0
    most = max(storage.elements, MOST_REPEATED)
    if end > storage.elements or math.prod(shape) > most or max(shape, default=0) > most:
        raise _Refused(f"a tensor of {' x '.join(map(str, shape))} lies in memory of {storage.elements} elements")


def _length(value: Any) -> int:
    """Bytes of a value that a copy of it takes again."""
    if isinstance(value, _Made):
        return value.bytes_
    return len(value) if isinstance(value, str) else _REFERENCE * len(value) if isinstance(value, tuple) else 0


def _item_size(name: str) -> int | None:
    """Bytes of an element of a storage class; None for another name."""
    module, _, last = name.rpartition(".")
    if name == "torch.storage.UntypedStorage":
        return 1
    return _ITEM_SIZES.get(last.removesuffix("Storage")) if module in ("torch", "torch.cuda") else None


def _empty_tensor(name: str) -> bool:
    """Whether a name is a class of tensors, which torch 0.1 called without arguments."""
    module, _, last = name.rpartition(".")
    return module == "torch" and last.endswith("Tensor") and isinstance(getattr(torch, last, None), type)


def _amount(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size} B"


_STEPS: dict[str, Callable[[_Asks, Any], None]] = {
    **dict.fromkeys(("PROTO", "STOP"), lambda asks, _: None),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Asks.push),
    **dict.fromkeys(("BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"), _Asks.push),
    **{name: lambda asks, _, v=v: asks.push(v) for name, v in (("NONE", None), ("NEWTRUE", True), ("NEWFALSE", False))},
    "EMPTY_TUPLE": lambda asks, _: asks.push(()),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), lambda asks, _: asks.push(_Made("container"))),
    "GLOBAL": _Asks.name,
    "MARK": lambda asks, _: asks.mark(),
    "TUPLE": lambda asks, _: asks.push(asks.pop_mark()),
    **{f"TUPLE{n}": lambda asks, _, n=n: asks.push(asks.take(n)) for n in (1, 2, 3)},
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda asks, index: asks.memo.update({index: asks.stack[-1]})),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda asks, index: asks.push(asks.memo[index])),
    "APPEND": lambda asks, _: asks.fill(asks.take(1)),
    "SETITEM": lambda asks, _: asks.fill(asks.take(2)),
    **dict.fromkeys(("APPENDS", "SETITEMS"), lambda asks, _: asks.fill(asks.pop_mark())),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda asks, _: asks.call()),
    "BUILD": lambda asks, _: asks.build(),
    "BINPERSID": lambda asks, _: asks.storage(),
}


def count_values(content: Any, most: int = MOST_VALUES) -> int:
    """Values in plain data, each counted as often as it is referred to: a few hundred bytes can ask for 10^9 of them.

    Raises:
        ValueError: more than `most`, nested without end, or within itself.
    """
    return _count(content, {}, most, DEEPEST)


def _count(value: Any, known: dict[int, int], most: int, levels: int) -> int:
    if not isinstance(value, (Mapping, list, tuple, set)):
        return 1
    if known.setdefault(id(value), 0) or not value:
        return known[id(value)] or 1
    if not levels:
        raise ValueError(f"nested too deeply, more than {DEEPEST} levels, or within itself")
    parts = (part for item in value.items() for part in item) if isinstance(value, Mapping) else value
    total = 1
    for part in parts:
        total += _count(part, known, most, levels - 1)
        if total > most:
            raise ValueError(f"more than {most} values")
    known[id(value)] = total
    return total
