"""HyperLipsBase's generation: the promises of all, the lower half alone, memory from batch to batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.drawn_clips import DrawnSource, Speech
from helpers.generation_promises import GenerationPromises
from talkingface.lipsync.half_face.draw import Drawer
from talkingface.models.hyperlips_base.config import HyperLipsBaseConfig
from talkingface.models.hyperlips_base.draw import FollowingDrawer, LowerHalfDrawer
from talkingface.models.hyperlips_base.model import HyperLipsBase

CROP = {"size": 32, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"}


def build(temporal: bool = False, **settings) -> HyperLipsBase:
    torch.manual_seed(0)
    sizes = {"generator": {"width": 0.125, "discriminator_width": 0.1, "temporal": temporal}}
    expert = {"width": 0.05, "side": 48}
    return HyperLipsBase(HyperLipsBaseConfig(crop=CROP, **sizes, expert=expert, inference=settings)).eval()


@pytest.fixture(scope="module")
def weights():
    model = build()
    model.train()
    for _ in range(3):  # running statistics that fit: with fresh ones a deep network tells no sounds apart
        model.generator(torch.randn(8, 1, 80, 16), torch.rand(8, 6, 32, 32))
    return model.state_dict()


@pytest.fixture
def model(weights):
    def make(temporal: bool = False, **settings) -> HyperLipsBase:
        built = build(temporal, **settings)
        built.load_state_dict(weights)
        return built

    return make


class TestGeneration(GenerationPromises):
    """HyperLipsBase keeps them."""


def frames(model, source=None, seconds: float = 0.8) -> np.ndarray:
    return np.stack(list(model.generate(source or DrawnSource(14, gone=(9,)), Speech(seconds))))


def test_only_what_is_pasted_is_drawn_and_it_is_the_same(model, monkeypatch):
    built = model(paste="lower", precision="32")
    assert isinstance(built.drawer(0.1), LowerHalfDrawer) and type(built.drawer()) is Drawer
    spared = frames(built)
    monkeypatch.setattr(HyperLipsBase, "drawer", lambda self, above=0.5, fps=25.0: Drawer(self))
    assert np.abs(frames(built).astype(int) - spared).max() <= 1


@pytest.mark.parametrize("batch", [7, 16])
def test_memory_runs_on_from_batch_to_batch(model, batch):
    one, many = (frames(model(True, fps=25, precision="32", batch=size)) for size in (1, batch))
    assert np.abs(one.astype(int) - many).max() <= 1


def test_memory_changes_frames_and_begins_anew_after_a_frame_without_a_face(model):
    built, plain = model(True, fps=25, precision="32"), model(fps=25, precision="32")
    remembered, single = frames(built), frames(plain)
    assert np.abs(remembered[0].astype(int) - single[0]).max() <= 1  # nothing to remember yet
    assert (remembered[8] != single[8]).any()
    assert np.abs(remembered[10].astype(int) - single[10]).max() <= 1  # frame 9 had no face
    assert isinstance(built.drawer(), FollowingDrawer) and not built.keeps_frame_rate
