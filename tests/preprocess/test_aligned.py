"""Crops with a matrix as an artefact: each is what its matrix cuts, pasting it back restores the frame."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.clips import face_frames
from helpers.preparing import item, run, steps_with
from helpers.toy_tracks import face, track
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import PreprocessConfig
from talkingface.faces.affine import mapped, paste_by_matrix
from talkingface.faces.dubbing_crop import FITTED, frontal_template
from talkingface.lipsync.dubbing import config
from talkingface.lipsync.dubbing.config import DubbingCropConfig

SETTINGS = PreprocessConfig(workers=0, storage="npy", max_missing=0.5)


def prepared(videos, root, crop: DubbingCropConfig):
    report = run([item(videos["good"])], root, (crop.artefact,), SETTINGS, **{crop.artefact: crop.model_dump()})
    return report, ClipFolder(root / "s/1")


def test_frontal_crops_show_the_face_where_the_template_has_it_and_paste_back(videos, tmp_path):
    crop = DubbingCropConfig(width=160)
    report, clip = prepared(videos, tmp_path, crop)
    assert report.ok_ids == ["s/1"] and crop.artefact == "aligned@160-frontal-1.6-1" and crop.mouth == 128
    faces, found = clip.faces(crop.artefact), clip.track()
    assert faces.size_hw == (208, 160) and crop.differs_from(faces.meta) is None
    np.testing.assert_array_equal(faces.valid, found.valid)
    np.testing.assert_array_equal(faces.found, found.found)
    k = int(np.flatnonzero(found.found)[0])
    points = mapped(found.ibug68()[k].astype(np.float64), faces.matrices[k])[list(FITTED)]
    wanted = frontal_template() * 80 + [80, 104]
    assert np.linalg.norm(points - wanted, axis=1).mean() < 8
    frame = face_frames(12)[k]
    pasted = paste_by_matrix(frame, faces[k], faces.matrices[k], np.ones(faces.size_hw))
    assert np.abs(pasted.astype(int) - frame).mean() < 6
    assert prepared(videos, tmp_path, crop)[0].made == 0


def test_upright_crops_have_one_size_and_no_turn(videos, tmp_path):
    crop = DubbingCropConfig(kind="upright", width=80, smooth=0)
    _, clip = prepared(videos, tmp_path, crop)
    assert crop.artefact == "aligned@80-upright-1.05-0"
    matrices = clip.faces(crop.artefact).matrices
    turns = matrices[np.isfinite(matrices).all(axis=(1, 2)), :, :2]
    np.testing.assert_allclose(turns, np.broadcast_to(turns[0, 0, 0] * np.eye(2), turns.shape))


def test_other_settings_are_other_files_and_are_named(videos, tmp_path):
    crop = DubbingCropConfig(width=80, half_pixel=True)
    assert crop.artefact != DubbingCropConfig(width=80).artefact
    reason = DubbingCropConfig(width=80).differs_from(crop.model_dump())
    assert reason == "faces were cut with half_pixel True, the model wants half_pixel False; run preprocess"


def test_landmarks_are_smoothed_within_runs_alone(videos, tmp_path):
    from talkingface.faces.smoothing import smooth_runs

    rows = np.random.default_rng(0).normal(size=(20, 3))
    valid = np.arange(20) != 9
    smooth = smooth_runs(rows, valid, 1.0)
    np.testing.assert_array_equal(smooth[9], rows[9])
    alone = smooth_runs(rows[10:], valid[10:], 1.0)
    np.testing.assert_array_equal(smooth[10:], alone)
    assert np.abs(np.diff(smooth[:9], axis=0)).mean() < np.abs(np.diff(rows[:9], axis=0)).mean()
    np.testing.assert_array_equal(smooth_runs(rows, valid, 0.0), rows)


def two_shots(shift, grown=1.0):
    """A track of a face that trembles, and is elsewhere or of another size from frame 10 on."""
    rng = np.random.default_rng(0)
    faces = [face() + rng.normal(0, 0.5, 2) for _ in range(10)]
    return track([*faces, *(grown * each + shift for each in faces)], size=(300, 300))


@pytest.mark.parametrize("other", [two_shots([0, 25]), two_shots([-40, 0]), two_shots([0, 0], grown=1.4)])
@pytest.mark.parametrize("smooth", [1.0, 0.0])
def test_landmarks_are_not_smoothed_over_a_cut(other, smooth):
    crop = DubbingCropConfig(width=80, smooth=smooth)
    shots = [track(other.points_px[part], size=other.size) for part in (slice(10), slice(10, 20))]
    np.testing.assert_allclose(crop.matrices(other), np.concatenate([crop.matrices(shot) for shot in shots]))
    assert crop.smooths_over_cuts(other) == bool(smooth)
    assert not crop.smooths_over_cuts(shots[0])


def test_a_face_that_moves_fast_or_is_gone_for_a_while_is_smoothed_as_before():
    moving = track([face(opening=k % 10, shift=(10 * k, 0)) for k in range(20)], found=np.arange(20) != 9)
    assert not DubbingCropConfig().smooths_over_cuts(moving)


def test_crops_of_before_serve_where_the_face_does_not_jump(videos, tmp_path):
    crop = DubbingCropConfig(width=80)
    clip = prepared(videos, tmp_path, crop)[1]
    step = steps_with((crop.artefact,), SETTINGS, **{crop.artefact: crop.model_dump()})[-1]
    assert step.version == 2 and step.former() == [(1, step.params)] and step.still_right(clip)
    two_shots([0, 25]).save(clip.path / "landmarks.npz")
    clip.meta["frames"] = 20
    assert not step.still_right(clip)


def test_frames_of_published_blocks_without_room_have_no_crop(videos, tmp_path, monkeypatch):
    crop = DubbingCropConfig(kind="upright", width=80, smooth=0, blocks=True)
    whole = config.block_matrices

    def without_the_first(points, width, frame_hw):
        matrices = whole(points, width, frame_hw)
        matrices[:9] = np.nan
        return matrices

    monkeypatch.setattr(config, "block_matrices", without_the_first)
    report, clip = prepared(videos, tmp_path, crop)
    assert crop.artefact == "aligned@80-upright-1.05-0-blocks" and not crop.steady().blocks
    assert report.ok_ids == ["s/1"]
    assert np.flatnonzero(clip.faces(crop.artefact).valid).tolist() == [9, 10, 11]
    monkeypatch.setattr(config, "block_matrices", lambda points, *_: np.full((len(points), 2, 3), np.nan))
    told = "no frame has a face that a crop can be cut around"
    assert prepared(videos, tmp_path / "none", crop)[0].rejected["s/1"] == told
    with pytest.raises(ValueError, match="blocks goes with model.crop.kind=upright"):
        DubbingCropConfig(blocks=True)
