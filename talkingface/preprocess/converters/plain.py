"""Reading old pickles safely: plain containers, numbers, strings and numpy arrays, and nothing else.

No constructor of numpy is ever called with what the file says: a pickle could otherwise make arrays of pointers, or ask
for any amount of memory. Stand-ins take down what was asked for, and arrays are made of the bytes that are there.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from talkingface.errors import DataError
from talkingface.stored.arrays import BROKEN, Wanted, read_npy
from talkingface.stored.regular import read_bytes

MOST_BYTES = 2**28
COPIED = 4
"""Times its own length that a file may have copied: each of its values can be copied again and again."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ndarray)
UNREADABLE = (pickle.UnpicklingError, AttributeError, IndexError, ImportError, MemoryError, *BROKEN)
"""What reading a pickle raises that is damaged or refused."""


def load_plain(path: str | Path, reader: type[PlainUnpickler] | None = None, most: int = MOST_BYTES) -> Any:
    """Load an `.npy` file; a pickled one may hold plain containers, numbers, strings and numpy arrays only.

    Args:
        path: the file.
        reader: of a pickle that may hold more; None: `PlainUnpickler`.
        most: bytes that the file may have.

    Raises:
        DataError: the file is missing or damaged, or names anything else (which could run code).
    """
    data = read_bytes(path, most)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(stream)
        if dtype.hasobject:
            value = plain((reader or PlainUnpickler)(stream, COPIED * len(data) + 2**20).load(), {})
            return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    except UNREADABLE as error:
        refused = isinstance(error, pickle.UnpicklingError) and str(error).startswith("refused")
        what = f"{error}" if refused else f"not a readable .npy file ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {' '.join(what.split())[:300]}") from None
    return read_npy(path, Wanted("biufcSU", None), finite=False)


class _Dtype:
    """What a pickle says of the type of an array: plain numbers, text, bytes or objects, no structures."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufcOSU]\d{1,4}", code):
            raise pickle.UnpicklingError("refused: an array of a type that is not plain")
        self.dtype = np.dtype("O") if code[0] == "O" else np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subtype, names, fields = state[:5]
        if (subtype, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("refused: an array of a type that is not plain")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class StandInArray:
    """What a pickle says of an array."""

    value: np.ndarray | None = None
    objects: list[Any] | None = None
    shape: tuple[int, ...] = ()

    def __init__(self, *_: Any) -> None:
        """A pickle first makes an empty one."""

    @property
    def is_filled(self) -> bool:
        """Whether it has its content already."""
        return self.value is not None or self.objects is not None

    @property
    def bytes_(self) -> int:
        """What it takes; of objects, the references to them."""
        return 8 * len(self.objects or ()) + (0 if self.value is None else self.value.nbytes)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not all(isinstance(side, int) and 0 <= side <= MOST_BYTES for side in shape):
            raise ValueError("the shape of an array is none")
        self.shape = tuple(shape)
        if dtype.dtype.hasobject:
            if not isinstance(content, list) or len(content) != math.prod(self.shape):
                raise ValueError("an array has another number of elements than it says")
            self.objects = content
        else:
            order = "F" if fortran else "C"
            self.value = np.frombuffer(content, dtype.dtype).reshape(self.shape, order=order).copy()


_KNOWN: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy", "ndarray"): StandInArray,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: StandInArray(),
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("_codecs", "encode"): "latin1",
}


class PlainUnpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Knows stand-ins of numpy's array, dtype and scalar constructors; every other name is refused.

    Python's own implementation, since that in C makes room for as many objects as a pickle numbers.

    Attributes:
        known: what is called for each name: a function, or the name of a method.
    """

    known: ClassVar[dict[tuple[str, str], Callable[..., Any] | str]] = _KNOWN

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: BinaryIO, most: int) -> None:
        """Read from `file`, with copies of `most` bytes of what it holds."""
        super().__init__(file)
        self.left = most

    def spend(self, bytes_: int) -> None:
        """Count what was copied.

        Raises:
            UnpicklingError: it is more than the file can justify.
        """
        self.left -= bytes_
        if self.left < 0:
            raise pickle.UnpicklingError("refused: it asks for more memory than it holds, by copying its values")

    def scalar(self, dtype: _Dtype, content: bytes) -> Any:
        """A number or text of numpy's."""
        value = np.frombuffer(content, dtype.dtype, count=1)[0]
        self.spend(value.nbytes)
        return value

    def latin1(self, text: str, encoding: str) -> bytes:
        """What protocol-2 pickles use for bytes; any other codec is refused."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"refused: text encoding {encoding}")
        self.spend(len(text))
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name in the pickle."""
        plain = module.replace("numpy._core", "numpy.core")
        if (plain, name) not in self.known:
            raise pickle.UnpicklingError(f"refused: the file holds code ({module}.{name}); only plain data are read")
        known = self.known[plain, name]
        return getattr(self, known) if isinstance(known, str) else known

    def load_build(self) -> None:
        """Give an array or its type what it consists of; nothing else has a state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (StandInArray, _Dtype)):
            raise pickle.UnpicklingError("refused: only plain data are read")
        filled = self.stack[-1]
        filled.__setstate__(state)
        if isinstance(filled, StandInArray):
            self.spend(filled.bytes_)

    def load_bytearray8(self) -> None:
        """Not plain, and made before its bytes are seen."""
        raise pickle.UnpicklingError("refused: only plain data are read")

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def plain(value: Any, made: dict[int, Any]) -> Any:
    """The value with arrays in the place of their stand-ins; `made`: what is made already, by the id of its origin.

    Raises:
        UnpicklingError: something in it is not plain.
    """
    if isinstance(value, _PLAIN):
        return value
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, list):
        made[id(value)] = result = []
        result += [plain(each, made) for each in value]
    elif isinstance(value, dict):
        made[id(value)] = result = {}
        result |= {key: plain(each, made) for key, each in value.items() if isinstance(key, _PLAIN)}
    elif isinstance(value, (tuple, set, frozenset)):
        made[id(value)] = result = tuple(plain(each, made) for each in value)
    elif isinstance(value, StandInArray):
        made[id(value)] = result = value.value
        if value.objects is not None:
            made[id(value)] = result = np.empty(len(value.objects), object)
            for index, each in enumerate(value.objects):
                result[index] = plain(each, made)
            made[id(value)] = result = result.reshape(value.shape)
    else:
        raise pickle.UnpicklingError("refused: only plain data are read")
    return result
