"""Short trainings of the models that stand on others or on prepared clips: configuration, clips, one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from models.hyperlips_hr.conftest import hr_clip

from helpers import canonical_faces, dubbing_clips
from helpers.drawn_clips import make_clip
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import Config
from talkingface.devices import seed_everything
from talkingface.lipsync.expert.inputs import MEL
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.borrowed import with_stand_ins
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.training.trainer import Trainer
from talkingface.weights.runs import RunFolder

STEPS = {
    "HyperLipsBase": {"expert": 4, "base": 4},
    "HyperLipsHR": {"hr": 6},
    "MakeItTalk": {"content": 2, "speaker": 6, "translate": 2},
    "DINet": {"expert": 3, "coarse": 4, "clip": 3},
    "LawDNet": {"expert": 3, "coarse": 4, "clip": 3},
}
"""Steps of each stage."""


def short_config(model: str, folder: Path, **settings: Any) -> Config:
    """Profile `tiny` with a few steps in each stage; whoever lends a network is random."""
    steps = {f"stages.{stage}.max_steps": count for stage, count in STEPS[model].items()}
    quiet = {"profile": "tiny", "device": "cpu", "show_progress": False, "tensorboard": False, "save_every_steps": 1}
    config = with_stand_ins(load_config(model, "folder", (), {**quiet, **steps, **settings}), folder).config
    if model == "HyperLipsHR":  # the clips of `short_clips` say whose faces they hold
        return config.model_copy(update={"model": config.model.model_copy(update={"base_weights": "aaaa"})})
    return config


def short_clips(model: str, folder: Path, config: Config) -> list[ClipFolder]:
    """Three prepared clips."""

    def dubbed(name: str) -> ClipFolder:
        signal = np.random.default_rng(int(name[-1])).uniform(size=40)
        return dubbing_clips.make_clip(folder, name, 40, config=config.model, signal=signal)

    makers = {
        "DINet": dubbed,
        "LawDNet": dubbed,
        "HyperLipsBase": lambda name: make_clip(folder, name, 24, config.model.crop, mel=MEL),
        "HyperLipsHR": lambda name: hr_clip(folder, name, config.model),
        "MakeItTalk": lambda name: canonical_faces.make_clip(folder, name, 40, config.model, phase=int(name[-1]) / 10),
    }
    return [makers[model](f"a/{k}") for k in range(3)]


def train_on(clips: list[ClipFolder], model: str, config: Config, run: Path, fabric: Fabric | None = None) -> None:
    """Train all stages on two of the clips, or go on with the run; the third is held out."""
    seed_everything(config.seed)
    built = get_spec(model).model(config.model)
    load_experts(built, config, [each.kind for each in config.stages])
    Trainer(config, built, {"train": clips[:2], "val": clips[2:]}, RunFolder(run), fabric=fabric).fit()
