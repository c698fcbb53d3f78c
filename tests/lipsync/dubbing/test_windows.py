"""Data of the expert that is no cosine, and what the training of experts makes of it: losses, figures, causes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from helpers.dubbing_clips import CONFIG, make_clip
from talkingface.config.sections import OptimConfig, StageConfig
from talkingface.errors import DataError
from talkingface.lipsync.dubbing.windows import MouthWindows
from talkingface.lipsync.expert.alarm import Alarm, measure
from talkingface.lipsync.expert.causes import check_silence, loudness_lags
from talkingface.lipsync.expert.config import SyncAlarmConfig
from talkingface.lipsync.expert.embedding import compared, embed_clips, expert_input, pair_scores
from talkingface.lipsync.expert.objectives import expert_loss, in_clip_loss, pair_error
from talkingface.media import write_wav
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.plugin.contract import StepContext

PLAIN = {"mouth": 32, "windows": 4, "augment": None}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    return [make_clip(root, f"s/{n}", 40, signal=rng.uniform(size=40)) for n in range(6)]


@pytest.fixture(scope="module")
def dataset(clips):
    return MouthWindows(clips, "train", PLAIN, CONFIG)


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    return MouthSyncExpert(width=1 / 16).eval()


def batch_of(dataset, keys=(0, 1)):
    items = [dataset[key] for key in keys]
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def test_a_window_has_five_mouths_and_the_nine_rows_around_them(tmp_path):
    clip = make_clip(tmp_path, count=40)
    item = MouthWindows([clip], "train", PLAIN, CONFIG)[0]
    assert item["faces"].shape == (4, 5, 32, 32, 3) and item["rows"].shape == (4, 29, 9)
    for mouths, rows, start in zip(item["faces"], item["rows"], item["starts"]):
        assert 2 <= start <= 33
        np.testing.assert_array_equal(mouths[:, 0, 0, 0], start + np.arange(5))
        np.testing.assert_array_equal(rows[0], 2 * np.arange(start - 2, start + 7) + 0.5)
    with pytest.raises(DataError, match="fewer than 40 windows"):
        MouthWindows([clip], "train", {**PLAIN, "windows": 40}, CONFIG)
    with pytest.raises(DataError, match="has 30 frames per second"):
        MouthWindows([make_clip(tmp_path, "s/2", fps=30.0)], "train", PLAIN, CONFIG)


def test_augmented_mouths_are_cut_from_the_changed_crop(clips):
    changed = MouthWindows(clips, "train", {**PLAIN, "augment": {"brightness": 0.0, "contrast": 0.0}}, CONFIG)[0]
    plain = MouthWindows(clips, "train", PLAIN, CONFIG)[0]
    for name, values in plain.items():
        np.testing.assert_allclose(changed[name], values, atol=1)


def test_whole_clips_give_the_same_windows_as_items(dataset, expert):
    clip = dataset.clips[0]
    embedded = next(embed_clips(expert, dataset, [clip]))
    item = dataset.windows(clip, embedded.starts[[3, 9]])
    with torch.no_grad():
        mouths = expert.embed_faces(expert_input(torch.from_numpy(item["faces"]), bgr=False))
        sounds = expert.embed_audio(torch.from_numpy(item["rows"]))
    np.testing.assert_allclose(embedded.mouths[[3, 9]], mouths, atol=1e-5)
    np.testing.assert_allclose(embedded.sounds[[3, 9]], sounds, atol=1e-5)


def test_memory_does_not_grow_with_the_mouths_of_a_clip(tmp_path, expert):
    most = {}
    for count in (200, 800):
        clip = make_clip(tmp_path, f"s/{count}", count, signal=np.zeros(count))
        data = MouthWindows([clip], "val", {**PLAIN, "cache_mb": 0}, CONFIG)
        tracemalloc.start()
        assert [len(embedded.starts) for embedded in embed_clips(expert, data, data.clips)] == [count - 8]
        most[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most[800] - most[200] < 600 * 32 * 32 * 3 / 4, "of the mouths of 600 frames more"


@pytest.mark.parametrize("cache", [0, 64])
def test_whole_clips_are_black_where_there_is_no_face(tmp_path, cache):
    data = MouthWindows([make_clip(tmp_path, gone=(0, 20))], "val", {**PLAIN, "cache_mb": cache}, CONFIG)
    mouths = np.stack([*data.whole(data.clips[0])[0]])
    assert mouths.shape == (60, 32, 32, 3)
    np.testing.assert_array_equal(mouths[:, 9, 9, 0], np.where(np.isin(np.arange(60), (0, 20)), 0, np.arange(60)))


def test_a_clip_whose_pictures_are_damaged_inside_is_passed_over(tmp_path, expert, caplog):
    clips = [make_clip(tmp_path, f"s/{n}") for n in range(2)]
    data = MouthWindows(clips, "val", {**PLAIN, "cache_mb": 0}, CONFIG)
    (clips[0].path / f"{CONFIG.crop.artefact}.npy").unlink()
    assert len(list(embed_clips(expert, data, data.clips))) == 1
    assert "s/0 is passed over" in caplog.text


def test_all_pairs_in_training_are_the_scores_of_use_but_for_their_bounds(dataset, expert):
    batch = batch_of(dataset)
    with torch.no_grad():
        found = pair_scores(expert, batch)
        mouths = expert.embed_faces(expert_input(batch["faces"][1], bgr=False))
        alone = expert.scores(mouths, expert.embed_audio(batch["rows"][1]))
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found[1].clamp(0, 1), alone)


def test_pictures_are_not_turned_to_bgr(dataset):
    faces = torch.randint(0, 256, (1, 5, 4, 4, 3), dtype=torch.uint8)
    np.testing.assert_allclose(expert_input(faces, bgr=False)[0, 3], faces[0, 1, ..., 0] / 255)


def test_scores_beyond_their_bounds_cost_nothing_more_and_keep_their_gradient():
    scores = torch.tensor([[[1.5, 0.5], [-0.5, 0.2]]], requires_grad=True)
    loss = pair_error(scores)
    assert loss.item() == pytest.approx((0.5 * (0 + 0.8**2) + 0.5 * (0.5**2 + 0)) / 2)
    wrong = torch.tensor([[[-3.0]]], requires_grad=True)
    pair_error(wrong, torch.ones(1, 1)).backward()
    assert wrong.grad.item() == pytest.approx(-2.0)


def test_one_pair_per_item_as_published(clips, expert):
    data = MouthWindows(clips, "train", {**PLAIN, "objective": "published", "repeats": 4}, CONFIG)
    batch = batch_of(data, range(8))
    assert batch["faces"].shape[1] == 1 and set(batch["in_sync"].flatten().tolist()) == {0.0, 1.0}
    with torch.no_grad():
        scores = pair_scores(expert, batch).flatten().clamp(0, 1)
        expected = (scores - batch["in_sync"].flatten()).square().mean()
        torch.testing.assert_close(expert_loss(expert, batch), expected)


def test_features_learn_to_agree_in_training_alone(dataset):
    torch.manual_seed(0)
    plain, agreeing = MouthSyncExpert(width=1 / 16), MouthSyncExpert(width=1 / 16, agreement=0.5)
    agreeing.load_state_dict(plain.state_dict())
    batch = batch_of(dataset)
    cosines = compared(plain, batch)[1]
    assert cosines.shape == (2, 4, 4) and 0 <= cosines.min() <= cosines.max() <= 1 + 1e-6
    wanted = expert_loss(plain, batch) + 0.5 * in_clip_loss(cosines)
    torch.testing.assert_close(expert_loss(agreeing, batch), wanted)
    torch.testing.assert_close(expert_loss(agreeing.eval(), batch), expert_loss(plain.eval(), batch))


def test_training_lowers_the_loss(dataset):
    torch.manual_seed(0)
    network, batch = MouthSyncExpert(width=1 / 16), batch_of(dataset, range(4))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        losses.append(expert_loss(network, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_the_alarm_rings_for_such_an_expert_and_does_without_sound(dataset, expert, tmp_path, caplog):
    options = SyncAlarmConfig(windows=1, chance=0.4, gap=1.0, flat=1.0, fit_windows=16, fit_steps=1)
    stage = StageConfig(name="expert", kind="expert", max_steps=9, batch_size=2, optim={"sync_expert": OptimConfig()})
    standing = measure(embed_clips(expert, dataset, dataset.clips[:2]))
    Alarm(expert, options, StepContext(stage, step=9), dataset, dataset, tmp_path).watch(standing)
    assert "stage expert: the expert" in caplog.text and "no sound of their own" in caplog.text
    assert (tmp_path / "alarm.json").is_file()


def test_loudness_is_that_of_the_sound_where_it_is_there(tmp_path):
    clip, loud = make_clip(tmp_path, count=40), np.arange(40) >= 20
    clip.meta["steps"]["audio"] = {"files": ["audio.wav"]}
    write_wav(clip.path / "audio.wav", np.repeat(np.where(loud, 0.5, 0.0), 640).astype(np.float32))
    data = MouthWindows([clip], "train", PLAIN, CONFIG)
    loudness = data.loudness(clip, 40)
    assert (loudness[:20] == -80).all() and np.allclose(loudness[20:], 20 * np.log10(0.5), atol=0.01)
    starts = data.source(clip).starts
    np.testing.assert_array_equal(data.heard(clip, 35.0), starts + 4 >= 20)
    assert check_silence(data, [clip]).text == f"{(starts + 4 < 20).mean():.0%} of the windows are silent"
    assert len(loudness_lags(data, [clip])) == 0, "it has no landmarks"
