"""The chance alarm: rings when an expert learns nothing, says why, and leaves a healthy run alone."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from helpers.sync_clips import ALARM, people, train_expert
from talkingface.config.sections import OptimConfig, StageConfig
from talkingface.errors import DataError
from talkingface.faces.track import LandmarkTrack
from talkingface.lipsync.expert import alarm as sync_alarm
from talkingface.lipsync.expert import causes as sync_causes
from talkingface.lipsync.expert.alarm import Alarm, Standing, windows_seen
from talkingface.lipsync.expert.causes import Fit
from talkingface.lipsync.expert.config import SyncAlarmConfig
from talkingface.lipsync.expert.data import SyncWindows
from talkingface.lipsync.expert.judge import load_judge
from talkingface.lipsync.expert.scores import Sweep
from talkingface.models.syncnet.model import SyncNetConfig
from talkingface.networks.sync_expert import SyncExpert
from talkingface.plugin.contract import StepContext

CROP = {"size": 48, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"}
OPTIONS = SyncAlarmConfig(**ALARM)
PUBLISHED = {"stages.expert.data.objective": "published", "batch_size": 32}


def clips(root, **options):
    return {"train": people(root, 12, **options), "val": people(root, 6, first=100, **options)}


def data(found, split="train", **options) -> SyncWindows:
    return SyncWindows(found[split], split, {"augment": None, **options}, SyncNetConfig(crop=CROP))


def context(step=100, lr=1e-3, batch_size=6) -> StepContext:
    stage = StageConfig(
        name="expert", kind="expert", max_steps=1000, batch_size=batch_size, optim={"sync_expert": OptimConfig(lr=lr)}
    )
    return StepContext(stage, step=step)


def causes(run) -> list[dict]:
    return [
        finding for finding in json.loads((run / "expert" / "alarm.json").read_text())["findings"] if finding["cause"]
    ]


# -- provoked, with real training --------------------------------------------------------------------------------------


def test_a_healthy_run_raises_no_alarm(sync_run):
    last = json.loads((sync_run / "log.jsonl").read_text().splitlines()[-1])
    assert 32 * last["step"] > ALARM["windows"]
    assert not (sync_run / "expert" / "alarm.json").exists()


def test_sound_of_other_clips_raises_the_alarm_and_is_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "talkingface"):
        run = train_expert(tmp_path / "run", clips(tmp_path / "clips", strange_sound=True))
    assert "the expert learns nothing; after 1,536 windows it decides at chance" in caplog.text
    found = causes(run)
    assert found[0]["check"] == "quick fit" and "sound does not belong to the pictures" in found[0]["cause"]
    assert "learning rate" not in [finding["check"] for finding in found]


def test_a_learning_rate_of_2e_2_raises_the_alarm_and_is_named(tmp_path, caplog):
    overrides = {**PUBLISHED, "learning_rate": 2e-2, "seed": 1}
    with caplog.at_level(logging.WARNING, "talkingface"):
        run = train_expert(tmp_path / "run", clips(tmp_path / "clips", noisy=True), steps=40, **overrides)
    assert "the expert learns nothing; after 1,280 windows it decides at chance" in caplog.text
    assert "the learning rate 0.02 is too high; try 1e-4" in caplog.text
    assert "quick fit" not in [finding["check"] for finding in causes(run)]  # the data are good


# -- when it rings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def untrained():
    torch.manual_seed(0)
    network = SyncExpert((24, 48), 0.125)
    with torch.no_grad():
        network(torch.randn(8, 1, 80, 16), torch.rand(8, 15, 24, 48))
    return network.eval()


def standing(accuracy=0.5, gap=0.0, prominence=0.0) -> Standing:
    curve = np.zeros(31)
    curve[15] = prominence
    figures = {"two_alternative": accuracy, "positive": 0.4 + gap, "negative": 0.4}
    return Standing(figures, [Sweep(curve)])


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (standing(0.47, 0.019, 0.049), True),
        (standing(0.53), True),
        (standing(0.46), False),
        (standing(0.54), False),
        (standing(gap=0.02), False),
        (standing(gap=-0.03), False),
        (standing(prominence=0.06), False),
    ],
)
def test_chance_means_all_three_at_once(measured, expected):
    assert measured.at_chance(SyncAlarmConfig()) is expected


def ring(network, found, folder, ctx=None, held=None, options=OPTIONS):
    Alarm(network, options, ctx or context(), data(found), data(found, "val"), folder).watch(held or standing())


@pytest.fixture
def quick(monkeypatch):
    """Leaves out the quick fit, which has tests of its own."""
    monkeypatch.setattr(sync_causes, "quick_fit", lambda *_: Fit(1.0, 0.7))


def test_it_waits_for_its_windows_then_rings_once_and_again_much_later(untrained, found, tmp_path, caplog, quick):
    loose = SyncAlarmConfig(windows=4800, chance=0.3, gap=1.0, flat=1.0)
    ring(untrained, found, tmp_path, context(step=99), options=loose)
    assert not (tmp_path / "alarm.json").exists()
    for step, rings in ((100, 1), (101, 1), (399, 1), (400, 2), (1599, 2), (1600, 3)):
        ring(untrained, found, tmp_path, context(step=step), options=loose)
        assert caplog.text.count("the expert learns nothing") == rings, step


def test_what_it_cannot_look_at_is_said_and_ends_no_training(untrained, found, tmp_path, caplog, monkeypatch):
    def unreadable(*_):
        raise DataError("landmarks.npz: unreadable landmarks")

    monkeypatch.setattr(sync_alarm, "find_causes", unreadable)
    loose = SyncAlarmConfig(windows=1, chance=0.3, gap=1.0, flat=1.0)
    ring(untrained, found, tmp_path, options=loose)
    assert "the chance alarm could not look at the expert: landmarks.npz: unreadable" in caplog.text


def test_it_can_be_switched_off(untrained, found, tmp_path):
    ring(untrained, found, tmp_path, options=SyncAlarmConfig(windows=None, chance=0.4, gap=1.0, flat=1.0))
    assert not (tmp_path / "alarm.json").exists()


def test_windows_are_counted_over_all_clips_of_the_batches(found):
    assert windows_seen(context(step=10, batch_size=6), data(found)) == 10 * 6 * 8
    assert windows_seen(context(step=10, batch_size=64), data(found, objective="published")) == 640


def test_an_expert_that_knows_its_training_clips_is_not_at_chance(sync_run, found, tmp_path):
    ring(load_judge(sync_run).network, found, tmp_path)
    assert not (tmp_path / "alarm.json").exists()


def test_stale_averages_are_told_from_an_expert_that_knows_nothing(sync_run, found, tmp_path, caplog):
    network = load_judge(sync_run).network
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 5.0)
            module.running_var.fill_(1e4)
    ring(network, found, tmp_path)
    assert "running averages of batch norm do not fit" in caplog.text
    findings = json.loads((tmp_path / "alarm.json").read_text())["findings"]
    assert [(finding["check"], bool(finding["cause"])) for finding in findings] == [
        ("batch norm", True),
        ("learning rate", False),
    ]


def test_looking_for_the_cause_changes_neither_weights_nor_random_numbers(untrained, found):
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        options = OPTIONS.model_copy(update={"fit_steps": 4})
        sync_causes.find_causes(untrained, options, context(lr=2e-2), data(found), found["train"])
    assert torch.equal(torch.get_rng_state(), state)
    assert not untrained.training
    for name, value in untrained.state_dict().items():
        assert torch.equal(value, before[name]), name


# -- what it looks at --------------------------------------------------------------------------------------------------


def test_a_quick_fit_carries_over_to_other_windows_only_where_sound_and_picture_belong_together(
    found, tmp_path, untrained
):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        good = sync_causes.quick_fit(untrained, data(found), OPTIONS, OptimConfig(lr=1e-3))
    assert good.known > 0.85 and good.others > 0.6
    lags = sync_causes.loudness_lags(data(found), found["train"])
    assert not sync_causes.check_sound(good, lags, OPTIONS).cause
    strange = clips(tmp_path, strange_sound=True)
    lags = sync_causes.loudness_lags(data(strange), strange["train"])
    assert "does not belong" in sync_causes.check_sound(Fit(1.0, 0.5), lags, OPTIONS).cause
    assert "not even fixed windows" in sync_causes.check_sound(Fit(0.6, 0.5), lags, OPTIONS).cause


def test_offsets_are_counted_in_spans_that_end_where_the_search_does():
    text = sync_causes.check_offsets(np.array([-15.0, 0.0, 15.0, 15.0])).text
    assert "-15..-10: 1, -3..+2: 1, +15..+15: 2;" in text


def test_lips_that_follow_the_loudness_clear_the_sound_where_few_windows_do_not_suffice(found):
    lags = sync_causes.loudness_lags(data(found), found["train"])
    assert len(lags) == 12 and np.abs(lags).max() <= 2
    assert not sync_causes.check_sound(Fit(1.0, 0.5), lags, OPTIONS).cause
    assert not sync_causes.check_offsets(lags).cause


def test_a_constant_offset_beyond_the_reach_of_a_window_is_named(found):
    lags = np.array([9.0, 9, 8, 10, 9, -3])
    finding = sync_causes.check_offsets(lags)
    assert "9 frames apart" in finding.cause and "filters.sync" in finding.remedy
    assert "+3..+8: 1" in finding.text and "+9..+14: 4" in finding.text and "-3..+2: 1" in finding.text
    assert not sync_causes.check_offsets(np.array([3.0, 3, 4, 3])).cause
    assert "no landmarks" in sync_causes.check_offsets(np.array([])).text


def test_clips_with_face_boxes_alone_do_not_tell_their_lag(tmp_path):
    made = people(tmp_path, 2, frames=40)
    track = made[0].track()
    box = LandmarkTrack(track.points_px[:, :2], track.found, track.valid, track.size, "box", "s3fd")
    box.save(made[0].path / "landmarks.npz")
    assert len(sync_causes.loudness_lags(data({"train": made}), made)) == 1
    box.save(made[1].path / "landmarks.npz")
    lags = sync_causes.loudness_lags(data({"train": made}), made)
    assert "no landmarks" in sync_causes.check_offsets(lags).text


def test_silence_and_still_pictures_are_named(found, tmp_path):
    assert not sync_causes.check_silence(data(found), found["train"]).cause
    assert not sync_causes.check_pictures(data(found), found["train"]).cause
    silent = {"train": people(tmp_path / "silent", 2, silent=True)}
    finding = sync_causes.check_silence(data(silent), silent["train"])
    assert "most windows hold no sound" in finding.cause and finding.text.startswith("89% of the windows")
    still = {"train": people(tmp_path / "still", 2, still=True)}
    assert "stand still" in sync_causes.check_pictures(data(still), still["train"]).cause


@pytest.mark.parametrize(
    ("rate", "stuck", "cause"),
    [
        (1e-4, None, ""),
        (1e-3, None, ""),
        (2e-2, Fit(0.99, 0.7), "too high"),
        (3e-3, Fit(0.55, 0.5), "too high"),
        (3e-3, Fit(0.99, 0.7), ""),
        (1e-8, None, "too low"),
    ],
)
def test_the_learning_rate_is_judged_by_its_size_and_by_what_a_fit_makes_of_it(rate, stuck, cause):
    finding = sync_causes.check_rate(OptimConfig(lr=rate), Fit(0.99, 0.7), stuck)
    assert cause in finding.cause and bool(finding.cause) == bool(cause)


def test_collapsed_and_dead_embeddings_are_named(found, sync_run):
    check = sync_causes.check_embeddings
    network = load_judge(sync_run).network
    last = network.face_encoder[-1].conv_block[1]
    assert not check(network, data(found), found["train"]).cause
    last.weight.zero_()
    last.bias.fill_(1.0)
    assert check(network, data(found), found["train"]).cause.startswith("mouths all get the same embedding")
    last.bias.fill_(-1.0)
    assert check(network, data(found), found["train"]).cause.startswith("mouths all get a zero embedding")


def test_small_batches_are_named(found):
    assert not sync_causes.check_batch(context(batch_size=2), data(found)).cause
    assert (
        "4 windows in a batch"
        in sync_causes.check_batch(context(batch_size=4), data(found, objective="published")).cause
    )


def test_causes_stand_first_in_the_order_of_the_data_then_the_settings(untrained, found, quick, tmp_path):
    still = {"train": people(tmp_path / "still", 3, still=True)}
    findings = sync_causes.find_causes(untrained, OPTIONS, context(lr=2e-2, batch_size=1), data(still), still["train"])
    checks = [finding.check for finding in findings if finding.cause]
    assert checks.index("pictures") == 0 and {"pictures", "learning rate", "batch"} <= set(checks)
    assert all(finding.cause for finding in findings[: len(checks)])
    assert sync_alarm.AGAIN > 1
