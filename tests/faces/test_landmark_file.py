"""Landmark files that people bring along."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.errors import DataError
from talkingface.faces.landmark_file import landmarks_beside, read_landmarks, write_landmarks
from talkingface.faces.track import LandmarkTrack

SIZE = (120, 160)


def track_of(count=10, points=68, gone=(), layout="ibug68", depth=False):
    """A track whose frames `gone` had no face."""
    values = np.random.default_rng(3).uniform(10, 110, (count, points, 2)).astype(np.float32)
    found = ~np.isin(np.arange(count), gone)
    values[~found] = np.nan
    far = values[..., 0].copy() if depth else None
    return LandmarkTrack(values, found, found.copy(), SIZE, layout, "toy", "1", far)


def write(path, rows, header=None):
    header = header or ["frame", *(f"x_{k}" for k in range(68)), *(f"y_{k}" for k in range(68))]
    path.write_text("\n".join(", ".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def row(frame, value=50.0):
    return [frame, *([value] * 136)]


@pytest.mark.parametrize("suffix", ["csv", "npz"])
@pytest.mark.parametrize("points, layout", [(68, "ibug68"), (478, "mediapipe478"), (2, "box")])
def test_what_was_written_reads_back_to_the_last_bit(tmp_path, suffix, points, layout):
    track = track_of(points=points, layout=layout, gone=(3, 4), depth=suffix == "csv")
    path = write_landmarks(track, tmp_path / f"clip.landmarks.{suffix}")
    assert landmarks_beside(tmp_path / "clip.mp4") == path and landmarks_beside(tmp_path / "other.mp4") is None
    read = read_landmarks(path, 10, SIZE, max_gap=1)
    np.testing.assert_array_equal(read.points_px, track.points_px)
    np.testing.assert_array_equal(read.found, track.found)
    assert (read.layout, read.size, read.provider, read.version) == (layout, SIZE, "file", path.name)
    if track.depth_px is not None:
        np.testing.assert_array_equal(read.depth_px, track.depth_px)
    assert read_landmarks(path, 10, SIZE, max_gap=2).valid.all(), "short gaps are bridged as in detected landmarks"


def test_openface_files_are_read_by_their_header(tmp_path):
    names = ["frame", "face_id", "timestamp", "confidence", "success"]
    names += [f"eye_lmk_x_{k}" for k in range(56)] + [f"x_{k}" for k in range(68)] + [f"y_{k}" for k in range(68)]
    names += [f"X_{k}" for k in range(68)]
    rows = [[n, 0, 0.04 * n, 0.9, int(n != 2), *[7] * 56, *[20 + n] * 68, *[40] * 68, *[900] * 68] for n in (1, 2, 3)]
    track = read_landmarks(write(tmp_path / "a.csv", rows, names), 4, SIZE, max_gap=0)
    np.testing.assert_array_equal(track.found, [True, False, True, False])
    np.testing.assert_array_equal(track.points_px[2], [[23.0, 40.0]] * 68)
    assert track.depth_px is None


def test_of_several_faces_in_a_frame_the_surest_counts(tmp_path):
    names = ["face_id", "frame", "confidence", *(f"x_{k}" for k in range(68)), *(f"y_{k}" for k in range(68))]
    rows = [[k, n, sure, *[20 + k] * 136] for n in (1, 2) for k, sure in enumerate((0.4, 0.9 / n, 0.5, "nan"))]
    track = read_landmarks(write(tmp_path / "a.csv", rows, names), 2, SIZE, max_gap=0)
    np.testing.assert_array_equal(track.points_px[:, 0, 0], [21, 22])


@pytest.mark.parametrize(
    "rows, said",
    [
        ([row(0)], "line 2: frame 0; frames count from 1"),
        ([row(1), row(1)], "line 3: frame 1 stands there twice"),
        ([row(1), row(9)], "landmarks of frame 9, but the video has 5 at 25 frames per second"),
        ([row(999999999)], "landmarks of frame 999999999"),
        ([row(1)[:-1]], "line 2 has 136 columns, the header more"),
        ([row("one")], "line 2: invalid literal"),
        ([row(1), [2, *["1.5"] * 135, "much"]], "line 3: could not convert string to float"),
        ([[1, *[50] * 135, "nan"]], "line 2: frame 1 lacks some of its points"),
        ([row(1, 0.5)], r"look like shares of the picture; pixels are needed \(160 x 120\)"),
        ([row(1), row(2, 900)], "frame 2 has points far outside the picture of 160 x 120"),
        ([[1, *[""] * 136]], "no frame with a face"),
        ([], "no frame with a face"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_in_one_line(tmp_path, rows, said):
    with pytest.raises(DataError, match=said) as error:
        read_landmarks(write(tmp_path / "bad.csv", rows), 5, SIZE)
    assert str(error.value).startswith(f"{tmp_path / 'bad.csv'}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header, said",
    [
        (["x_0", "y_0"], "has no column 'frame'"),
        (["frame", "x_0", "x_1", "x_2"], r"has 3 columns x_0, x_1, ...; known numbers of points: 2 \(box\), 68"),
        (["frame", "x_0", "x_1", "y_0"], "has 2 columns x_0, x_1, ..., but 1 columns y_0"),
    ],
)
def test_a_header_that_lacks_columns_is_refused(tmp_path, header, said):
    with pytest.raises(DataError, match=said):
        read_landmarks(write(tmp_path / "bad.csv", [], header), 5, SIZE)


def test_files_that_are_no_landmarks_are_refused(tmp_path):
    for name, content in (("a.csv", b"\xff\xfe\x00"), ("b.npz", b"broken")):
        (tmp_path / name).write_bytes(content)
    for name in ("a.csv", "b.npz", "none.csv"):
        with pytest.raises(DataError, match=name):
            read_landmarks(tmp_path / name, 5, SIZE)
    write_landmarks(track_of(), tmp_path / "c.npz")
    with pytest.raises(DataError, match="landmarks of a video of 160 x 120 pixels, but this one has 64 x 64"):
        read_landmarks(tmp_path / "c.npz", 10, (64, 64))


def test_one_frame_more_or_less_is_no_reason(tmp_path):
    path = write_landmarks(track_of(10), tmp_path / "a.csv")
    assert [len(read_landmarks(path, count, SIZE)) for count in (9, 10, 12)] == [9, 10, 12]
    assert read_landmarks(path, 12, SIZE).found.sum() == 10
