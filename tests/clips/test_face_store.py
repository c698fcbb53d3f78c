"""Crops that are not square, with a matrix each, read at the size that is wanted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from talkingface.clips.face_store import FaceStore, FaceWriter
from talkingface.errors import DataError

SIZE = (208, 160)
GAP = 1


def picture(shift: int) -> np.ndarray:
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / 160
    rgb = np.stack([x / 2, y / 2, 0.5 + 0.5 * np.sin(9 * x + 7 * y + shift)], axis=-1)
    return (255 * rgb).astype(np.uint8)


def matrices(count: int = 3) -> np.ndarray:
    each = np.random.default_rng(0).normal(size=(count, 2, 3))
    each[GAP] = np.nan
    return each


def store(folder, storage: str = "jpeg", given: np.ndarray | None = None) -> FaceStore:
    boxes = np.tile(np.array([1, 2, 50, 60], np.float32), (3, 1))
    boxes[GAP] = np.nan
    writer = FaceWriter(folder, "faces", storage)
    for number in range(3):
        writer.add(None if number == GAP else picture(number))
    meta = {"size_hw": list(SIZE), "frame_hw": [100, 120]}
    writer.close(boxes, meta, matrices=matrices() if given is None else given)
    return FaceStore(folder)


@pytest.mark.parametrize("storage", ["jpeg", "png", "npy"])
def test_crops_that_are_not_square_come_back_with_their_matrices(tmp_path, storage):
    faces = store(tmp_path, storage)
    assert faces.size_hw == SIZE and faces[2].shape == (*SIZE, 3)
    assert np.abs(faces[2].astype(int) - picture(2)).max() <= (12 if storage == "jpeg" else 0)
    np.testing.assert_array_equal(faces.matrices, matrices())
    whole = faces.whole()
    assert whole.shape == (3, *SIZE, 3) and not whole[GAP].any()
    np.testing.assert_array_equal(list(faces.each()), whole)
    np.testing.assert_array_equal([*faces.each((52, 40))][2], faces.read([2], size=(52, 40))[0])
    with pytest.raises(DataError, match="160x208 and have no one side"):
        faces.size  # noqa: B018


@pytest.mark.parametrize("storage", ["jpeg", "png", "npy"])
@pytest.mark.parametrize("wanted", [(26, 20), (104, 80), (70, 50), (208, 160)])
def test_smaller_crops_are_means_over_areas(tmp_path, storage, wanted):
    faces = store(tmp_path, storage)
    small = faces.read([0, 2], size=wanted)
    assert small.shape == (2, *wanted, 3) and small.dtype == np.uint8
    for crop, shift in zip(small, (0, 2)):
        exact = cv2.resize(picture(shift), wanted[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(crop.astype(int) - exact).mean() < (1.5 if storage == "jpeg" else 0.01)


def test_larger_crops_are_interpolated(tmp_path):
    assert store(tmp_path).read([0], size=(416, 320)).shape == (1, 416, 320, 3)


@pytest.mark.parametrize(
    ("wanted", "factor"), [((26, 20), 8), ((27, 20), 4), ((104, 80), 2), ((105, 80), 1), (None, 1)]
)
def test_jpeg_pictures_are_decoded_no_larger_than_needed(tmp_path, monkeypatch, wanted, factor):
    faces, decoded = store(tmp_path), []
    original = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *args: decoded.append(original(*args)) or decoded[-1])
    faces.read([0], size=wanted)
    assert decoded[0].shape[:2] == (SIZE[0] // factor, SIZE[1] // factor)


def test_a_face_without_a_matrix_is_told(tmp_path):
    with pytest.raises(DataError, match=r"faces\.npz: frames with a face lack their matrix"):
        store(tmp_path, given=np.full((3, 2, 3), np.nan))


def test_stores_of_boxes_have_no_matrices_and_one_kind_of_size(tmp_path):
    writer = FaceWriter(tmp_path, "faces")
    writer.add(picture(0)[:160])
    writer.close(np.ones((1, 4), np.float32), {"size": 160, "frame_hw": [100, 120]})
    faces = FaceStore(tmp_path)
    assert faces.matrices is None and faces.size == 160 and faces.size_hw == (160, 160)
    writer.close(np.ones((1, 4), np.float32), {"size": 160, "size_hw": [160, 160], "frame_hw": [100, 120]})
    with pytest.raises(DataError, match="either size or size_hw"):
        FaceStore(tmp_path)
