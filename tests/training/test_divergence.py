"""Weights that a step has spoilt are not saved, though no loss has told of them yet."""

from __future__ import annotations

import pytest
import torch

from talkingface.errors import TrainingDiverged
from talkingface.plugin import Update
from talkingface.weights import checkpoint
from toys.build import toy_config, toy_trainer


def poisoned(step: int):
    """A step of the toy whose loss is finite always, and whose gradient is not at `step`: the root of 0 has none."""

    def warm_step(self, batch, ctx):
        loss = (self.generator(batch["x"]) - batch["y"]).square().mean()
        yield Update("generator", {"mse": loss + ((0.0 * loss).sqrt() if ctx.step == step else 0.0)})

    return warm_step


@pytest.mark.parametrize(("save_every_steps", "step", "kept"), [(100, 9, 5), (3, 5, 5), (3, 7, 6)])
def test_weights_spoilt_by_the_very_step_before_a_checkpoint_do_not_replace_the_last_good_ones(
    tmp_path, monkeypatch, toys, save_every_steps, step, kept
):
    """At the end of an epoch and between two; in the third case the next loss tells, as it always did."""
    monkeypatch.setattr(toys.ToyGAN, "warm_step", poisoned(step))
    loaded = toy_config(tmp_path, stage="warm", save_every_steps=save_every_steps)
    spoilt = "generator/mse" if kept == 6 else "weights of generator"
    with pytest.raises(TrainingDiverged, match=rf"stage 'warm' diverged near step \d+.*{spoilt} not finite.*last good"):
        toy_trainer(loaded, tmp_path / "run").fit()
    state = checkpoint.load(tmp_path / "run/warm/last.pt")
    assert state.step == kept
    assert all(torch.isfinite(value).all() for value in state.networks["generator"].values())
    best = checkpoint.load(tmp_path / "run/warm/best.pt")
    assert all(torch.isfinite(value).all() for value in best.networks["generator"].values())
