"""A toy that hears with a front end which has a file of weights."""

from __future__ import annotations

import numpy as np
from torch import nn

from talkingface.config.sections import Section
from talkingface.plugin import Plan, TalkingFaceModel, Update, register
from talkingface.sound.choice import FrontEndConfig
from talkingface.sound.front_ends import FrontEnd, register_front_end
from toys.toy_gan import Points


@register_front_end
class Tuned(FrontEnd):
    name, rows_per_second, width, files = "tuned", 25.0, 1, ("tuned.txt",)

    def extract(self, samples):
        return np.zeros((len(samples) // 640 + 1, 1), np.float32)


class ListenerConfig(Section):
    sound: FrontEndConfig = FrontEndConfig(name="tuned")


@register("ToyListener")
class ToyListener(TalkingFaceModel):
    Config, hears = ListenerConfig, "sound"
    plans = {"listen": Plan(Points, trains=("net",))}

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.net = nn.Linear(4, 2)

    def listen_step(self, batch, ctx):
        yield Update("net", {"mse": (self.net(batch["x"]) - batch["y"]).square().mean()})

    def generate(self, source, audio):
        yield from ()
