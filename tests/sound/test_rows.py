"""Rows at any time: on them, between them, before and after them."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.sound.rows import Rows, held_at


def test_between_two_rows_lies_their_line_and_the_ends_are_held():
    rows = Rows(np.array([[0.0, 10.0], [2.0, 30.0]], np.float32), per_second=50.0, first=0.01)
    np.testing.assert_allclose(rows.times(), [0.01, 0.03])
    found = rows.at(np.array([-1.0, 0.01, 0.02, 0.03, 9.0]))
    np.testing.assert_allclose(found, [[0, 10], [0, 10], [1, 20], [2, 30], [2, 30]], atol=1e-5)
    assert found.dtype == np.float32


def test_a_missing_row_spoils_its_neighbourhood_and_no_more():
    values = np.array([1.0, np.nan, 3.0, 4.0])
    np.testing.assert_array_equal(held_at(values, np.array([0, 0.5, 1, 1.5, 2, 2.5])), [1, *[np.nan] * 3, 3, 3.5])


def test_nothing_cannot_be_looked_into():
    with pytest.raises(ValueError, match="no rows"):
        held_at(np.zeros((0, 3)), np.array([0.0]))
