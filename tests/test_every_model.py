"""What every registered model must do, whichever it is: learn a tiny clip, keep a checkpoint, make a video.

A model is covered from the moment it is registered; it needs a profile `tiny` in its YAML, about 20 steps per stage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import ROOT
from talkingface.cli import commands as cli
from talkingface.clips.folder import ClipFolder
from talkingface.config.yaml_files import read_yaml
from talkingface.faces.landmark_file import write_landmarks
from talkingface.pipeline import Pipeline
from talkingface.plugin.borrowed import with_stand_ins
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec, list_models
from talkingface.workflow import prepare, run

QUICK = {"metrics": ["PSNR"], "evaluation.rows": ["generated"], "evaluation.max_clips": 1, "evaluation.samples": 0}


@dataclass
class Trained:
    """A model that went through all its stages."""

    name: str
    overrides: Mapping[str, Any]
    run: Path

    @property
    def config(self):
        return load_config(self.name, "demo", (), self.overrides).config

    @property
    def makes_videos(self) -> bool:
        return get_spec(self.name).model.needed_to_speak(self.config.model) is not None

    def video(self, split: str = "test") -> Path:
        clip = Path(getattr(self.config, f"{split}_filelist")).read_text().split()[0]
        return Path(self.config.data_root) / "main" / f"{clip}.mp4"


@pytest.fixture(scope="module", params=list_models())
def trained(request, tiny_dataset) -> Trained:
    overrides = {**tiny_dataset, "run_name": "tiny", "log_every": 1, "evaluate": False}
    run(request.param, "demo", config_dict=overrides)
    folder = Path(tiny_dataset["saved_dir"]) / f"{request.param}-demo" / "tiny"
    return Trained(request.param, overrides, folder)


def main_losses(trained: Trained, stage) -> list[float]:
    """Sum of the loss terms of the stage's first network at every step; terms that start later are left out."""
    network = get_spec(trained.name).model.plans[stage.kind].trains[0]
    records = [json.loads(line) for line in (trained.run / "log.jsonl").read_text().splitlines()]
    steps = [
        {key: value for key, value in record.items() if key.startswith(f"train/{network}/") and "grad_norm" not in key}
        for record in records
        if record["stage"] == stage.name
    ]
    steps = [terms for terms in steps if terms]
    always = set.intersection(*(set(terms) for terms in steps))
    return [sum(terms[key] for key in always) for terms in steps]


def test_every_stage_lowers_its_loss_on_a_tiny_clip(trained):
    for stage in trained.config.stages:
        losses = main_losses(trained, stage)
        assert len(losses) >= 10 and np.isfinite(losses).all()
        assert np.mean(losses[-3:]) < np.mean(losses[:3]), f"{trained.name}, stage {stage.name}: {losses}"


def test_every_stage_leaves_checkpoints_and_the_run_its_configuration(trained):
    for stage in trained.config.stages:
        assert {"last.pt", "best.pt"} <= {path.name for path in (trained.run / stage.name).iterdir()}
    assert "model_name" in (trained.run / "config.yaml").read_text()


def test_the_checkpoint_alone_makes_a_video_as_long_as_the_audio(trained, tmp_path):
    if not trained.makes_videos:
        pytest.skip(f"{trained.name} judges videos and makes none")
    from talkingface.media import VideoReader, count_frames, probe, read_audio, write_wav

    source = trained.video()
    write_wav(tmp_path / "speech.wav", read_audio(trained.video("train"))[: int(0.8 * 16000)])
    pipeline = Pipeline.from_checkpoint(trained.name, trained.run, device="cpu")
    output = pipeline(source, tmp_path / "speech.wav", tmp_path / "out.mp4")
    assert count_frames(output) == 20
    assert probe(output).size == probe(source).size and probe(output).has_audio
    frames, real = list(VideoReader(output)), list(VideoReader(source, stop=20))
    difference = np.abs(np.stack(frames).astype(int) - np.stack(real).astype(int)).mean(axis=(0, 3))
    # The face is redrawn, the corners of the picture only pass through the encoder.
    assert difference[50:90, 44:84].mean() > 2 * difference[:8].mean()


def test_landmarks_may_be_brought_along(trained, tmp_path, monkeypatch):
    if not trained.makes_videos:
        pytest.skip(f"{trained.name} judges videos and makes none")
    source = trained.video()
    clip = ClipFolder(Path(trained.config.preprocessed_root) / f"{source.parent.name}/{source.stem}")
    options = [f"--model={trained.name}", f"--checkpoint={trained.run}", f"--source={source}", f"--audio={source}"]
    options += ["--device=cpu", "--show_progress=False"]
    monkeypatch.setattr("talkingface.clips.source.make_provider", lambda *_, **__: pytest.fail("nothing is detected"))
    files = [write_landmarks(clip.track(), tmp_path / f"face.{suffix}") for suffix in ("csv", "npz")]
    for file in files:
        made = tmp_path / f"{file.suffix[1:]}.mp4"
        assert cli.main(["generate", *options, f"--landmarks={file}", f"--output={made}"]) == 0
    assert (tmp_path / "csv.mp4").read_bytes() == (tmp_path / "npz.mp4").read_bytes()
    assert (tmp_path / "csv.mp4").stat().st_size > 1000


def test_evaluating_a_finished_run_from_python_returns_its_metrics(trained):
    result = run(
        trained.name,
        "demo",
        config_dict={**trained.overrides, **QUICK, "train": False, "evaluate": True},
        evaluate_model_file=str(trained.run),
    )
    assert result["rows"]
    if trained.makes_videos:
        assert result["rows"]["generated"]["psnr"] > 5 and result["rows"]["generated"]["clips"] == 1
    assert json.loads((trained.run / "eval" / "metrics.json").read_text())["rows"] == result["rows"]


def arguments(trained: Trained, **changes: Any) -> list[str]:
    """The configuration of a run as command-line options."""
    values = {**trained.overrides, **changes}
    return [
        f"--model={trained.name}", "--dataset=demo", *(f"--{key}={json.dumps(v)}" for key, v in values.items())
    ]  # fmt: skip


def test_evaluate_model_file_works_on_the_command_line(trained, capsys):
    options = arguments(trained, **QUICK, train=False, evaluate=True)
    assert cli.main([*options, f"--evaluate_model_file={trained.run}"]) == 0
    assert ("psnr" if trained.makes_videos else "accuracy") in capsys.readouterr().out


def lent(trained: Trained) -> dict[str, str]:
    """The runs that the model borrowed from, as settings."""
    experts = read_yaml(trained.run / "config.yaml")[0]["experts"]
    borrows = get_spec(trained.name).model.borrows
    return {f"experts.{name}": experts[name] for name, loan in borrows.items() if not loan.optional}


def test_one_stage_can_be_trained_alone(trained, tmp_path):
    first = trained.config.stages[0].name
    changes = {"stage": first, "max_steps": 2, "saved_dir": str(tmp_path), "run_name": "one", **lent(trained)}
    assert cli.main(["train", *arguments(trained, **changes)]) == 0
    stages = {path.parent.name for path in tmp_path.rglob("last.pt")}
    assert stages == {first}


BLOCKED = """
import json, sys
for name in ("mediapipe", "librosa", "av", "face_alignment", "numba", "scenedetect"):
    sys.modules[name] = None
from talkingface import cli
for command in json.loads(sys.argv[1]):
    assert cli.main(command) == 0, command
"""


def test_training_on_prepared_data_needs_no_media_or_face_library(tiny_dataset, tmp_path):
    """All models in one process: to start one takes longer than the training."""
    commands, stages = [], {}
    for name in list_models():
        loaded = with_stand_ins(load_config(name, "demo", (), tiny_dataset), tmp_path)
        prepare(loaded)
        model = Trained(name, tiny_dataset, tmp_path / f"{name}-demo" / "bare")
        borrowed = [network for network, loan in get_spec(name).model.borrows.items() if not loan.optional]
        lenders = {f"experts.{network}": loaded.config.experts[network] for network in borrowed}
        commands.append(["train", *arguments(model, max_steps=2, saved_dir=str(tmp_path), run_name="bare", **lenders)])
        stages[name] = {stage.name for stage in loaded.config.stages}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name, wanted in stages.items():
        assert {path.parent.name for path in (tmp_path / f"{name}-demo").rglob("last.pt")} == wanted
