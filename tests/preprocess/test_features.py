"""What front ends hear, as an artefact: its record, its times, its vector, and another front end's rows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import talkingface.networks.speaker_encoder  # noqa: F401  (registers itself)
from helpers.clips import face_frames, write_clip
from helpers.preparing import item, run
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import ConfigError, DataError, RegistryError
from talkingface.media import write_wav
from talkingface.networks.deepspeech.front_ends import DeepSpeechOnnxFrontEnd, DeepSpeechTensorFlowFrontEnd
from talkingface.preprocess.features import FeaturesStep
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.prepare import Preprocessor, phases
from talkingface.sound.choice import FrontEndConfig
from talkingface.sound.front_ends import FrontEnd, LogMelFrontEnd, VoiceMelFrontEnd, VoiceStatistics, register_front_end
from talkingface.sound.recogniser import fitted

SOUND = FrontEndConfig(name="vc_mel", speaker="statistics")


@register_front_end
class Weighed(FrontEnd):
    """A front end with a file of weights, for tests."""

    name, rows_per_second, first_row, width, files = "weighed", 10.0, 0.05, 1, ("weighed.txt",)

    def extract(self, samples):
        gain = float((self.weights_dir / self.files[0]).read_text())
        return np.full((len(samples) // 1600, 1), gain, np.float32)


def config(tmp_path):
    from types import SimpleNamespace

    return SimpleNamespace(weights_dir=str(tmp_path), device="cpu")


def prepare(choice: FrontEndConfig, videos, tmp_path):
    settings = PreprocessConfig(workers=0)
    steps = plan_steps([choice.artefact], {choice.artefact: choice.choice}, settings)
    for step in steps:
        step.bind(config(tmp_path))
    report = Preprocessor(steps, settings, tmp_path / "clips", progress=False).run([item(videos["good"])])
    return report, ClipFolder(tmp_path / "clips/s/1")


def test_rows_and_vector_are_those_of_the_front_end_and_the_record_says_when_they_are(videos, tmp_path):
    report, clip = prepare(SOUND, videos, tmp_path)
    assert report.ok_ids == ["s/1"] and SOUND.artefact == "features@vc_mel+statistics"
    rows = clip.features(SOUND.artefact)
    np.testing.assert_array_equal(rows.values, VoiceMelFrontEnd().extract(clip.audio()))
    np.testing.assert_array_equal(rows.vector, VoiceStatistics().vector(clip.audio()))
    assert (rows.per_second, rows.first) == (62.5, 0.0)
    record = clip.record(SOUND.artefact)
    assert record["facts"] == {"rows_per_second": 62.5, "first_row": 0.0}
    assert record["params"]["made_by"] == json.loads(json.dumps(SOUND.build().fingerprint()))
    assert prepare(SOUND, videos, tmp_path)[0].made == 0


@pytest.mark.parametrize("seconds", [0.4, 0.48, 0.52, 0.9])
def test_rows_of_frames_are_those_of_sound_that_ends_with_the_video(tmp_path, seconds):
    sound = np.random.default_rng(0).normal(0, 0.1, round(16000 * seconds)).astype(np.float32)
    video = {"good": write_clip(tmp_path / "12.mp4", face_frames(12))}
    write_wav(tmp_path / "12.wav", sound)
    choice = FrontEndConfig(name="logmel")

    def prepared():
        settings = PreprocessConfig(workers=0, min_seconds=0.0)
        steps = plan_steps([choice.artefact], {choice.artefact: choice.choice}, settings)
        steps[-1].bind(config(tmp_path))
        source = dataclasses.replace(item(video["good"]), audio=tmp_path / "12.wav")
        report = Preprocessor(steps, settings, tmp_path / "clips", progress=False).run([source])
        return report.made, ClipFolder(tmp_path / "clips/s/1")

    clip = prepared()[1]
    rows = clip.features(choice.artefact).values
    np.testing.assert_array_equal(rows, LogMelFrontEnd().extract(fitted(clip.audio(), 12)))
    assert len(rows) == 24 and clip.facts(choice.artefact)["heard_frames"] == min(12, round(25 * seconds))
    # Rows that were made of the sound as it is serve on where it ends with the video, or within a block of it.
    step = FeaturesStep(choice.artefact, choice.choice, PreprocessConfig())
    assert step.version == 2 and step.former() == [(1, step.params)]
    assert step.still_right(clip) == (seconds in (0.48, 0.52)) and prepared()[0] == 0
    other = FeaturesStep("features@mel", {}, PreprocessConfig())
    assert other.version == 1 and other.former() == []


def test_other_weights_make_the_rows_anew_and_are_named_by_their_hash(videos, tmp_path):
    weights, choice = tmp_path / "weighed.txt", FrontEndConfig(name="weighed")
    weights.write_text("1")
    _, clip = prepare(choice, videos, tmp_path)
    first = clip.record(choice.artefact)
    assert clip.features(choice.artefact).first == 0.05 and clip.features(choice.artefact).vector is None
    weights.write_text("2")
    report, clip = prepare(choice, videos, tmp_path)
    assert report.made == 1 and (clip.features(choice.artefact).values == 2).all()
    now = choice.model_copy(update={"made_by": choice.build(tmp_path).fingerprint()})
    reason = now.made_by_others(first)
    assert reason.count("weighed.txt") == 2 and "is in use" in reason
    assert now.made_by_others(clip.record(choice.artefact)) is None


def test_a_front_end_without_its_file_stops_before_any_clip(tmp_path):
    step = FeaturesStep("features@weighed", {"name": "weighed"}, PreprocessConfig())
    with pytest.raises(DataError, match="weighed.txt: the front end weighed needs this file"):
        step.bind(config(tmp_path))
    (tmp_path / "weighed.txt").write_text("1")
    step.bind(config(tmp_path))
    assert step.runs_network, "on a GPU it works in one process"
    assert not FeaturesStep("features@mel", {}, PreprocessConfig()).runs_network


def test_a_front_end_whose_network_computes_on_the_cpu_stays_with_the_workers(tmp_path, monkeypatch):
    """On a machine with a GPU the main process would else hear clip after clip, with one thread."""
    (tmp_path / "weighed.txt").write_text("1")
    found = []
    for on_cpu in (True, False):
        monkeypatch.setattr(Weighed, "on_cpu", on_cpu)
        step = FeaturesStep("features@weighed", {"name": "weighed"}, PreprocessConfig())
        step.bind(config(tmp_path))
        found.append([workers for _, workers in phases([step], 4, on_gpu=True)])
    assert found == [[4], [4, 0]]
    assert DeepSpeechOnnxFrontEnd.on_cpu and DeepSpeechTensorFlowFrontEnd.on_cpu


def test_unknown_names_and_options_are_refused():
    with pytest.raises(RegistryError, match="front end"):
        FrontEndConfig(name="ears").build()
    with pytest.raises(RegistryError, match="speaker vector"):
        FrontEndConfig(speaker="nobody").build()
    with pytest.raises(ConfigError, match="loudness"):
        FrontEndConfig(settings={"loudness": 3}).build()
    with pytest.raises(ConfigError, match=r"statistics: unknown tracker 'pyin' \(known: correlation, rapt\)"):
        FrontEndConfig(speaker="statistics", speaker_settings={"tracker": "pyin"}).build()
    with pytest.raises(ConfigError, match=r"resemblyzer: unknown detector 'foo' \(known: energy, webrtc\)"):
        FrontEndConfig(speaker="resemblyzer", speaker_settings={"detector": "foo"}).build()


def test_rows_without_their_rate_are_refused(videos, tmp_path):
    assert run([item(videos["good"])], tmp_path, ("features@mel",)).ok_ids == ["s/1"]
    file = tmp_path / "s/1/clip.json"
    meta = json.loads(file.read_text())
    meta["steps"]["features@mel"]["facts"].pop("rows_per_second")
    file.write_text(json.dumps(meta))
    with pytest.raises(DataError, match="how many rows a second"):
        ClipFolder(tmp_path / "s/1").features("features@mel")
