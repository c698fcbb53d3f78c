"""The second look for small faces: where it finds them, and that it costs nothing where the first one does."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.errors import NoFaceError
from talkingface.faces.zoom import Again, find_track

HEIGHT, WIDTH = 720, 1280


class ShortRange:
    """Finds red squares, as MediaPipe finds faces: only those that fill an eighth of the picture's longer side."""

    name, version, layout, short_range = "short", "1", "box", True

    def __init__(self):
        self.looks = 0

    def detect(self, frame):
        self.looks += 1
        rows, columns = np.nonzero(frame[..., 0] > 200)
        if not len(rows) or np.ptp(rows) + 1 < max(frame.shape[:2]) / 8:
            return []
        return [np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]], np.float32)]


def film(side, count=20, gone=(), step=20):
    """A face that walks to the right."""
    frames = []
    for k in range(count):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if k not in gone:
            frame[300 : 300 + side, 200 + step * k : 200 + step * k + side, 0] = 255
        frames.append(frame)
    return frames


@pytest.mark.parametrize("side", [140, 96, 60])
def test_a_small_face_is_found_and_followed(side):
    detector = ShortRange()
    track = find_track(film(side), ShortRange(), lambda: detector)
    assert track.found.all()
    np.testing.assert_array_equal(track.points_px[:, 0, 0], 200 + 20 * np.arange(20))
    np.testing.assert_array_equal(np.ptp(track.points_px[..., 1], axis=1), side - 1)
    assert detector.looks <= 20 + 12 * 30, "tiles are searched in a few frames alone"


def test_a_face_that_is_found_at_once_gets_no_second_look():
    first = ShortRange()
    track = find_track(film(200), first, lambda: pytest.fail("no second look is needed"))
    assert track.found.all() and first.looks == 20


def test_slides_with_a_speaker_in_between_stay_as_they_are():
    second = ShortRange()
    track = find_track(film(200, gone=range(12)), ShortRange(), lambda: second)
    np.testing.assert_array_equal(np.flatnonzero(track.found), np.arange(12, 20))
    assert second.looks, "slides are most of it, so one has looked for a small face"


def test_a_face_that_goes_away_is_looked_for_where_it_came_back():
    frames = film(80, 60, gone=range(15, 25), step=0)
    frames[25:] = [np.roll(frame, 700, axis=1) for frame in frames[25:]]
    track = find_track(frames, ShortRange(), ShortRange, max_gap=3)
    assert track.found[:15].all() and track.found[32:].all()
    assert track.points_px[40, 0, 0] == 900


def test_who_has_no_face_reads_what_can_be_done():
    with pytest.raises(
        NoFaceError, match="no face found in any of 3 frames; one under a twentieth .* crop or turn the video"
    ):
        find_track(film(10, 3), ShortRange(), ShortRange)
    with pytest.raises(NoFaceError, match="the video has no frames$"):
        find_track([], ShortRange(), ShortRange)


def test_frames_that_can_be_read_once_get_one_look():
    with pytest.raises(NoFaceError, match="any of 20 frames$"):
        find_track(iter(film(96)), ShortRange(), lambda: pytest.fail("the frames are gone"))
    track = find_track(Again(lambda: iter(film(96))), ShortRange(), ShortRange)
    assert track.found.all()


def test_mediapipe_finds_a_face_of_96_pixels_in_720_lines():
    pytest.importorskip("mediapipe")
    import cv2

    from helpers.clips import portrait
    from talkingface.faces.detectors import make_provider

    small = cv2.resize(portrait(), None, fx=0.85, fy=0.85, interpolation=cv2.INTER_AREA)
    frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    frame[400 : 400 + len(small), 900 : 900 + len(small)] = small
    detector = make_provider("mediapipe")
    assert not detector.detect(frame), "too small for the first look"
    track = find_track([frame, frame], detector, lambda: detector)
    height = np.ptp(track.points_px[0, :, 1])
    assert track.found.all() and 80 < height < 112
    assert (track.points_px[0].min(axis=0) > [900, 400]).all()
