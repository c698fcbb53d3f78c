"""Networks of other runs: which run is meant, what comes along, and what is refused."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from talkingface.cli.arguments import parse
from talkingface.cli.run import RUN
from talkingface.errors import CheckpointError, ConfigError
from talkingface.plugin.borrowed import LenderMissing, carried_over, with_borrowed, with_stand_ins
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from talkingface.weights.hashes import weights_hash
from talkingface.weights.runs import RunFolder
from talkingface.workflow import calls
from talkingface.workflow.prerequisites import with_prerequisites
from toys.build import CLIPS, toy_config, toy_trainer


@pytest.fixture(autouse=True)
def borrower(monkeypatch):
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_painter,toys.toy_borrower")
    import toys.toy_borrower

    return toys.toy_borrower


def lend(tmp_path: Path, name: str, status: str = "finished", **overrides) -> Path:
    """A run of ToyEar where `auto` looks for it."""
    run = tmp_path / "saved/ToyEar-folder" / name
    toy_trainer(toy_config(tmp_path, "ToyEar", **overrides), run).fit()
    RunFolder(run).set_status(status)
    return run


def ear_of(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(checkpoint.find_checkpoint(run)).networks["ear"]


def resolved(tmp_path: Path, **overrides):
    return with_borrowed(toy_config(tmp_path, "ToyBorrower", **overrides)).config


def borrow(tmp_path: Path, name: str, **overrides) -> Path:
    """A run of ToyBorrower."""
    run = tmp_path / "saved/ToyBorrower-folder" / name
    toy_trainer(with_borrowed(toy_config(tmp_path, "ToyBorrower", **overrides)), run).fit()
    return run


def test_auto_is_the_latest_finished_run_and_its_settings_come_along(tmp_path):
    lend(tmp_path, "a")
    latest = lend(tmp_path, "b", **{"model.width": 6})
    lend(tmp_path, "c", status="running")
    for age, name in enumerate("abc"):
        os.utime(tmp_path / "saved/ToyEar-folder" / name / "run.json", (1000 + age, 1000 + age))
    config = resolved(tmp_path)
    assert config.experts["ear"] == str(latest) and config.model.width == 6
    assert config.experts_weights["ear"] == weights_hash(ear_of(latest))


def test_experts_that_the_lender_learnt_to_please_are_noted_and_stay_noted_when_it_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(get_spec("ToyEar").model, "loss_experts", ("ear",))
    lent = lend(tmp_path, "a")
    noted = {"ear": weights_hash(ear_of(lent)), "ear_ear": weights_hash(ear_of(lent))}
    run = borrow(tmp_path, "mine")
    assert checkpoint.load(checkpoint.find_checkpoint(run)).config["experts_weights"] == noted
    shutil.rmtree(lent)
    assert resolved(tmp_path, **{"experts.ear": str(run)}).experts_weights == noted


def test_without_a_run_the_imported_weights_serve(tmp_path):
    run = lend(tmp_path, "a")
    imported = tmp_path / "weights/ToyEar/imported.pt"
    imported.parent.mkdir(parents=True)
    shutil.move(checkpoint.find_checkpoint(run), imported)
    shutil.rmtree(run)
    config = resolved(tmp_path, weights_dir=str(tmp_path / "weights"))
    assert config.experts["ear"] == str(imported)


def test_a_setting_that_contradicts_the_network_is_an_error_that_names_both(tmp_path):
    run = lend(tmp_path, "a", **{"model.width": 6})
    assert resolved(tmp_path, **{"model.width": 6}).model.width == 6
    with pytest.raises(ConfigError, match=r"model.width is 5, its network was trained with 6") as error:
        resolved(tmp_path, **{"model.width": 5})
    assert str(run) in str(error.value)


def test_a_run_of_another_model_or_without_the_network_is_refused(tmp_path):
    run = lend(tmp_path, "a")
    content = checkpoint.load(checkpoint.find_checkpoint(run))
    for name, change in (("other", {"model": "IPLAP"}), ("untrained", {"ready": []})):
        checkpoint.write(tmp_path / f"{name}.pt", {**content.to_plain(), **change})
    with pytest.raises(CheckpointError, match="is a checkpoint of IPLAP; experts.ear takes one of ToyEar"):
        resolved(tmp_path, **{"experts.ear": str(tmp_path / "other.pt")})
    with pytest.raises(CheckpointError, match="holds no trained 'ear' for experts.ear"):
        resolved(tmp_path, **{"experts.ear": str(tmp_path / "untrained.pt")})


def test_a_missing_prerequisite_names_the_command_with_what_concerns_it(tmp_path):
    own = {"seed": 3, "model.width": 6, "model.listens": True, "run_name": "mine", "max_steps": 4}
    loaded = toy_config(tmp_path, "ToyBorrower", **own)
    carried = carried_over(loaded, get_spec("ToyBorrower").model.borrows["ear"])
    assert carried["seed"] == 3 and carried["model.width"] == 6, "what comes along with the network is asked of its run"
    assert not {"model.listens", "run_name", "max_steps"} & carried.keys()
    with pytest.raises(LenderMissing, match=r"needs a trained ToyEar.*--model=ToyEar --dataset=folder.*--seed=3"):
        with_borrowed(loaded)


def test_the_command_is_one_for_a_shell(tmp_path):
    asked = {"data_root": "my videos", "preprocess.filters.blur": None, "preprocess.workers": 0}
    loaded = toy_config(tmp_path, "ToyBorrower", **asked)
    with pytest.raises(LenderMissing) as error:
        with_borrowed(loaded)
    command = re.search("`python run_talkingface.py (--model=ToyEar .*?)`", str(error.value))[1]
    values = parse(shlex.split(command), {"run": RUN}, "run").overrides
    assert {key: values[key] for key in asked} == asked and values["show_progress"] is False


def test_the_hash_follows_from_the_weights_alone(tmp_path):
    run = lend(tmp_path, "a")
    file, before = checkpoint.find_checkpoint(run), resolved(tmp_path).experts_weights
    content = checkpoint.load(file)
    checkpoint.save(file, content)
    os.utime(file, (1, 1))
    assert resolved(tmp_path).experts_weights == before
    content.networks["ear"]["weight"][0, 0] += 1e-3
    checkpoint.save(file, content)
    assert resolved(tmp_path).experts_weights != before


def test_a_resumed_run_keeps_its_ear_and_outlives_the_lender(tmp_path):
    first = lend(tmp_path, "a")
    run = borrow(tmp_path, "mine")
    loaded = with_borrowed(toy_config(tmp_path, "ToyBorrower"))
    (run / "config.yaml").write_text(loaded.to_yaml())
    RunFolder(run).set_status("running")
    hash_of_first = weights_hash(ear_of(first))
    lend(tmp_path, "b", seed=9)
    again = resolved(tmp_path, resume=str(run))
    assert again.experts["ear"] == str(first) and again.experts_weights["ear"] == hash_of_first
    assert resolved(tmp_path).experts_weights["ear"] != hash_of_first
    shutil.rmtree(first)
    alone = resolved(tmp_path, resume=str(run))
    assert alone.experts["ear"].startswith(str(run)) and alone.experts_weights["ear"] == hash_of_first


def test_a_resumed_run_keeps_its_ear_also_where_the_lender_was_trained_on(tmp_path):
    lender = lend(tmp_path, "a")
    mine = borrow(tmp_path, "mine")
    (mine / "config.yaml").write_text(with_borrowed(toy_config(tmp_path, "ToyBorrower")).to_yaml())
    RunFolder(mine).set_status("running")
    begun = weights_hash(ear_of(lender))
    file = checkpoint.find_checkpoint(lender)
    content = checkpoint.load(file)
    content.networks["ear"]["weight"][0, 0] += 1e-3
    checkpoint.save(file, content)
    again = resolved(tmp_path, resume=str(mine))
    assert again.experts["ear"].startswith(str(mine)) and again.experts_weights["ear"] == begun


def test_another_lender_is_not_for_whoever_was_trained_with_one(tmp_path):
    other = lend(tmp_path, "a")
    mine = borrow(tmp_path, "mine")
    from talkingface.pipeline import Pipeline

    with pytest.raises(ConfigError, match=r"experts.ear: .*holds the network it was trained with; leave the option"):
        Pipeline.from_checkpoint("ToyBorrower", mine, "cpu", {"experts.ear": str(other)})


def test_a_checkpoint_speaks_without_the_run_that_lent(tmp_path):
    lender = lend(tmp_path, "a", **{"model.width": 6})
    run = borrow(tmp_path, "mine")
    expected = ear_of(lender)
    shutil.rmtree(lender)
    from talkingface.pipeline import Pipeline

    model = Pipeline.from_checkpoint("ToyBorrower", run, "cpu").model
    assert all(torch.equal(value, expected[key]) for key, value in model.ear.state_dict().items())


def test_run_trains_what_is_missing_first_only_where_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "prepare", lambda loaded, **_: {**CLIPS, "test": [], "unseen": []})
    asked = {"evaluate": False, "seed": 5, "model.listens": True}
    with pytest.raises(LenderMissing):
        calls.run_configured(toy_config(tmp_path, "ToyBorrower", **asked))
    assert not list((tmp_path / "saved").glob("ToyEar*"))
    calls.run_configured(toy_config(tmp_path, "ToyBorrower", **asked, prerequisites="train"))
    (lender,) = (tmp_path / "saved/ToyEar-folder").iterdir()
    (run,) = (tmp_path / "saved/ToyBorrower-folder").iterdir()
    content = checkpoint.load(checkpoint.find_checkpoint(run))
    assert content.config["experts"]["ear"] == str(lender)
    assert checkpoint.load(checkpoint.find_checkpoint(lender)).config["seed"] == 5


def test_what_the_borrower_lacks_is_told_before_the_lender_trains(tmp_path):
    asked = {"prerequisites": "train", "model.listens": True}
    for more, told in (
        ({"eval_step": 1, "stages.coarse.monitor": "eval/none"}, "monitor 'eval/none' is a figure of none of the"),
        ({"stages.coarse.init_from": ["gone.pt"]}, "stage 'coarse' starts from stage 'gone.pt', but "),
    ):
        with pytest.raises((CheckpointError, ConfigError), match=told):
            with_prerequisites(toy_config(tmp_path, "ToyBorrower", **asked, **more), pytest.fail)
    assert not (tmp_path / "saved").exists()


def test_where_several_processes_train_nothing_is_trained_first(tmp_path):
    asked = {"prerequisites": "train", "distributed.devices": 2, "model.listens": True}
    with pytest.raises(CheckpointError, match=r"needs a trained ToyEar.*--distributed.devices=2.*is not made first"):
        calls.run_configured(toy_config(tmp_path, "ToyBorrower", **asked))


def test_a_training_that_gives_no_lender_is_not_repeated(tmp_path):
    loaded, trained = toy_config(tmp_path, "ToyBorrower", prerequisites="train"), []
    with pytest.raises(LenderMissing):
        with_prerequisites(loaded, lambda lender: trained.append(lender.config.model_name))
    assert trained == ["ToyEar"]


@pytest.mark.parametrize("resume", ["none", "auto"])
def test_the_lender_goes_on_where_the_borrower_would(tmp_path, resume):
    loaded, asked = toy_config(tmp_path, "ToyBorrower", prerequisites="train", resume=resume), []
    with pytest.raises(LenderMissing):
        with_prerequisites(loaded, lambda lender: asked.append(lender.config.resume))
    assert asked == [resume]


def test_a_benchmark_needs_nobody_to_lend(tmp_path):
    loaded = with_stand_ins(toy_config(tmp_path, "ToyBorrower", **{"model.width": 7}), tmp_path)
    content = checkpoint.load(loaded.config.experts["ear"])
    model = get_spec("ToyBorrower").model(loaded.config.model)
    checkpoint.load_networks(model, content.networks, "stand-in")
