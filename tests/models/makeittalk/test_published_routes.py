"""The faster routes give what the published ones give; how much faster they are, docs/benchmarks.md has."""

from __future__ import annotations

import numpy as np
import torch

from helpers.published_makeittalk import Detector, per_window, rendered, stacked_windows, warped_by_skimage
from talkingface.benchmark.timing import paired
from talkingface.faces.warp import TriangleWarp
from talkingface.models.makeittalk.config import MakeItTalkConfig
from talkingface.models.makeittalk.drawing import draw_landmarks
from talkingface.models.makeittalk.model import MakeItTalk
from talkingface.models.makeittalk.networks.content import ContentBranch
from talkingface.models.makeittalk.networks.pieces import windows_of
from talkingface.models.makeittalk.translation import translated


def test_windows_are_views_of_what_is_copied_as_published():
    rng = np.random.default_rng(0)
    rows, faces = rng.random((60, 80), np.float32), rng.random((60, 204), np.float32)
    sound, seen = stacked_windows(rows, faces)
    own = torch.from_numpy(rows)
    np.testing.assert_array_equal(windows_of(own), sound)
    np.testing.assert_array_equal(faces[: len(sound)], seen[:, 0])
    assert windows_of(own).data_ptr() == own.data_ptr(), "nothing is copied"


def test_what_is_one_per_row_may_be_computed_once_per_row():
    torch.manual_seed(0)
    network = ContentBranch().train()
    with torch.no_grad():
        network(torch.randn(64, 18, 80), torch.randn(1, 204))  # statistics of the norms
    rows, face = torch.randn(90, 80), torch.randn(1, 204)
    slow = per_window(network.eval(), rows, face)
    with torch.no_grad():
        fast = network.follow(rows, face)
    assert float((slow - fast).abs().max() / slow.abs().max()) < 1e-6


def test_a_triangle_warp_is_that_of_scikit_image():
    from scipy.spatial import Delaunay

    rng = np.random.default_rng(0)
    border = np.array([(x, y) for x in (0, 63) for y in (0, 63)], float)
    source = np.concatenate([rng.uniform(12, 52, (12, 2)), border])
    moved = source + np.concatenate([rng.normal(0, 0.7, (12, 2)), np.zeros((4, 2))])
    y, x = np.mgrid[:64, :64]
    photo = np.stack([2 * x + y, x + 2 * y, 3 * np.abs(x - y)], -1).astype(np.uint8)
    ours = TriangleWarp(source, Delaunay(source).simplices[:, ::-1], (64, 64), both_sides=True)(photo, moved)
    off = np.abs(warped_by_skimage(photo, source, moved) - ours)[2:-2, 2:-2]
    assert off.mean() < 0.5 and np.percentile(off, 99) < 3


def test_frames_in_batches_are_those_drawn_one_by_one():
    torch.manual_seed(0)
    config = MakeItTalkConfig(translate={"width": 4, "input": "portrait"}, loss={"reconstruction": "l1_gradient"})
    model = MakeItTalk(config).eval()
    rng = np.random.default_rng(0)
    portrait, faces = rng.integers(0, 256, (256, 256, 3)).astype(np.uint8), rng.uniform(60, 200, (3, 68, 2))
    single = np.stack(list(rendered(model, portrait, faces)))
    drawings = torch.from_numpy(np.stack([draw_landmarks(face) for face in faces]))
    portraits = torch.from_numpy(np.ascontiguousarray(portrait[..., ::-1])).expand(3, -1, -1, -1)
    with torch.no_grad():
        batch = translated(model.translator, {"drawing": drawings, "portrait": portraits}, "portrait")
    off = batch.permute(0, 2, 3, 1).numpy() * 255 - single
    assert (off > -1e-2).all() and (off < 1 + 1e-2).all(), "but for the cut to whole levels"


def test_the_detector_of_the_published_step_finds_a_place_for_every_point():
    with torch.no_grad():
        found = Detector(stacks=1, width=16)(torch.rand(1, 3, 256, 256))
    assert found.shape == (1, 98, 2) and found.min() >= 0 and found.max() < 256


def test_a_pair_counts_the_work_of_both():
    done = {"slow": 0, "fast": 0}

    def work(name: str, count: int) -> None:
        done[name] += 1
        sum(range(count))

    pair = paired(lambda: work("slow", 400_000), lambda: work("fast", 4_000), 0.05)
    assert done["slow"] == done["fast"] >= 2 and pair.times > 3
