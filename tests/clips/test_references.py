"""Who lends whom a reference: in an evaluation never a frame to itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from talkingface.clips.references import lenders

FREE, COMPARED = SimpleNamespace(held_out=False), SimpleNamespace(held_out=True)


def masks(count):
    """Which frames have a face: all, one half, the ends, few."""
    rng = np.random.default_rng(0)
    yield np.ones(count, bool)
    yield np.arange(count) < count // 3
    yield np.arange(count) >= count - count // 3
    yield from (rng.random(count) < share for share in (0.1, 0.5, 0.9))


@pytest.mark.parametrize("count", [2, 3, 10, 31])
def test_a_compared_frame_is_served_once_and_never_by_itself(count):
    for valid in masks(count):
        groups = lenders(COMPARED, valid)
        assert (sum(group.serves.astype(int) for group in groups) == 1).all()
        for group in groups:
            assert valid[group.candidates].all() and not group.serves[group.candidates].any()
            if valid.sum() > 1:
                assert len(group.candidates), valid


def test_a_lone_face_has_nobody_to_lend_to_it():
    valid = np.zeros(10, bool)
    valid[3] = True
    (group,) = [group for group in lenders(COMPARED, valid) if group.serves[3]]
    assert not len(group.candidates)


def test_halves_are_those_of_the_film():
    first, second = lenders(COMPARED, np.ones(7, bool))
    assert np.flatnonzero(first.serves).tolist() == [0, 1, 2, 3] and first.candidates.tolist() == [4, 5, 6]
    assert np.flatnonzero(second.serves).tolist() == [4, 5, 6] and second.candidates.tolist() == [0, 1, 2, 3]


def test_a_free_source_lends_to_itself_unless_told_otherwise():
    valid = np.array([1, 0, 1, 1], bool)
    (group,) = lenders(FREE, valid)
    assert group.serves.all() and group.candidates.tolist() == [0, 2, 3]
    assert len(lenders(FREE, valid, apart=True)) == 2


@pytest.mark.parametrize("source", [FREE, COMPARED])
def test_another_video_lends_to_all(source):
    (group,) = lenders(source, np.ones(5, bool), lending=np.array([0, 1, 1], bool))
    assert group.serves.tolist() == [True] * 5 and group.candidates.tolist() == [1, 2]
