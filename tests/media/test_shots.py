"""Shot cuts: where they are, and that PySceneDetect itself finds the same."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.media_files import write_video
from talkingface.media import VideoReader
from talkingface.media.shots import THRESHOLD, CutFinder, content_change, find_cuts, shots

COLOURS = ((200, 40, 40), (30, 160, 220), (240, 240, 60))


def shot(colour: tuple[int, int, int], count: int, size: tuple[int, int] = (96, 128)) -> list[np.ndarray]:
    """A plain picture with a square that moves: much motion, no cut."""
    frames = []
    for index in range(count):
        frame = np.full((*size, 3), colour, np.uint8)
        frame[20:60, 2 * index : 2 * index + 30] = 255 - np.array(colour)
        frames.append(frame)
    return frames


def test_cuts_are_the_first_frames_of_the_shots():
    frames = [frame for colour, count in zip(COLOURS, (20, 30, 25)) for frame in shot(colour, count)]
    assert find_cuts(frames) == [20, 50]
    assert find_cuts(shot(COLOURS[0], 40)) == []
    assert find_cuts([]) == []


def test_two_frames_alone_show_a_cut_by_the_same_measure():
    frames = [frame for colour in COLOURS for frame in shot(colour, 3, (480, 640))]
    changes = [content_change(a, b) for a, b in zip(frames, frames[1:])]
    assert [k + 1 for k, change in enumerate(changes) if change > THRESHOLD] == [3, 6]
    grey = [np.full((64, 64, 3), value, np.uint8) for value in (60, 110)]
    assert content_change(*grey) == pytest.approx(50 / 3)


def test_the_threshold_decides():
    grey = [np.full((64, 64, 3), value, np.uint8) for value in [60] * 20 + [110] * 20]
    assert find_cuts(grey) == []  # brightness changes by 50, hue and saturation do not: 17 on average
    assert find_cuts(grey, threshold=15.0) == [20]


def test_a_flash_is_one_cut():
    frames = shot(COLOURS[0], 60)
    frames[30] = np.full_like(frames[30], 255)
    assert find_cuts(frames) == [30]  # the way back follows too soon to be another cut


def test_cuts_are_known_while_frames_pass_by():
    finder = CutFinder()
    for frame in [*shot(COLOURS[0], 20), *shot(COLOURS[1], 1)]:
        finder.feed(frame)
    assert finder.cuts == [20] and finder.shots() == [(0, 20), (20, 21)]


def test_shots_cover_the_video():
    assert shots([], 10) == [(0, 10)]
    assert shots([4, 7], 10) == [(0, 4), (4, 7), (7, 10)]
    assert shots([], 0) == []


@pytest.mark.parametrize("size", [(96, 128), (360, 640)])  # the larger one is scaled down first
def test_pyscenedetect_finds_the_same_in_the_file(tmp_path, size):
    from scenedetect import ContentDetector, detect

    frames = [frame for colour, count in zip(COLOURS, (20, 17, 20)) for frame in shot(colour, count, size)]
    path = write_video(tmp_path / "cuts.mp4", np.arange(len(frames)) / 25, frames=frames)
    found = detect(str(path), ContentDetector())
    assert find_cuts(VideoReader(path)) == [first.frame_num for first, _ in found][1:] == [20, 37]
