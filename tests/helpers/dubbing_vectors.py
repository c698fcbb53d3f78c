"""The objectives of DINet and LawDNet against their vectors: one function for both, and for frames and clips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from talkingface.networks.dubbing.discriminator import DubbingDiscriminator
from talkingface.networks.dubbing.geometry import hide, mouth_crop
from talkingface.networks.dubbing.losses import Clips, discriminator_loss
from talkingface.networks.dubbing.objective import Weights, clip_terms, frame_terms
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.networks.vgg19 import VGG19Features

LOSSES = {"perception": "loss_perception_x10", "image": "loss_img", "frame": "loss_g_dI", "clip": "loss_g_dV"}
LOSSES["sync"] = "loss_sync_x0.1"
LOSS = 1e-5  # relative


def check_part(v: Any, network: nn.Module, prefix: str) -> nn.Module:
    """Load a network whose published keys all begin with `prefix`, which its own do not have."""
    entries = [[key.removeprefix(prefix), *rest] for key, *rest in v["state_dict"] if key.startswith(prefix)]
    ours = [
        [k, list(value.shape), str(value.dtype).removeprefix("torch.")] for k, value in network.state_dict().items()
    ]
    assert ours == entries
    state = {key.removeprefix(prefix): value for key, value in v.state_dict().items() if key.startswith(prefix)}
    network.load_state_dict(state, strict=True)
    return network


def check_objective(v: Any, generator: nn.Module, weights: Weights, hole: torch.Tensor) -> None:
    """Every term, gradient norm and missing gradient of a vector, for the generator that belongs to it."""
    nets = {"net_g": generator, "net_dI": DubbingDiscriminator(3)}
    given = {entry["name"]: tensor for entry, tensor in zip(v["inputs"], v.inputs(), strict=True)}
    if "audio_full" in given:
        nets |= {"net_dV": DubbingDiscriminator(15), "syncnet": MouthSyncExpert()}
    for name, network in nets.items():
        check_part(v, network, f"{name}.").eval()
    vgg = VGG19Features()
    vgg.load_weights({key: value for key, value in v.state_dict().items() if key.startswith("features.")})
    crop = mouth_crop(v["constructor"]["mouth_region_size"])
    real = given["source"]
    assert real.shape[-2:] == (crop.height, crop.width)
    masked = hide(real, hole)
    v.check("masked_source", masked, 1e-6)
    fake = generator(masked, given["reference"], given["audio"])
    v.check("fake", fake, 1e-4)
    stored = v["losses"]
    terms = frame_terms(vgg, nets["net_dI"], fake, real, weights)
    judges = {"net_dI": (fake, real)}
    if "audio_full" in given:
        clips = Clips(crop, given["audio_full"])
        terms |= clip_terms(nets["net_dV"], nets["syncnet"], fake, clips, weights)
        judges["net_dV"] = (clips.stacked(fake), clips.stacked(real))
    assert {LOSSES[name]: term.item() for name, term in terms.items()} == {
        LOSSES[name]: pytest.approx(stored[LOSSES[name]], rel=LOSS) for name in terms
    }
    total = torch.stack(list(terms.values())).sum()
    assert total.item() == pytest.approx(stored["loss_g_total"], rel=LOSS)
    total.backward(retain_graph=True)
    check_norms(nets["net_g"], v["grad_norms"], "net_g.")
    without = {key.rsplit(".", key.count(".") - 1)[0] for key, p in generator.named_parameters() if p.grad is None}
    assert sorted(without) == v["never_gets_a_gradient"]
    for name, (drawn, true) in judges.items():
        check_judge(v, name, nets[name], drawn, true)


def check_judge(v: Any, name: str, network: nn.Module, fake: torch.Tensor, real: torch.Tensor) -> None:
    """Loss and gradient norm of a discriminator."""
    network.zero_grad()
    loss = discriminator_loss(network, fake, real)
    assert loss.item() == pytest.approx(v["losses"][f"loss_{name.removeprefix('net_')}"], rel=LOSS)
    loss.backward()
    check_norms(network, v["grad_norms"], f"{name}.")


def check_norms(network: nn.Module, stored: dict[str, float], prefix: str) -> None:
    """Gradient norms to 1 %; names may carry a remark in brackets."""
    parameters = dict(network.named_parameters())
    wanted = {key.split(" ")[0].removeprefix(prefix): norm for key, norm in stored.items() if key.startswith(prefix)}
    assert wanted
    for key, norm in wanted.items():
        assert parameters[key].grad.norm().item() == pytest.approx(norm, rel=1e-2), key
