"""Items of HyperLipsHR: single frames, their sketches and lip boxes; what is left out, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.clips.folder import ClipFolder
from talkingface.errors import DataError
from talkingface.faces.mesh import HYPERLIPS_LIPS
from talkingface.faces.smoothing import OneEuro
from talkingface.models.hyperlips_hr.data import DRAWN, Degradation, HRFrames, damaged
from talkingface.models.hyperlips_hr.features import crop_sides, sketched
from talkingface.models.hyperlips_hr.model import HyperLipsHR
from talkingface.models.hyperlips_hr.steps import lip_boxes

from .conftest import hr_clip, hr_config


def frames(clips, config, split="train", **options) -> HRFrames:
    return HRFrames(clips, split, options, config, 3)


def test_an_item_is_one_frame_of_all_that_belongs_to_it(clips, config):
    data, clip = frames(clips[1:], config), clips[1]
    item = data.item(clip, 7)
    np.testing.assert_array_equal(item["hyper"], clip.faces("hyper@raw")[7])
    np.testing.assert_array_equal(item["target"], clip.faces(config.hr_crop.artefact)[7])
    assert item["sketch"].shape == (32, 32) and set(np.unique(item["sketch"])) == {0, 255}
    assert item["boxes"].tolist() == np.floor(clip.array("lip_boxes@hr")[7] * 64).tolist()
    batch = data.collate([item, item])
    assert batch["hyper"].shape == (2, 32, 32, 3) and batch["boxes"].value.shape == (2, 4)


def test_lip_boxes_reach_from_the_first_to_the_last_point_of_the_outline():
    points = np.full((3, 478, 2), 0.5)
    points[0, HYPERLIPS_LIPS[0]], points[0, HYPERLIPS_LIPS[5]] = (0.25, 0.6), (0.75, 0.9)
    points[1] = np.nan
    points[2, list(HYPERLIPS_LIPS)] = (1.5, 0.5)  # wholly outside
    boxes = lip_boxes(points)
    np.testing.assert_allclose(boxes[0], [0.5, 0.9, 0.25, 0.75], atol=1e-6)
    assert np.isnan(boxes[1:]).all()


def test_a_frame_without_mesh_is_left_out_and_its_clip_stays(clips, config):
    data = frames(clips[:1], config)
    assert not {3, 4} & set(data.arrays(clips[0]).frames.tolist())
    assert len(data.arrays(clips[0]).frames) == 22
    blank = frames(clips[:1], hr_config(sketch={"style": "none"}))
    assert len(blank.arrays(clips[0]).frames) == 24 and not blank.item(clips[0], 3)["sketch"].any()


def test_parts_that_other_weights_made_are_refused_and_both_are_named(tmp_path):
    now = hr_config(base_weights="bbbb")
    clip = hr_clip(tmp_path, "a/0", now, weights="aaaa")
    with pytest.raises(DataError, match=r"hyper@raw was made by weights aaaa, the network now has bbbb; run preproc"):
        frames([clip], now)
    frames([hr_clip(tmp_path, "a/1", now, weights="bbbb")], now)


def test_sketches_in_training_are_those_of_the_smoothed_features(clips, config):
    rough, smooth = (
        frames(clips[1:], hr_config(sketch={"smooth": kind})).arrays(clips[1]).mesh["hyper@raw"]
        for kind in ("none", "one_euro")
    )
    stored = clips[1].array("hyper_mesh@raw")[:, DRAWN]
    np.testing.assert_array_equal(rough, stored)
    assert 0 < np.abs(smooth - stored).max() < 0.05
    np.testing.assert_array_equal(smooth[0], stored[0])


@pytest.mark.parametrize("style", ["unified", "upstream_train", "upstream_infer"])
def test_the_points_that_are_kept_are_all_that_sketches_show(clips, style):
    config = hr_config(sketch={"style": style, "smooth": "none"})
    side = float(crop_sides(clips[1].faces("hyper@raw").boxes[7:8])[0])
    expected = sketched(clips[1].array("hyper_mesh@raw")[7], style, 32, side)
    np.testing.assert_array_equal(frames(clips[1:], config).item(clips[1], 7)["sketch"], expected)


def test_damage_is_for_training_alone(clips, config):
    degrade = {"blur": 2.0, "noise": 10.0}
    clean = {clips[1].faces("hyper@raw")[k].tobytes() for k in range(24)}
    for split, touched in (("train", True), ("val", False)):
        data = frames(clips[1:], config, split, degrade=degrade, repeats=8, val_windows=8)
        seen = [data[k]["hyper"].tobytes() in clean for k in range(8)]
        assert (not any(seen)) if touched else all(seen)
    face = np.full((8, 8, 3), 100, np.uint8)
    assert damaged(face, Degradation(), np.random.default_rng(0)) is face


def test_how_good_base_is_does_not_depend_on_damage(clips, config):
    figures = []
    for degrade in ({}, {"blur": 2.0, "noise": 40.0}):
        data = {split: frames(clips[1:], config, split, degrade=degrade) for split in ("train", "val")}
        figures.append(HyperLipsHR(config).after_validation({}, None, data["train"], data["val"], None))
    assert figures[0] == figures[1] and figures[0]["base_l1_train"] > 0


def test_of_frames_all_parts_are_kept_or_none(clips, config):
    """Each kind of picture fits by itself here, both together do not: one would drive out the other."""
    kept = frames(clips, config, cache_mb=1)
    assert kept._frames_fit(64) and kept._frames_fit(32) and kept._keeps_crops(64)
    kept._frames = int(0.9 * 2**20 / (3 * 64**2))
    assert kept._frames_fit(64) and not kept._keeps_crops(64) and not kept._keeps_crops(32)


@pytest.fixture
def smoothed(monkeypatch):
    """Number of frames that were smoothed so far, in a list."""
    count, smooth = [0], OneEuro.__call__

    def counted(self, *args):
        count[0] += 1
        return smooth(self, *args)

    monkeypatch.setattr(OneEuro, "__call__", counted)
    return count


def test_features_are_smoothed_once_whatever_is_drawn_and_however_often_one_starts(tmp_path, config, smoothed):
    clips = [hr_clip(tmp_path, "a/0", config, unseen=(3, 4)), hr_clip(tmp_path, "a/1", config)]
    made = []
    for _ in range(2):
        data = frames(clips, config, repeats=10, cache_mb=0)  # nothing is kept from item to item
        made.append([data[key]["sketch"].tobytes() for key in range(20)])
        assert smoothed == [46]
    assert made[0] == made[1]


def test_a_later_start_opens_no_clip(tmp_path, config, monkeypatch):
    clips = [hr_clip(tmp_path, "a/0", config, unseen=range(24)), hr_clip(tmp_path, "a/1", config)]
    first = frames(clips, config)
    for name in ("array", "faces"):
        monkeypatch.setattr(ClipFolder, name, lambda *_: pytest.fail("opened"))
    second = frames(clips, config)
    assert second.rejected == first.rejected == [("a/0", "no frame with Base's face, its mesh and the lips")]


def test_every_way_of_smoothing_is_there_beside_the_others_without_preparing_again(tmp_path, smoothed):
    clip = hr_clip(tmp_path, "a/0", hr_config())
    before = {path: path.stat().st_mtime_ns for path in clip.path.iterdir()}
    ways = ({}, {"slowest": 0.5}, {"gain": 1.0}, {"smooth": "none"}, {"smooth": "none", "slowest": 0.5})

    def meshes():
        return [frames([clip], hr_config(sketch=way)).arrays(clip).mesh["hyper@raw"].copy() for way in ways]

    made = meshes()
    assert smoothed == [3 * 24] and before == {path: path.stat().st_mtime_ns for path in clip.path.iterdir()}
    np.testing.assert_array_equal(made, meshes())
    assert smoothed == [3 * 24]
    assert len({each.tobytes() for each in made}) == 4 and made[3].tobytes() == made[4].tobytes()


def test_features_that_were_found_anew_are_smoothed_anew(tmp_path, config, smoothed):
    clip = hr_clip(tmp_path, "a/0", config)
    frames([clip], config)
    points = clip.array("hyper_mesh@raw")
    points[0] = np.nan
    np.save(clip.path / "hyper_mesh@raw.npy", points)
    assert 0 not in frames([clip], config).arrays(clip).frames
    assert smoothed == [24 + 23]
