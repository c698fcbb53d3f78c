"""`.safetensors` of ours: there and back, and what is none or was changed is one line."""

from __future__ import annotations

import json

import pytest
import torch

from helpers.checkpoints import edited, random_checkpoint
from talkingface.cli.commands import main
from talkingface.errors import CheckpointError
from talkingface.plugin.trained import read_trained
from talkingface.weights import checkpoint
from talkingface.weights.safe_file import KEY, write_safe

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def run(tmp_path, toys):
    """A checkpoint of the toy."""
    return random_checkpoint("ToyGAN", tmp_path / "run", **{"model.width": 6})


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_weights_and_configuration_go_there_and_come_back(run, tmp_path):
    safe, back = tmp_path / "toy.safetensors", tmp_path / "back.pt"
    assert main(["export", "--model=ToyGAN", f"--checkpoint={run}", "--format=safetensors", f"--output={safe}"]) == 0
    assert main(["import", "--model=ToyGAN", f"--checkpoint={safe}", f"--output={back}"]) == 0
    before, after = checkpoint.load(run), checkpoint.load(back)
    assert all(same(before.networks[name], after.networks[name]) for name in before.networks)
    assert after.config["model"]["width"] == 6 and (after.ready, after.stage) == (before.ready, before.stage)
    model = read_trained("ToyGAN", safe).model
    assert same(model.generator.state_dict(), before.networks["generator"]), "it is a checkpoint as it is"


def test_others_may_read_it_as_they_may_read_any_new_file(tmp_path):
    write_safe(tmp_path / "weights.safetensors", {"generator": {"weight": torch.zeros(2)}}, {})
    (tmp_path / "any").touch()
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_settings_that_are_asked_for_go_into_the_header(run, tmp_path):
    safe = tmp_path / "toy.safetensors"
    options = [f"--checkpoint={run}", f"--output={safe}", "--model.dropout=0.5"]
    assert main(["export", "--model=ToyGAN", "--format=safetensors", *options]) == 0
    assert checkpoint.load(safe).config["model"]["dropout"] == 0.5


def test_other_programs_read_it(run, tmp_path):
    checkpoint.save_safe(tmp_path / "toy.safetensors", checkpoint.load(run))
    tensors = safetensors.load_file(tmp_path / "toy.safetensors")
    assert torch.equal(tensors["generator.0.weight"], checkpoint.load(run).networks["generator"]["0.weight"])


def written(path, run, text=None, networks=None, **changes):
    """A file with parts exchanged."""
    content = checkpoint.load(run)
    told = edited(content, **changes)
    told = {key: told[key] for key in ("format", "model", "config", "stage", "trained", "ready", *changes)}
    write_safe(path, content.networks if networks is None else networks, told)
    if text is not None:
        tensors = safetensors.load_file(path)
        safetensors.save_file(tensors, path, metadata={KEY: text})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ""}, "its header says nothing of a talkingface model"),
        ({"text": "[1]"}, "its header says nothing of a talkingface model"),
        ({"text": "{" * 10000}, "cannot be read: cut short, damaged or none of ours"),
        ({"text": json.dumps({"model": "ToyGAN"})}, "not a talkingface checkpoint"),
        ({"ready": "all"}, "not a talkingface checkpoint"),
        ({"format": 99}, "written by a newer talkingface"),
        ({"best": [1]}, "its entry 'best'"),
        ({"config": {str(k): k for k in range(30000)}}, "its configuration is none"),
        ({"networks": {"generator": {"0.weight": torch.zeros(1)}}}, "does not fit: 3 missing"),
    ],
)
def test_what_is_none_of_ours_is_one_line(run, tmp_path, changes, message):
    path = written(tmp_path / "odd.safetensors", run, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_trained("ToyGAN", path)
    assert "\n" not in str(caught.value) and "odd.safetensors" in str(caught.value)


def test_a_damaged_file_is_one_line(run, tmp_path):
    path = written(tmp_path / "cut.safetensors", run)
    whole = path.read_bytes()
    for harm in (whole[:100], whole[:-10], b"\xff" * 8 + whole[8:], whole[:20] + b"\x00" * 40 + whole[60:], b"x"):
        path.write_bytes(harm)
        with pytest.raises(CheckpointError, match=r"cut\.safetensors: "):
            checkpoint.load(path)


def test_without_the_package_it_says_how_to_get_it(run, tmp_path, monkeypatch, capsys):
    path = written(tmp_path / "toy.safetensors", run)
    monkeypatch.setattr("talkingface.packages.installed", lambda name: None)
    for command in (
        ["import", "--model=ToyGAN", f"--checkpoint={path}"],
        ["export", "--model=ToyGAN", f"--checkpoint={run}", "--format=safetensors"],
    ):
        assert main(command) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "needs safetensors, huggingface_hub: pip install -c" in line
