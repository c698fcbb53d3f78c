"""IPLAP's data: which windows and references are drawn, and what an item holds."""

from __future__ import annotations

import os

import numpy as np
import pytest
from torch.utils.data import default_collate

from helpers.drawn_clips import make_clip
from talkingface.clips.folder import ClipFolder
from talkingface.clips.windows import window_starts
from talkingface.errors import DataError
from talkingface.faces.crop import CropConfig
from talkingface.faces.track import LandmarkTrack
from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.iplap.data import POSE, LandmarkWindows, RenderWindows, pick_references, sounding_starts
from talkingface.models.iplap.points import clip_points
from talkingface.sound.mel import mel_windows

CONFIG = IPLAPConfig(crop=CropConfig(size=32, margin_mode="relative", margin=0.05))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    return [make_clip(root, "a/0", 40), make_clip(root, "a/1", 33, phase=0.4), make_clip(root, "b/0", 50, gone=(20,))]


def landmark_windows(clips, split="train", **options) -> LandmarkWindows:
    return LandmarkWindows(clips, split, {"references": 4, **options}, CONFIG, 3)


def render_windows(clips, split="train", **options) -> RenderWindows:
    return RenderWindows(clips, split, {"references": 3, **options}, CONFIG, 3)


def test_published_range_of_windows():
    starts = sounding_starts(window_starts(np.ones(50, bool), 5, context=2), 5, 80 * 2 + 1, 25.0)  # 50 frames
    assert starts[0] == 2 and starts[-1] == 50 - 5 - 2  # [2, F - T - 2], both included
    short = sounding_starts(window_starts(np.ones(30, bool), 5, context=2), 5, 40, 25.0)
    assert short.max() == 5  # frame 10 reads columns 25 to 40


def test_references_are_distinct_and_outside_the_window():
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = pick_references(np.ones(20, bool), 6, 5, 15, rng)
        assert len(set(drawn)) == 15 and not set(drawn) & set(range(6, 11))
    assert set(pick_references(np.ones(8, bool), 1, 5, 10, rng)) <= {0, 6, 7}  # too few: they repeat


def test_landmark_item_is_what_the_clip_holds(clips):
    data = landmark_windows(clips[:1])
    item = data[7]
    shapes = {name: value.shape for name, value in item.items()}
    assert shapes == {
        "mels": (5, 1, 80, 16),
        "pose": (5, 2, 74),
        "content": (5, 2, 57),
        "reference_pose": (4, 2, 74),
        "reference_content": (4, 2, 57),
    }
    points = clip_points(clips[0].track(), CONFIG.crop)
    start = next(s for s in range(40 - 4) if np.array_equal(points.relative[s : s + 5][..., POSE:], item["content"]))
    np.testing.assert_array_equal(points.relative[start : start + 5][..., :POSE], item["pose"])
    np.testing.assert_array_equal(mel_windows(clips[0].mel(), range(start, start + 5)), item["mels"][:, 0])
    for content in item["reference_content"]:
        frame = next(f for f in range(40) if np.array_equal(points.relative[f][..., POSE:], content))
        assert not start <= frame < start + 5


def test_a_batch_equals_its_items(clips):
    data = landmark_windows(clips)
    keys = [0, 5, 31, 4, 100]
    batch = default_collate(data.__getitems__(keys))
    for row, key in enumerate(keys):
        for name, value in data[key].items():
            np.testing.assert_array_equal(batch[name][row].numpy(), value)


@pytest.mark.parametrize("make", [landmark_windows, render_windows])
def test_items_depend_on_seed_and_key_alone(clips, make):
    first, second = make(clips), make(clips)
    _ = second[9]
    for name, value in first[4].items():
        np.testing.assert_array_equal(value, second[4][name])
    epoch = len(first)
    assert any(not np.array_equal(value, first[4 + epoch][name]) for name, value in first[4].items())
    held_out = make(clips, "val", val_windows=2)
    assert len(held_out) == 6
    for name, value in held_out[1].items():
        np.testing.assert_array_equal(value, make(clips, "val", val_windows=2)[1][name])


def test_render_item_shows_the_target_and_other_frames(clips):
    data = render_windows(clips[:1], repeats=40)
    faces = clips[0].faces(CONFIG.crop.artefact)
    points = clip_points(clips[0].track(), CONFIG.crop)
    for key in range(8):
        item = data[key]
        assert item["target"].shape == (32, 32, 3) and item["references"].shape == (3, 32, 32, 3)
        assert item["sketches"].shape == (5, 32, 32) and item["reference_sketches"].shape == (3, 32, 32)
        assert item["target"].dtype == item["sketches"].dtype == np.uint8 and item["sketches"].max() == 224
        middle = next(f for f in range(40) if np.array_equal(points.relative[f][:, -40:], item["lips"]))
        np.testing.assert_array_equal(faces[middle], item["target"])
        np.testing.assert_array_equal(mel_windows(clips[0].mel(), [middle])[0], item["mel"][0])


def test_target_may_be_a_reference_only_when_asked(clips):
    def leaks(**options) -> int:
        data = render_windows(clips[:1], repeats=60, references=8, **options)
        items = (data[key] for key in range(60))
        return sum(any(np.array_equal(item["target"], r) for r in item["references"]) for item in items)

    assert leaks() == 0
    assert leaks(exclude_target_from_refs=False) > 0


def test_clips_that_cannot_serve_are_named(tmp_path, clips):
    bad = make_clip(tmp_path, "c/0", 30, gone=tuple(range(0, 30, 4)))
    for make in (landmark_windows, render_windows):
        data = make([*clips, bad], min_frames=10)
        assert [clip.clip_id for clip in data.clips] == ["a/0", "a/1", "b/0"]
        assert data.rejected[0][0] == "c/0" and "consecutive frames" in data.rejected[0][1]
        with pytest.raises(DataError, match="none of 1 clips can be used: 1 x shorter than 45 frames"):
            make([bad], min_frames=45)


@pytest.mark.parametrize("change", [{"margin": 0.4}, {"size": 64}, {"box": "fixed"}])
@pytest.mark.parametrize("kind", [LandmarkWindows, RenderWindows])
def test_faces_cut_for_other_settings_are_refused(tmp_path, kind, change):
    clip = make_clip(tmp_path, "a/0", 40, CONFIG.crop)
    assert len(kind([clip], "train", {}, CONFIG, 0)) == 1
    wanted = IPLAPConfig(crop=CONFIG.crop.model_copy(update=change))
    ((name, value),), old = change.items(), CONFIG.crop.model_dump()
    reason = f"faces were cut with {name} {old[name]}, the model wants {name} {value}; run preprocess"
    with pytest.raises(DataError, match=f"none of 1 clips can be used: 1 x {reason}"):
        kind([clip], "train", {}, wanted, 0)


@pytest.mark.parametrize("box", ["frame", "fixed"])
def test_a_second_start_reads_the_small_file_and_gives_the_same(tmp_path, monkeypatch, box):
    crop = CONFIG.crop.model_copy(update={"box": box})
    config = IPLAPConfig(crop=crop)
    clips = [make_clip(tmp_path, "a/0", 40, crop, gone=(20,)), make_clip(tmp_path, "a/1", 33, crop)]
    kinds = (LandmarkWindows, RenderWindows)
    first = [kind(clips, "train", {}, config, 3)[5] for kind in kinds]
    stored, mesh = (clips[0].path / name for name in ("landmarks131.npz", "landmarks.npz"))
    assert stored.stat().st_size < mesh.stat().st_size / 3
    assert not list(clips[0].path.glob("*.tmp"))
    monkeypatch.setattr(LandmarkTrack, "load", lambda path: pytest.fail("the whole mesh is read again"))
    second = [kind(clips, "train", {}, config, 3)[5] for kind in kinds]
    for before, after in zip(first, second, strict=True):
        for name, value in before.items():
            np.testing.assert_array_equal(value, after[name])


def test_the_small_file_follows_the_landmarks(tmp_path):
    clip = make_clip(tmp_path, "a/0", 40)
    before = LandmarkWindows([clip], "train", {}, CONFIG, 3)[5]
    track = clip.track()
    track.points_px[..., 0] = track.size[1] - track.points_px[..., 0]
    track.save(clip.path / "landmarks.npz")
    os.utime(clip.path / "landmarks.npz", (1, 1))  # the size is the same, the clock may be coarse
    after = LandmarkWindows([clip], "train", {}, CONFIG, 3)[5]
    np.testing.assert_allclose(after["pose"][:, 0], 1 - before["pose"][:, 0], atol=1e-5)
    whole = (clip.path / "landmarks131.npz").read_bytes()
    (clip.path / "landmarks131.npz").write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(LandmarkWindows([clip], "train", {}, CONFIG, 3)[5]["pose"], after["pose"])


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path, monkeypatch):
    clip = make_clip(tmp_path, "a/0", 40)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.replace", refuse)
    assert len(LandmarkWindows([clip], "train", {}, CONFIG, 3)) == 1
    assert sorted(p.name for p in clip.path.iterdir() if "131" in p.name) == []


def test_faces_of_clips_seen_lately_stay_in_memory(tmp_path, monkeypatch):
    clips = [make_clip(tmp_path, f"a/{k}", 40) for k in range(3)]
    data = RenderWindows(clips, "val", {}, CONFIG, 3)
    read = []
    monkeypatch.setattr(ClipFolder, "mel", lambda clip: read.append(clip.clip_id) or np.zeros((80, 140), np.float32))
    for key in (0, 1, 0, 1, 2):
        data[key]
    assert read == ["a/0", "a/1", "a/2"]


def test_other_landmarks_are_refused(clips):
    track = clips[0].track()
    track.layout, track.provider = "ibug68", "face_alignment"
    with pytest.raises(DataError, match="needs face-mesh landmarks"):
        clip_points(track, CONFIG.crop)


def test_a_second_start_of_the_landmark_stage_opens_no_clip(tmp_path, monkeypatch):
    clips = [make_clip(tmp_path, "a/0", 40, gone=(20,)), make_clip(tmp_path, "a/1", 33), make_clip(tmp_path, "b/0", 9)]
    first = landmark_windows(clips)
    for name in ("mel", "track", "faces", "lacks_crops"):
        monkeypatch.setattr(ClipFolder, name, lambda *_: pytest.fail("a clip is opened"))
    second = landmark_windows(clips)
    assert first.rejected == second.rejected == [("b/0", "shorter than 25 frames")]
    for before, after in zip(first.__getitems__(range(4)), second.__getitems__(range(4)), strict=True):
        for name, value in before.items():
            np.testing.assert_array_equal(value, after[name])


def test_the_mean_of_the_mouths_adds_in_the_order_of_the_frames(clips):
    frames = [clip_points(clip.track(), CONFIG.crop) for clip in clips]
    whole = np.concatenate([points.relative[points.valid] for points in frames])[..., POSE:]
    np.testing.assert_array_equal(landmark_windows(clips).mean_content(), whole.mean(axis=0))
