"""HyperLips' networks give the published outputs, and its objectives the published terms."""

from __future__ import annotations

import copy

import pytest
import torch

from talkingface.models.hyperlips_base.networks.discriminator import HalfFaceDiscriminator
from talkingface.models.hyperlips_base.networks.generator import HyperLipsGenerator
from talkingface.models.hyperlips_hr.losses import VGG_LAYER, Look, lip_l1, lip_lpips, relativistic, vgg_distance
from talkingface.models.hyperlips_hr.networks import FaceDiscriminator, HRDecoder
from talkingface.networks.lpips import LPIPS
from talkingface.networks.sync_expert import SyncExpert, sync_loss
from talkingface.networks.vgg19 import VGG19Features

from . import fill

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


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_hr_objective_has_the_published_terms_and_gradients(vector, mode):
    v = vector("hyperlips", "hr_losses")
    networks = {}
    for name, build in (("hr_decoder_128", lambda: HRDecoder(1)), ("hr_discriminator", FaceDiscriminator)):
        source = vector("hyperlips", name)
        source.salt = v.salt
        networks[name] = source.load(build()).train(mode == "train")
    decoder, discriminator = networks["hr_decoder_128"], networks["hr_discriminator"]
    vgg, lpips = perceptual_networks(v)
    given, target = v.inputs()
    boxes = torch.tensor(v["constructor"]["lip_boxes_row0_row1_col0_col1"])
    drawn = decoder(given)
    v.check(f"image_{mode}", drawn)
    with torch.no_grad():
        v.check("vgg19_features_gt", vgg(target[:1])[0])
        real = discriminator(target)
    each = lip_lpips(lpips, drawn, target, boxes, Look())
    terms = {
        "adversarial": relativistic(discriminator(drawn), real),
        "perceptual": vgg_distance(vgg, drawn, target, Look()),
        "content": (drawn - target).abs().mean(),
        "lip_lpips": each.mean(),
        "lip_l1": lip_l1(drawn, target, boxes),
    }
    stored = v["losses"][mode]
    assert each.tolist() == pytest.approx(stored["lip_lpips_each"], rel=1e-4)
    assert {name: term.item() for name, term in terms.items()} == {
        name: pytest.approx(stored[name], rel=1e-4) for name in terms
    }
    total = torch.stack(list(terms.values())).sum()
    assert total.item() == pytest.approx(stored["total"], rel=LOSS)
    total.backward()
    v.check_norms(decoder, v["grad_norms"][f"{mode}_generator"], f"{mode}_generator")
    discriminator.zero_grad()
    loss = relativistic(discriminator(target), discriminator(drawn.detach()))
    assert loss.item() == pytest.approx(stored["discriminator"], rel=LOSS)
    loss.backward()
    v.check_norms(discriminator, v["grad_norms"][f"{mode}_discriminator"], f"{mode}_discriminator")


def perceptual_networks(v) -> tuple[VGG19Features, LPIPS]:
    """Both filled by the rule; the linear heads are absolute values of it."""
    vgg = VGG19Features((VGG_LAYER,))
    vgg.load_weights({k: torch.from_numpy(x) for k, x in fill.weights(v["vgg19_state_dict"], v.salt).items()})
    lpips = LPIPS("vgg")
    trunk = fill.weights(v["lpips_vgg16_state_dict"], v.salt)
    heads = {key: abs(value) for key, value in fill.weights(v["lpips_lin_state_dict"], v.salt).items()}
    lpips.load_state_dict({key: torch.from_numpy(value) for key, value in (trunk | heads).items()})
    return vgg, lpips


@pytest.fixture(scope="module")
def base_networks(vector):
    """Generator, discriminator and sync expert, filled from the salt of the objective's file."""
    salt = vector("hyperlips", "base_losses").salt
    networks = {}
    for name, build in (
        ("base_generator", HyperLipsGenerator),
        ("base_discriminator", HalfFaceDiscriminator),
        ("sync_expert", lambda: SyncExpert((64, 128))),
    ):
        source = vector("hyperlips", name)
        source.salt = salt
        networks[name] = source.load(build())
    return networks


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_base_objective_has_the_published_terms_and_gradients(vector, base_networks, mode):
    """The terms as published, on the networks alone: the model that weighs them in training is to keep to these."""
    v, stored = vector("hyperlips", "base_losses"), vector("hyperlips", "base_losses")["losses"][mode]
    generator, judge, expert = (copy.deepcopy(network).train(mode == "train") for network in base_networks.values())
    given = {entry["name"]: torch.from_numpy(v.input(entry["name"])) for entry in v["inputs"]}
    window = given["window"]
    masked = window.clone()
    masked[..., window.shape[-2] // 2 :, :] = 0
    drawn = generator(given["indiv_mels"], torch.cat([masked, given["reference"]], dim=1))
    sounds, mouths = expert(given["mel"], expert.window(drawn.flip(1)))  # the expert's window turns RGB into BGR
    terms = {
        "sync": sync_loss((sounds * mouths).sum(dim=1), 1.0),
        "perceptual": sync_loss(judge(drawn), 1.0),
        "l1": (drawn - window).abs().mean(),
    }
    total = 0.03 * terms["sync"] + 0.2 * terms["perceptual"] + 0.77 * terms["l1"]
    found = {name: term.item() for name, term in {**terms, "total": total}.items()}
    assert found == {name: pytest.approx(stored[name], rel=1e-3) for name in found}
    total.backward()
    v.check_norms(generator, v["grad_norms"][f"{mode}_generator"], f"{mode}_generator")
    judge.zero_grad()
    real, fake = sync_loss(judge(window), 1.0), sync_loss(judge(drawn.detach()), 0.0)
    assert real.item() == pytest.approx(stored["disc_real"], rel=1e-3)
    assert fake.item() == pytest.approx(stored["disc_fake"], rel=1e-3)
    (real + fake).backward()
    v.check_norms(judge, v["grad_norms"][f"{mode}_discriminator"], f"{mode}_discriminator")
    if mode == "train":
        v.check("train_image", drawn)
        state = generator.state_dict()
        v.check("train_running_mean", state["output_block.0.conv_block.1.running_mean"])
        v.check("train_encoder_running_var", state["face_encoder.features.1.block.0.1.running_var"])
