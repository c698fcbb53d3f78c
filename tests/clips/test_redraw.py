"""The loop over output frames."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.clips.redraw import frame_batches


def stream(order, held):
    """Frames that show their number; `held` counts those handed out."""
    for index in order:
        held.append(int(index))
        yield np.full((2, 2, 3), index, np.uint8)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_every_frame_comes_once_in_order_and_only_a_batch_is_read_ahead(size):
    order, valid = np.array([0, 1, 2, 3, 3, 2, 1, 0, 0]), np.array([1, 0, 1, 1], bool)
    held, seen = [], []
    for part in frame_batches(stream(order, held), order, valid, np.arange(9), size):
        assert len(held) - len(seen) == len(part.rows) <= size
        assert [picture[0, 0, 0] for picture in part.pictures] == part.shown.tolist() == order[part.rows].tolist()
        assert part.faces.tolist() == [k for k, frame in enumerate(part.shown) if valid[frame]]
        seen.extend(part.rows.tolist())
    assert seen == list(range(9))


def test_a_model_may_work_in_stretches():
    order, valid = np.arange(10), np.ones(10, bool)
    frames = stream(order, [])
    rows = [
        part.rows.tolist()
        for stretch in (np.arange(4), np.arange(4, 10))
        for part in frame_batches(frames, order, valid, stretch, 3)
    ]
    assert rows == [[0, 1, 2], [3], [4, 5, 6], [7, 8, 9]]
