"""The benchmark command: every figure is there and positive."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest

from talkingface.benchmark import speed
from talkingface.benchmark.timing import best
from talkingface.cli.commands import main
from talkingface.errors import ConfigError, DataError
from talkingface.plugin.configuration import load_config
from talkingface.training.trainer import StageLoop


def test_every_figure_is_measured(tiny_dataset, tmp_path, capsys):
    keys = [f"--{key}={json.dumps(value)}" for key, value in {**tiny_dataset, "device": "cpu"}.items()]
    options = [f"--json={tmp_path / 'b.json'}", "--seconds=0.1"]
    assert main(["benchmark", "--model=IPLAP", *options, *keys]) == 0
    figures = json.loads((tmp_path / "b.json").read_text())
    for group in (
        "preprocessing frames/s",
        "data loading items/s",
        "training steps/s",
        "generation",
        "peak memory MiB",
    ):
        assert figures[group] and all(value > 0 for value in figures[group].values()), group
    assert {"landmark", "render"} == figures["training steps/s"].keys()
    assert {"network fps", "end to end fps"} <= figures["generation"].keys()
    assert figures["generation"]["frames"] < 25, "a tenth of a second does not pay for a whole clip"
    assert figures["hardware"]["torch"] and "training steps/s: render" in capsys.readouterr().out


def test_one_part_alone(tiny_dataset, tmp_path):
    keys = [f"--{key}={json.dumps(value)}" for key, value in {**tiny_dataset, "device": "cpu"}.items()]
    options = [f"--json={tmp_path / 'b.json'}", "--seconds=0.01", "--only=training", "--stage=landmark"]
    assert main(["benchmark", "--model=IPLAP", *options, *keys]) == 0
    figures = json.loads((tmp_path / "b.json").read_text())
    assert list(figures) == [
        *["hardware", "data loading items/s", "training steps/s", "batch size", "peak memory MiB"],
    ]
    assert figures["training steps/s"].keys() == {"landmark"}


@pytest.mark.parametrize(
    ("model", "stage", "terms"),
    [
        ("IPLAP", "render", {"renderer/generation", "renderer/adversarial", "discriminator/realness"}),
        ("MakeItTalk", "speaker", {"speaker_branch/adversarial", "temporal_discriminator/made"}),
        ("Wav2Lip", "generator", {"generator/l1", "generator/sync"}),
    ],
)
def test_training_is_measured_with_all_that_begins_later(tiny_dataset, monkeypatch, model, stage, terms):
    steps = []
    train = StageLoop._train_batch
    monkeypatch.setattr(StageLoop, "_train_batch", lambda *given: steps.append(train(*given)) or steps[-1])
    loaded = load_config(model, "demo", (), {**tiny_dataset, "stage": stage})
    speed.measure(loaded, 0.01, ("training",))
    assert len(steps) >= 2 and all(terms <= step.keys() for step in steps)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--only=generatoin", "did you mean 'generation'"),
        ("--seconds=0", "--seconds must be a positive number"),
        ("--most_minutes=3", "--most_minutes goes with --model=all"),
    ],
)
def test_what_cannot_be_measured_is_one_line(option, message, capsys):
    assert main(["benchmark", "--model=IPLAP", "--dataset=demo", option]) == 2
    assert message in capsys.readouterr().err


def test_a_part_that_fails_leaves_the_others_or_is_told_alone(tiny_dataset, monkeypatch):
    def fails(*_):
        raise DataError("no clip can be used")

    monkeypatch.setattr(speed, "training", fails)
    loaded = load_config("IPLAP", "demo", (), {**tiny_dataset, "device": "cpu"})
    failed = {}
    figures = speed.measure(loaded, 0.01, ("preprocessing", "training", "evaluation"), failed=failed)
    assert failed == {"training": "no clip can be used"} and figures["evaluation"] and figures["preprocessing frames/s"]
    with pytest.raises(DataError):
        speed.measure(loaded, 0.01, ("training",))


def test_work_is_repeated_for_as_long_as_is_asked_and_at_least_once():
    for seconds, least in ((0.0, 2), (0.05, 4)):
        calls = []
        _, timing = best(lambda calls=calls: calls.append(time.sleep(0.005)), seconds)
        assert len(calls) >= least and 0.005 <= timing.wall < math.inf
    assert len(calls) <= 12


def test_a_system_that_does_not_tell_its_memory_is_measured_without(monkeypatch):
    assert speed.peak_memory()["process"] > 10
    monkeypatch.setattr(speed, "resource", None)
    assert "process" not in speed.peak_memory()


def test_random_weights_do_not_replace_what_trained_ones_have_made(tmp_path, monkeypatch):
    loaded = load_config("HyperLipsHR", "folder", (), {"preprocessed_root": str(tmp_path), "saved_dir": str(tmp_path)})
    record = {"files": [], "params": {"weights": "aaaa"}}
    meta = {"format": 1, "clip_id": "a/0", "status": "ok", "steps": {"hyper@raw": record}}
    (tmp_path / "a/0").mkdir(parents=True)
    (tmp_path / "a/0/clip.json").write_text(json.dumps(meta))
    mine = {"model": loaded.config.model.model_copy(update={"base_weights": "aaaa"})}
    speed.spare_made_parts(loaded.config.model_copy(update=mine))
    monkeypatch.setattr(speed, "with_stand_ins", lambda loaded, folder: replace(loaded, config=lent(loaded, folder)))
    with pytest.raises(ConfigError, match=r"a/0: its hyper@raw was made by weights aaaa.*--preprocessed_root"):
        speed.measure(loaded)


def lent(loaded, folder):
    """The configuration as stand-ins leave it."""
    model = loaded.config.model.model_copy(update={"base_weights": "bbbb"})
    return loaded.config.model_copy(update={"model": model, "experts": {"generator": str(folder / "x.pt")}})
