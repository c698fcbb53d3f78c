"""What becomes of the updates that a step yields: each is one step of its network's optimiser."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from talkingface.plugin import Update
from talkingface.weights import checkpoint
from toys.build import toy_config, toy_trainer

RATE = 0.05


def by_hand(first: dict[str, torch.Tensor], segments: list[tuple[torch.Tensor, torch.Tensor]], accumulate: int):
    """Weights of the toy's generator after plain descents: gradients are gathered until a batch makes its steps."""
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 2))
    network.load_state_dict(first)
    for number, (x, y) in enumerate(segments):
        (F.mse_loss(network(x), y) / accumulate).backward()
        batch = number // 2
        if batch % accumulate == accumulate - 1:
            with torch.no_grad():
                for weight in network.parameters():
                    weight -= RATE * weight.grad
            network.zero_grad()
    return network.state_dict()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_updates_of_a_network_are_two_steps_each_with_gradients_of_its_own(tmp_path, monkeypatch, toys, accumulate):
    """A long clip, once per segment; where batches are accumulated, the last of them makes both steps."""
    first, segments = {}, []

    def warm_step(self, batch, ctx):
        if not segments:
            first.update({name: value.clone() for name, value in self.generator.state_dict().items()})
        for rows in (slice(0, 2), slice(2, 4)):
            x, y = batch["x"][rows], batch["y"][rows]
            segments.append((x, y))
            yield Update("generator", {"mse": F.mse_loss(self.generator(x), y)})

    monkeypatch.setattr(toys.ToyGAN, "warm_step", warm_step)
    stage = {"stages.warm.accumulate": accumulate, "stages.warm.optim.generator": {"name": "sgd", "lr": RATE}}
    loaded = toy_config(tmp_path, stage="warm", max_steps=6, **{"model.dropout": 0.0}, **stage)
    toy_trainer(loaded, tmp_path / "run").fit()
    found = checkpoint.load(tmp_path / "run/warm/last.pt").networks["generator"]
    assert len(segments) == 12
    for name, value in by_hand(first, segments, accumulate).items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
