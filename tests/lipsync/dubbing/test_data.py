"""Items of DINet's and LawDNet's data: which frames are drawn together, and what is heard at each."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.dubbing_clips import CONFIG, make_clip
from helpers.toy_tracks import face, track
from talkingface.errors import DataError
from talkingface.lipsync.dubbing.config import DubbingAudioConfig, DubbingCropConfig
from talkingface.lipsync.dubbing.data import DubbingClips, DubbingFrames
from talkingface.lipsync.dubbing.sound import heard_in
from talkingface.lipsync.dubbing.windows import MouthWindows


def frames_of(pictures: np.ndarray) -> np.ndarray:
    """Numbers of the frames that pictures (..., H, W, 3) show."""
    assert (pictures == pictures[..., :1, :1, :1]).all()
    return pictures[..., 0, 0, 0].astype(int)


def items(kind, clip, count=40, config=CONFIG, **options):
    dataset = kind([clip], "train", {"mouth": 32, "repeats": count, **options}, config)
    return [dataset[key] for key in range(count)]


def test_a_frame_comes_with_five_references_that_are_far_from_it_and_the_sound_around_it(tmp_path):
    clip = make_clip(tmp_path, gone=(30,), bridged=(3, 50))
    seen = set()
    for item in items(DubbingFrames, clip, distance=8):
        (frame,), (lent,) = frames_of(item["faces"]), frames_of(item["references"])
        seen |= {int(frame)}
        assert item["faces"].shape == (1, 52, 40, 3) and len(set(lent)) == 5
        assert np.abs(lent - frame).min() >= 8 and not set(lent) & {3, 30, 50}
        # The mean of a frame's two rows, and of those of its neighbours.
        np.testing.assert_array_equal(item["audio"][0, 0], 2 * np.arange(frame - 2, frame + 3) + 0.5)
    assert 30 not in seen and min(seen) >= 2 and max(seen) <= 57 and len(seen) > 20


def test_a_clip_item_shows_five_frames_with_references_of_their_own_and_all_that_is_heard(tmp_path):
    for item in items(DubbingClips, make_clip(tmp_path, gone=(30,))):
        frames, lent = frames_of(item["faces"]), frames_of(item["references"])
        np.testing.assert_array_equal(frames, frames[0] + np.arange(5))
        assert lent.shape == (5, 5) and (np.abs(lent - frames[:, None]) >= 9).all()
        np.testing.assert_array_equal(item["heard"][0], 2 * np.arange(frames[0] - 2, frames[0] + 7) + 0.5)
        np.testing.assert_array_equal(item["audio"][:, 0, 2], 2 * frames + 0.5)


def test_published_frames_and_references_come_from_six_blocks_of_nine(tmp_path):
    clip = make_clip(tmp_path, count=70, gone=(20,))
    for item in items(DubbingFrames, clip, sampling="published"):
        (frame,), (lent,) = frames_of(item["faces"]), frames_of(item["references"])
        assert 2 <= frame % 9 <= 6 and len({*(lent // 9), frame // 9}) == 6 and 2 not in {*(lent // 9), frame // 9}
    starts = {int(frames_of(item["faces"])[0]) for item in items(DubbingClips, clip, sampling="published")}
    assert starts == {2, 11, 29, 38, 47, 56}


def test_references_may_be_spread_from_the_most_closed_to_the_most_open_mouth(tmp_path):
    """Each of the five always shows the same kind of mouth; here a later frame has a wider one."""
    clip = make_clip(tmp_path)
    with pytest.raises(DataError, match=r"has no landmarks, which data\.references=spread needs"):
        items(DubbingFrames, clip, 1, references="spread")
    track([face(opening=k) for k in range(60)]).save(clip.path / "landmarks.npz")
    clip.meta["steps"]["landmarks"] = {"files": ["landmarks.npz"]}
    drawn = np.stack([frames_of(item["references"])[0] for item in items(DubbingFrames, clip, references="spread")])
    assert (np.diff(drawn, axis=1) > 0).all() and len(np.unique(drawn[:, 2])) > 5
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    assert high[0] < 23 and low[4] > 36 and (high - low < 35).all()
    with pytest.raises(ValueError, match="references: spread goes with sampling: anywhere"):
        items(DubbingFrames, clip, 1, references="spread", sampling="published")


def test_smaller_mouths_are_read_from_the_same_crops(tmp_path):
    clip = make_clip(tmp_path)
    assert items(DubbingFrames, clip, 1, mouth=64)[0]["faces"].shape == (1, 104, 80, 3)
    with pytest.raises(ValueError, match="multiple of 32"):
        items(DubbingFrames, clip, 1, mouth=48)


def test_an_expert_may_hear_another_front_end(tmp_path):
    audio = DubbingAudioConfig(generator_features="logmel", sync_features="deepspeech2")
    assert audio.artefacts == ("features@logmel", "features@deepspeech2")
    config = CONFIG.model_copy(update={"audio": audio})
    clip = make_clip(tmp_path)
    assert len(items(DubbingFrames, clip, 1, config)) == 1
    with pytest.raises(DataError, match="has no features@deepspeech2; run preprocess"):
        items(DubbingClips, clip, 1, config)


@pytest.mark.parametrize(
    ("clip", "options", "reason"),
    [
        ({"count": 20, "gone": tuple(range(6, 20))}, {}, "no frame with a face, sound and five references"),
        ({"count": 53}, {"sampling": "published"}, "no frame with a face"),
        ({"fps": 30.0}, {}, "has 30 frames per second, where 25 are needed"),
        ({"rows": 112}, {}, "sound for 56 of 60 frames"),
        ({"config": CONFIG.model_copy(update={"crop": DubbingCropConfig(width=40)})}, {}, "has no aligned@80-frontal"),
    ],
)
def test_clips_that_do_not_serve_leave_with_their_reason_before_training(tmp_path, clip, options, reason):
    with pytest.raises(DataError, match=reason):
        items(DubbingFrames, make_clip(tmp_path, **clip), 1, **options)


def test_a_clip_whose_sound_ends_a_little_early_holds_its_last_row(tmp_path):
    clip = make_clip(tmp_path, rows=114)
    heard = {int(frames_of(i["faces"])[0]): i["audio"][0, 0] for i in items(DubbingFrames, clip, 400)}
    assert heard[57].tolist() == [110.5, 112.5, 112.5, 112.5, 112.5]


def test_rows_stay_on_the_disk_until_they_are_asked_for(tmp_path):
    clip = make_clip(tmp_path)
    heard = heard_in(clip, CONFIG.audio.sync)
    np.testing.assert_array_equal(heard.around(np.array([0, 30]))[1, 0], 2 * np.arange(28, 33) + 0.5)
    values = clip.features("features@logmel").values
    assert type(values) is np.ndarray and not values.flags.writeable and not values.flags.owndata
    np.save(clip.path / "features@logmel.npy", np.full((120, 29), np.nan, np.float32))
    with pytest.raises(DataError, match="not finite"):
        heard_in(clip, CONFIG.audio.sync)


def test_silence_that_took_the_place_of_moved_sound_is_not_heard(tmp_path):
    clip = make_clip(tmp_path)
    clip.meta["steps"] |= {"audio": {"facts": {"moved_frames": -4}}, "sync": {"facts": {"fps": 25.0}}}
    seen = {int(frames_of(item["faces"])[0]) for item in items(DubbingFrames, clip, 200)}
    assert (min(seen), max(seen)) == (2, 53)


def test_frames_behind_the_end_of_the_sound_are_not_drawn(tmp_path):
    clip = make_clip(tmp_path)
    clip.meta["steps"][CONFIG.audio.sync.artefact]["facts"]["heard_frames"] = 50
    seen = {int(frames_of(item["faces"])[0]) for item in items(DubbingFrames, clip, 200)}
    assert (min(seen), max(seen)) == (2, 47)
    windows = MouthWindows([clip], "val", {"mouth": 32, "windows": 4, "augment": None}, CONFIG)
    assert windows.source(clip).starts.tolist() == list(range(2, 44))


def test_crops_that_are_not_square_are_not_shared_by_loader_processes(tmp_path):
    dataset = DubbingFrames([make_clip(tmp_path)], "train", {"mouth": 32}, CONFIG)
    dataset.share(2)
    assert dataset[0]["faces"].shape == (1, 52, 40, 3)
