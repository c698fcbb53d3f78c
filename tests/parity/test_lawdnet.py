"""LawDNet's networks give the published outputs, and its objectives the published terms and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.dubbing_vectors import check_objective, check_part
from talkingface.models.lawdnet.networks.generator import LawDNetGenerator, at_places
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.models.lawdnet.networks.warp import LocalAffineWarp
from talkingface.networks.dubbing.encoders import Style, audio_encoder
from talkingface.networks.dubbing.geometry import soft_hole
from talkingface.networks.dubbing.objective import Weights
from talkingface.networks.dubbing.sampling import centres

WARP = "lawLayer_list.1."


@pytest.fixture(scope="module")
def generator(vector):
    return vector("lawdnet", "lawdnet_generator").load(LawDNetGenerator(compat="published")).eval()


@pytest.mark.parametrize("mouth", ["64", pytest.param("256", marks=pytest.mark.slow)])
def test_generator_gives_the_published_outputs(vector, generator, mouth):
    v = vector("lawdnet", "lawdnet_generator")
    source, references, audio = (
        torch.from_numpy(v.input(f"{name}_{mouth}")) for name in ("source", "reference", "audio")
    )
    with torch.no_grad():
        face, known = generator.source_in_conv(source), generator.encode(references)
        if mouth == "64":
            alignment = generator.trans_conv(torch.cat([face, known.maps], dim=1))
            v.check("img_para_resized_64", at_places(alignment))
            v.check("audio_para_64", generator.audio_encoder(audio))
        v.check(f"trans_para_{mouth}", generator.code(face, known.maps, audio))
        v.check(f"out_{mouth}", generator(source, references, audio))


@pytest.mark.parametrize("name", ["local_affine_warp_small", pytest.param("local_affine_warp", marks=pytest.mark.slow)])
def test_warp_gives_the_published_field_and_outputs(vector, name):
    v = vector("lawdnet", name)
    sizes = v["constructor"]
    warp = LocalAffineWarp(
        sizes["para_ch"],
        sizes["feature_ch"],
        Quirks.of("published"),
        sizes["num_kpoints"],
        tuple(sizes["standard_grid_size"]),
    )
    check_part(v, warp, WARP)
    for way in ("down", "up"):
        maps, code = (torch.from_numpy(v.input(f"{kind}_{way}")) for kind in ("feature", "para"))
        with torch.no_grad():
            heads = warp.heads(code)
            field = warp.field(*maps.shape[-2:], *heads)
            v.check(f"grid_{way}", with_channels(field), 1e-5)
            v.check(f"out_{way}", warp(maps, code), 1e-3)
    for stored, head in zip(("keypoints_up", "radius_up", "similarity_up"), heads, strict=True):
        v.check(stored, head.flatten(1), 1e-6)


def with_channels(field: torch.Tensor) -> torch.Tensor:
    """The published third coordinate, the centre of the channel, added to a field (B, C, H, W, 2)."""
    channel = centres(field.shape[1], field)[:, None, None, None]
    return torch.cat([field, channel.expand(*field.shape[:-1], 1)], dim=-1)


def test_audio_encoder_gives_the_published_output(vector):
    v = vector("lawdnet", "lawdnet_audio_encoder")
    style = Style(norm="none", leading=False, idle_norms=True)
    network = audio_encoder(style, v["constructor"]["audio_channel"])
    check_part(v, network, "audio_encoder.")
    with torch.no_grad():
        v.check("out", network(*v.inputs()))


@pytest.mark.parametrize("stage", ["frame", pytest.param("clip", marks=pytest.mark.slow)])
def test_objective_has_the_published_terms_and_gradients(vector, stage):
    v = vector("lawdnet", f"lawdnet_objective_{stage}")
    generator: nn.Module = LawDNetGenerator(compat="published", grid=v["constructor"]["standard_grid_size"])
    hole = soft_hole(*v["inputs"][0]["shape"][-2:])
    check_objective(v, generator, Weights(image=1.0), hole)
