"""MakeItTalk's landmarks: between pixels and its space, the mouth, motion over time, drawings."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from talkingface.faces.ibug68 import EYE_CORNERS, eye_distances
from talkingface.faces.rigid import register
from talkingface.models.makeittalk.drawing import draw_landmarks
from talkingface.models.makeittalk.motion import (
    PUBLISHED_AMPLITUDES,
    amplified,
    blink_centres,
    blinking,
    calibrated,
    combined,
    smoothed,
)
from talkingface.models.makeittalk.mouth import close_portrait, uncross_lips
from talkingface.models.makeittalk.space import PHOTO_DEPTH, Placement

from .conftest import VECTORS, Vector

EXACT = 1e-6  # of float64 functions


@pytest.fixture(scope="module")
def canonical():
    """The published mean face, which has no salt."""
    path = VECTORS / "makeittalk" / "constants.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is absent: it is not part of source distributions, its licence is CC BY-NC 4.0")
    return np.array(Vector(path)["std_face"])


@pytest.fixture(scope="module")
def faces(vector, canonical):
    """The vector, the portrait in pixels, its placement, and the moving faces (200, 68, 3)."""
    v = vector("makeittalk", "landmark_processing")
    face = canonical * 60 + np.array([128, 110, 0]) + 2 * v.input("face_jitter")
    placement = Placement.of(face)
    still = placement.normalise(face, PHOTO_DEPTH * canonical[:, 2])
    moving = still + 0.02 * v.input("motion").reshape(-1, 68, 3).astype(np.float64)
    moving[:, 61:64, 1] += 0.03 * np.sin(np.arange(len(moving)) / 7)[:, None]
    return v, face, placement, still, moving


def flat(points):
    return points.reshape(len(points), -1)


def test_the_made_faces_are_those_of_the_vector(faces):
    v, face, _, _, moving = faces
    v.check("face", face, EXACT)
    v.check("frames", flat(moving), EXACT)


def test_between_pixels_and_the_space_of_the_networks(faces):
    v, _, placement, still, moving = faces
    v.check("normalise(face)", still, EXACT)
    assert placement.scale == pytest.approx(v.outputs["normalise_scale"], rel=EXACT)
    assert placement.shift == pytest.approx(v.outputs["normalise_shift"], rel=EXACT)
    v.check("denormalise(frames)", placement.denormalise(moving), EXACT)


def test_registration(faces, canonical):
    v, face, *_ = faces
    registered, transform = register(face / 60, canonical)
    v.check("register(face/60 -> STD_FACE)", registered, EXACT)
    v.check("register_transform", transform, EXACT)


def test_mouths(faces):
    v, face, _, _, moving = faces
    v.check("close_input_mouth(face)", close_portrait(face), EXACT)
    v.check("inverse_lip_fix(frames)", flat(uncross_lips(moving)), EXACT)


def test_displacements_of_both_branches(faces):
    v = faces[0]
    motion = 0.02 * v.input("motion")
    v.check(
        "calibrate_and_amplify(0.02*motion, amp_lip 2,2)", amplified(calibrated(motion), PUBLISHED_AMPLITUDES), EXACT
    )
    head, content = 0.05 * v.input("pose_disp"), 0.02 * v.input("content_disp")
    both = combined(head, content, PUBLISHED_AMPLITUDES, calibrate=True)
    v.check("combine(pose,content, amp_pos .5, amp_lip 2,2)", both, 1e-5)


def test_blinks_and_smoothing(faces):
    v, *_, moving = faces
    centres = blink_centres(len(moving))
    assert centres == v.outputs["blink_centres"]
    v.check("naive_eye(frames, numpy legacy seed 0)", blinking(moving, centres), EXACT)
    v.check("final_smooth(frames; 15/5)", smoothed(flat(moving)), EXACT)


@pytest.mark.parametrize("count", [68, 74, 98])
def test_drawings_are_the_published_ones_to_the_last_pixel(vector, count):
    v = vector("makeittalk", "landmark_drawing")
    points = np.trunc(v.input(f"landmarks{count}") * 200.0 + 28)
    drawing = draw_landmarks(points)
    stored = v.outputs[f"image{count}"]
    v.check(f"image{count}", drawing / 255, 1e-8)
    assert zlib.crc32(drawing.tobytes()) == stored["crc32_uint8"]
    colours, numbers = np.unique(drawing.reshape(-1, 3), axis=0, return_counts=True)
    assert stored["pixels_per_bgr"] == {",".join(map(str, c)): int(n) for c, n in zip(colours, numbers, strict=True)}


def test_the_published_mean_face_is_upright_and_of_unit_size(canonical):
    right, left = canonical[list(EYE_CORNERS)]
    assert (right[0], left[0]) == (-0.5, 0.5) and eye_distances(canonical) == pytest.approx(1, abs=1e-3)
    registered, transform = register(canonical, canonical)
    np.testing.assert_allclose(registered, canonical, atol=1e-12)
    np.testing.assert_allclose(transform, np.eye(4), atol=1e-12)
