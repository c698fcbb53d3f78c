"""Two tiny models for what is handed on: `ToyEar` trains a network, `ToyPainter` uses it and paints in two stages."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from talkingface.plugin import ClipDataset, Official, Plan, Section, TalkingFaceModel, Update, frozen, register


class Tones(ClipDataset):
    """Items: `sound` (16,) and the `colour` (3,) that goes with it."""

    def sample(self, clip, rng):
        sound = rng.standard_normal(16).astype(np.float32)
        return {"sound": sound, "colour": 1 / (1 + np.exp(-sound[:3]))}


class EarConfig(Section):
    width: int = 4


@register("ToyEar")
class ToyEar(TalkingFaceModel):
    """Trains `ear`; makes no videos."""

    Config = EarConfig
    plans = {"ear": Plan(Tones, trains=("ear",))}
    official = (
        Official("ear.pth", "ear", settings=lambda state: {"width": state["weight"].shape[0]}),
        Official("bare_ear.pth", "ear", key=(), rename=(("w", "weight"), ("b", "bias")), settings={"width": 5}),
    )

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.ear = nn.Linear(16, config.width)

    def ear_step(self, batch, ctx):
        yield Update("ear", {"mse": F.mse_loss(self.ear(batch["sound"])[:, :3], batch["colour"])})


class PainterConfig(EarConfig):
    listens: bool = True
    size: int = 32
    dropout: float = 0.2


class PaintOptions(Section):
    """`options:` of a stage: the side of the patch that is painted."""

    size: int = 32


@register("ToyPainter")
class ToyPainter(TalkingFaceModel):
    """Paints a square in the corner of the picture, in a colour that follows the sound."""

    Config = PainterConfig
    plans = {
        "paint": Plan(
            Tones, trains=("painter", "critic"), uses=("ear",), restarts=("critic",), options=PaintOptions
        )
    }  # fmt: skip

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.ear = nn.Linear(16, config.width)
        self.painter = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.width, 3), nn.Sigmoid())
        self.critic = nn.Linear(3, 1)

    @classmethod
    def needed_to_speak(cls, config):
        return ("ear", "painter") if config.listens else ("painter",)

    def paint_step(self, batch, ctx):
        colour = self.painter(self.ear(batch["sound"]))
        real, fake = self.critic(torch.cat([batch["colour"], colour.detach()])).chunk(2)
        yield Update("critic", {"hinge": F.relu(1 - real).mean() + F.relu(1 + fake).mean()})
        with frozen(self.critic):
            adversarial = -self.critic(colour).mean()
        losses = {"mse": F.mse_loss(colour, batch["colour"]), "adversarial": 0.1 * adversarial}
        yield Update("painter", {**losses, "size": 0 * losses["mse"] + 1e-9 * ctx.stage.options.size})

    def generate(self, source, audio):
        side = self.stage.options.size if self.stage else self.config.size
        for index in range(audio.n_frames(source.fps)):
            frame = np.zeros((*source.size, 3), np.uint8)
            sound = torch.from_numpy(audio.samples[index * 640 :][:16].copy())
            colour = self.painter(self.ear(sound) if self.config.listens else torch.ones(self.config.width))
            frame[:side, :side] = (colour * 255).byte().numpy()
            yield frame
