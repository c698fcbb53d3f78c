"""Landmarks of a clip in the canonical space, and head crops."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.canonical_faces import CENTRE, HEIGHT, SCALE, WIDTH, faces_3d, track_of
from helpers.preparing import item
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import PreprocessConfig
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.clip_faces import canonical_faces, crop_head, face_height, head_box
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.prepare import Preprocessor


def made(faces, **track):
    return canonical_faces(track_of(faces, **track), canonical_face(), 1, 5)


def test_registered_faces_lose_the_motion_of_the_head_and_keep_that_of_the_mouth():
    still, swaying = faces_3d(30, moving=False), faces_3d(30, moving=True)
    registered = made(swaying)[:, 0]
    expected = (still - np.array([*CENTRE, 0])) / SCALE
    np.testing.assert_allclose(registered, expected, atol=2e-3)
    assert np.ptp(registered[:, 66, 1]) > 0.1


def test_centred_faces_keep_the_motion_of_the_head():
    moving = made(faces_3d(30, moving=True))[:, 1]
    assert np.ptp(moving[:, 30, 0]) > 0.05
    resting = made(faces_3d(30, moving=False))[:, 1]
    np.testing.assert_allclose(resting[:, 27:48], np.broadcast_to(canonical_face()[27:48], (30, 21, 3)), atol=1e-5)


def test_the_size_of_the_video_does_not_matter_and_flat_landmarks_borrow_their_depth():
    faces = faces_3d(12, moving=False)
    large = faces * 3
    np.testing.assert_allclose(made(faces), made(large), atol=1e-4)
    flat = canonical_faces(track_of(faces, depth=False), canonical_face(), 1, 5)
    np.testing.assert_allclose(flat, made(faces), atol=1e-4)


def test_gaps_of_five_frames_are_filled_and_longer_ones_are_not():
    faces = faces_3d(40)
    five, six = made(faces, gone=tuple(range(10, 15))), made(faces, gone=tuple(range(10, 16)))
    assert np.isfinite(five).all()
    assert np.isnan(six[10:16]).all() and np.isfinite(six[:10]).all() and np.isfinite(six[16:]).all()


def test_a_head_crop_is_a_square_that_goes_on_beyond_the_frame():
    faces = faces_3d(5)[..., :2]
    box = head_box(faces)
    side = box[2] - box[0]
    assert side == pytest.approx(box[3] - box[1]) and side == pytest.approx(1.7 * face_height(faces[0]), rel=0.05)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[0] = 200  # the row at the edge
    crop = crop_head(frame, np.array([0.0, -20.0, 64.0, 44.0]), 64)
    assert (crop[:20] == 200).all() and (crop[22:] == 0).all()


def test_large_heads_are_averaged_down():
    frame = np.zeros((256, 256, 3), np.uint8)
    frame[::2] = 255
    assert 100 < crop_head(frame, np.array([0.0, 0.0, 256.0, 256.0]), 64)[10:50].mean() < 155


def test_the_steps_write_what_the_model_reads(tmp_path):
    pytest.importorskip("mediapipe")
    from helpers.clips import face_frames, write_clip

    video = write_clip(tmp_path / "good.mp4", face_frames(12))
    settings = PreprocessConfig(workers=0)
    steps = plan_steps(["faces68", "heads@48"], {"heads@48": {"size": 48}}, settings)
    assert Preprocessor(steps, settings, tmp_path / "c", progress=False).run([item(video)]).ok_ids == ["s/1"]
    clip = ClipFolder(tmp_path / "c/s/1")
    faces, heads = clip.array("faces68"), clip.faces("heads@48")
    assert faces.shape == (12, 2, 68, 3) and np.isfinite(faces).all()
    assert np.abs(faces[:, 0, 36:48] - canonical_face()[36:48]).max() < 0.2, "eyes lie on the canonical ones"
    assert heads[0].shape == (48, 48, 3) and (heads.boxes == heads.boxes[0]).all()
