"""What the `generate` of every model that redraws a face in a video promises, as tests to inherit.

A test file defines a fixture `model`, a function that builds the model with given `inference` settings (`batch`,
`precision`, `no_face`), and an empty `class TestGeneration(GenerationPromises)`.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest

from helpers.drawn_clips import DrawnSource, Speech
from talkingface import devices
from talkingface.errors import NoFaceError
from talkingface.streaming import spoken_windows


class GenerationPromises:
    """Length, missing faces, batches, memory, precision, windows of a voice that is still arriving."""

    streamed_within: int = 1
    """Grey levels by which these frames may differ; sums of another batch round otherwise."""

    @pytest.mark.parametrize(("seconds", "frames"), [(0.02, 1), (0.04, 1), (0.5, 13), (0.46, 12), (1.7, 43)])
    def test_as_many_frames_as_the_audio_lasts(self, model, seconds, frames):
        made = list(model().generate(DrawnSource(20), Speech(seconds)))
        assert len(made) == frames
        assert all(frame.shape == (120, 128, 3) and frame.dtype == np.uint8 for frame in made)

    def test_frames_without_a_face_pass_through_and_are_reported(self, model, caplog):
        source = DrawnSource(20, gone=(4, 5, 6, 12))
        with caplog.at_level(logging.WARNING, "talkingface"):
            made = list(model().generate(source, Speech(0.8)))
        for index in (4, 5, 6, 12):
            np.testing.assert_array_equal(made[index], source.pictures[index])
        assert (made[7] != source.pictures[7]).any()
        assert "no face in frames 4-6, 12" in caplog.text

    def test_frames_without_a_face_are_an_error_on_request(self, model):
        source = DrawnSource(20, gone=(4, 5, 6, 12))
        with pytest.raises(NoFaceError, match="frames 4-6, 12"):
            list(model(no_face="error").generate(source, Speech(0.8)))

    def test_a_video_without_any_face_is_always_an_error(self, model):
        with pytest.raises(NoFaceError, match="no face found in any"):
            list(model().generate(DrawnSource(3, gone=(0, 1, 2)), Speech(0.2)))

    def test_frames_that_were_bridged_are_redrawn_but_lend_no_face(self, model):
        made = []
        for shade in (100, 250):
            source = DrawnSource(20)
            source.held_out = True
            source.track.found = ~np.isin(np.arange(20), (3, 4, 15, 16))
            for index in np.flatnonzero(~source.track.found):
                source.pictures[index][:] = shade
            made.append(list(model().generate(source, Speech(0.8))))
        assert (made[0][3] != 100).any(), "drawn, though nothing was found there"
        for index in np.flatnonzero(source.track.found):
            np.testing.assert_array_equal(made[0][index], made[1][index])

    def test_a_voice_that_arrives_in_pieces_gives_the_frames_of_the_whole(self, model):
        talker, source, speech = model(), DrawnSource(20), Speech(2.3)
        if not talker.draws_wanted:
            pytest.skip("draws whole windows")
        whole = np.stack(list(talker.generate(source, speech))).astype(int)
        source.prepared = {}
        pieces = (speech.samples[start : start + 1000] for start in range(0, len(speech.samples), 1000))
        parts = [list(talker.generate(source.starting_at(first), part)) for first, part in spoken_windows(pieces)]
        made = np.stack([frame for part in parts for frame in part]).astype(int)
        assert made.shape == whole.shape and len(parts) > 4 and max(map(len, parts)) == 10
        assert np.abs(made - whole).max() <= self.streamed_within

    @pytest.mark.parametrize("precision", ["32", "bf16"])
    def test_the_batch_size_does_not_matter(self, model, precision):
        models = (model(batch=size, precision=precision) for size in (2, 7))
        first, second = (list(each.generate(DrawnSource(9), Speech(0.6))) for each in models)
        for a, b in zip(first, second, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1

    def test_a_batch_that_computes_while_the_one_before_is_pasted_changes_nothing(self, model, monkeypatch):
        plain = list(model(batch=4).generate(DrawnSource(20, gone=(4, 5, 6)), Speech(0.8)))
        monkeypatch.setattr(devices, "_items_ahead", lambda device: 1)  # as on a GPU
        ahead = list(model(batch=4).generate(DrawnSource(20, gone=(4, 5, 6)), Speech(0.8)))
        np.testing.assert_array_equal(ahead, plain)

    def test_pictures_are_held_one_batch_at_a_time(self, model):
        source, read, seen = DrawnSource(20), 0, []

        def counted(order=None, frames=source.frames):
            nonlocal read
            for frame in frames(order):
                read += 1
                yield frame

        source.frames = counted
        for number, _ in enumerate(model(batch=4).generate(source, Speech(4.0)), start=1):
            seen.append(read - number)
        assert number == 100 and max(seen) <= 4

    def test_half_precision_draws_nearly_the_same(self, model):
        single, half = (list(model(precision=p).generate(DrawnSource(6), Speech(0.2))) for p in ("32", "bf16"))
        difference = [np.abs(a.astype(int) - b).max() for a, b in zip(single, half, strict=True)]
        assert 0 < max(difference) < 12
