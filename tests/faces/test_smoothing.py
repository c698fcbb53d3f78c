"""Smoothing over time."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.smoothing import OneEuro, smooth_rows


def test_a_cubic_goes_through_unchanged_and_noise_becomes_less():
    time = np.linspace(-1, 1, 60)[:, None]
    cubic = np.concatenate([time**3 - time, 2 * time**2], axis=1)
    noise = np.random.default_rng(0).normal(size=cubic.shape)
    np.testing.assert_allclose(smooth_rows(cubic, 15), cubic, atol=1e-9)
    assert smooth_rows(noise, 15).std() < 0.6 * noise.std()


@pytest.mark.parametrize(("length", "same_as"), [(1, None), (2, None), (3, 3), (4, 3), (6, 5), (14, 13), (20, 15)])
def test_a_short_sequence_takes_the_largest_odd_window_that_fits(length, same_as):
    rows = np.random.default_rng(0).normal(size=(length, 2, 3)).astype(np.float32)
    smooth = smooth_rows(rows, 15)
    assert smooth.shape == rows.shape and smooth.dtype == np.float32
    np.testing.assert_array_equal(smooth, smooth_rows(rows, same_as) if same_as else rows)


def test_points_at_rest_are_smoothed_and_fast_ones_do_not_lag():
    random = np.random.default_rng(0)
    trembling = OneEuro()
    at_rest = [trembling(0.5 + 0.002 * random.normal(size=(4, 2)), k > 0) for k in range(200)]
    assert np.std(at_rest[20:]) < 0.7 * 0.002
    moving, lag = OneEuro(), []
    for k in range(50):
        place = np.full((1, 2), 0.04 * k)  # a crop width in a second
        lag.append(float(place[0, 0] - moving(place, k > 0)[0, 0]))
    assert max(lag[10:]) < 0.04  # less than the way of one frame


def test_where_a_frame_does_not_follow_smoothing_starts_anew():
    smooth = OneEuro()
    smooth(np.zeros((2, 2)), False)
    np.testing.assert_array_equal(smooth(np.ones((2, 2)), False), np.ones((2, 2)))
    assert (smooth(np.zeros((2, 2)), True) > 0).all()
