"""Packed face crops of a clip: one blob of JPEG (default) or PNG pictures with an index, or one array.

Crops are boxes of a frame, or turned and scaled by a matrix each; see `faces.crop` and `faces.affine`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from talkingface.clips.crop_pictures import SizeHW, decode, encode_jpeg, encode_png, resized
from talkingface.clips.meta import clip_file
from talkingface.errors import DataError
from talkingface.stored.arrays import Header, Wanted, map_npy, npy_header, read_npz
from talkingface.stored.jsons import parse_json
from talkingface.stored.regular import REMEDY

_ARRAYS = {
    "boxes": Wanted("f", ("frames", 4)),
    "offsets": Wanted("iu", ("offsets",)),
    "meta": Wanted("U", ()),
    "found": Wanted("b", ("frames",)),
    "matrices": Wanted("f", ("frames", 2, 3)),
}
_Pixels = Annotated[int, Field(ge=1, le=32767)]
_Side = Annotated[int, Field(ge=1, le=4096)]
Storage = Literal["jpeg", "png", "npy"]
"""`png` is for drawings: without loss, and small."""


class _Meta(BaseModel):
    """What every index says of its crops; the other parameters are compared with those asked for, whatever they are."""

    model_config = ConfigDict(strict=True, extra="allow")

    size: _Side | None = None
    size_hw: Annotated[list[_Side], Field(min_length=2, max_length=2)] | None = None
    frame_hw: Annotated[list[_Pixels], Field(min_length=2, max_length=2)]
    storage: Storage = "jpeg"

    @model_validator(mode="after")
    def _one_size(self) -> _Meta:
        if (self.size is None) == (self.size_hw is None):
            raise ValueError("either size or size_hw is needed")
        return self


class FaceStore:
    """Face crops of a clip: packed JPEG or PNG pictures with an index, or one array.

    Attributes:
        boxes: (F, 4) float32 x1, y1, x2, y2 in pixels of the source; NaN where there is no face.
        matrices: (F, 2, 3) float64 from pixels of the source to pixels of the crop, where crops are not their boxes;
            else None.
        valid: (F,) bool, frames that have a crop.
        found: (F,) bool, those whose face was detected, not bridged; all of `valid` where that was not recorded.
        meta: parameters the crops were made with (`size`, or `size_hw` where they are not square; `margin`, `box`, ...)
            and `frame_hw`.
    """

    def __init__(self, folder: Path, key: str = "faces", index: Path | None = None):
        self.path = Path(folder)
        self.key = key
        self._index = path = index or clip_file(self.path, f"{key}.npz")
        self._stem = path.stem  # of all its files; an artefact may lie under the name it had in an earlier version
        stored = read_npz(path, _ARRAYS, optional=("found", "matrices"))
        self.boxes: np.ndarray = stored["boxes"].astype(np.float32, copy=False)
        self.offsets: np.ndarray = stored["offsets"].astype(np.int64, copy=False)
        matrices = stored.get("matrices")
        self.matrices = None if matrices is None else matrices.astype(np.float64, copy=False)
        self.meta: dict[str, Any] = self._read_meta(str(stored["meta"]))
        detected = stored.get("found")
        self.valid: np.ndarray = np.isfinite(self.boxes).all(axis=1)
        self.found: np.ndarray = self.valid if detected is None else self.valid & detected
        self.storage: str = self.meta.get("storage", "jpeg")
        self._check_boxes()
        self._header = self._check_pictures()

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def size(self) -> int:
        """Side of the crops in pixels.

        Raises:
            DataError: they are not square.
        """
        height, width = self.size_hw
        if height != width:
            raise DataError(f"{self._index}: its crops are {width}x{height} and have no one side")
        return height

    @property
    def size_hw(self) -> SizeHW:
        """Height and width of the crops in pixels."""
        height, width = self.meta.get("size_hw") or (self.meta["size"], self.meta["size"])
        return int(height), int(width)

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the source frames."""
        height, width = self.meta["frame_hw"]
        return int(height), int(width)

    def __getitem__(self, index: int) -> np.ndarray:
        """Crop of one frame, uint8 RGB (H, W, 3)."""
        return self.read([index])[0]

    def read(self, indices: Iterable[int], size: SizeHW | None = None) -> np.ndarray:
        """Crops of several frames, (n, H, W, 3) uint8 RGB.

        Args:
            indices: of the frames.
            size: height and width wanted; smaller ones are means over areas, of JPEG pictures decoded no larger than
                needed.
        """
        wanted, size = [self._checked(int(i)) for i in indices], size or self.size_hw
        if self._header is not None and size == self.size_hw:
            return np.ascontiguousarray(map_npy(self._blob, self._header)[wanted])
        faces = np.empty((len(wanted), *size, 3), np.uint8)
        for n, face in enumerate(self._each(wanted, size)):
            faces[n] = face
        return faces

    def _each(self, indices: Iterable[int], size: SizeHW) -> Iterator[np.ndarray]:
        if self._header is not None:
            stored = map_npy(self._blob, self._header)
            yield from (resized(stored[i], size) for i in indices)
            return
        for index, data in self._files(indices):
            yield self._decode(data, index, size)

    def jpeg(self, index: int) -> bytes:
        """JPEG file of the crop of one frame, as it is stored where that is one."""
        if self.storage != "jpeg":
            return encode_jpeg(self[index])
        return next(self._files([self._checked(index)]))[1]

    def _files(self, indices: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Index and stored file of several frames.

        Raises:
            DataError: they cannot be read.
        """
        try:
            # Opened per call, not kept: 50 000 clips must not hold 50 000 handles, and pickle to loader workers.
            with self._blob.open("rb") as blob:
                for i in indices:
                    blob.seek(int(self.offsets[i]))
                    yield i, blob.read(int(self.offsets[i + 1] - self.offsets[i]))
        except OSError as error:
            raise DataError(f"{self._blob}: cannot be read ({error.strerror or error})") from None

    def whole(self) -> np.ndarray:
        """Crops of all frames, (F, H, W, 3) uint8 RGB, black where there is no face."""
        crops = np.zeros((len(self), *self.size_hw, 3), np.uint8)
        valid = np.flatnonzero(self.valid)
        crops[valid] = self.read(valid)
        return crops

    def each(self, size: SizeHW | None = None) -> Iterator[np.ndarray]:
        """The same one after the other, (H, W, 3) at the size of `read`: of a long clip no more than one is held."""
        size = size or self.size_hw
        crops, blank = self._each(np.flatnonzero(self.valid), size), np.zeros((*size, 3), np.uint8)
        for valid in self.valid:
            yield next(crops) if valid else blank

    def _decode(self, data: bytes, index: int, size: SizeHW) -> np.ndarray:
        try:
            return decode(data, "png" if self.storage == "png" else "jpeg", self.size_hw, size)
        except ValueError:
            damaged = f"{self._blob}: face {index} is damaged; delete the file and preprocess again"
            raise DataError(damaged) from None

    @property
    def _blob(self) -> Path:
        """The file of the pictures."""
        return self.path / f"{self._stem}.{'npy' if self.storage == 'npy' else 'bin'}"

    def _read_meta(self, text: str) -> dict[str, Any]:
        try:
            meta = parse_json(text)
            _Meta.model_validate(meta)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"])) or "meta"
            raise DataError(f"{self._index}: unreadable ({where}: {problem['msg']}); {REMEDY}") from None
        except ValueError as error:
            raise DataError(f"{self._index}: unreadable ({error}); {REMEDY}") from None
        return meta

    def _check_boxes(self) -> None:
        """See that the boxes lie in or beside a frame of the given size, and that there are as many pictures.

        Raises:
            DataError: they do not: sketches are drawn, and pictures cut, at the size of the boxes.
        """
        height, width = self.frame_hw
        known = self.boxes[self.valid]
        far = (known < [-width, -height, -width, -height]) | (known > [2 * width, 2 * height, 2 * width, 2 * height])
        if far.any() or (known[:, :2] > known[:, 2:]).any():
            raise DataError(f"{self._index}: holds boxes that are none, or far outside the frame; {REMEDY}")
        if self.matrices is not None and not np.isfinite(self.matrices[self.valid]).all():
            raise DataError(f"{self._index}: frames with a face lack their matrix; {REMEDY}")
        if len(self.offsets) != len(self.boxes) + 1:
            raise DataError(f"{self._index}: {len(self.offsets) - 1} faces for {len(self.boxes)} boxes; {REMEDY}")

    def _check_pictures(self) -> Header | None:
        """See that the file of the pictures is as long as the index says; returns the header of an array.

        Raises:
            DataError: it is missing or shorter. Better now than when training first draws from its end.
        """
        blob = clip_file(self.path, self._blob.name)
        if self.storage == "npy":
            return npy_header(blob, Wanted("u", (len(self), *self.size_hw, 3)))
        first, last, size = int(self.offsets[0]), int(self.offsets[-1]), blob.stat().st_size
        if first < 0 or (np.diff(self.offsets) < 0).any():
            raise DataError(f"{self._index}: its offsets do not rise; {REMEDY}")
        if last > size:
            raise DataError(f"{blob}: ends at byte {size:,}, its index at {last:,}; delete both and preprocess again")
        return None

    def _checked(self, index: int) -> int:
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(f"face {index} of {len(self)}")
        if not self.valid[index]:
            raise DataError(f"{self.path}: frame {index} has no face; skip it (see FaceStore.valid)")
        return index


class FaceWriter:
    """Writes a `FaceStore` into a folder, one crop after the other."""

    def __init__(self, folder: Path, key: str, storage: Storage = "jpeg", quality: int = 95):
        self.folder, self.key, self.storage, self.quality = Path(folder), key, storage, quality
        self.files = (f"{key}.npz", f"{key}.npy" if storage == "npy" else f"{key}.bin")
        self._parts: list[bytes] = []
        self._faces: list[np.ndarray | None] = []

    def add(self, face: np.ndarray | None) -> None:
        """Add the crop (H, W, 3) uint8 RGB of the next frame, None when it has no face."""
        if self.storage == "npy":
            self._faces.append(face)
        else:
            self._parts.append(b"" if face is None else self._encoded(face))

    def _encoded(self, face: np.ndarray) -> bytes:
        return encode_png(face) if self.storage == "png" else encode_jpeg(face, self.quality)

    def close(
        self,
        boxes: np.ndarray,
        meta: dict[str, Any],
        found: np.ndarray | None = None,
        matrices: np.ndarray | None = None,
    ) -> tuple[str, ...]:
        """Write the files; returns their names.

        Args:
            boxes: (F, 4) float32, NaN where a frame has no face.
            meta: recorded with the crops; must hold `size` (of square ones) or `size_hw`, and `frame_hw`.
            found: (F,) bool, frames whose face was detected, where that is known.
            matrices: (F, 2, 3) from source to crop, where crops are not their boxes; see `faces.affine.frame_boxes`.
        """
        count = len(self._faces) or len(self._parts)
        if count != len(boxes):
            raise ValueError(f"{count} faces for {len(boxes)} boxes")
        lengths = [len(part) for part in self._parts] or [0] * count
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if self.storage != "npy":
            (self.folder / self.files[1]).write_bytes(b"".join(self._parts))
        else:
            blank = np.zeros((*(meta.get("size_hw") or (meta["size"], meta["size"])), 3), np.uint8)
            np.save(self.folder / self.files[1], np.stack([blank if f is None else f for f in self._faces]))
        described = np.array(json.dumps({**meta, "storage": self.storage}, sort_keys=True))
        known = {"found": found, "matrices": matrices}
        known = {name: values for name, values in known.items() if values is not None}
        np.savez(self.folder / self.files[0], boxes=boxes.astype(np.float32), offsets=offsets, meta=described, **known)
        return self.files
