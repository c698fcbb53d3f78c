"""Boxes over time: the published smoothing, and one that does not run ahead."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.boxes import padded_boxes, runs, smoothed_boxes


def published_smoothing(boxes: np.ndarray, window: int) -> np.ndarray:
    """The published loop, on an array of whole numbers."""
    boxes = boxes.copy()
    for i in range(len(boxes)):
        part = boxes[len(boxes) - window :] if i + window > len(boxes) else boxes[i : i + window]
        boxes[i] = np.mean(part, axis=0)
    return boxes


@pytest.mark.parametrize("count", [1, 3, 5, 6, 40])
def test_published_smoothing_equals_the_published_loop(count):
    boxes = np.random.default_rng(0).integers(0, 200, (count, 4))
    smooth = smoothed_boxes(boxes.astype(float), np.ones(count, bool), "published")
    np.testing.assert_array_equal(smooth, published_smoothing(boxes, 5))


def test_smoothing_stays_within_runs_of_frames_with_a_face():
    boxes = np.repeat(np.arange(20.0)[:, None], 4, axis=1)
    boxes[8] = np.nan
    valid = np.isfinite(boxes).all(axis=1)
    for rule in ("published", "centred"):
        smooth = smoothed_boxes(boxes, valid, rule)
        assert np.isnan(smooth[8]).all() and smooth[:8].max() <= 7 and smooth[9:].min() >= 9
    # a steady motion is ahead of itself in the published rule, and untouched by the centred one
    np.testing.assert_allclose(smoothed_boxes(boxes, valid, "centred")[9:], boxes[9:])
    assert (smoothed_boxes(boxes, valid, "published")[9:15] == boxes[11:17]).all()
    assert smoothed_boxes(boxes, valid, "none") is boxes


def test_padding_stays_in_the_frame():
    boxes = np.array([[10.0, 20.0, 30.0, 40.0], [0.0, 0.0, 100.0, 50.0]])
    grown = padded_boxes(boxes, (1, 10, 2, 3), (50, 100))  # top, bottom, left, right
    assert grown.tolist() == [[8, 19, 33, 50], [0, 0, 100, 50]]


def test_runs_are_unbroken():
    assert list(runs(np.array([1, 1, 0, 1, 0, 0, 1], bool))) == [(0, 2), (3, 4), (6, 7)]
    assert list(runs(np.zeros(3, bool))) == []
