"""Decoded videos that are kept."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from helpers.clips import face_frames, write_clip
from talkingface.errors import MediaError
from talkingface.media import KeptFrames, VideoReader


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return [write_clip(folder / f"{name}.mp4", face_frames(count)) for name, count in (("a", 20), ("b", 12))]


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counts, read = Counter(), VideoReader.__iter__

    def counted(self):
        counts[self.path.name] += 1
        return read(self)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    return counts


def same(frames, path, *span):
    expected = list(VideoReader(path, 25.0, *span))
    got = list(frames)
    return len(got) == len(expected) and all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_film_that_fits_is_decoded_once_whatever_is_read_of_it(films, decoded):
    kept = KeptFrames(64)
    first, again, part = kept.frames(films[0], 25.0), kept.frames(films[0], 25.0), kept.frames(films[0], 25.0, 3, 7)
    first, again, part = list(first), list(again), list(part)
    assert decoded == {"a.mp4": 1}
    assert same(first, films[0]) and same(again, films[0]) and same(part, films[0], 3, 7)
    with pytest.raises(ValueError, match="read-only"):
        first[0][:] = 0


def test_a_reader_that_stops_at_the_last_frame_has_seen_the_film(films, decoded):
    kept = KeptFrames(64)
    taken = list(islice(kept.frames(films[1], 25.0), 12))
    assert same(kept.frames(films[1], 25.0), films[1]) and len(taken) == 12
    assert decoded["b.mp4"] == 2  # the second is that of `same`


def test_the_beginning_of_a_film_serves_who_wants_no_more(films, decoded):
    kept = KeptFrames(64)
    list(kept.frames(films[0], 25.0, 0, 5))
    list(kept.frames(films[0], 25.0, 2, 5))
    assert decoded["a.mp4"] == 1
    assert same(kept.frames(films[0], 25.0), films[0])


def test_other_rates_and_new_versions_of_a_file_are_other_films(films, tmp_path):
    kept, path = KeptFrames(64), tmp_path / "film.mp4"
    path.write_bytes(films[0].read_bytes())
    assert len(list(kept.frames(path, 25.0))) == 20
    assert len(list(kept.frames(path, 12.5))) == 10
    path.write_bytes(films[1].read_bytes())
    assert same(kept.frames(path, 25.0), films[1])


def test_the_budget_holds_also_while_two_films_are_read_side_by_side(films, decoded):
    kept = KeptFrames(3)  # of 192 x 192 pixels: 28 frames
    for pair in zip(kept.frames(films[0], 25.0), kept.frames(films[1], 25.0), strict=False):
        assert pair[0].shape == pair[1].shape
        assert kept.nbytes <= 3 * 2**20
    list(kept.frames(films[0], 25.0))
    assert decoded["a.mp4"] == 1 or decoded["b.mp4"] == 1
    list(kept.frames(films[1], 25.0))
    list(kept.frames(films[1], 25.0))
    assert decoded["b.mp4"] <= 2 and kept.nbytes <= 3 * 2**20


def test_nothing_is_kept_without_a_budget_or_of_a_film_beyond_it(films, decoded):
    for kept in (KeptFrames(0), KeptFrames(1)):
        assert same(kept.frames(films[0], 25.0), films[0])
        assert kept.nbytes == 0


def test_a_film_cut_short_is_reported_to_everybody_who_reads_it_to_its_end(films, tmp_path):
    path = write_clip(tmp_path / "long.mkv", face_frames(60))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    kept = KeptFrames(64)
    for _ in range(2):
        with pytest.raises(MediaError, match="truncated"):
            list(kept.frames(path, 25.0))


def test_a_film_may_take_the_whole_budget(films, decoded, monkeypatch):
    kept = KeptFrames(1)
    size = sum(frame.nbytes for frame in VideoReader(films[0], 25.0))
    decoded.clear()
    monkeypatch.setattr(kept, "_budget", round(1.3 * size))
    for _ in range(3):
        assert len(list(kept.frames(films[0], 25.0))) == 20
    assert decoded == {"a.mp4": 1} and kept.nbytes == size and kept._reserved == 0


def test_a_stop_beyond_the_end_has_seen_the_film(films, decoded):
    kept = KeptFrames(64)
    for _ in range(2):
        assert len(list(kept.frames(films[1], 25.0, 0, 1500))) == 12
    assert len(list(kept.frames(films[1], 25.0))) == 12
    assert decoded == {"b.mp4": 1}
