"""A run's folder when it is opened again, and what ends a demo."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from helpers.clips import tone
from talkingface.clips.layout import Layout
from talkingface.errors import NoFaceError
from talkingface.media import probe, write_image
from talkingface.pipeline import Pipeline
from talkingface.plugin import TalkingFaceModel
from talkingface.weights.runs import RunFolder
from talkingface.workflow import make_evaluator, scoring, training
from talkingface.workflow.data import prepared_clips
from toys.build import toy_config

pytestmark = pytest.mark.usefixtures("toys")


def resume(tmp_path, caplog, **overrides) -> str:
    """Warnings when a run is opened whose configuration was written before stages had `options`."""
    old = toy_config(tmp_path).as_dict()
    for stage in old["stages"]:
        del stage["options"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(old))
    with caplog.at_level(logging.WARNING, "talkingface"):
        training._open_run(RunFolder(tmp_path / "run"), toy_config(tmp_path, **overrides))
    return caplog.text


def test_a_key_that_is_new_since_then_is_no_change(tmp_path, caplog):
    assert not resume(tmp_path, caplog)


@pytest.mark.parametrize("change", [{"stages.gan.accumulate": 2}, {"stages.gan.optim.generator.lr": 1.0}])
def test_a_changed_stage_is_said(tmp_path, caplog, change):
    assert "run: resumed with changed stages" in resume(tmp_path, caplog, **change)


def test_scores_in_training_take_the_trained_speakers_from_the_clips_of_the_run(tmp_path, monkeypatch):
    for name in ("ann/1", "ann/2", "bob/1", "eve/1"):
        folder = tmp_path / "prepared" / name
        folder.mkdir(parents=True)
        (folder / "clip.json").write_text(json.dumps({"format": 1, "clip_id": name, "status": "ok", "frames": 9}))
    for split, text in (("train", "ann/1\nbob/1"), ("val", "ann/2"), ("test", "eve/1")):
        (tmp_path / f"{split}.txt").write_text(text)
    lists = {f"{split}_filelist": str(tmp_path / f"{split}.txt") for split in ("train", "val", "test")}
    places = {"data_root": str(tmp_path), "preprocessed_root": str(tmp_path / "prepared"), "metrics": ["PSNR"]}
    config = toy_config(tmp_path, **lists, **places).config
    clips = prepared_clips(config, ())
    monkeypatch.setattr(Layout, "listed_ids", lambda *_: pytest.fail("a list is read"))
    evaluator = make_evaluator(config, Pipeline(TalkingFaceModel(), "Toy"), clips)
    assert evaluator.setup.trained_speakers == {"ann", "bob"}


class Shows(TalkingFaceModel):
    """Brings two pictures along, and finds no face in the second one."""

    def examples(self, clips, folder):
        for name in ("face", "wall"):
            write_image(folder / f"{name}.png", np.full((32, 48, 3), 90, np.uint8))
            yield folder / f"{name}.png"

    def generate(self, source, audio):
        if source.path.stem == "wall":
            raise NoFaceError("wall.png: no face")
        for _ in range(audio.n_frames(source.fps)):
            yield source.read([0])[0]


def test_what_a_model_brings_along_speaks_at_the_end_of_a_demo(tmp_path, caplog):
    clips = [SimpleNamespace(audio=lambda: tone(0.4))]
    with caplog.at_level(logging.WARNING, "talkingface"):
        scoring._animate_examples(Pipeline(Shows(), "Shows"), clips, tmp_path / "examples")
    made = probe(tmp_path / "examples" / "face.mp4")
    assert made.has_audio and made.duration == pytest.approx(0.4, abs=0.05)
    assert "left out: wall.png: no face" in caplog.text and not (tmp_path / "examples" / "wall.mp4").exists()
    scoring._animate_examples(Pipeline(TalkingFaceModel(), "Other"), clips, tmp_path / "none")
    assert not (tmp_path / "none").exists()
