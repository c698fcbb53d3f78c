"""Faces that do not stand upright are noticed, also those over which the detector lays an upright mesh."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces import mesh as facemesh
from talkingface.faces.track import LandmarkTrack
from talkingface.faces.turned import turn_of


def face(degrees):
    """A mesh whose chin lies at an angle, clockwise, from straight down."""
    points = np.random.default_rng(0).uniform(-20, 20, (478, 2)).astype(np.float32)
    angle = np.radians(degrees)
    points[facemesh.CHIN] = [-30 * np.sin(angle), 30 * np.cos(angle)]
    points[facemesh.FOREHEAD] = -points[facemesh.CHIN]
    return points + 100


def track(points):
    seen = np.ones(1, bool)
    return LandmarkTrack(points[None], seen, seen, (200, 200))


class Quarter:
    """What MediaPipe finds in the picture turned by a quarter to the left."""

    def __init__(self, degrees):
        self.degrees = degrees

    def detect(self, frame):
        return [] if self.degrees is None else [face(self.degrees)]


@pytest.mark.parametrize(("mesh", "quarter", "turn"), [(0, -90, 0), (20, -70, 20), (0, 90, 180), (0, None, 0)])
def test_upside_down_shows_in_a_quarter_turn(mesh, quarter, turn):
    frame = np.zeros((200, 200, 3), np.uint8)
    assert turn_of(track(face(mesh)), 0, frame, Quarter(quarter)) == turn


@pytest.mark.parametrize("degrees", [-90, 75, 90])
def test_a_lying_face_shows_by_itself(degrees):
    assert turn_of(track(face(degrees)), 0, np.zeros((200, 200, 3), np.uint8), None) == degrees


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_mediapipe_meshes_are_understood(quarters):
    pytest.importorskip("mediapipe")
    from helpers.clips import portrait
    from talkingface.faces.detectors import make_provider
    from talkingface.faces.track import track_faces

    detector = make_provider("mediapipe")
    frame = np.ascontiguousarray(np.rot90(np.pad(portrait(), ((40, 40), (40, 40), (0, 0)), "edge"), quarters))
    if not detector.detect(frame):
        pytest.skip("not found at all: there is nothing to say")
    turn = turn_of(track_faces([frame], detector), 0, frame, detector)
    assert abs(abs(turn) - {0: 0, 1: 90, 2: 180, 3: 90}[quarters]) < 20
