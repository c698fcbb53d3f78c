"""Who is followed where several faces are seen."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.track import track_faces


class Scripted:
    """A provider that returns prepared faces, one list per frame."""

    name, version, layout = "scripted", "1", "ibug68"

    def __init__(self, faces):
        self.faces = iter(faces)

    def detect(self, frame):
        return next(self.faces)


def face(x, side=20.0):
    return np.array([[x, 10], [x + side, 10 + side]] * 34, np.float32)


def frames(count, cuts=()):
    """Pictures whose colours change at the cuts alone."""
    colours = [(40, 60, 200), (230, 200, 20)]
    shot = np.cumsum([k in cuts for k in range(count)])
    return [np.full((60, 200, 3), colours[s % 2], np.uint8) for s in shot]


def centres(track):
    return track.points_px[..., 0].mean(axis=1)


def test_by_default_one_of_two_people_is_followed_though_their_sizes_take_turns():
    script = [[face(20 + k % 3, 20 + k % 2), face(150, 20.5)][:: 1 if k % 3 else -1] for k in range(30)]
    track = track_faces(frames(30), Scripted(script))
    assert np.abs(np.diff(centres(track))).max() < 10
    assert track.rivals.share == 1.0 and track.rivals.side == "right"
    jumping = track_faces(frames(30), Scripted(script), pick="largest")
    assert np.abs(np.diff(centres(jumping))).max() > 100, "the reason for the default"


def test_somebody_who_comes_nearer_does_not_take_over():
    script = [[face(20, 30), face(140, 15 + k)] for k in range(30)]
    assert centres(track_faces(frames(30), Scripted(script))).max() < 40


def test_a_poster_is_not_taken_while_the_speaker_is_missed_but_after_he_is_gone():
    script = [[face(20), face(150, 8)]] * 5 + [[face(150, 8)]] * 6 + [[face(22), face(150, 8)]] * 5
    track = track_faces(frames(16), Scripted(script), max_gap=6)
    np.testing.assert_array_equal(track.found, [*[True] * 5, *[False] * 6, *[True] * 5])
    assert track.rivals.share == 0.0, "a poster is of no like size"
    later = track_faces(frames(16), Scripted(script[:5] + [[face(150, 8)]] * 11), max_gap=6)
    np.testing.assert_array_equal(np.flatnonzero(centres(later) > 100), np.arange(12, 16))


def test_a_cut_begins_anew_with_the_largest_face():
    script = [[face(20), face(150, 10)]] * 5 + [[face(25, 12), face(140, 30)]] * 5
    track = track_faces(frames(10, cuts=[5]), Scripted(script))
    np.testing.assert_array_equal(centres(track) > 100, [*[False] * 5, *[True] * 5])
    late = [[face(20), face(150, 10)]] * 5 + [[]] * 2 + [[face(150, 30), face(20, 10)]] * 3
    track = track_faces(frames(10, cuts=[5]), Scripted(late))
    assert (centres(track)[7:] > 100).all(), "the shot's first frames showed nobody"


def test_somebody_alone_is_taken_wherever_he_is():
    script = [[face(10)], [face(60)], [], [face(150)]]
    track = track_faces(frames(4), Scripted(script))
    np.testing.assert_array_equal(track.found, [True, True, False, True])


@pytest.mark.parametrize("pick", ["tracked", "largest", "first"])
def test_a_passer_by_is_no_rival(pick):
    script = [[face(20)] if k % 10 else [face(20, 30), face(150, 12)] for k in range(20)]
    assert track_faces(frames(20), Scripted(script), pick).rivals.share == 0.0
