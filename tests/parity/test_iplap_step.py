"""The model's own step yields the published objective: terms, weights, warm-up, and the discriminator's slip."""

from __future__ import annotations

import pytest
import torch

from talkingface.config.sections import StageConfig
from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.iplap.model import IPLAP
from talkingface.plugin.contract import StepContext


@pytest.mark.slow
def test_render_step_has_the_published_terms(vector):
    v = vector("iplap", "renderer_losses")
    model = IPLAP(IPLAPConfig(loss={"perceptual_gain": 1.0, "legacy_disc_grad": True, "warmup_discriminator": True}))
    for name, network in (("renderer", model.renderer), ("discriminator", model.discriminator)):
        source = vector("iplap", name)
        source.salt = v.salt
        source.load(network)
    vgg = vector("iplap", "perceptual_vgg19")
    vgg.salt = v.salt
    model.vgg19.network.load_weights(vgg.state_dict())
    real = v.inputs()[0].flatten(0, 1)
    with torch.no_grad():
        generated, warped = model.renderer(*v.inputs())
    model.draw = lambda batch, warp_only=False: (real, None if warp_only else generated, warped)

    stage = StageConfig(name="render", kind="render", max_steps=1)
    warming, judged = model.render_step({}, StepContext(stage, epoch=25))
    assert total(warming) == pytest.approx(v["losses"]["phase1"], rel=1e-3)
    assert total(judged) == pytest.approx(v["losses"]["discriminator"], rel=1e-3)

    update, judged = model.render_step({}, StepContext(stage, epoch=26))
    assert total(update) == pytest.approx(v["losses"]["phase2"], rel=1e-3)
    assert judged.losses["realness"].item() == pytest.approx(v["losses"]["discriminator"], rel=1e-3)
    judged.losses["realness"].backward(retain_graph=True)
    v.check_norms(model.discriminator, v["grad_norms"]["discriminator_clean"], "discriminator_clean")
    judged.losses["legacy"].backward()
    v.check_norms(model.discriminator, v["grad_norms"]["discriminator_upstream"], "discriminator_upstream")


def total(update) -> float:
    return sum(value.item() for value in update.losses.values())
