"""Protocol `track` from end to end: a drawn clip of two shots with two faces each, and a detector that sees colours."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from helpers.media_files import write_video
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError, Unavailable
from talkingface.evaluation.metric import make_metric
from talkingface.evaluation.metrics import lse_track
from talkingface.evaluation.metrics.lse import score_embeddings
from talkingface.evaluation.metrics.lse_track import S3FDFinder, find_tracks, make_finder
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.public import face_track
from talkingface.lipsync.public.face_track import smooth
from talkingface.lipsync.public.windows import embed
from talkingface.media import VideoReader
from talkingface.networks.syncnet_v2 import SyncNetV2
from talkingface.sound.mfcc import pcm16

SHOT = 24
SIZE = (240, 400)
BACKGROUNDS = ((150, 20, 20), (20, 20, 120))


class Greens:
    """Stands in for S3FD: green areas are faces, a left and a right one."""

    def __init__(self, batch: int = 8) -> None:
        self.batch, self.sizes = batch, set()

    def detect(self, pictures, least):
        assert least == 0.9
        self.sizes |= {picture.shape[:2] for picture in pictures}
        return [self._faces(picture) for picture in pictures]

    def _faces(self, picture):
        boxes, middle = [], picture.shape[1] // 2
        for first, part in ((0, picture[:, :middle]), (middle, picture[:, middle:])):
            rows, columns = np.nonzero((part[..., 1] > 120) & (part[..., 0] < 110) & (part[..., 2] < 110))
            if len(rows):
                boxes.append((first + columns.min(), rows.min(), first + columns.max() + 1, rows.max() + 1, 0.95))
        return np.array(boxes, np.float32).reshape(-1, 5)


def frame(index: int) -> np.ndarray:
    """Two green faces with mouths that open and close, on a background that changes with the shot."""
    shot, time = divmod(index, SHOT)
    picture = np.full((*SIZE, 3), BACKGROUNDS[shot], np.uint8)
    for face, left in enumerate((20 + 8 * shot, 220 + 8 * shot)):
        picture[40 : 40 + 148, left + time % 4 : left + 140 + time % 4] = (60, 200, 60)
        opened = 8 + int(6 * np.sin(2 * np.pi * time / (7 + 2 * face)))
        picture[140 : 140 + opened, left + 50 : left + 90] = (90, 130, 90)
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = [frame(index) for index in range(2 * SHOT)]
    path = tmp_path_factory.mktemp("tracks") / "two_shots.mp4"
    return write_video(path, np.arange(len(frames)) / 25, frames=frames, options={"crf": "10"})


@pytest.fixture(scope="module")
def syncnet():
    torch.manual_seed(3)
    return SyncNetV2().eval().fold()


@pytest.fixture(autouse=True)
def short_tracks(monkeypatch):
    monkeypatch.setattr(face_track, "MIN_TRACK", 20)


def sound() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, 2 * SHOT * 640).astype(np.float32)


def sample(clip, audio=sound) -> EvalSample:
    return EvalSample("two", "generated", clip, clip, audio=audio)


def metric(network, batch=8, **settings):
    metric = make_metric("LSE", EvaluationConfig(lse_protocol="track", batch=batch, **settings))
    metric._network, metric._finder = network, S3FDFinder(Greens(batch), {"file": "drawn"})
    return metric


class Averages(torch.nn.Module):
    """Stands in for SyncNet: embeddings are plain statistics of the windows."""

    def forward_lip(self, windows):
        return torch.stack([windows[:, 0].mean((1, 2, 3)), windows[:, :, :, 130:180].std((1, 2, 3, 4))], dim=1)

    def forward_audio(self, windows):
        return windows.mean((1, 2, 3))[:, None].expand(-1, 2)


def test_two_shots_with_two_faces_give_four_tracks(clip):
    tracks = find_tracks(VideoReader(clip), S3FDFinder(Greens(), {}))
    assert [(t.first, t.last) for t in tracks] == [(0, 23), (0, 23), (24, 47), (24, 47)]
    for track, left in zip(tracks, (20, 220, 28, 228)):
        drawn = np.stack([np.array([left + k % 4, 40, left + 140 + k % 4, 188]) for k in range(SHOT)])
        np.testing.assert_allclose(track.boxes, drawn, atol=4)  # a pixel of the quarter size


def test_the_detector_sees_a_quarter_of_the_size(clip):
    greens = Greens()
    find_tracks(VideoReader(clip), S3FDFinder(greens, {}))
    assert greens.sizes == {(60, 100)}


def test_each_track_is_scored_with_its_own_sound_and_the_clip_has_their_mean(clip):
    one = sample(clip)
    values = metric(Averages()).score(one)
    scores = []
    for track in find_tracks(VideoReader(clip), S3FDFinder(Greens(), {})):
        places = smooth(track)
        frames = list(VideoReader(clip))[track.first : track.last + 1]
        crops = [places.crop(picture, index) for index, picture in enumerate(frames)]
        pcm = pcm16(sound())[track.first * 640 : (track.last + 1) * 640]
        scores.append(score_embeddings(*embed(Averages(), crops, pcm)))
    assert values["lse_tracks"] == len(scores) == 4
    assert values["lse_c"] == pytest.approx(np.mean([score.confidence for score in scores]), rel=1e-6)
    assert values["lse_d"] == pytest.approx(np.mean([score.distance for score in scores]), rel=1e-6)
    assert values["av_offset"] == pytest.approx(np.mean([score.offset for score in scores]))
    np.testing.assert_allclose(one.curves["lse"], np.mean([s.mean_distance for s in scores], axis=0)[::-1], rtol=1e-6)
    notes = [note for note in one.notes if "track in frames" in note]
    assert [note.split(":")[1] for note in notes] == [
        " track in frames 0 to 23",
        " track in frames 0 to 23",
        " track in frames 24 to 47",
        " track in frames 24 to 47",
    ]
    assert one.frames["lse_c"] == 4 * (SHOT - 5)


def test_results_of_the_real_network_do_not_depend_on_the_batch(clip, syncnet):
    results = [metric(syncnet, batch).score(sample(clip)) for batch in (8, 5)]
    assert results[0].keys() == {"lse_c", "lse_d", "av_offset", "lse_tracks"}
    assert all(math.isfinite(value) for value in results[0].values())
    for key, value in results[0].items():
        assert results[1][key] == pytest.approx(value, rel=1e-5, abs=1e-5), key


def test_the_smoothing_of_the_track_changes_the_crops(clip):
    zero, nearest = (metric(Averages(), track_smoothing=name).score(sample(clip)) for name in ("zero", "nearest"))
    assert abs(zero["lse_d"] - nearest["lse_d"]) > 1e-4


def test_a_track_behind_the_end_of_the_sound_is_left_out_with_a_note(clip):
    one = sample(clip, audio=lambda: sound()[: (SHOT + 3) * 640])
    assert metric(Averages()).score(one)["lse_tracks"] == 2
    assert sum("left out: the sound ends before it" in note for note in one.notes) == 2
    with pytest.raises(DataError, match=r"two_shots\.mp4: 4 face tracks, but the sound ends before all of them"):
        metric(Averages()).score(sample(clip, audio=lambda: sound()[:1000]))


def test_a_clip_without_a_track_says_how_far_it_got(clip, monkeypatch):
    monkeypatch.setattr(face_track, "MIN_TRACK", 100)
    with pytest.raises(DataError, match=r"two_shots\.mp4: no face track: .*48 frames in 2 shots \(0 long enough\)"):
        metric(Averages()).score(sample(clip))


def test_the_report_names_protocol_detector_and_smoothing():
    described = metric(Averages()).definition()
    assert {described[key]["variant"] for key in ("lse_c", "lse_d", "av_offset", "lse_tracks")} == {"track, s3fd"}
    assert described["lse"]["detector"] == {
        **{"name": "s3fd", "weights": {"file": "drawn"}},
        **{"scale": 0.25, "least_score": 0.9, "overlap": 0.1},
    }
    assert described["lse"]["smoothing"] == {"kernel": 13, "padding": "zero"}
    plain = make_metric("LSE", EvaluationConfig(lse_padding="valid"))
    assert plain.definition()["lse_c"] == {"variant": "clip, valid padding"} and "lse_tracks" not in plain.figures


def test_boxes_of_overlapping_faces_are_thinned_out_at_the_full_size():
    class Twice(Greens):
        def _faces(self, picture):
            return np.array([[10, 10, 50, 50, 0.99], [12, 10, 52, 50, 0.98], [60, 10, 90, 50, 0.97]], np.float32)

    (boxes,) = S3FDFinder(Twice(), {}).find([np.zeros((60, 100, 3), np.uint8)], SIZE)
    np.testing.assert_allclose(boxes[:, :4], [[40, 40, 200, 200], [240, 40, 360, 200]])


def test_detectors_are_chosen_by_the_weights_that_are_there(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "talkingface.evaluation.metrics.lse_track.make_provider", lambda name: made.append(name) or Points()
    )
    assert make_finder("auto", tmp_path, "cpu").describe() == {"name": "points", "version": "7"}
    assert made == ["mediapipe"]
    with pytest.raises(Unavailable, match=r"weights not found: .*s3fd-619a316812\.pth"):
        make_finder("s3fd", tmp_path, "cpu")
    syncnet = tmp_path / "mine.model"
    torch.save(SyncNetV2().state_dict(), syncnet)
    settings = EvaluationConfig(lse_protocol="track", track_detector="s3fd", lse_checkpoint=str(syncnet))
    with pytest.raises(Unavailable, match=r"weights not found: .*s3fd-619a316812\.pth"):
        make_metric("LSE", settings, tmp_path).prepare()
    (tmp_path / "s3fd-619a316812.pth").write_bytes(b"something else")
    with pytest.raises(Unavailable, match="not the published file"):
        make_finder("auto", tmp_path, "cpu")


def test_own_weights_of_the_detector_are_named_in_the_configuration(tmp_path, monkeypatch):
    loaded = []
    load = lambda path, device, batch: loaded.append((path.name, device, batch)) or Greens(3)  # noqa: E731
    monkeypatch.setattr("talkingface.faces.s3fd.S3FDDetector.load", load)
    (tmp_path / "own.pth").write_bytes(b"my weights")
    own = {"track_weights": str(tmp_path / "own.pth"), "batch": 3}
    for choice in ("s3fd", "auto"):
        settings = EvaluationConfig(lse_protocol="track", track_detector=choice, **own)
        weights = make_metric("LSE", settings, tmp_path / "nothing")._make_finder().describe()["weights"]
        assert weights["file"] == "own.pth" and weights["published"] is False
    assert loaded == [("own.pth", "cpu", 3)] * 2
    with pytest.raises(Unavailable, match=r"weights not found: .*gone\.pth \(evaluation\.track_weights\)"):
        make_finder("auto", tmp_path, "cpu", None, str(tmp_path / "gone.pth"))


class Points:
    """A landmark detector with one face."""

    name, version, layout = "points", "7", "mediapipe478"

    def detect(self, frame):
        height, width = frame.shape[:2]
        return [np.array([[0.1 * width, 0.4 * height, 5], [0.5 * width, 0.2 * height, 7]], np.float32)]


def test_landmark_detectors_give_the_box_around_their_points():
    finder = lse_track.LandmarkFinder(Points())
    picture = np.zeros((*SIZE, 3), np.uint8)
    assert finder.reduce(picture) is picture
    (boxes,) = finder.find([picture], SIZE)
    np.testing.assert_allclose(boxes, [[40, 48, 200, 96]])
