"""HyperLips' networks give the published outputs."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.hyperlips_base.networks.discriminator import HalfFaceDiscriminator
from talkingface.models.hyperlips_base.networks.generator import HyperLipsGenerator
from talkingface.models.hyperlips_hr.networks import FaceDiscriminator, HRDecoder
from talkingface.networks.sync_expert import sync_loss

LOSS = 1e-5  # relative


def keep(outputs: dict, module: torch.nn.Module, name: str) -> None:
    """Store what `module` gives under `name`."""
    module.register_forward_hook(lambda module, args, out: outputs.update({name: out.detach().clone()}))


def test_base_generator_gives_the_published_outputs(vector):
    v = vector("hyperlips", "base_generator")
    network = v.load(HyperLipsGenerator()).eval()
    audio, face, audio5, face5 = v.inputs()
    inner: dict[str, torch.Tensor] = {}
    control = network.hyper_control_net
    keep(inner, network.aspp, "aspp")
    for level in (0, 3):
        keep(inner, getattr(control, f"hnet{level}"), f"hnet{level}")
        keep(inner, getattr(control, f"dconv_down{level}"), f"hyper_out{level}")
    network.decoder.register_forward_hook(lambda module, args, out: inner.update(decoder_hid=out[0].clone()))
    with torch.no_grad():
        v.check("image", network(audio, face))
        for name, value in dict(inner).items():
            v.check(name, value)
        v.check("image_5d", network(audio5, face5))


def test_base_discriminator_gives_the_published_outputs(vector):
    v = vector("hyperlips", "base_discriminator")
    network = v.load(HalfFaceDiscriminator()).eval()
    (frames,) = v.inputs()
    inner: dict[str, torch.Tensor] = {}
    for block in (0, 2, 4):
        keep(inner, network.face_encoder_blocks[block], f"block{block}")
    opinion = network(frames)
    v.check("probability", opinion)
    for name, value in inner.items():
        v.check(name, value)
    real = sync_loss(opinion, 1.0)
    assert real.item() == pytest.approx(v["losses"]["real_bce"], rel=LOSS)
    assert real.item() == pytest.approx(v["losses"]["perceptual"], rel=LOSS)
    assert sync_loss(opinion, 0.0).item() == pytest.approx(v["losses"]["fake_bce"], rel=LOSS)
    real.backward()
    v.check_norms(network, v["grad_norms"], tolerance=1e-3)


@pytest.mark.parametrize("side", [128, 256, 512])
def test_hr_decoder_gives_the_published_outputs(vector, side):
    v = vector("hyperlips", f"hr_decoder_{side}")
    network = v.load(HRDecoder(v["constructor"]["rescaling"])).eval()
    (face_and_sketch,) = v.inputs()
    with torch.no_grad():
        v.check("image", network(face_and_sketch))


def test_hr_discriminator_gives_the_published_outputs(vector):
    v = vector("hyperlips", "hr_discriminator")
    network = v.load(FaceDiscriminator()).eval()
    image, image256 = v.inputs()
    inner: dict[str, torch.Tensor] = {}
    hooks = [name for name in v.outputs if name.startswith("block")]
    for name in hooks:
        keep(inner, network.face_encoder_blocks[int(name.removeprefix("block"))], name)
    with torch.no_grad():
        v.check("probability", network(image))
        for name in hooks:
            v.check(name, inner[name])
        v.check("probability256", network(image256))
