"""Windows of the lip-sync expert: what is cut out, which windows stand together, and what augmentation changes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.sync_clips import make_sync_clip
from talkingface.clips.folder import ClipFolder
from talkingface.clips.windows import known_columns
from talkingface.errors import DataError
from talkingface.lipsync.expert.data import (
    Change,
    SyncAugmentation,
    SyncWindows,
    draw_change,
    lower_half,
    spread_starts,
    sync_starts,
)
from talkingface.models.syncnet.model import SyncNetConfig
from talkingface.sound.mel import MelConfig, melspectrogram
from talkingface.sound.shift import move_sound

CONFIG = SyncNetConfig(crop={"size": 48, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"})
PLAIN = {"augment": None}


def windows(clips, split="train", seed=0, **options) -> SyncWindows:
    return SyncWindows(clips, split, {**PLAIN, **options}, CONFIG, seed)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_sync_clip(tmp_path_factory.mktemp("clips"), "one", 1, frames=60)


def test_a_window_is_five_lower_halves_and_the_sound_from_their_first_frame_on(clip):
    item = windows([clip])[3]
    assert item["faces"].shape == (8, 5, 24, 48, 3) and item["faces"].dtype == np.uint8
    assert item["mel"].shape == (8, 1, 80, 16) and item["mel"].dtype == np.float32
    crops, mel = clip.faces(CONFIG.crop.artefact).read(range(60)), clip.mel("mel@reflect")
    for number, start in enumerate(item["starts"]):
        np.testing.assert_array_equal(item["faces"][number], crops[start : start + 5, 24:])
        column = int(80 * start / 25)
        np.testing.assert_array_equal(item["mel"][number, 0], mel[:, column : column + 16])


def test_windows_have_a_face_and_sound_throughout(tmp_path):
    clip = make_sync_clip(tmp_path, "gaps", 2, frames=60, gone=(20, 41))
    starts = windows([clip]).source(clip).starts
    # Frame 56 would need columns 179 to 194 of 193.
    assert starts.tolist() == [*range(16), *range(21, 37), *range(42, 56)]
    assert sync_starts(np.ones(4, bool), 1000).tolist() == []
    assert sync_starts(np.ones(9, bool), 18).tolist() == [0]


@pytest.mark.parametrize(("moved", "rate"), [(3, 25.0), (5, 25.0), (-3, 25.0), (-4, 30.0), (0, 25.0)])
def test_columns_that_heard_the_silence_of_a_moved_sound_are_not_known(clip, moved, rate):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 60 * 640)
    repaired = move_sound(move_sound(sound, -moved, rate), moved, rate)
    true, heard = (melspectrogram(samples, MelConfig(pad_mode="reflect")) for samples in (sound, repaired))
    same = np.flatnonzero(np.isclose(true, heard, atol=1e-5).all(axis=0))
    assert list(known_columns(moved_clip(clip, moved, rate), true.shape[1])) == same.tolist()


def moved_clip(clip: ClipFolder, frames: int, rate: float = 25.0) -> ClipFolder:
    """The clip as if filter `sync` had moved its sound."""
    moved = ClipFolder(clip.path)
    moved.meta["steps"] |= {"audio": {"facts": {"moved_frames": frames}}, "sync": {"facts": {"fps": rate}}}
    return moved


def test_no_window_has_the_silence_of_a_moved_sound(clip):
    datasets = {moved: windows([moved_clip(clip, moved)]) for moved in (0, 5, -5)}
    starts = {moved: data.source(data.clips[0]).starts.tolist() for moved, data in datasets.items()}
    # Five frames are 16 columns, and the two beside them have heard the silence: columns 18 to 193, 0 to 175.
    assert starts == {0: list(range(56)), 5: list(range(6, 56)), -5: list(range(50))}


def test_items_follow_from_seed_and_key_and_held_out_windows_never_change(clip):
    same, other = windows([clip])[5], windows([clip], seed=1)[5]
    np.testing.assert_array_equal(windows([clip])[5]["starts"], same["starts"])
    assert not np.array_equal(other["starts"], same["starts"])
    assert not np.array_equal(windows([clip])[6]["starts"], same["starts"])
    held = windows([clip], "val", val_windows=2)
    np.testing.assert_array_equal(held[0]["starts"], held[2]["starts"])
    assert not np.array_equal(held[0]["starts"], held[1]["starts"])


def test_windows_of_an_item_keep_their_distance_as_far_as_the_clip_allows(clip, tmp_path):
    data = windows([clip], min_negative_shift=5)
    gaps = [np.diff(np.sort(data[key]["starts"])).min() for key in range(50)]
    assert min(gaps) == 5
    assert min(np.diff(np.sort(windows([clip])[key]["starts"])).min() for key in range(50)) == 1
    short = make_sync_clip(tmp_path, "short", 3, frames=24)
    gaps = [np.diff(np.sort(windows([short], min_negative_shift=9)[key]["starts"])).min() for key in range(20)]
    assert min(gaps) == 2  # 20 starts hold 8 windows at most 2 apart


def test_every_start_is_drawn_and_drawn_equally_often():
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([spread_starts(np.arange(10), 2, 1, rng) for _ in range(4000)]), minlength=10)
    assert counts.min() > 700 and counts.max() < 900


def test_hard_negatives_stand_two_to_eight_frames_beside_another_window(clip):
    def near(data):
        starts = [np.sort(data[key]["starts"]) for key in range(60)]
        return np.mean(
            [np.mean(np.abs(s[:, None] - s)[~np.eye(4, dtype=bool)].reshape(4, 3).min(1) <= 8) for s in starts]
        )

    plain, hard = (windows([clip], windows=4, min_negative_shift=2, hard_negatives=share) for share in (0.0, 0.5))
    assert near(hard) > near(plain) + 0.15
    distances = [np.diff(np.sort(hard[key]["starts"])).min() for key in range(60)]
    assert min(distances) >= 2 and max(distances) <= 8


def test_few_hard_negatives_are_drawn_as_often_as_asked_for(clip):
    options = {"min_negative_shift": 2, "hard_negatives": 0.1, "hard_range": (2, 2)}
    data = windows([clip], windows=2, **options)
    pairs = [data[key]["starts"] for key in range(500)]
    by_accident = 0.036
    share = np.mean([abs(int(a) - int(b)) == 2 for a, b in pairs])
    assert share == pytest.approx(0.2 + 0.8 * by_accident, abs=0.05)  # of two windows a tenth
    data = windows([clip], objective="published", **options)
    crops = clip.faces(CONFIG.crop.artefact).read(range(60))[:, 24:]
    others = [item for item in (data[key] for key in range(1000)) if not item["in_sync"][0]]
    distances = [
        abs(int(item["starts"][0]) - int(np.flatnonzero((crops == item["faces"][0, 0]).all(axis=(1, 2, 3)))[0]))
        for item in others
    ]
    assert np.mean(np.array(distances) == 2) == pytest.approx(0.1 + 0.9 * by_accident, abs=0.05)


def test_held_out_windows_are_the_same_whatever_the_negatives_of_the_training(clip):
    plain = windows([clip], "val")[0]["starts"]
    for options in ({"min_negative_shift": 6}, {"hard_negatives": 0.5}, {"objective": "published"}):
        np.testing.assert_array_equal(windows([clip], "val", **options)[0]["starts"], plain)


def test_published_items_are_one_sound_with_its_own_or_another_mouth_of_the_clip(clip):
    data = windows([clip], objective="published")
    crops = clip.faces(CONFIG.crop.artefact).read(range(60))[:, 24:]
    labels = []
    for key in range(200):
        item = data[key]
        assert item["faces"].shape == (1, 5, 24, 48, 3) and item["mel"].shape == (1, 1, 80, 16)
        start = int(item["starts"][0])
        assert np.array_equal(item["faces"][0], crops[start : start + 5]) == bool(item["in_sync"][0])
        labels.append(float(item["in_sync"][0]))
    assert 0.4 < np.mean(labels) < 0.6
    assert "in_sync" not in windows([clip], "val", objective="published")[0]  # all pairs of several windows


@pytest.mark.parametrize("cache", [0, 64])
def test_items_are_the_same_with_and_without_kept_crops(clip, cache):
    item, reference = windows([clip], cache_mb=cache)[7], windows([clip])[7]
    np.testing.assert_array_equal(item["faces"], reference["faces"])


def test_short_clips_and_other_crops_are_left_out_with_the_reason(tmp_path):
    short = make_sync_clip(tmp_path, "short", 1, frames=15)
    with pytest.raises(DataError, match="shorter than 16 frames"):
        windows([short])
    large = make_sync_clip(tmp_path, "large", 1, frames=40, size=96)
    with pytest.raises(DataError, match="faces were cut with size 96, the model wants size 48"):
        windows([large])
    gaps = make_sync_clip(tmp_path, "gaps", 1, frames=40, gone=range(0, 40, 5))
    with pytest.raises(DataError, match="fewer than 8 windows of 5 frames"):
        windows([gaps])


def change(**parts) -> Change:
    neutral = {"gain_db": 0.0, "brightness": 0.0, "contrast": 0.0, "angle": 0.0, "shift": (0.0, 0.0), "mirrored": False}
    return Change(**{**neutral, **parts})


def test_each_augmentation_changes_what_it_says(clip):
    crops = clip.faces(CONFIG.crop.artefact).read(range(5))[None]
    lower = crops[:, :, 24:]
    half = lower_half(crops.shape[2])
    np.testing.assert_array_equal(change().faces(crops, half), lower)
    np.testing.assert_array_equal(change(mirrored=True).faces(crops, half), lower[..., ::-1, :])
    np.testing.assert_array_equal(change(shift=(0.0, 0.125)).faces(crops, half)[:, :, 6:], lower[:, :, :-6])
    brighter = change(brightness=0.1).faces(crops, half).astype(int)
    assert np.abs(brighter - lower - 25.5).max() <= 0.5 + 1e-9
    flatter = change(contrast=-0.5).faces(crops, half)
    assert flatter.std() == pytest.approx(0.5 * lower.std(), rel=0.02)
    turned = change(angle=10.0).faces(crops, half).astype(int)
    assert 1 < np.abs(turned - lower).mean() < 40
    mel = np.array([[-4.0, -1.0, 3.9]], np.float32)
    np.testing.assert_allclose(change(gain_db=5.0).mel(mel), [[-4.0, -0.6, 4.0]], atol=1e-6)  # silence stays


def test_augmentation_is_drawn_within_its_limits_and_flips_as_told():
    rng = np.random.default_rng(0)
    drawn = [draw_change(SyncAugmentation(), rng) for _ in range(300)]
    assert 5 < max(abs(c.gain_db) for c in drawn) <= 6 and 2.5 < max(abs(c.angle) for c in drawn) <= 3
    assert 0.4 < np.mean([c.mirrored for c in drawn]) < 0.6
    for flip, expected in (("none", 0.0), ("always", 1.0)):
        assert np.mean([draw_change(SyncAugmentation(flip=flip), rng).mirrored for _ in range(20)]) == expected


def test_only_training_items_are_augmented_and_all_windows_of_one_alike(clip):
    options = {
        "augment": {"gain_db": 6.0, "brightness": 0.3, "contrast": 0.0, "roll": 0.0, "shift": 0.0, "flip": "none"}
    }
    plain, changed = windows([clip])[4], windows([clip], **options)[4]
    np.testing.assert_array_equal(plain["starts"], changed["starts"])
    inside = (plain["faces"] > 90) & (plain["faces"] < 160)
    shifts = (changed["faces"].astype(int) - plain["faces"])[inside]
    assert np.ptp(shifts) <= 1 and abs(shifts.mean()) > 2
    held = [windows([clip], "val", **choice)[0]["faces"] for choice in ({}, options)]
    np.testing.assert_array_equal(*held)
