"""What a run leaves in TensorBoard and wandb: curves, hyper-parameters, final figures, pictures."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from talkingface.media import write_image
from talkingface.training.run_log import RunLog, hyperparameters
from talkingface.weights.runs import RunFolder
from toys.build import toy_config, toy_trainer


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def hparams_of(accumulator):
    """(hyper-parameters, names of metrics) as the page HPARAMS reads them."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = accumulator.summary_metadata
    read = {}
    for tag in content:
        data = HParamsPluginData.FromString(content[tag].plugin_data.content)
        read[data.WhichOneof("data")] = data
    values = read["session_start_info"].session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}, [
        info.name.tag for info in read["experiment"].experiment.metric_infos
    ]


@pytest.fixture
def strip(tmp_path):
    write_image(tmp_path / "strip.png", np.full((6, 9, 3), 90, np.uint8))
    return tmp_path / "strip.png"


@pytest.fixture
def wandb(monkeypatch):
    """Stands for the package: notes what is asked of it, refuses what the package refuses."""
    entries: list[SimpleNamespace] = []

    def init(**asked):
        entry = SimpleNamespace(asked=asked, logged=[], summary={}, finished=False)
        entry.log = lambda values, step: entry.logged.append((values, step))
        entry.finish = lambda: setattr(entry, "finished", True)
        entries.append(entry)
        return entry

    fake = ModuleType("wandb")
    fake.init, fake.entries = init, entries
    fake.Image = lambda path: ("image", path)
    fake.Video = lambda path, format: ("video", path, format)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    sys.modules.pop("talkingface.training.wandb_log", None)
    yield fake
    sys.modules.pop("talkingface.training.wandb_log", None)


def test_a_stage_leaves_its_hyperparameters_beside_its_best_values(tmp_path, toys):
    loaded = toy_config(tmp_path, epochs=1, stage="warm", tensorboard=True, seed=11)
    toy_trainer(loaded, tmp_path / "run").fit()
    written = events(tmp_path / "run" / "tensorboard" / "warm")
    values, metrics = hparams_of(written)
    assert (values["seed"], values["model_name"], values["stages.warm.optim.generator.lr"]) == (11, "ToyGAN", 0.01)
    assert "best/val/loss" in metrics and written.Scalars("best/val/loss")[0].value > 0
    assert {"picture", "video"} <= set(written.Tags()["images"]) and "val/loss" in written.Tags()["scalars"]
    assert {file.suffix for file in (tmp_path / "run/warm/samples").iterdir()} == {".png", ".gif"}


def test_the_evaluation_leaves_final_figures_and_pictures_once(tmp_path, toys, strip):
    config = toy_config(tmp_path, tensorboard=True).config
    for value in (0.25, 0.75):
        figures = {"ssim": value, "shuffled/ssim": 0.5, "nothing": float("nan")}
        RunLog(RunFolder(tmp_path / "run"), config).evaluation(figures, {"clip": strip})
    written = events(tmp_path / "run" / "tensorboard" / "evaluation")
    assert [event.value for event in written.Scalars("final/ssim")] == [0.75], "an earlier evaluation made way"
    assert written.Images("clip")[0].height == 6 and written.Images("clip")[0].width == 9
    assert set(hparams_of(written)[1]) == {"final/ssim", "final/shuffled/ssim"}


def test_hyperparameters_are_flat_and_plain(tmp_path, toys):
    flat = hyperparameters(toy_config(tmp_path, precision="bf16").config)
    assert flat["precision"] == "bf16" and flat["stages.gan.scheduler.name"] == "cosine" and flat["model.width"] == 8
    assert all(isinstance(value, (bool, int, float, str)) for value in flat.values())
    assert "saved_dir" not in flat and "profile" not in flat


def test_wandb_has_one_group_per_run_and_an_entry_per_stage(tmp_path, toys, wandb):
    loaded = toy_config(tmp_path, epochs=1, log_wandb=True, wandb_project="faces")
    toy_trainer(loaded, tmp_path / "first").fit()
    warm, gan = wandb.entries
    assert {(e.asked["project"], e.asked["group"]) for e in wandb.entries} == {("faces", "ToyGAN-folder-first")}
    assert [e.asked["job_type"] for e in wandb.entries] == ["warm", "gan"] and warm.asked["id"] != gan.asked["id"]
    assert warm.asked["config"]["model"]["width"] == 8 and warm.asked["dir"] == str(tmp_path / "first")
    assert any("val/loss" in values for values, _ in warm.logged) and warm.summary["best/val/loss"] > 0
    shown = [value[0] for values, _ in warm.logged for value in values.values() if isinstance(value, tuple)]
    assert set(shown) == {"image", "video"}
    assert all(e.finished for e in wandb.entries)


def test_a_resumed_part_goes_on_under_its_id(tmp_path, toys, wandb, strip):
    config = toy_config(tmp_path, log_wandb=True).config
    run = RunFolder(tmp_path / "run")
    for _ in range(2):
        RunLog(run, config).start_stage("warm", 0)
    RunLog(run, config).evaluation({"ssim": 0.5}, {"clip": strip})
    first, again, evaluation = wandb.entries
    assert first.asked["id"] == again.asked["id"] != evaluation.asked["id"] and again.asked["resume"] == "allow"
    assert json.loads((run.path / "wandb.json").read_text()) == {
        "warm": first.asked["id"],
        "evaluation": evaluation.asked["id"],
    }
    assert evaluation.summary == {"final/ssim": 0.5} and evaluation.logged == [({"clip": ("image", str(strip))}, 0)]


@pytest.mark.parametrize("text", ["[1", "[" * 100_000, '{"warm": 1}'])
def test_a_damaged_file_of_ids_gives_new_ones(tmp_path, wandb, text):
    from talkingface.training.wandb_log import stored_id

    (tmp_path / "wandb.json").write_text(text)
    assert stored_id(tmp_path, "warm") == stored_id(tmp_path, "warm") != stored_id(tmp_path, "gan")


def test_a_training_goes_on_without_wandb_and_says_why(tmp_path, toys, wandb, caplog, monkeypatch):
    def refuse(**asked):
        raise ConnectionError("no network")

    config = toy_config(tmp_path, log_wandb=True).config
    wandb.init = refuse
    log = RunLog(RunFolder(tmp_path / "run"), config)
    log.start_stage("warm", 0)
    log.record("warm", 0, 1, {"val/loss": 0.5})
    assert "wandb cannot be reached (ConnectionError: no network); going on without" in caplog.text
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "talkingface.training.wandb_log", raising=False)
    log.start_stage("warm", 1)
    assert "wandb is not installed" in caplog.text and (tmp_path / "run" / "log.jsonl").read_text().count("\n") == 1


def test_other_processes_than_the_first_leave_nothing(tmp_path, toys, wandb, strip):
    config = toy_config(tmp_path, log_wandb=True, tensorboard=True).config
    log = RunLog(RunFolder(tmp_path / "run"), config, active=False)
    log.start_stage("warm", 0)
    log.record("warm", 0, 1, {"val/loss": 0.5})
    log.end_stage(1, {"val/loss": 0.5})
    log.evaluation({"ssim": 0.5}, {"clip": strip})
    assert wandb.entries == [] and not (tmp_path / "run").exists()
