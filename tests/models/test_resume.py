"""A killed run of HyperLips or MakeItTalk goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import pytest
import torch
from models.hyperlips_hr.conftest import hr_clip

from helpers import canonical_faces
from helpers.drawn_clips import make_clip
from talkingface.devices import seed_everything
from talkingface.lipsync.expert.inputs import MEL
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.borrowed import with_stand_ins
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.training.trainer import StageLoop, Trainer
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder


class Killed(BaseException):
    """Stands for a process that ends without a chance to clean up."""


def loaded_config(model: str, folder):
    short = {f"stages.{name}.max_steps": 4 for name in ("expert", "base")} if model == "HyperLipsBase" else {}
    if model == "MakeItTalk":
        short = {f"stages.{name}.max_steps": n for name, n in (("content", 2), ("speaker", 6), ("translate", 2))}
    short |= {"stages.hr.max_steps": 6} if model == "HyperLipsHR" else {}
    quiet = {"profile": "tiny", "device": "cpu", "show_progress": False, "tensorboard": False, "save_every_steps": 1}
    return with_stand_ins(load_config(model, "folder", (), {**quiet, **short}), folder)


def prepared(root, name, config):
    return canonical_faces.make_clip(root, name, 40, config, phase=0.1 * int(name[-1]))


@pytest.mark.parametrize(
    ("model", "stage", "at"),
    [
        ("HyperLipsBase", "base", 2),
        ("HyperLipsHR", "hr", 4),
        ("MakeItTalk", "speaker", 5),  # the judges take part
        ("MakeItTalk", "translate", 0),  # between two stages
    ],
)
def test_a_killed_run_ends_with_the_same_weights(tmp_path, monkeypatch, model, stage, at):
    loaded = loaded_config(model, tmp_path)
    config = loaded.config
    make = (
        prepared
        if model == "MakeItTalk"
        else hr_clip
        if model == "HyperLipsHR"
        else lambda root, name, c: make_clip(root, name, 24, c.crop, mel=MEL)
    )
    clips = [make(tmp_path / "clips", f"a/{k}", config.model) for k in range(3)]
    if model == "HyperLipsHR":  # the clips say whose faces they hold
        config = config.model_copy(update={"model": config.model.model_copy(update={"base_weights": "aaaa"})})

    def fit(name: str) -> None:
        seed_everything(config.seed)
        built = get_spec(model).model(config.model)
        load_experts(built, config, [each.kind for each in config.stages])
        Trainer(config, built, {"train": clips[:2], "val": clips[2:]}, RunFolder(tmp_path / name)).fit()

    fit("whole")
    original = StageLoop._train_batch

    def train_batch(self, batch, ctx):
        if (self.stage.name, ctx.step) == (stage, at):
            raise Killed
        return original(self, batch, ctx)

    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "_train_batch", train_batch)
        with pytest.raises(Killed):
            fit("parts")
    fit("parts")
    whole, parts = (checkpoint.load(tmp_path / name / stage / "last.pt") for name in ("whole", "parts"))
    assert whole.step == parts.step > at
    for network, state in whole.networks.items():
        assert all(torch.equal(value, parts.networks[network][key]) for key, value in state.items()), network
    assert whole.optimizers.keys() == parts.optimizers.keys() >= set(whole.trained)
