"""Boxes, crops, the way back, masks."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.errors import DataError
from talkingface.faces import crop as face
from talkingface.faces import mesh as facemesh
from talkingface.faces.crop import CropConfig


def head(frames: int = 4, opening: float = 0.0, centre: tuple[float, float] = (100.0, 90.0)) -> np.ndarray:
    """A head of 478 points (F, 478, 2); the chin sinks by `opening` pixels in the last frame."""
    rng = np.random.default_rng(0)
    points = np.tile(rng.uniform(-20, 20, (1, facemesh.N_POINTS, 2)), (frames, 1, 1))
    points[:, facemesh.CHIN] = (0.0, 40.0)
    points[:, 70] = (-25.0, -30.0)
    points[:, 300] = (25.0, -30.0)
    points[-1, facemesh.CHIN, 1] += opening
    return (points + centre).astype(np.float32)


def test_box_is_the_used_points_plus_five_pixels():
    points = head()
    points[:, facemesh.FOREHEAD] = (100, 5)  # not one of the 131 points
    boxes = face.face_boxes(points, (200, 200), CropConfig())
    np.testing.assert_allclose(boxes[0], [100 - 25 - 5, 90 - 30 - 5, 100 + 25 + 5, 90 + 40 + 5], atol=1e-4)
    order = face.face_boxes(points[:, list(facemesh.IPLAP_ORDER)], (200, 200), CropConfig())
    np.testing.assert_array_equal(order, boxes)


def test_box_is_clamped_to_the_frame_and_nan_without_a_face():
    points = head(centre=(20.0, 180.0))
    points[1] = np.nan
    boxes = face.face_boxes(points, (200, 300), CropConfig())
    np.testing.assert_allclose(boxes[0], [0, 145, 50, 200], atol=1e-4)
    assert np.isnan(boxes[1]).all()


def test_relative_margin_scales_with_the_face():
    small, large = head(centre=(0, 0)) + 500, head(centre=(0, 0)) * 3 + 500
    crop = CropConfig(margin_mode="relative", margin=0.05)
    a, b = (face.face_boxes(points, (1000, 1000), crop)[0] for points in (small, large))
    np.testing.assert_allclose(b[2:] - b[:2], 3 * (a[2:] - a[:2]), rtol=1e-5)


def test_fixed_box_does_not_follow_the_chin_but_the_head():
    points = head(frames=50, opening=15.0)
    tight = face.face_boxes(points, (300, 300), CropConfig())
    fixed = face.face_boxes(points, (300, 300), CropConfig(box="fixed"))
    assert tight[-1, 3] - tight[0, 3] == pytest.approx(15)
    np.testing.assert_allclose(fixed[-1], fixed[0], atol=1e-3)
    moved = face.face_boxes(points + [7, -3], (300, 300), CropConfig(box="fixed"))
    np.testing.assert_allclose(moved - fixed, np.tile([7, -3, 7, -3], (50, 1)), atol=1e-3)
    np.testing.assert_allclose(face.face_boxes(points[:1], (300, 300), CropConfig(box="fixed")), tight[:1], atol=1e-3)


def test_relative_landmarks_times_the_box_are_the_pixels():
    points = head()
    boxes = face.face_boxes(points, (200, 200), CropConfig())
    relative = face.relative_landmarks(points, boxes)
    assert relative.shape == (4, 2, facemesh.N_POINTS) and relative.dtype == np.float32
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(relative.transpose(0, 2, 1) * sides[:, None] + boxes[:, None, :2], points, atol=1e-3)


def test_crop_names_what_differs_from_the_recorded_one():
    crop = CropConfig(size=64, margin_mode="relative", margin=0.4)
    assert crop.differs_from({**crop.model_dump(), "storage": "jpeg"}) is None
    assert crop.differs_from({"size": 64}) is None  # converted data do not know the rest
    reason = crop.differs_from({**crop.model_dump(), "margin": 0.05})
    assert reason == "faces were cut with margin 0.05, the model wants margin 0.4; run preprocess"


def test_crop_and_paste_return_the_frame():
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    box = np.array([30.7, 20.2, 94.9, 84.9])  # whole pixels 30:94, 20:84
    crop = face.crop_face(frame, box, 64)
    np.testing.assert_array_equal(crop, frame[20:84, 30:94])
    np.testing.assert_array_equal(face.paste_face(frame, crop, box), frame)
    changed = face.paste_face(frame, 255 - crop, box)
    outside = np.ones((120, 160), bool)
    outside[20:84, 30:94] = False
    np.testing.assert_array_equal(changed[outside], frame[outside])
    np.testing.assert_array_equal(changed[20:84, 30:94], 255 - frame[20:84, 30:94])


def test_resized_round_trip_loses_little():
    y, x = np.mgrid[0:120, 0:160]
    frame = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    box = (30.0, 20.0, 126.0, 100.0)
    back = face.paste_face(frame, face.crop_face(frame, box, 128), box)
    assert np.abs(back.astype(int) - frame).max() <= 2


def test_box_without_a_face_is_refused():
    with pytest.raises(DataError, match="without a face"):
        face.crop_face(np.zeros((10, 10, 3), np.uint8), np.full(4, np.nan), 16)


def test_box_outside_the_frame_still_has_a_pixel():
    assert face.box_pixels((300, 300, 310, 310), (100, 100)) == (99, 99, 100, 100)


def test_composite_copies_the_frame_where_the_mask_is_zero_and_rounds():
    rng = np.random.default_rng(2)
    frame, generated = rng.integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    mask = face.polygon_mask(np.array([[20, 10], [60, 10], [60, 50], [20, 50]]), (60, 80), (9, 3.0))
    mixed = face.composite(frame, generated, mask)
    np.testing.assert_array_equal(mixed[mask == 0], frame[mask == 0])
    np.testing.assert_array_equal(mixed[mask == 255], generated[mask == 255])
    weight = mask[..., None] / 255.0
    exact = generated * weight + frame * (1 - weight)
    assert np.abs(mixed - exact).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(face.composite(frame, generated, mask, truncate=True), exact.astype(np.uint8))


@pytest.mark.parametrize("corner", [(0, 0), (40, 30), (150, 110)])
def test_mask_drawn_in_part_equals_mask_drawn_whole(corner):
    cv2 = pytest.importorskip("cv2")
    contour = np.array([[0, 0], [50, 5], [45, 60], [10, 40]]) + corner
    whole = np.zeros((140, 180), np.uint8)
    cv2.fillPoly(whole, [contour.astype(np.int32)], 255)
    whole = cv2.GaussianBlur(whole, (21, 21), 11)
    np.testing.assert_array_equal(face.polygon_mask(contour, (140, 180)), whole)


def test_mask_of_a_face_outside_the_frame_is_empty():
    assert not face.polygon_mask(np.array([[300, 300], [310, 300], [310, 310]]), (100, 100)).any()


def test_contour_mask_needs_mesh_points_and_takes_fan_points():
    points = head()[0]
    assert face.contour_mask(points, (200, 200), blur=None).max() == 255
    assert face.contour_mask(points, (200, 200), kind="fan68").shape == (200, 200)
    with pytest.raises(DataError, match="fan68"):
        face.contour_mask(points[:68], (200, 200))


def test_crops_are_named_by_all_their_settings():
    settings = [
        {"size": 96},
        {"box": "fixed"},
        {"rule": "mesh"},
        {"margin_mode": "relative"},
        {"margin": 0.05},
        {"margin": 1e-5},
    ]
    crops = [CropConfig(**each) for each in ({}, *settings)]
    names = [crop.artefact for crop in crops]
    assert names[0] == "faces@128-frame-iplap-px-5" and len({name.lower() for name in names}) == len(settings) + 1
    assert [CropConfig.of_artefact(name) for name in names] == crops
    for other in ("faces", "faces@wav2lip", "mel@reflect", "faces@a-frame-mesh-px-5", "faces@96-oval-mesh-px-5"):
        assert CropConfig.of_artefact(other) is None
