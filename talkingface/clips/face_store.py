"""Packed face crops of a clip: one blob of JPEG pictures with an index (default), or one array."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from talkingface.errors import DataError


class FaceStore:
    """Face crops of a clip: packed JPEG pictures with an index, or one array.

    Attributes:
        boxes: (F, 4) float32 x1, y1, x2, y2 in pixels of the source; NaN where there is no face.
        valid: (F,) bool, frames that have a crop.
        meta: parameters the crops were made with (`size`, `margin`, `box`, ...) and `frame_hw`.
    """

    def __init__(self, folder: Path, key: str = "faces", index: Path | None = None):
        self.path = Path(folder)
        self.key = key
        path = index or self.path / f"{key}.npz"
        self._stem = path.stem  # of all its files; an artefact may lie under the name it had in an earlier version
        try:
            with np.load(path, allow_pickle=False) as stored:
                self.boxes: np.ndarray = stored["boxes"]
                self.offsets: np.ndarray = stored["offsets"]
                self.meta: dict[str, Any] = json.loads(str(stored["meta"]))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{path}: unreadable face index ({error}); delete it and preprocess again") from None
        self.valid: np.ndarray = np.isfinite(self.boxes).all(axis=1)
        self.storage: str = self.meta.get("storage", "jpeg")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.meta["size"])

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the source frames."""
        height, width = self.meta["frame_hw"]
        return int(height), int(width)

    def __getitem__(self, index: int) -> np.ndarray:
        """Crop of one frame, uint8 RGB (S, S, 3)."""
        return self.read([index])[0]

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """Crops of several frames, (n, S, S, 3) uint8 RGB."""
        wanted = [self._checked(int(i)) for i in indices]
        if self.storage == "npy":
            return np.ascontiguousarray(
                np.load(self.path / f"{self._stem}.npy", mmap_mode="r", allow_pickle=False)[wanted]
            )
        faces = np.empty((len(wanted), self.size, self.size, 3), np.uint8)
        # Opened per call, not kept: stores of 50 000 clips must not hold 50 000 handles, and pickle to loader workers.
        with (self.path / f"{self._stem}.bin").open("rb") as blob:
            for n, i in enumerate(wanted):
                blob.seek(int(self.offsets[i]))
                faces[n] = self._decode(blob.read(int(self.offsets[i + 1] - self.offsets[i])), i)
        return faces

    def whole(self) -> np.ndarray:
        """Crops of all frames, (F, S, S, 3) uint8 RGB, black where there is no face."""
        crops = np.zeros((len(self), self.size, self.size, 3), np.uint8)
        valid = np.flatnonzero(self.valid)
        crops[valid] = self.read(valid)
        return crops

    def _decode(self, data: bytes, index: int) -> np.ndarray:
        import cv2

        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if picture is None or picture.shape[:2] != (self.size, self.size):
            raise DataError(
                f"{self.path / self._stem}.bin: face {index} is damaged; delete the file and preprocess again"
            )
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def _checked(self, index: int) -> int:
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(f"face {index} of {len(self)}")
        if not self.valid[index]:
            raise DataError(f"{self.path}: frame {index} has no face; skip it (see FaceStore.valid)")
        return index


class FaceWriter:
    """Writes a `FaceStore` into a folder, one crop after the other."""

    def __init__(self, folder: Path, key: str, storage: Literal["jpeg", "npy"] = "jpeg", quality: int = 95):
        self.folder, self.key, self.storage, self.quality = Path(folder), key, storage, quality
        self.files = (f"{key}.npz", f"{key}.bin" if storage == "jpeg" else f"{key}.npy")
        self._parts: list[bytes] = []
        self._faces: list[np.ndarray | None] = []

    def add(self, face: np.ndarray | None) -> None:
        """Add the crop (S, S, 3) uint8 RGB of the next frame, None when it has no face."""
        if self.storage == "npy":
            self._faces.append(face)
        else:
            self._parts.append(b"" if face is None else encode_jpeg(face, self.quality))

    def close(self, boxes: np.ndarray, meta: dict[str, Any]) -> tuple[str, ...]:
        """Write the files; returns their names.

        Args:
            boxes: (F, 4) float32, NaN where a frame has no face.
            meta: recorded with the crops; must hold `size` and `frame_hw`.
        """
        count = len(self._faces) or len(self._parts)
        if count != len(boxes):
            raise ValueError(f"{count} faces for {len(boxes)} boxes")
        lengths = [len(part) for part in self._parts] or [0] * count
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if self.storage == "jpeg":
            (self.folder / self.files[1]).write_bytes(b"".join(self._parts))
        else:
            blank = np.zeros((meta["size"], meta["size"], 3), np.uint8)
            np.save(self.folder / self.files[1], np.stack([blank if f is None else f for f in self._faces]))
        described = np.array(json.dumps({**meta, "storage": self.storage}, sort_keys=True))
        np.savez(self.folder / self.files[0], boxes=boxes.astype(np.float32), offsets=offsets, meta=described)
        return self.files


def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
    """JPEG file of an RGB uint8 picture (H, W, 3)."""
    import cv2

    # 4:4:4: lips and teeth are small and coloured; subsampled chroma costs more there than the bytes it saves.
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DataError("a face crop could not be encoded as JPEG")
    return data.tobytes()
