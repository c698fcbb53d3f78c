"""Front ends: rates and widths, what each of them is, and that none is taken for another."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.errors import DataError, RegistryError
from talkingface.sound import front_ends
from talkingface.sound.front_ends import (
    FrontEnd,
    VoiceStatistics,
    WithSpeaker,
    described,
    front_end_kind,
    front_end_names,
    refuse_other,
    register_front_end,
)
from talkingface.sound.mel import melspectrogram
from talkingface.sound.speaker import voice_statistics


@pytest.fixture
def registry(monkeypatch):
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(front_ends, "_FRONT_ENDS", dict(front_ends._FRONT_ENDS))


@pytest.fixture
def toy(registry):
    @register_front_end
    class Toy(FrontEnd):
        name, rows_per_second, width, vector_width, files = "toy", 10.0, 2, 3, ("toy/weights.pt",)

        def __init__(self, weights_dir="checkpoints", device="cpu", loud=False):
            super().__init__(weights_dir, device)
            self.loud = loud

        def settings(self):
            return {"loud": self.loud}

        def extract(self, samples):
            return np.zeros((len(samples) // 1600, 2), np.float32)

        def vector(self, samples):
            return np.ones(3, np.float32)

    return Toy


@pytest.mark.parametrize("name", ["mel", "vc_mel"])
@pytest.mark.parametrize("samples", [1, 600, 16000, 24123])
def test_every_one_of_ours_keeps_its_promises(name, samples):
    kind = front_end_kind(name)
    for sound in (np.zeros(samples), np.random.default_rng(0).normal(0, 0.1, samples)):
        rows = kind().extract(sound)
        assert rows.dtype == np.float32 and rows.shape[1] == kind.width and np.isfinite(rows).all()
        assert len(rows) == int(samples / 16000 * kind.rows_per_second) + 1
    assert kind().vector(sound) is None and kind.vector_width == 0


def test_a_row_stands_for_its_time():
    click = np.zeros(16000)
    click[8000] = 1.0
    for name in ("mel", "vc_mel"):
        front_end = front_end_kind(name)()
        rows = front_end.extract(click)
        loudest = front_end.times(len(rows))[rows.mean(axis=1).argmax()]
        assert loudest == pytest.approx(0.5, abs=0.02), name


def test_the_first_front_end_is_the_mel_that_models_read():
    sound = np.random.default_rng(0).normal(0, 0.1, 8000)
    np.testing.assert_array_equal(front_end_kind("mel")().extract(sound), melspectrogram(sound).T)


def test_names_are_known_and_taken_once(toy):
    assert {"mel", "vc_mel", "toy"} <= set(front_end_names()) and front_end_kind("toy") is toy
    with pytest.raises(RegistryError, match="unknown front end 'vc_mell', did you mean 'vc_mel'"):
        front_end_kind("vc_mell")
    with pytest.raises(RegistryError, match="two front ends are called 'toy'"):
        register_front_end(type("Other", (toy,), {}))


def test_a_front_end_says_what_it_is_down_to_its_weights_and_parts(toy, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "weights.pt").write_bytes(b"1")
    front_end = toy(tmp_path)
    front_end.parts = (front_end_kind("vc_mel")(tmp_path),)
    stored = front_end.fingerprint()
    assert stored["files"]["toy/weights.pt"].startswith("6b86b273") and stored["parts"] == [
        {"name": "vc_mel", "version": 1}
    ]
    assert described(stored) == "toy (loud False, weights.pt 6b86b273, vc_mel)"
    refuse_other(stored, toy(tmp_path).fingerprint() | {"parts": stored["parts"]}, "clip a", "no advice")
    (tmp_path / "toy" / "weights.pt").write_bytes(b"2")
    with pytest.raises(
        DataError,
        match=r"^clip a: made with the front end toy \(loud False, weights\.pt 6b86b273, vc_mel\), "
        r"but toy \(loud False, weights\.pt d4735e3a, vc_mel\) is in use; preprocess again$",
    ):
        refuse_other(stored, front_end.fingerprint(), "clip a", "preprocess again")


def test_another_front_end_is_refused_and_both_are_named(toy):
    stored = {"name": "toy", "version": 1, "loud": True}
    wanted = front_end_kind("vc_mel")().fingerprint()
    with pytest.raises(DataError, match=r"made with the front end toy \(loud True\), but vc_mel is in use; train anew"):
        refuse_other(stored, wanted, "best.pt", "train anew")
    with pytest.raises(DataError, match="made with the front end another version of it, but vc_mel is in use"):
        refuse_other({**wanted, "version": 0}, wanted, "best.pt", "train anew")


def test_a_missing_file_is_named_also_that_of_a_part(toy, tmp_path):
    whole = front_end_kind("vc_mel")(tmp_path)
    whole.parts = (toy(tmp_path),)
    assert whole.missing() == [tmp_path / "toy" / "weights.pt"]
    with pytest.raises(DataError, match=r"toy.weights\.pt: the front end vc_mel needs this file; .*weights"):
        whole.fingerprint()


def test_a_front_end_with_a_speaker_is_both_and_says_so(tmp_path):
    together = WithSpeaker(front_end_kind("vc_mel")(tmp_path), VoiceStatistics(tmp_path, tracker="correlation"))
    sound = np.random.default_rng(0).normal(0, 0.1, 8000)
    assert (together.name, together.width, together.vector_width, together.rows_per_second) == ("vc_mel", 80, 256, 62.5)
    np.testing.assert_array_equal(together.extract(sound), front_end_kind("vc_mel")().extract(sound))
    np.testing.assert_array_equal(together.vector(sound), voice_statistics(sound, "correlation"))
    assert described(together.fingerprint()) == "vc_mel (vc_mel, statistics (tracker correlation))"


def test_another_tracker_is_another_speaker_vector():
    kinds = [VoiceStatistics(tracker=tracker).fingerprint() for tracker in ("rapt", "correlation")]
    with pytest.raises(DataError, match=r"statistics \(tracker rapt\), but statistics \(tracker correlation\)"):
        refuse_other(*kinds, "best.pt", "preprocess again")


def test_what_others_made_is_known_by_its_names_alone(tmp_path):
    made = {"name": "vc_mel", "elsewhere": True}
    here = WithSpeaker(front_end_kind("vc_mel")(tmp_path), VoiceStatistics(tmp_path)).fingerprint()
    refuse_other(made, here, "imported.pt", "no advice")
    refuse_other({**made, "parts": [{"name": "vc_mel"}, {"name": "statistics"}]}, here, "imported.pt", "no advice")
    with pytest.raises(DataError, match=r"vc_mel \(made elsewhere, vc_mel, resemblyzer\), but vc_mel \(vc_mel, stat"):
        refuse_other({**made, "parts": [{"name": "vc_mel"}, {"name": "resemblyzer"}]}, here, "imported.pt", "other")
