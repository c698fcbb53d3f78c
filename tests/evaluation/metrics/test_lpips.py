from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import torchvision

from helpers.perceptual_clips import FRAMES, SIDE, lively, sample
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import CheckpointError, DataError, Unavailable
from talkingface.evaluation.metric import make_metric
from talkingface.evaluation.metrics.lpips import LPIPS as Metric
from talkingface.evaluation.report.numbers import label
from talkingface.media import VideoReader
from talkingface.networks.lpips import LPIPS, SMALLEST


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """AlexNet's trunk with random weights, and an entry of the classifier, as torchvision writes the file."""
    path = tmp_path_factory.mktemp("trunk") / "mine.pth"
    state = lively(LPIPS("alex")).features.state_dict()
    torch.save({**{f"features.{k}": v for k, v in state.items()}, "classifier.6.bias": torch.zeros(1000)}, path)
    return path


def make(trunk, **settings):
    metric = make_metric("LPIPS", EvaluationConfig(lpips_trunk=str(trunk), **settings))
    metric.prepare()
    return metric


def test_figures_are_means_over_frames_whatever_the_batch(trunk, folder):
    one = sample(folder, "ann", gone=(2,))
    values = make(trunk).update(one)
    assert one.frames == {"lpips": FRAMES, "lpips_mouth": FRAMES - 1} and one.excluded["lpips_mouth"] == 1
    metric = make(trunk, batch=1)
    assert metric.update(sample(folder, "ann", gone=(2,))) == pytest.approx(values, rel=1e-5)
    videos = [torch.from_numpy(np.stack(list(VideoReader(p, fps=25.0)))) for p in (one.generated, one.reference)]
    with torch.inference_mode():
        images = (v.permute(0, 3, 1, 2) / 127.5 - 1 for v in videos)
        want = float(metric._network(*images).mean())
    assert metric.compute()["lpips"] == pytest.approx(want, rel=1e-5) and want > 0.01
    assert values["lpips_mouth"] != pytest.approx(values["lpips"], rel=1e-3)


def test_the_mouth_is_compared_in_the_box_of_the_real_landmarks(trunk, folder, monkeypatch):
    """Frames that differ only outside the mouth's box have distance 0 there."""
    metric, one = make(trunk), sample(folder, "ann")
    pairs = list(one.pairs())
    x1, y1, x2, y2 = one.boxes("mouth")[0]
    for index, (generated, real) in enumerate(pairs):
        changed = generated.copy()
        rows, columns = slice(int(y1), int(np.ceil(y2))), slice(int(x1), int(np.ceil(x2)))
        changed[rows, columns] = real[rows, columns]
        pairs[index] = (changed, real)
    monkeypatch.setattr(one, "pairs", lambda: iter(pairs))
    values = metric.update(one)
    assert values["lpips_mouth"] == pytest.approx(0, abs=1e-7) and values["lpips"] > 0.01


def test_the_real_video_has_distance_0_without_asking_the_network(trunk, folder, monkeypatch):
    metric = make(trunk)
    monkeypatch.setattr(metric, "_compare", None)
    assert metric.update(sample(folder, "ann", "real")) == {"lpips": 0.0, "lpips_mouth": 0.0}


def test_distances_become_float64_on_the_cpu_alone(trunk, monkeypatch):
    """Apple's GPUs have no float64."""

    class Elsewhere(torch.Tensor):
        def double(self):
            raise TypeError("no float64 here")

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    metric = make(trunk)
    monkeypatch.setattr(metric._network, "forward", lambda one, other: torch.ones(1, 1, 1, 1).as_subclass(Elsewhere))
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert metric._compare([(frame, frame + 1)]) == [1.0]


def test_net_region_and_both_files_belong_to_the_figure(trunk):
    metric = make(trunk, region="face")
    definition = metric.definitions()["lpips"]
    assert label("lpips", Metric.figures["lpips"], definition) == "lpips (face, alex, lower is better)"
    assert definition["weights"]["trunk"]["published"] is False
    assert definition["weights"]["trunk"]["sha256"] == hashlib.sha256(trunk.read_bytes()).hexdigest()
    assert definition["weights"]["linear"]["file"] == "alex.pth"
    assert metric.definitions()["lpips_mouth"]["region"] == "mouth"


def test_what_is_missing_or_wrong_is_said(trunk, tmp_path):
    with pytest.raises(
        Unavailable, match=r"weights not found: .*alexnet-owt-7be5be79\.pth \(.*by hand from https://.*alexnet"
    ):
        make_metric("LPIPS", weights_dir=tmp_path).prepare()
    with pytest.raises(Unavailable, match=r"vgg16-397923af\.pth"):
        make_metric("LPIPS", EvaluationConfig(lpips_net="vgg"), tmp_path).prepare()
    with pytest.raises(Unavailable, match="linear layers of LPIPS not found: nowhere"):
        make(trunk, lpips_linear="nowhere.pth")
    with pytest.raises(Unavailable, match=r"mine\.pth: vgg trunk of LPIPS does not fit"):
        make(trunk, lpips_net="vgg")
    torch.save({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match=r"half\.pth: linear layers of LPIPS alex does not fit: 4 missing"):
        LPIPS("alex").load(trunk, tmp_path / "half.pth")


def test_frames_below_the_trunks_size_are_refused_and_tiny_mouths_are_not(trunk, folder):
    metric = make(trunk)
    tiny = np.zeros((20, 40, 3), np.uint8)
    with pytest.raises(DataError, match="too small for LPIPS with alex: 31 pixels"):
        metric._distances([(tiny, tiny + 1)])
    one = sample(folder, "ann")
    one._cache["boxes mouth"] = np.tile([30.0, 40.0, 38.0, 46.0], (FRAMES, 1))
    assert metric.update(one)["lpips_mouth"] > 0


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_any_size_from_the_smallest_on_works_and_one_less_does_not(net):
    network, side = LPIPS(net), SMALLEST[net]
    for shape in ((2, 3, side, side), (1, 3, side, side + 13)):
        assert network(torch.zeros(shape), torch.ones(shape)).shape == (shape[0], 1, 1, 1)
    with pytest.raises(ValueError, match=f"at least {side} pixels"):
        network(torch.zeros(1, 3, side, side - 1), torch.zeros(1, 3, side, side - 1))


def test_as_a_loss_only_the_picture_gets_gradients_even_where_features_are_off():
    network = lively(LPIPS("alex")).train()
    assert not network.training
    picture = torch.zeros(1, 3, SIDE, SIDE, requires_grad=True)
    for bias in (0.0, -100.0):  # -100: no feature of the first layer is on anywhere
        torch.nn.init.constant_(network.features[0].bias, bias)
        network(picture, torch.ones(1, 3, SIDE, SIDE)).sum().backward()
        assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("net, full", [("alex", "alexnet"), ("vgg", "vgg16")])
def test_trunks_are_those_of_torchvision(net, full):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, full)(weights=None).features
        ours = LPIPS(net).features
    assert [type(a) for a in ours] == [type(b) for b in theirs][: len(ours)]
    assert [str(a) for a in ours] == [str(b).replace(", inplace=True", "").replace("inplace=True", "")
                                      for b in theirs][: len(ours)]  # fmt: skip
