"""Mean and spread of rows that come in parts."""

from __future__ import annotations

from functools import reduce

import numpy as np

from talkingface.sound.moments import Moments


def test_parts_have_the_mean_and_the_deviation_of_the_whole_though_both_differ_much():
    rows = np.random.default_rng(0).normal([1e4, 0.0], [1e-2, 3.0], (1000, 2))  # sums of squares lose the first band
    parts = [rows[:1], rows[1:400], rows[400:]]
    found = reduce(Moments.with_those_of, map(Moments.of, parts))
    assert found.count == 1000
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, rows.std(axis=0), rtol=1e-9)
