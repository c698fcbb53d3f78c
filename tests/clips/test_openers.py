"""One opener for videos, pictures and what models register."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.clips import face_frames, write_clip
from talkingface.clips import openers
from talkingface.clips.openers import SourceKind, open_source, register_source
from talkingface.clips.source import Source
from talkingface.errors import DataError, MediaError
from talkingface.media import write_image


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A video, a picture, and a folder that a made-up kind of source consists of."""
    monkeypatch.setattr(openers, "KINDS", {})
    write_clip(tmp_path / "film.mp4", face_frames(5), None)
    (tmp_path / "doll").mkdir()
    for path in (tmp_path / "face.png", tmp_path / "doll" / "doll.png"):
        write_image(path, np.zeros((48, 64, 3), np.uint8))
    register_source(
        SourceKind(
            "doll", "a folder with a doll", lambda path: (path / "doll.png").is_file(), lambda path: path / "doll.png",
            lambda path, fps: Source(path / "doll.png", fps),
        )
    )  # fmt: skip
    return tmp_path


def opened(path, accepts=("video", "picture", "doll"), **kwargs):
    return open_source(path, accepts, lambda info: 50.0 if info.is_image else 25.0, "Model", **kwargs)


def test_each_kind_is_opened_at_the_rate_that_the_model_answers_at(files):
    assert [opened(files / name).fps for name in ("film.mp4", "face.png", "doll")] == [25.0, 50.0, 50.0]
    assert opened(files / "doll").path == files / "doll" / "doll.png"


def test_what_a_model_does_not_take_is_refused_in_one_line(files):
    with pytest.raises(DataError, match=r"face\.png: is a picture; Model takes a video$"):
        opened(files / "face.png", ("video",))
    with pytest.raises(DataError, match=r"film\.mp4: is a video; Model takes a picture$"):
        opened(files / "film.mp4", ("picture",))
    with pytest.raises(MediaError, match="doll: is a folder"):
        opened(files / "doll", ("video",))
    with pytest.raises(MediaError, match="give a video, a picture, or a folder with a doll"):
        opened(files)
    with pytest.raises(MediaError, match=r"none\.png: no such file"):
        opened(files / "none.png")


def test_a_kind_that_has_its_points_needs_no_landmark_file(files):
    with pytest.raises(DataError, match="is a doll and has its points"):
        opened(files / "doll", landmarks=files / "points.csv")


def test_pictures_alone_have_an_opacity(files):
    clear = np.zeros((48, 64, 4), np.uint8)
    clear[:10, ..., 3] = 255
    write_image(files / "clear.png", clear)
    np.testing.assert_array_equal(opened(files / "clear.png").opacity(), clear[..., 3])
    assert opened(files / "face.png").opacity() is None and opened(files / "film.mp4").opacity() is None
