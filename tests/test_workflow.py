"""A run's folder when it is opened again, and what ends a demo."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from helpers.clips import tone
from talkingface.errors import NoFaceError
from talkingface.media import probe, write_image
from talkingface.pipeline import Pipeline
from talkingface.plugin import TalkingFaceModel
from talkingface.weights.runs import RunFolder
from talkingface.workflow import scoring, training
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
