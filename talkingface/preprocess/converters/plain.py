"""Reading old pickles safely: plain containers, numbers, strings and numpy arrays, and nothing else."""

from __future__ import annotations

import importlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.errors import DataError


def load_plain(path: str | Path) -> Any:
    """Load an `.npy` file; a pickled one may hold plain containers, numbers, strings and numpy arrays only.

    Raises:
        DataError: the file is missing or damaged, or names anything else (which could run code).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read this file ({error.strerror})") from None
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(data), allow_pickle=False)
        value = _PlainUnpickler(stream).load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, EOFError, AttributeError, IndexError, KeyError, TypeError, ImportError) as error:
        raise DataError(f"{path}: not a readable .npy file ({type(error).__name__}: {error})") from None
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _latin1(text: str, encoding: str) -> bytes:
    """What protocol-2 pickles use for bytes; any other codec is refused."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: text encoding {encoding}")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """Knows numpy's array, dtype and scalar constructors; every other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name in the pickle."""
        plain = module.replace("numpy._core", "numpy.core")
        if (plain, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if plain == "numpy.core.multiarray" and name in ("_reconstruct", "scalar"):
            home = (
                "numpy.core.multiarray" if np.lib.NumpyVersion(np.__version__) < "2.0.0" else "numpy._core.multiarray"
            )
            return getattr(importlib.import_module(home), name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"refused: the file holds code ({module}.{name}); only plain data are read")
