"""DINet's networks give the published outputs, its objectives the published terms; so do the parts LawDNet shares."""

from __future__ import annotations

import pytest
import torch

from helpers.dubbing_vectors import check_objective, check_part
from talkingface.models.dinet.networks.adaat import AdaAT
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.networks.dubbing.discriminator import DubbingDiscriminator
from talkingface.networks.dubbing.encoders import Style, audio_encoder
from talkingface.networks.dubbing.geometry import hard_hole, mouth_crop
from talkingface.networks.dubbing.objective import Weights
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert


@pytest.fixture(scope="module")
def generator(vector):
    return vector("lawdnet", "dinet_generator").load(DINetGenerator(compat="published")).eval()


@pytest.mark.parametrize("mouth", ["64", pytest.param("256", marks=pytest.mark.slow)])
def test_generator_gives_the_published_outputs(vector, generator, mouth):
    v = vector("lawdnet", "dinet_generator")
    source, references, audio = (
        torch.from_numpy(v.input(f"{name}_{mouth}")) for name in ("source", "reference", "audio")
    )
    with torch.no_grad():
        maps, appearance = generator.encode(references)
        code = generator.code(generator.source_in_conv(source), maps, audio)
        v.check(f"trans_para_{mouth}", code)
        if mouth == "64":
            v.check("adaat_in_64", appearance)
            v.check("adaat_out_64", generator.adaAT(appearance, code))
        v.check(f"out_{mouth}", generator(source, references, audio))


def test_adaat_gives_the_published_grid_and_output(vector):
    v = vector("lawdnet", "dinet_adaat")
    sizes = v["constructor"]
    network = AdaAT(sizes["para_ch"], sizes["feature_ch"], blended=True)
    check_part(v, network, "adaAT.")
    maps, code = v.inputs()
    with torch.no_grad():
        field = network.field(code, *maps.shape[-2:])
        channel = torch.linspace(-1, 1, maps.shape[1])[:, None, None, None].expand(*field.shape[:-1], 1)
        v.check("grid", torch.cat([field, channel], dim=-1), 1e-5)
        v.check("out", network(maps, code))


def test_audio_encoder_gives_the_published_output(vector):
    v = vector("lawdnet", "dinet_audio_encoder")
    network = audio_encoder(Style(), v["constructor"]["audio_channel"]).eval()
    check_part(v, network, "audio_encoder.")
    with torch.no_grad():
        v.check("out", network(*v.inputs()))


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_discriminator_gives_the_published_outputs(vector, kind):
    v = vector("lawdnet", f"discriminator_{kind}")
    network = v.load(DubbingDiscriminator(v["constructor"]["num_channels"], v["constructor"]["num_blocks"]))
    with torch.no_grad():
        maps = network(*v.inputs())
    assert len(maps) == 5
    v.check("pred", maps[-1])
    v.check("feature_0", maps[0])
    v.check("feature_3", maps[3])


def test_expert_gives_the_published_scores_and_features(vector):
    v = vector("lawdnet", "syncnet_perception")
    network = v.load(MouthSyncExpert()).eval()
    mouths, rows = v.inputs()
    with torch.no_grad():
        v.check("image_embedding", network.embed_faces(mouths))
        v.check("audio_embedding", network.embed_audio(rows))
        v.check("score", network(mouths, rows))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["frame", "clip"])
def test_objective_has_the_published_terms_and_gradients(vector, stage):
    v = vector("lawdnet", f"dinet_objective_{stage}")
    hole = hard_hole(mouth_crop(v["constructor"]["mouth_region_size"]))
    check_objective(v, DINetGenerator(compat="published"), Weights(), hole)
