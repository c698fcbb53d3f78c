"""FID: sums over clips, what counts and what is taken back, with a small network in Inception's place."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from helpers.perceptual_clips import FRAMES, lively, sample
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError, Unavailable
from talkingface.evaluation.metric import make_metric
from talkingface.evaluation.metrics import fid as module
from talkingface.evaluation.metrics.frechet import FrechetSums
from talkingface.media import VideoReader
from talkingface.networks import inception
from talkingface.networks.precision import precision_on


class Colours(torch.nn.Module):
    """Stands in for Inception: mean colours of the picture and of its upper left quarter; counts the pictures."""

    num_features = 6
    seen = 0

    def load(self, path):
        return self

    def forward(self, images):
        Colours.seen += len(images)
        quarter = images[..., : images.shape[-2] // 2, : images.shape[-1] // 2]
        return torch.cat([images.mean(dim=(2, 3)), quarter.mean(dim=(2, 3))], dim=1)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """`make(**settings)` builds the metric."""
    monkeypatch.setattr(inception, "FIDInception", Colours)
    monkeypatch.setattr(Colours, "seen", 0)
    (tmp_path / "mine.pth").write_bytes(b"weights")

    def build(**settings):
        metric = make_metric("FID", EvaluationConfig(fid_weights_path=str(tmp_path / "mine.pth"), **settings))
        metric.prepare()
        return metric

    return build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


def features(path):
    images = torch.from_numpy(np.stack(list(VideoReader(path, fps=25.0)))).permute(0, 3, 1, 2) / 255
    return Colours()(images).double().numpy()


def by_hand(real, fake):
    """The distance by way of singular values, see the parity test."""
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (real, fake))
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return np.square(real.mean(axis=0) - fake.mean(axis=0)).sum() + (a**2).sum() + (b**2).sum() - 2 * roots


def run(metric, samples):
    metric.reset()
    for one in samples:
        assert metric.update(one) == {}
    return metric.compute().get("fid")


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_one_figure_over_the_frames_of_all_clips(make, folder, batch):
    metric = make(batch=batch)
    samples = [sample(folder, "ann"), sample(folder, "bob")]
    real, fake = (np.concatenate([features(getattr(s, side)) for s in samples]) for side in ("reference", "generated"))
    assert run(metric, samples) == pytest.approx(by_hand(real, fake), rel=1e-5)
    assert metric.scored() == {"fid": 2} and samples[0].frames == {"fid": FRAMES}
    assert metric.intervals() == metric.frame_means() == metric.non_finite() == {}
    assert metric.definition()["fid"]["pictures"] == {"generated": {"generated": 12, "real": 12}}


def test_the_real_row_is_zero_and_real_frames_go_through_the_network_once(make, folder):
    metric = make()
    names = ("ann", "bob")
    first = run(metric, [sample(folder, name) for name in names])
    assert Colours.seen == 4 * FRAMES
    assert run(metric, [sample(folder, name, "real") for name in names]) == 0.0
    assert Colours.seen == 4 * FRAMES
    assert run(metric, [sample(folder, name, "still") for name in names]) == first  # the same videos
    assert Colours.seen == 6 * FRAMES
    assert set(metric.definition()["fid"]["pictures"]) == {"generated", "real", "still"}


def test_features_are_kept_only_as_far_as_there_is_room(make, folder, monkeypatch):
    monkeypatch.setattr(module, "KEEP_BYTES", 4 * 6 * (FRAMES + 2))
    metric = make(batch=2)
    samples = [sample(folder, "ann"), sample(folder, "bob")]
    first = run(metric, samples)
    assert run(metric, samples) == first
    assert Colours.seen == 8 * FRAMES - FRAMES - 2


def test_large_pictures_go_through_in_smaller_batches(make, folder, monkeypatch):
    metric = make()
    first = run(metric, [sample(folder, "ann")])
    sizes = []
    inner = metric._features
    monkeypatch.setattr(metric, "_features", lambda pictures: sizes.append(len(pictures)) or inner(pictures))
    monkeypatch.setattr(module, "PIXELS", {"cpu": 2 * 64 * 64})
    metric._real = module._Kept(0)
    assert run(metric, [sample(folder, "ann")]) == pytest.approx(first)
    assert sizes == [2] * FRAMES  # pairs of 6 frames: real and generated ones of three times two


def test_a_clip_that_fails_halfway_takes_no_part(make, folder, monkeypatch):
    metric = make(batch=2)
    want = run(metric, [sample(folder, "ann")])
    metric.reset()
    metric.update(sample(folder, "ann"))
    broken = sample(folder, "bob")
    pairs = broken.pairs()

    def ends_early():
        for _ in range(3):
            yield next(pairs)
        raise DataError("the rest of the file is missing")

    monkeypatch.setattr(broken, "pairs", ends_early)
    with pytest.raises(DataError, match="the rest"):
        metric.update(broken)
    assert metric.compute()["fid"] == want and metric.scored() == {"fid": 1}


@pytest.mark.parametrize("region, width", [("face", 48), ("mouth", 42)])
def test_a_region_is_cut_out_of_both_and_frames_without_it_are_counted(make, folder, monkeypatch, region, width):
    sizes = []
    inner = module.FID._features
    monkeypatch.setattr(module.FID, "_features", lambda self, p: sizes.extend(x.shape[1] for x in p) or inner(self, p))
    metric = make(region=region)
    one = sample(folder, "ann", gone=(1, 4))
    assert run(metric, [one]) > 0
    assert one.frames == {"fid": FRAMES - 2} and one.excluded == {"fid": 2}
    assert set(sizes) == {width} and metric.definition()["fid"]["region"] == region


def test_few_pictures_are_remarked_and_one_is_not_enough(make, folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("talkingface"), "propagate", True)
    metric = make()
    run(metric, [sample(folder, "ann")])
    assert "6 generated and 6 real pictures: below 2048" in caplog.text
    assert "2048" in metric.definition()["fid"]["remark"]
    assert run(metric, []) is None
    metric = make(region="mouth")
    assert run(metric, [sample(folder, "ann", gone=tuple(range(1, FRAMES)))]) is None
    with pytest.raises(DataError, match="no frame with the region 'mouth'"):
        metric.update(sample(folder, "ann", gone=tuple(range(FRAMES))))


def test_torchmetrics_own_distance_agrees():
    real, fake = (torch.from_numpy(np.random.default_rng(k).normal(k, 1 + k, (40, 6))) for k in range(2))
    sums = FrechetSums(6)
    sums.update(real, real=True)
    sums.update(fake, real=False)
    theirs = type(sums).__bases__[0].compute
    assert float(sums.compute()) == pytest.approx(float(theirs(sums)), rel=1e-9)


def test_missing_and_foreign_weights_are_not_available(tmp_path):
    place = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    with pytest.raises(Unavailable, match=rf"weights not found: {place} \(metric FID; .*--download=inception "):
        make_metric("FID", weights_dir=tmp_path).prepare()
    place.write_bytes(b"something else")
    with pytest.raises(
        Unavailable, match=r"not the published file .*expected 6726825d0af5.*evaluation\.fid_weights_path"
    ):
        make_metric("FID", weights_dir=tmp_path).prepare()
    settings = EvaluationConfig(fid_weights_path=str(place))
    with pytest.raises(Unavailable, match="cannot be read|not a readable"):
        make_metric("FID", settings, tmp_path).prepare()


def test_the_whole_way_with_weights_of_ones_own(folder, tmp_path):
    network = lively(inception.FIDInception())
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    metric = make_metric("FID", EvaluationConfig(fid_weights_path=str(tmp_path / "mine.pth"), batch=3))
    metric.prepare()
    assert metric.definition()["fid"]["weights"]["published"] is False
    one = sample(folder, "ann")
    assert run(metric, [one]) > 0
    with torch.inference_mode():
        pictures = torch.from_numpy(np.stack(list(VideoReader(one.generated, fps=25.0)))).permute(0, 3, 1, 2) / 255
        want = network(pictures).double().sum(dim=0)
    assert float((metric._sums.fake_features_sum - want).abs().max() / want.max()) < 1e-5


def test_large_frames_are_sampled_and_not_smoothed():
    picture = torch.zeros(1, 3, 897, 897)
    picture[..., 1::3, 1::3] = 1  # the middle of every 3x3 block; an antialiased resize would give 1/9
    assert torch.equal(inception.to_side(picture), torch.ones(1, 3, 299, 299))


def test_bf16_is_for_gpus_and_named_in_the_report(make):
    assert [precision_on("bf16", device) for device in ("cpu", "cuda:1")] == ["32", "bf16"]
    assert make(precision="bf16").definition()["fid"]["precision"] == "32"
