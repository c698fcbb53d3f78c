"""A killed run of HyperLips, MakeItTalk or LawDNet goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import pytest
import torch

from helpers.model_runs import short_clips, short_config, train_on
from talkingface.training.trainer import StageLoop
from talkingface.weights import checkpoint


class Killed(BaseException):
    """Stands for a process that ends without a chance to clean up."""


@pytest.mark.parametrize(
    ("model", "stage", "at"),
    [
        ("HyperLipsBase", "base", 2),
        ("HyperLipsHR", "hr", 4),
        ("MakeItTalk", "speaker", 5),  # the judges take part
        ("MakeItTalk", "translate", 0),  # between two stages
        ("LawDNet", "coarse", 2),
        ("LawDNet", "clip", 0),  # between two stages
    ],
)
def test_a_killed_run_ends_with_the_same_weights(tmp_path, monkeypatch, model, stage, at):
    config = short_config(model, tmp_path)
    clips = short_clips(model, tmp_path / "clips", config)
    train_on(clips, model, config, tmp_path / "whole")
    original = StageLoop._train_batch

    def train_batch(self, batch, ctx):
        if (self.stage.name, ctx.step) == (stage, at):
            raise Killed
        return original(self, batch, ctx)

    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "_train_batch", train_batch)
        with pytest.raises(Killed):
            train_on(clips, model, config, tmp_path / "parts")
    train_on(clips, model, config, tmp_path / "parts")
    whole, parts = (checkpoint.load(tmp_path / name / stage / "last.pt") for name in ("whole", "parts"))
    assert whole.step == parts.step > at
    for network, state in whole.networks.items():
        assert all(torch.equal(value, parts.networks[network][key]) for key, value in state.items()), network
    assert whole.optimizers.keys() == parts.optimizers.keys() >= set(whole.trained)
