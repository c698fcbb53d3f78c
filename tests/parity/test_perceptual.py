"""FID, LPIPS and CSIM against numbers taken from the published implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.evaluation.metrics.csim import AllPairs, cosines
from talkingface.evaluation.metrics.frechet import FrechetSums
from talkingface.networks.inception import FIDInception
from talkingface.networks.iresnet import IResNet
from talkingface.networks.lpips import LPIPS

from . import fill


def grey_levels(v, name):
    """The input `name` as whole grey levels, 0 to 255."""
    return torch.from_numpy(np.floor(256 * v.input(name)))


@pytest.fixture(scope="module")
def inception(vector):
    v = vector("metrics", "inception_fid")
    network = v.load(FIDInception())
    with torch.inference_mode():
        return v, network.blocks(grey_levels(v, "inc_img") / 255)


@pytest.mark.parametrize("depth, name", enumerate(["block0_64", "block1_192", "block2_768", "pool3_2048"]))
def test_inception_gives_the_published_maps_at_every_depth(inception, depth, name):
    v, maps = inception
    v.check(name, maps[depth])


def test_features_are_the_last_map_and_not_those_of_unpatched_torchvision(inception):
    v, maps = inception
    features, stored = maps[3].flatten(1), v["differences"]
    v.check_stored({**v.outputs["pool3_2048"], "shape": list(features.shape)}, features)
    unpatched = fill.deviation(features.numpy(), v.outputs["unpatched_torchvision_2048"])
    assert unpatched > 0.5 * stored["rel_diff_unpatched_torchvision_vs_pytorch_fid"]
    # Two other packages resize in their own way; the stored differences say how much that matters.
    for theirs in ("torch_fidelity", "torchmetrics"):
        name = next(name for name in v.outputs if name.startswith(f"{theirs}_2048"))
        v.check(name, features, 2 * stored[f"rel_diff_{theirs}_vs_pytorch_fid"] + 1e-5)


def distance_by_singular_values(real, fake):
    """The same distance by another way: Tr (S1 S2)^(1/2) is the sum of the singular values of A B^T."""
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (real, fake))
    means = np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return means + np.square(a).sum() + np.square(b).sum() - 2 * roots


@pytest.mark.parametrize("case", ["full", "small", "wide"])
def test_frechet_distance_of_given_features_is_the_published_one(vector, case):
    v = vector("metrics", "fid_from_features")
    mix, x, y = (v.input(f"fid_{name}_{case}").astype(np.float64) for name in ("mix", "x", "y"))
    mix /= np.sqrt(len(mix))
    real, fake = x @ mix, 1.2 * (y @ mix) + 0.1
    sums = FrechetSums(len(mix))
    for part in np.array_split(real, 3):
        sums.update(torch.from_numpy(part), real=True)
    sums.update(torch.from_numpy(fake), real=False)
    stored = v["cases"][case]
    # With fewer samples than dimensions the published figures carry roots of rounding noise; ours is the exact one.
    loose = 1e-7 if case == "small" else 1e-9
    for theirs in ("symmetric_eigen_reference", "torchmetrics", "pytorch_fid"):
        assert float(sums.compute()) == pytest.approx(stored[theirs], rel=loose), theirs
    assert float(sums.compute()) == pytest.approx(distance_by_singular_values(real, fake), rel=1e-11)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_equals_the_published_distance_its_terms_and_its_gradient(vector, net):
    v = vector("metrics", f"lpips_{net}")
    assert v["constructor"]["net"] == net
    network = LPIPS(net)
    names = [[key, list(value.shape), "float32"] for key, value in network.state_dict().items()]
    assert names == v["state_dict"]
    state = {key: value.abs() if key.startswith("lin") else value for key, value in v.state_dict().items()}
    network.load_state_dict(state, strict=True)
    first = torch.from_numpy(v.input("lpips_a"))
    second = (first + 0.3 * torch.from_numpy(v.input("lpips_n"))).clamp(-1, 1).requires_grad_()
    for number, term in enumerate(network.layers(first, second)):
        v.check(f"layer{number}", term)
    distance = network(first, second)
    v.check("distance", distance)
    distance.sum().backward()
    assert second.grad.norm().item() == pytest.approx(v["losses"]["gradient_norm_of_sum_wrt_b"], rel=1e-3)


def test_arcface_gives_the_published_embeddings(vector):
    v = vector("metrics", "csim_iresnet50")
    network = v.load(IResNet("r50")).eval()
    with torch.inference_mode():
        v.check("embedding", network((grey_levels(v, "arc_img") / 255 - 0.5) / 0.5))
    with torch.device("meta"):
        assert len(IResNet("r100").state_dict()) == v["r100_entry_count"]


def test_likeness_from_given_features_in_both_aggregations(vector):
    v = vector("metrics", "csim_iresnet50")
    real = torch.from_numpy(v.input("csim_a"))
    generated = real + 0.7 * torch.from_numpy(v.input("csim_n"))
    assert float(cosines(generated, real).mean()) == pytest.approx(v["values"]["csim_frame_aligned"], abs=1e-6)
    pairs = AllPairs()
    for part in (slice(0, 5), slice(5, None)):
        pairs.add(generated[part], real[part])
    assert pairs.mean() == pytest.approx(v["values"]["csim_all_pairs_vico"], abs=1e-6)
