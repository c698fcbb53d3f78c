"""What the alignment promises beside its published numbers: no transfer inside a step, bounded memory."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.iplap.networks import alignment


def test_the_sampling_grid_copies_nothing_to_the_device(monkeypatch):
    flow = torch.randn(2, 2, 6, 9)
    x, y = torch.meshgrid(torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 6), indexing="xy")
    wanted = torch.stack([x + 2 * flow[:, 0] / 8, y + 2 * flow[:, 1] / 5], dim=-1)
    for maker in ("tensor", "as_tensor", "from_numpy"):  # each would be a blocking copy on a GPU
        monkeypatch.setattr(torch, maker, lambda *a, **k: pytest.fail("made a tensor from host data"))
    torch.testing.assert_close(alignment.sampling_grid(flow), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("device", "batch", "size", "group"),
    [("cpu", 1, 128, 1), ("cuda", 16, 128, 4), ("cuda", 2, 128, 8), ("cuda", 96, 128, 1), ("cuda", 16, 256, 1)],
)
def test_references_per_pass_are_bounded_by_memory(device, batch, size, group):
    assert alignment.auto_group(device, batch, size) == group


def test_the_grouping_changes_no_result():
    torch.manual_seed(0)
    module = alignment.AlignmentModule(15, 0.125, 8).eval()
    images, sketches, drive = torch.rand(2, 5, 3, 16, 16), torch.rand(2, 5, 3, 16, 16), torch.rand(2, 15, 16, 16)
    results = []
    for module.group_size in (1, 2, 5):
        with torch.no_grad():
            results.append(module(images, sketches, drive).image)
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])
