"""Speed figures of the lip-sync metric: compared routes give the same numbers, and ours is not the slower one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.clips import face_frames, write_clip
from talkingface.benchmark import metrics as benchmark_metrics
from talkingface.networks.syncnet_v2 import SyncNetV2


@pytest.fixture(scope="module")
def syncnet():
    torch.manual_seed(0)
    return SyncNetV2().eval()


def test_folded_windows_are_at_least_as_fast_and_give_the_same(syncnet):
    figures = benchmark_metrics.lip_tower(syncnet, windows=8, seconds=0)
    assert figures["times faster"] >= 1.0  # usually 1.5 to 1.8
    frames = np.random.default_rng(0).integers(0, 256, (7, 224, 224, 3), dtype=np.uint8)
    three, two = benchmark_metrics._lips_in_3d(syncnet, frames), benchmark_metrics._lips_folded(syncnet.fold(), frames)
    assert float((three - two).abs().max() / three.abs().max()) < 1e-5


def test_both_routes_give_the_same_score_but_for_jpeg(syncnet, tmp_path):
    source = write_clip(tmp_path / "face.mp4", face_frames(6))
    figures = benchmark_metrics.routes(syncnet, source, (96, 96), length=0.4, seconds=0)
    assert figures["largest relative difference of a distance"] < 1e-5
    assert 0 < figures["the same through JPEG files"] < 0.1
    assert figures["published route s"] > 0 and figures["in memory s"] > 0


def test_every_figure_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_metrics, "REDUCED", (64, 64))
    monkeypatch.setattr(benchmark_metrics, "lip_tower", lambda *arguments, **more: {"times faster": 1.0})
    monkeypatch.setattr(benchmark_metrics, "routes", lambda *arguments, **more: {"times faster": 1.0})
    groups = benchmark_metrics.metric_speed(tmp_path, 0.05, torch.device("cpu"))
    speeds = next(group for title, group in groups.items() if title.startswith("S3FD"))
    assert speeds.keys() == {"batch 1", "batch 2"} and all(value > 0 for value in speeds.values())
    assert groups["MFCC, times real time"]["60 s"] > 10
    assert sum(title.startswith("LSE") for title in groups) == 2
