"""What drives a generation: orders to and fro, exact random access, flat memory, the voice."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.media_files import SIZE, click, numbered_frame, read_number, write_video
from talkingface import media
from talkingface.clips import source
from talkingface.clips.source import Audio, Source
from talkingface.config.sections import LandmarkConfig
from talkingface.errors import ConfigError, DataError, MediaError
from talkingface.faces.detectors import Place
from talkingface.faces.landmark_file import write_landmarks
from talkingface.faces.mesh import CHIN, FOREHEAD
from talkingface.faces.track import LandmarkTrack
from talkingface.pipeline import Pipeline
from talkingface.plugin import TalkingFaceModel


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """120 numbered frames: one group of pictures, with B-frames."""
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    return write_video(path, [i / 25 for i in range(120)], options={"g": "250", "bf": "3"})


def numbers(frames) -> list[int]:
    return [read_number(frame) for frame in frames]


def test_a_film_as_it_is(film):
    video = Source.from_path(film)
    assert (len(video), video.size, video.is_image, video.fps) == (120, SIZE, False, 25.0)
    assert numbers(video.frames()) == list(range(120))


@pytest.mark.parametrize(("count", "n"), [(4, 0), (4, 3), (4, 8), (4, 9), (4, 15), (1, 5), (3, 17)])
def test_the_order_is_trimmed_or_plays_to_and_fro(film, count, n):
    video = Source.from_path(film)
    video._length = count
    turn = [*range(count), *reversed(range(count))]
    order = video.order(n)
    assert len(order) == n
    assert order.tolist() == (turn * (n // len(turn) + 1))[:n]


@pytest.mark.parametrize("chunk", [8, 17, 500])
def test_backward_frames_equal_forward_frames(film, monkeypatch, chunk):
    monkeypatch.setattr(source, "_CHUNK_BYTES", chunk * SIZE[0] * SIZE[1] * 3)
    video = Source.from_path(film)
    forward = list(video.frames())
    order = video.order(300)
    for index, frame in zip(order, video.frames(order), strict=True):
        np.testing.assert_array_equal(frame, forward[index])


@pytest.mark.parametrize(
    "order",
    [
        [5],
        [7, 7, 7, 3, 3, 119, 0, 0, 1],
        [119, 118, 118, 20, 19, 60],
        np.random.default_rng(0).integers(0, 120, 40).tolist(),
        [],
    ],
)
@pytest.mark.parametrize("longest_skip", [10, 250])
def test_any_order(film, monkeypatch, order, longest_skip):
    monkeypatch.setattr(source, "_LONGEST_SKIP", longest_skip)
    video = Source.from_path(film)
    assert numbers(video.frames(order)) == order
    assert numbers(video.read(order)) == order


def test_frames_belong_to_the_caller(film):
    video = Source.from_path(film)
    order = [3, 3, 4, 4, 3, 3, 2, 2]
    for access in (video.frames, video.read):
        seen = []
        for frame in access(order):
            seen.append(read_number(frame))
            frame[:] = 0
        assert seen == order


def test_backward_play_holds_one_chunk_at_a_time(film, monkeypatch):
    monkeypatch.setattr(source, "_CHUNK_BYTES", 10 * SIZE[0] * SIZE[1] * 3)
    video = Source.from_path(film)
    spans = []
    forward = Source._forward

    def spy(self, run):
        spans.append(len(run))
        return forward(self, run)

    monkeypatch.setattr(Source, "_forward", spy)
    assert numbers(video.frames(range(119, -1, -1))) == list(range(119, -1, -1))
    assert max(spans) == 10 and len(spans) == 12


def test_frames_that_do_not_exist(film):
    video = Source.from_path(film)
    for access in (lambda i: list(video.frames([i])), lambda i: video.read([i])):
        for index in (-1, 120):
            with pytest.raises(IndexError, match="has 120 frames"):
                access(index)


def test_a_file_with_fewer_frames_than_it_says_repeats_the_last(film, caplog):
    video = Source.from_path(film)
    video._length = 125
    assert numbers(video.frames(range(117, 125))) == [117, 118, 119, 119, 119, 119, 119, 119]
    assert numbers(video.frames([124, 123, 119, 118])) == [119, 119, 119, 118]
    assert numbers(video.read([0, 124])) == [0, 119]
    assert "ends" in caplog.text and "early" in caplog.text


def test_a_still_image_is_one_frame(tmp_path):
    media.write_image(tmp_path / "a.png", numbered_frame(77))
    image = Source.from_path(tmp_path / "a.png")
    assert image.is_image and len(image) == 1 and image.size == SIZE
    assert image.order(4).tolist() == [0, 0, 0, 0]
    seen = []
    for frame in image.frames(image.order(4)):
        seen.append(read_number(frame))
        frame[:] = 0
    assert seen == [77] * 4 and numbers(image.read([0])) == [77]


def test_sound_is_no_source(tmp_path):
    media.write_wav(tmp_path / "a.wav", click(1, 0.5))
    with pytest.raises(MediaError, match="no picture"):
        Source.from_path(tmp_path / "a.wav")


def test_other_rates_are_resampled(tmp_path):
    path = write_video(tmp_path / "a.mp4", [i / 50 for i in range(100)])
    assert len(Source.from_path(path)) == 50
    assert len(Source.from_path(path, fps=50.0)) == 100
    assert numbers(Source.from_path(path, fps=50.0).frames([99, 98, 0])) == [99, 98, 0]


class _Provider:
    """Finds a "face" everywhere and counts how often it is asked."""

    name, version, layout = "fake", "1", "ibug68"

    def __init__(self):
        self.calls = 0

    def detect(self, frame):
        self.calls += 1
        ring = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        return [(32 + 16 * np.stack([np.cos(ring), np.sin(ring)], 1)).astype(np.float32)]


def test_landmarks_are_computed_once(film):
    video, provider = Source.from_path(film), _Provider()
    track = video.landmarks(provider)
    assert track.points_px.shape == (120, 68, 2) and track.found.all()
    assert video.landmarks(provider) is track and provider.calls == 120


def test_no_face_is_looked_for_beyond_what_is_shown(film):
    video, provider = Source.from_path(film), _Provider()
    video.limit(30)
    assert len(video.landmarks(provider)) == len(video) == provider.calls == 30
    np.testing.assert_array_equal(video.order(30), np.arange(30))
    video = Source.from_path(film)
    video.limit(500)
    assert len(video) == 120


def test_landmarks_of_a_whole_video_serve_its_beginning(film, tmp_path):
    points = np.full((120, 68, 2), 32, np.float32)
    file = write_landmarks(
        LandmarkTrack(points, np.ones(120, bool), np.ones(120, bool), SIZE, "ibug68"), tmp_path / "a.csv"
    )
    video = Source.from_path(film, landmark_file=file)
    video.limit(30)
    assert len(video.landmarks()) == 30


class _Two(_Provider):
    def detect(self, frame):
        ring = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        ring = np.stack([np.cos(ring), np.sin(ring)], 1).astype(np.float32)
        return [12 + 8 * ring, 45 + 9 * ring]


def test_two_people_are_said_in_one_line(film, caplog):
    Source.from_path(film).landmarks(_Two())
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "two faces of like size in 100% of the frames; the one on the right" in line and "crop the video" in line
    caplog.clear()
    video = Source.from_path(film)
    video.landmark_config = LandmarkConfig(pick="largest")
    video.landmarks(_Two())
    assert "--preprocess.landmarks.pick=tracked stays with one of them" in caplog.text


class _Lying(_Provider):
    layout = "mediapipe478"

    def detect(self, frame):
        points = np.random.default_rng(0).uniform(20, 40, (478, 2)).astype(np.float32)
        points[FOREHEAD], points[CHIN] = (50, 32), (14, 32)
        return [points]


def test_a_face_that_lies_is_said_in_one_line(film, caplog, monkeypatch):
    monkeypatch.setattr(source, "make_provider", lambda *_, **__: _Lying())
    Source.from_path(film).landmarks()
    assert "the face is turned by about 90 degrees" in caplog.text and "turn the video upright first" in caplog.text


def test_landmarks_of_a_clip_come_from_its_folder(film):
    class Clip:
        video, fps = film, 25.0

        def has(self, artefact):
            return artefact == "landmarks"

        def track(self):
            return "the stored track"

    video = Source.from_clip(Clip())
    assert video.landmarks() == "the stored track" and len(video) == 120


def test_audio_of_a_file(tmp_path):
    media.write_wav(tmp_path / "a.wav", click(2.02, 1.0))
    audio = Audio.load(tmp_path / "a.wav")
    assert audio.samples.dtype == np.float32 and audio.sample_rate == 16000 and audio.path == tmp_path / "a.wav"
    assert audio.duration == pytest.approx(2.02)
    assert audio.n_frames() == 51 and audio.n_frames(50.0) == 101


def test_silent_audio_is_refused_unless_asked_for(tmp_path):
    media.write_wav(tmp_path / "a.wav", np.zeros(16000))
    with pytest.raises(MediaError, match="silent"):
        Audio.load(tmp_path / "a.wav")
    assert Audio.load(tmp_path / "a.wav", allow_silence=True).is_silent


def test_landmarks_may_come_from_a_file(film, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "make_provider", lambda *_, **__: pytest.fail("nothing is detected"))
    found = np.arange(120) != 7
    points = np.full((120, 68, 2), np.array([SIZE[1], SIZE[0]]) / 2, np.float32)
    made = LandmarkTrack(points, found, found.copy(), SIZE, "ibug68")
    file = write_landmarks(made, tmp_path / "any name.csv")
    track = Source.from_path(film, landmark_file=file).landmarks()
    np.testing.assert_array_equal(track.points_px, points)
    np.testing.assert_array_equal(track.found, found)
    with pytest.raises(DataError, match=r"has landmarks of frame 120, but the video has 60 at 12.5 frames per second"):
        Source.from_path(film, 12.5, file).landmarks()


def test_a_film_may_begin_later_with_its_landmarks_and_turns_where_it_begins(film, tmp_path):
    points = np.full((120, 68, 2), np.array([SIZE[1], SIZE[0]]) / 2, np.float32)
    points[..., 0] += 0.1 * np.arange(120, dtype=np.float32)[:, None]
    track = LandmarkTrack(points, np.ones(120, bool), np.ones(120, bool), SIZE, "ibug68")
    video = Source.from_path(film, landmark_file=write_landmarks(track, tmp_path / "face.csv"))
    video.skip(4.4)
    assert len(video) == 10
    assert numbers(video.frames(video.order(21))) == [*range(110, 120), *range(119, 109, -1), 110]
    assert numbers(video.read([9, 0])) == [119, 110]
    np.testing.assert_array_equal(video.landmarks().points_px, points[110:])
    video.limit(3)
    video.skip(0.04)
    assert numbers(video.frames()) == [111, 112, 113]
    np.testing.assert_array_equal(video.landmarks().points_px, points[111:114])
    with pytest.raises(MediaError, match="lasts 0.36 s, so nothing is left after 0.36 s"):
        video.skip(0.36)


def test_a_source_finds_landmarks_as_the_pipeline_was_told(film, monkeypatch):
    asked = []

    def refuse(*settings, **more):
        asked.append((*settings, more["place"]))
        raise DataError("enough")

    monkeypatch.setattr(source, "make_provider", refuse)
    videos = [Source.from_path(film) for _ in range(2)]
    videos[0].reference = videos[1]
    chosen = LandmarkConfig(provider="s3fd", min_detection=0.7)
    Pipeline(TalkingFaceModel(), "Toy", landmarks=chosen, place=Place("/w", "cuda:1"))._set_provider(videos[0])
    for video in videos:
        with pytest.raises(DataError, match="enough"):
            video.landmarks()
    assert asked == [("s3fd", "tracking", 0.7, Place("/w", "cuda:1"))] * 2


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_time_to_begin_at_that_is_none_is_refused(film, seconds):
    with pytest.raises(ConfigError, match=r"start .*: must be 0 seconds or more"):
        Source.from_path(film).skip(seconds)


def test_no_frame_of_a_sound_is_refused():
    with pytest.raises(ConfigError, match="most_frames 0: must be 1 or more"):
        Audio(np.zeros(16000, np.float32)).first(0)
