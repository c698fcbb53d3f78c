"""Checkpoint files: whole or not at all, never code, clear messages."""

from __future__ import annotations

import math
import os
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from talkingface.errors import CheckpointError, OutputError
from talkingface.plugin.official import official_state
from talkingface.training.rng import isolated_rng, restore_rng, rng_state
from talkingface.weights import checkpoint


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def content(**more):
    return {"format": 1, "model": "A", "networks": {}, "config": {}, **more}


@pytest.mark.parametrize("via", ["torch", "pickle"])
def test_a_pickle_with_code_in_it_is_refused(tmp_path, monkeypatch, via):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if via == "torch":
        torch.save({"x": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="evil.pt: (refused|not a readable)"):
        checkpoint.load(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("data", "part"),
    [(b"", "empty"), (b"no checkpoint at all", "damaged"), (b"PK\x03\x04" + b"x" * 100, "damaged|cut short")],
)
def test_damaged_files_get_one_clear_line(tmp_path, data, part):
    path = tmp_path / "bad.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=part) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value) and "bad.pt" in str(caught.value)


def test_a_file_cut_short_is_reported(tmp_path):
    path = tmp_path / "cut.pt"
    checkpoint.write(path, content(networks={"a": {"w": torch.zeros(10000)}}))
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(CheckpointError, match="cut.pt"):
        checkpoint.load(path)


def test_foreign_and_wrong_model_are_told_apart(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="import --model"):
        checkpoint.load(tmp_path / "foreign.pth")
    checkpoint.write(tmp_path / "a.pt", content())
    with pytest.raises(CheckpointError, match="is a checkpoint of A, not of B"):
        checkpoint.load(tmp_path / "a.pt", "B")
    with pytest.raises(CheckpointError, match="no such"):
        checkpoint.find_checkpoint(tmp_path / "none")


def test_every_key_that_does_not_fit_is_named():
    network = nn.Linear(2, 3)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_state(network, {"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}, "f.pt: net")
    text = str(caught.value)
    assert "missing: bias" in text and "unexpected: extra" in text and "weight (3, 4) instead of (3, 2)" in text


def test_writing_fails_cleanly_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    checkpoint.write(path, content(step=1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="x.pt.*the disk is full"):
        checkpoint.write(path, content(step=2))
    monkeypatch.undo()
    assert checkpoint.load(path).step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


def test_random_state_round_trip_through_a_file(tmp_path):
    checkpoint.write(tmp_path / "r.pt", {"rng": rng_state()})
    first = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), torch.randn(2).tolist())
    restore_rng(checkpoint.read(tmp_path / "r.pt")["rng"])
    assert first == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), torch.randn(2).tolist())


def test_random_numbers_drawn_in_between_leave_no_trace():
    def drawn():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    torch.manual_seed(11)
    expected = torch.rand(3).tolist()
    state = rng_state()
    undisturbed = drawn()
    restore_rng(state)
    with pytest.raises(ValueError), isolated_rng(11):
        assert drawn()[0] == expected
        raise ValueError
    assert drawn() == undisturbed


def test_only_one_leading_prefix_is_stripped_from_published_keys(tmp_path):
    official = SimpleNamespace(
        key=("state_dict",), strip="module.", ignore=("perceptual.",), rename=(("old.", "new."),)
    )
    keys = ["module.flow_module.conv", "module.perceptual.x", "old.a", "flow_module.module.b"]
    state = official_state(official, {"state_dict": {k: torch.zeros(1) for k in keys}}, tmp_path / "f.pth")
    assert list(state) == ["flow_module.conv", "new.a", "flow_module.module.b"]


def test_the_file_holds_every_entry_of_the_content_and_gives_it_back(tmp_path):
    networks = {"a": {"w": torch.ones(2)}}
    written = checkpoint.CheckpointContent(
        model="A", config={"seed": 1}, networks=networks, stage="s", trained=["a"], ready=["a"], step=3, best={"x": 0.5}
    )
    checkpoint.save(tmp_path / "a.pt", written)
    plain = torch.load(tmp_path / "a.pt", weights_only=True)
    assert plain.keys() == {"format", *vars(written)}
    loaded = checkpoint.load(tmp_path / "a.pt", "A")
    assert torch.equal(loaded.networks["a"]["w"], networks["a"]["w"])
    assert vars(loaded) | {"networks": networks} == vars(written)


def test_files_of_before_lack_entries_and_still_load(tmp_path):
    networks = {"a": {"w": torch.ones(2)}, "b": {"w": torch.ones(2)}}
    checkpoint.write(tmp_path / "old.pt", content(networks=networks, epoch=2))
    old = checkpoint.load(tmp_path / "old.pt")
    assert (old.epoch, old.step, old.rng, old.gradients) == (2, 0, None, {})
    assert old.ready == ["a", "b"]  # as `import` wrote: nothing but ready networks
    # A network that a run was given but did not save is not in the file, so it is not ready.
    checkpoint.write(tmp_path / "used.pt", content(networks=networks, ready=["a", "given"]))
    assert checkpoint.load(tmp_path / "used.pt").ready == ["a"]


def test_what_is_no_checkpoint_of_ours_is_not_recognised():
    for data in ({"state_dict": {}}, {"networks": 3}, [1], None):
        assert checkpoint.CheckpointContent.recognise(data) is None


@pytest.mark.parametrize(
    ("entry", "value", "part"),
    [
        ("epoch", "7", r"'epoch' should be a valid integer"),
        ("step", -1.5, r"'step' should be a valid integer"),
        ("best", {"val/loss": "low"}, r"'best.val/loss' should be a valid number"),
        ("optimizers", [1], r"'optimizers' should be a valid dictionary"),
        ("rng", 5, r"'rng' should be a valid dictionary"),
        ("finished", 1, r"'finished' should be a valid boolean"),
        ("networks", {"a": 5}, "not a talkingface checkpoint"),
        ("networks", {5: {}}, "not a talkingface checkpoint"),
        ("networks", ["expert"], "not a talkingface checkpoint"),
        ("ready", [["a"]], "not a talkingface checkpoint"),
        ("model", 3, "not a talkingface checkpoint"),
        ("config", [], "not a talkingface checkpoint"),
        ("config", {"x": [0] * 30_000}, "its configuration is none .more than 20000 values"),
    ],
)
def test_entries_of_another_type_are_named(tmp_path, entry, value, part):
    checkpoint.write(tmp_path / "a.pt", content(**{entry: value}))
    with pytest.raises(CheckpointError, match=rf"a\.pt: .*{part}") as caught:
        checkpoint.load(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


def test_only_the_first_of_many_misfits_are_named():
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_state(nn.Linear(2, 3), {f"w{k}": torch.zeros(1) for k in range(1000)}, "f.pt: net")
    assert str(caught.value).endswith("1000 unexpected: w0, w1, w2 and 997 more")


@pytest.mark.parametrize("data", [{5: torch.zeros(1)}, {"state_dict": 5}, {"a": None}, {"state_dict": {"a": {}}}, [1]])
def test_what_is_no_table_of_weights_is_refused_in_one_line(tmp_path, data):
    torch.save(data, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: expected the weights of an ear, found something else"):
        checkpoint.load_state_file(nn.Linear(2, 2), tmp_path / "x.pth", "an ear")


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda weight: weight.index_fill(0, torch.tensor([0]), math.nan), "not finite"),
        (lambda weight: weight * math.inf, "not finite"),
        (lambda weight: weight.to(torch.complex64), "complex64"),
        (lambda weight: weight.to(torch.int64), "int64"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(spoil, reason):
    network = torch.nn.Linear(3, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {**before, "weight": spoil(before["weight"])}
    with pytest.raises(CheckpointError, match=rf"x\.pt: net holds weights that cannot be used: weight \({reason}\)"):
        checkpoint.load_state(network, state, "x.pt: net")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_of_another_precision_are_taken():
    network = torch.nn.Linear(3, 2)
    half = {key: value.half() for key, value in network.state_dict().items()}
    checkpoint.load_state(network, half, "x.pt")
    assert torch.equal(network.weight, half["weight"].float())


def test_an_entry_that_is_no_tensor_is_refused():
    with pytest.raises(CheckpointError, match="x.pt: net does not fit: 1 no tensor: bias"):
        checkpoint.load_state(nn.Linear(3, 2), {"weight": torch.zeros(2, 3), "bias": [0.0, 0.0]}, "x.pt: net")


@pytest.mark.parametrize("lie", [{"networks": {"a": 3}}, {"networks": {"a": {}}, "ready": "a"}])
def test_a_file_whose_networks_are_none_is_refused_in_one_line(tmp_path, lie):
    checkpoint.write(tmp_path / "lies.pt", content(**lie))
    with pytest.raises(CheckpointError, match="lies.pt: not a talkingface checkpoint") as caught:
        checkpoint.load(tmp_path / "lies.pt")
    assert "\n" not in str(caught.value)
