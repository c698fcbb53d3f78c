"""`landmark_crop_dic.npy` of LawDNet's data processing: 68 landmarks in each crop, pickled by the path of its picture.

The values are torch tensors, of a GPU where there was one, or in the oldest files lists, empty where no face was found.
Nothing of it is called: tensors are made of the bytes that are there.
"""

from __future__ import annotations

import io
import math
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from talkingface.errors import DataError
from talkingface.preprocess.converters.dubbing_lists import PictureName
from talkingface.preprocess.converters.plain import PlainUnpickler, load_plain

if TYPE_CHECKING:
    import torch

_POINTS = 68
_MOST_BYTES = 2**31  # each value was stored with the landmarks of its whole clip
_FARTHEST = 10_000  # pixels


def read_crop_landmarks(path: str | Path) -> dict[PictureName, np.ndarray | None]:
    """Landmarks (68, 2) float32 in pixels of the old crops, by picture; None where no face was found.

    Raises:
        DataError: the file is damaged, holds code, or is no such dictionary.
    """
    stored = load_plain(path, _TensorUnpickler, _MOST_BYTES)
    if not isinstance(stored, Mapping):
        raise DataError(f"{path}: holds no dictionary of landmarks by picture, but {type(stored).__name__}")
    return {PictureName.of(str(name), path): _face(value, f"{path}: {name}") for name, value in stored.items()}


def _face(value: Any, where: str) -> np.ndarray | None:
    try:
        points = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{where}: what stands there are no landmarks") from None
    if not points.size:
        return None
    if points.shape != (_POINTS, 2) or not np.abs(points).max() < _FARTHEST:  # NaN is not smaller either
        raise DataError(f"{where}: expected {_POINTS} landmarks in pixels, found an array of {points.shape}")
    return points


class _TensorUnpickler(PlainUnpickler):
    """Knows tensors as well; each becomes an array."""

    known: ClassVar[dict[tuple[str, str], Callable[..., Any] | str]] = {
        **PlainUnpickler.known,
        ("torch._utils", "_rebuild_tensor_v2"): "tensor",
        ("torch.storage", "_load_from_bytes"): "storage",
        ("collections", "OrderedDict"): lambda: {},  # hooks of a tensor: there are none
    }

    def storage(self, content: bytes) -> torch.Tensor:
        """The memory of a tensor, on the CPU wherever it was, as one row of numbers."""
        import torch  # only these old files need it here

        from talkingface.weights.pickled import check_storage

        check_storage(content)
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(found, torch.TypedStorage):
            raise pickle.UnpicklingError("refused: a tensor without a storage")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch deprecates the class, the files hold nothing else
            numbers = torch.empty(0, dtype=found.dtype).set_(found.untyped())
        self.spend(numbers.nbytes)
        return numbers

    def tensor(self, storage: Any, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> np.ndarray:
        """A part of such memory.

        Raises:
            UnpicklingError: it reaches beyond that.
        """
        import torch

        numbers = (offset, *shape, *strides)
        if not isinstance(storage, torch.Tensor) or any(type(n) is not int or n < 0 for n in numbers):
            raise pickle.UnpicklingError("refused: a tensor without a storage or of no size")
        count = math.prod(shape)
        end = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if count else 0
        if max(end, count) > len(storage):
            raise pickle.UnpicklingError("refused: a tensor is larger than its storage")
        self.spend(count * storage.element_size())
        return storage.as_strided(tuple(shape), tuple(strides), offset).float().numpy().copy()
