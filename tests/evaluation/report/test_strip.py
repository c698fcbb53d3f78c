"""The picture strip: which moments, which part of the picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from talkingface.evaluation.report.strip import LABEL_WIDTH, TILE, pick_moments, view, write_strip
from talkingface.media import VideoWriter, read_image


def test_moments_run_from_closed_to_open_and_skip_frames_without_a_face():
    opening = np.array([0.3, np.nan, 0.0, 0.2, 0.1, 0.4])
    assert pick_moments(opening, 3) == [2, 3, 5]
    assert pick_moments(opening, 99) == [2, 4, 3, 0, 5]


def test_the_view_is_square_holds_the_face_and_stays_inside():
    points = np.array([[[90.0, 10.0], [98.0, 50.0]]])
    x1, y1, x2, y2 = view(SimpleNamespace(points_px=points, size=(80, 100)), [0])
    assert x2 - x1 == y2 - y1 and 0 <= x1 <= 90 and x2 <= 100 and y1 >= 0 and y2 <= 80 and y2 >= 50


def test_the_strip_shows_the_same_moments_of_every_video(tmp_path):
    values = [40, 200, 90]
    for name, shift in (("a", 0), ("b", 20)):
        with VideoWriter(tmp_path / f"{name}.mp4", fps=25.0, size=(96, 96)) as writer:
            for value in values:
                writer.write(np.full((96, 96, 3), value + shift, np.uint8))
    track = SimpleNamespace(
        points_px=np.tile(np.array([[20.0, 20.0], [70.0, 70.0]]), (3, 1, 1)),
        size=(96, 96),
        opening=lambda: np.array([0.5, 0.1, 0.3]),
    )
    write_strip({"real": tmp_path / "a.mp4", "other audio": tmp_path / "b.mp4"}, track, tmp_path / "s.png", 25.0, 3)
    strip = read_image(tmp_path / "s.png").astype(int)
    assert strip.shape == (2 * TILE, LABEL_WIDTH + 3 * TILE, 3)
    for row, shift in ((0, 0), (1, 20)):
        for column, frame in enumerate([1, 2, 0]):
            pixel = strip[row * TILE + TILE // 2, LABEL_WIDTH + column * TILE + TILE // 2]
            assert abs(pixel - values[frame] - shift).max() < 5
