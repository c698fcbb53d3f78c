"""MakeItTalk's networks give the published outputs, and its objectives the published terms and gradients."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.makeittalk.losses import TranslationLoss, landmark_l1, laplacian_l1, motion_l1
from talkingface.models.makeittalk.motion import calibrated
from talkingface.models.makeittalk.networks.autovc import AutoVC
from talkingface.models.makeittalk.networks.content import ContentBranch
from talkingface.models.makeittalk.networks.discriminators import FrameDiscriminator, TemporalDiscriminator
from talkingface.models.makeittalk.networks.pieces import heard
from talkingface.models.makeittalk.networks.speaker import UNUSED, SpeakerBranch
from talkingface.models.makeittalk.networks.translation import TranslationUNet, picture
from talkingface.networks.vgg19 import VGG19Features

from . import fill

LOSS = 1e-5  # relative


def keep(outputs: dict, module: torch.nn.Module, name: str) -> None:
    """Store what `module` gives under `name`."""
    module.register_forward_hook(lambda module, args, out: outputs.update({name: out.detach().clone()}))


# -- sound -------------------------------------------------------------------------------------------------------------


def test_autovc_gives_the_published_outputs(vector):
    v = vector("makeittalk", "autovc_generator")
    network = v.load(AutoVC(v["constructor"]["dim_neck"], v["constructor"]["freq"])).eval()
    mel, source, target, logits = v.inputs()
    pitch = torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    with torch.no_grad():
        converted = network(mel, source, target, pitch)
        v.check("mel", converted.mel)
        v.check("mel_postnet", converted.refined)
        v.check("codes", converted.codes.flatten(1))
        v.check("encoder_only_codes", network.encode(mel, source).flatten(1))


# -- landmarks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def content(vector):
    v = vector("makeittalk", "content_branch")
    return v, v.load(ContentBranch(dropout=v["constructor"]["drop_out"])).eval()


def test_content_branch_gives_the_published_outputs(content):
    v, network = content
    windows, face, _ = v.inputs()
    with torch.no_grad():
        displacement = network(windows, face)
        prior = network.fc_prior(windows.flatten(0, 1))
        v.check("displacement", displacement)
        v.check("fc_prior", prior)
        v.check("lstm_last_step", heard(network.bilstm, prior.unflatten(0, windows.shape[:2])))
    v.check("calibrated_displacement", calibrated(displacement.numpy()))


VARIANTS = {
    "default": (True, True, False),
    "no_lip_weight_no_laplacian": (False, False, False),
    "lip_only": (True, False, False),
    "with_motion": (True, True, True),
}
"""Lip weights, Laplacian term, motion term."""


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_content_objective_has_the_published_value_and_gradients(content, variant, mode):
    v, network = content
    windows, face, landmarks = v.inputs()
    lips, with_laplacian, with_motion = VARIANTS[variant]
    target = landmarks[:, 0]
    predicted = network.train(mode == "train")(windows, face) + face
    total = landmark_l1(predicted, target, lips)
    if with_laplacian:
        total = total + laplacian_l1(predicted, target)
    if with_motion:
        total = total + motion_l1(predicted, target)
    assert total.item() == pytest.approx(v["losses"][f"{variant}/{mode}"], rel=LOSS)
    total.backward()
    v.check_norms(network, v["grad_norms"][f"{variant}/{mode}"], variant, tolerance=1e-3)


def test_speaker_branch_gives_the_published_outputs_without_the_decoder(vector):
    v = vector("makeittalk", "speaker_branch")
    whole = v["state_dict"]
    v.data["state_dict"] = [entry for entry in whole if not entry[0].startswith(UNUSED)]
    v.data["constructed_buffers"] = [key for key in v["constructed_buffers"] if not key.startswith(UNUSED)]
    assert len(v["state_dict"]) < len(whole)
    network = v.load(SpeakerBranch()).eval()
    inner: dict[str, torch.Tensor] = {}
    keep(inner, network.encoder, "transformer_encoder_out")
    windows, speaker, _, z = v.inputs()
    with torch.no_grad():
        motion = network(windows[None], speaker, z[None])
    v.check("displacement", motion.displacement[0])
    v.check("speaker_encoding", motion.code.expand(len(windows), -1))
    v.check("transformer_encoder_out", inner["transformer_encoder_out"])
    v.check("pe_table", network.encoder.pe.pe, 1e-6)


def test_temporal_discriminator_gives_the_published_scores(vector):
    v = vector("makeittalk", "temporal_discriminator")
    network = v.load(TemporalDiscriminator()).eval()
    landmarks, code = v.inputs()
    with torch.no_grad():
        v.check("score", network(landmarks[None], code)[0])


def test_frame_discriminator_gives_the_published_scores(vector):
    v = vector("makeittalk", "frame_discriminator")
    (landmarks,) = v.inputs()
    v.check("score", v.load(FrameDiscriminator())(landmarks))


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_translation_network_gives_the_published_outputs(vector):
    v = vector("makeittalk", "image_translation_generator")
    network = v.load(TranslationUNet(num_downs=v["constructor"]["num_downs"])).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == v["params"]
    inner: dict[str, torch.Tensor] = {}
    levels = network.model.model
    keep(inner, levels[0], "outer_downconv")
    keep(inner, levels[4], "after_first_nested_block")
    (drawing_and_portrait,) = v.inputs()
    with torch.no_grad():
        raw = network(drawing_and_portrait)
    v.check("raw", raw)
    v.check("tanh", raw.tanh())
    for name, value in inner.items():
        v.check(name, value)
    assert torch.equal(picture(raw), raw.tanh().clamp(0, 1))


def test_translation_objective_has_the_published_terms_and_gradients(vector):
    v = vector("makeittalk", "image_translation_losses")
    network = VGG19Features()
    entries = [[key, list(value.shape), "float32"] for key, value in network.state_dict().items()]
    network.load_weights({k: torch.from_numpy(x) for k, x in fill.weights(entries, v.salt).items()})
    drawn, target = v.inputs()
    with torch.no_grad():
        for number, features in enumerate(network(target), 1):
            v.check(f"vgg_slice{number}_of_target", features)
    loss = TranslationLoss(network, grams="batch")
    terms = loss(drawn.requires_grad_(), target.requires_grad_())
    terms["total"] = torch.stack(list(terms.values())).sum()
    for name, term in terms.items():
        assert term.item() == pytest.approx(v["losses"][name], rel=1e-4), name
        drawn.grad = None
        term.backward(retain_graph=True)
        norm = drawn.grad.norm().item()
        assert norm == pytest.approx(v["grad_norms"][f"d({name})/d(g_out)"], rel=1e-3), name
    assert target.grad is None
