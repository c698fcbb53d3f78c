"""A tiny adversarial model on made-up numbers, for the tests of the shared loop."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from talkingface.plugin import (
    ClipDataset,
    DatasetOptions,
    Graph,
    Plan,
    Port,
    Section,
    TalkingFaceModel,
    Update,
    frozen,
    register,
)


class ToyGANConfig(Section):
    width: int = 8
    dropout: float = 0.2
    norm: bool = False  # batch norm in the generator
    poison_step: int = -1  # from this step on the loss is not finite


class PointsOptions(DatasetOptions):
    noise: float = 0.1


class Points(ClipDataset):
    """Inputs (4,) and targets (2,), a fixed linear map plus noise."""

    Options = PointsOptions

    def sample(self, clip, rng):
        x = rng.standard_normal(4).astype(np.float32)
        y = x[:2] - x[2:] + self.options.noise * rng.standard_normal(2).astype(np.float32)
        return {"x": x, "y": y}


@register("ToyGAN")
class ToyGAN(TalkingFaceModel):
    Config = ToyGANConfig
    plans = {
        "warm": Plan(Points, trains=("generator",)),
        "gan": Plan(Points, trains=("generator", "discriminator")),
    }

    @classmethod
    def needed_to_speak(cls, config):
        return ("generator", "discriminator")  # so stage `warm` makes no videos yet, and `gan` does

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.generator = nn.Sequential(
            nn.Linear(4, config.width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.width, 2)
        )
        if config.norm:
            self.generator.insert(2, nn.BatchNorm1d(config.width))
        self.discriminator = nn.Sequential(nn.Linear(2, config.width), nn.ReLU(), nn.Linear(config.width, 1))

    def warm_step(self, batch, ctx):
        loss = F.mse_loss(self.generator(batch["x"]), batch["y"])
        if 0 <= self.config.poison_step <= ctx.step:
            loss = loss * math.nan
        yield Update("generator", {"mse": loss})

    def gan_step(self, batch, ctx):
        fake = self.generator(batch["x"])
        both = self.discriminator(torch.cat([fake.detach(), batch["y"]]))
        fakes, reals = both.chunk(2)
        yield Update("discriminator", {"hinge": F.relu(1 + fakes).mean() + F.relu(1 - reals).mean()})
        with frozen(self.discriminator):
            adversarial = -self.discriminator(fake).mean()
        yield Update("generator", {"mse": F.mse_loss(fake, batch["y"]), "adversarial": 0.01 * adversarial})

    def validation_step(self, batch, ctx):
        return {"loss": F.mse_loss(self.generator(batch["x"]), batch["y"])}

    def graphs(self):
        points, made = Port("x", ("batch", 4), "points", -1.0, 1.0), Port("y", ("batch", 2), "their differences")
        return (
            Graph("generator", (points,), (made,)),
            Graph("discriminator", (made,), (Port("opinion", ("batch", 1), "high for real"),)),
        )

    def preview(self, batch, ctx, dataset):
        return {"picture": torch.rand(3, 8, 8), "video": torch.rand(4, 3, 8, 8)}
