"""Long sequences: segments cover them, and nothing is seen where they meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.models.makeittalk import conversion
from talkingface.models.makeittalk.conversion import converted_mel
from talkingface.models.makeittalk.networks.autovc import AutoVC
from talkingface.models.makeittalk.segments import joined, spans


@pytest.mark.parametrize("rows", [1, 9, 511, 512, 513, 600, 895, 896, 897, 5000])
def test_overlapping_segments_cover_every_row_and_share_enough(rows):
    found = spans(rows)
    assert found[0][0] == 0 and found[-1][1] == rows
    assert all(stop - start == min(512, rows) for start, stop in found)
    assert all(a[1] - b[0] >= 128 and a[0] < b[0] for a, b in zip(found, found[1:]))


@pytest.mark.parametrize("rows", [511, 513, 700, 897, 5000])
def test_segments_meet_where_a_face_is_calm(rows):
    motion = np.random.default_rng(rows).random(rows)
    found = spans(rows, motion=motion)
    assert found[0][0] == 0 and found[-1][1] == rows and all(stop - start <= 512 for start, stop in found)
    assert all(a[1] - b[0] >= 128 and a[0] < b[0] for a, b in zip(found, found[1:]))
    ends, starts = [stop for _, stop in found[:-1]], [start for start, _ in found[1:]]
    assert not ends or max(motion[ends]) < 0.15, "the calmest of 65"
    assert not starts[:-1] or max(motion[starts[:-1]]) < 0.15, "the last one has to end with the rows"


def test_published_segments_follow_each_other_and_a_short_rest_is_dropped():
    assert spans(1034, "published") == [(0, 512), (512, 1024), (1024, 1034)]
    assert spans(1033, "published") == [(0, 512), (512, 1024)] and spans(9, "published") == []


@pytest.mark.parametrize("segmenting", ["overlap", "published"])
def test_parts_of_a_sequence_give_the_sequence_back(segmenting):
    whole = np.random.default_rng(0).normal(size=(1300, 3)).astype(np.float32)
    places = spans(len(whole), segmenting)
    again = joined([whole[start:stop] for start, stop in places], places)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, whole, atol=1e-6)


def test_segments_that_disagree_are_led_into_each_other():
    places = spans(896)
    parts = [np.full((stop - start, 1), float(k)) for k, (start, stop) in enumerate(places)]
    steps = np.diff(joined(parts, places)[:, 0])
    assert len(parts) == 2 and steps.max() <= 1 / 128 and steps.min() >= 0
    apart = spans(896, "published")
    assert np.diff(joined([np.full((b - a, 1), float(k)) for k, (a, b) in enumerate(apart)], apart)[:, 0]).max() == 1


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AutoVC(neck=4, freq=8, hidden=32, depth=1).eval()


def utterance(rows):
    random = np.random.default_rng(rows)
    pitch = np.eye(257, dtype=np.float32)[random.integers(0, 257, rows)]
    return random.random((rows, 80), np.float32), pitch, random.random(256), random.random(256)


@pytest.mark.parametrize("rows", [1, 31, 32, 50])
def test_a_short_utterance_is_converted_in_one_piece_whatever_its_length(network, rows):
    mel, pitch, source, target = utterance(rows)
    found = converted_mel(network, mel, pitch, source, target)
    filled = [torch.from_numpy(np.pad(x, ((0, -rows % 32), (0, 0))))[None] for x in (mel, pitch)]
    voices = [torch.from_numpy(x.astype(np.float32))[None] for x in (source, target)]
    with torch.no_grad():
        wanted = network(filled[0], *voices, filled[1]).refined[0, :rows]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_array_equal(found, converted_mel(network, mel, pitch, source, target, "published"))


def test_chunks_of_a_long_one_meet_without_a_seam_unless_published(network, monkeypatch):
    mel, pitch, source, target = utterance(160)
    whole = converted_mel(network, mel, pitch, source, target)
    monkeypatch.setattr(conversion, "CHUNK", 64)
    monkeypatch.setattr(conversion, "OVERLAP", 32)
    overlapped, published = (
        converted_mel(network, mel, pitch, source, target, kind) for kind in ("overlap", "published")
    )
    assert whole.shape == overlapped.shape == published.shape == (160, 80)
    near = slice(60, 68)  # the chunks of 64 rows meet here
    assert np.abs(overlapped - whole)[near].mean() < 0.5 * np.abs(published - whole)[near].mean()
