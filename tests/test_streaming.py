"""Speaking while the voice is still arriving: windows of sound, look-ahead, faces that are kept."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from helpers.clips import face_frames, tone, write_clip
from helpers.serving import random_checkpoint
from talkingface.clips import source as sources
from talkingface.clips.source import Audio, Source
from talkingface.errors import ConfigError, MediaError
from talkingface.lipsync.half_face import generate as half_face
from talkingface.media import resampled
from talkingface.pipeline import Pipeline
from talkingface.plugin import TalkingFaceModel
from talkingface.streaming import spoken_windows


def cut(samples: np.ndarray, size: int):
    return (samples[start : start + size] for start in range(0, len(samples), size))


@pytest.mark.parametrize("fps", [25.0, 30.0, 29.97])
@pytest.mark.parametrize("seconds", [0.02, 0.5, 0.8, 1.21, 3.4])
@pytest.mark.parametrize("size", [160, 5000, 10**9])
def test_windows_hold_every_frame_once_in_order_and_the_sound_around_it(fps, seconds, size):
    samples = np.arange(round(16000 * seconds), dtype=np.float32)
    rows = []
    for begin, audio in spoken_windows(cut(samples, size), fps):
        first = round(begin * 16000 / fps)
        np.testing.assert_array_equal(audio.samples, samples[first : first + len(audio.samples)])
        assert audio.before == first
        assert len(audio.samples) <= 16000 * 3.5 and audio.n_frames(fps) >= audio.wanted[1]
        rows += (audio.rows(fps) + begin).tolist()
    assert rows == list(range(Audio(samples * 0).n_frames(fps)))


def test_the_first_frame_comes_long_before_the_voice_has_ended_and_nothing_is_taken_ahead():
    taken = []

    def pieces():
        for number in range(100):
            taken.append(number)
            yield np.zeros(1600, np.float32)

    windows = spoken_windows(pieces())
    _, first = next(windows)
    assert first.rows().tolist() == list(range(10)) and len(taken) == 8  # 0.8 s
    next(windows)
    assert len(taken) == 12


def test_pieces_at_another_rate_are_heard_at_ours():
    heard = np.concatenate(list(resampled(cut(tone(1.0), 333), 16000)))
    np.testing.assert_array_equal(heard, tone(1.0))
    time = np.arange(48000) / 48000
    other = np.concatenate(list(resampled(cut((0.3 * np.sin(2 * np.pi * 220 * time)).astype(np.float32), 777), 48000)))
    assert len(other) == 16000 and np.abs(other[500:-500] - tone(1.0)[500:-500]).max() < 0.01
    with pytest.raises(MediaError, match="not finite"):
        list(resampled([np.full(10, np.nan)], 16000))
    with pytest.raises(MediaError, match="which no recording has"):
        list(resampled([np.zeros(10)], 3))


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talker")
    film = write_clip(folder / "film.mp4", face_frames(12))
    return Pipeline.from_checkpoint("Wav2Lip", random_checkpoint(folder / "tiny.pt"), "cpu"), film


def test_a_stream_is_the_video_of_the_whole_voice_and_a_kept_face_is_looked_for_once(talker, monkeypatch):
    pipeline, film = talker
    voice = tone(1.3)
    source = Source.from_path(film)
    whole = list(pipeline.model.generate(source, Audio(voice)))
    looked = []
    for name, place in (("find_track", sources), ("choose_references", half_face)):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, real=real, name=name: looked.append(name) or real(*args))
    face = pipeline.prepare(film)
    assert looked == ["find_track", "choose_references"]
    for _ in range(2):  # the second sentence begins where the film begins, too
        made = list(pipeline.stream(face, cut(voice, 1000)))
        assert np.abs(np.stack(made).astype(int) - np.stack(whole)).max() <= 1
    assert looked == ["find_track", "choose_references"]
    assert all(frame.flags.writeable for frame in made)


def test_gradients_work_between_two_frames_of_a_stream(talker):
    import torch

    pipeline, film = talker
    for _ in islice(pipeline.stream(film, cut(tone(1.0), 1000)), 2):
        weight = torch.ones(1, requires_grad=True)
        (weight * 2).backward()
        assert weight.grad is not None


class Counter(TalkingFaceModel):
    """Draws the number of each frame of its window, wanted or not."""

    def generate(self, source, audio):
        for number in source.order(audio.n_frames(source.fps)):
            yield np.full((8, 8, 3), number, np.uint8)


class Planner(Counter):
    """Plans the head beforehand."""

    def head_follows(self, picture):
        return "predicted"


def test_a_model_that_knows_nothing_of_windows_streams_too(talker):
    face = Pipeline(Counter(), "Counter").prepare(talker[1])
    shown = [int(frame[0, 0, 0]) for frame in Pipeline(Counter(), "Counter").stream(face, cut(tone(2.0), 1000))]
    assert shown == Source.from_path(talker[1]).order(50).tolist()


def test_a_model_that_plans_the_whole_sound_is_refused(talker):
    with pytest.raises(ConfigError, match=r"--model.inference.head=none keeps the head still"):
        Pipeline(Planner(), "Planner").stream(talker[1], [tone(1.0)])
