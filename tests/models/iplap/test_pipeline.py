"""IPLAP through `Pipeline`: frame rate of the source, the debug video, checkpoints that cannot speak yet."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from helpers.drawn_clips import DrawnSource, Speech
from talkingface.clips.source import Source
from talkingface.config.layers import to_plain
from talkingface.errors import CheckpointError
from talkingface.faces.track import LandmarkTrack
from talkingface.media import VideoWriter, probe, write_wav
from talkingface.models.iplap.model import IPLAP
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import load_config
from talkingface.weights import checkpoint


@pytest.fixture
def config():
    return load_config("IPLAP", "folder", (), {"profile": "tiny"}).config


@pytest.fixture
def saved(tmp_path, config):
    def save(*ready: str):
        torch.manual_seed(0)
        model = IPLAP(config.model)
        networks = {name: getattr(model, name).state_dict() for name in ("landmark_generator", "renderer")}
        content = {"format": checkpoint.FORMAT, "model": "IPLAP", "stage": "landmark", "ready": list(ready)}
        checkpoint.write(tmp_path / "model.pt", content | {"networks": networks, "config": to_plain(config)})
        return tmp_path / "model.pt"

    return save


@pytest.fixture
def video(tmp_path, monkeypatch):
    """A drawn video of 30 frames per second whose landmarks are known."""
    drawn = DrawnSource(30)
    with VideoWriter(tmp_path / "face.mp4", 30.0, drawn.size) as writer:
        for picture in drawn.pictures:
            writer.write(picture)

    def track(self, provider):
        points = drawn.track.points_px[np.linspace(0, 29, len(self)).astype(int)]
        found = np.ones(len(points), bool)
        return LandmarkTrack(points, found, found, drawn.size)

    monkeypatch.setattr(Source, "_find_landmarks", track)
    write_wav(tmp_path / "voice.wav", Speech(0.8).samples)
    return tmp_path / "face.mp4"


@pytest.mark.parametrize(("fps", "frames"), [(25, 20), ("keep", 24)])
def test_the_source_keeps_its_frame_rate_on_request(saved, video, tmp_path, fps, frames):
    file = saved("landmark_generator", "renderer")
    pipeline = Pipeline.from_checkpoint("IPLAP", file, "cpu", {"model.inference.fps": fps})
    made = probe(pipeline(video, tmp_path / "voice.wav", tmp_path / "out.mp4"))
    assert made.fps == pytest.approx(30 if fps == "keep" else 25, abs=0.01)
    assert round(made.duration * made.fps) == pytest.approx(frames, abs=1)
    assert not list(tmp_path.glob("*_debug*"))


@pytest.mark.parametrize(("precision", "spelt"), [("32", "float32"), ("bf16", "bf16")])
def test_generation_says_how_it_computes_and_keeps_its_memory(
    saved, video, tmp_path, caplog, monkeypatch, precision, spelt
):
    kept = []
    monkeypatch.setattr("talkingface.pipeline.keep_freed_memory", lambda: kept.append(1))
    file = saved("landmark_generator", "renderer")
    pipeline = Pipeline.from_checkpoint("IPLAP", file, "cpu", {"model.inference.precision": precision})
    with caplog.at_level(logging.INFO, "talkingface"):
        pipeline(video, tmp_path / "voice.wav", tmp_path / "out.mp4")
    assert f"IPLAP draws on cpu in {spelt}" in caplog.text
    assert kept == [1]


def test_the_debug_video_lies_beside_the_result(saved, video, tmp_path):
    file = saved("landmark_generator", "renderer")
    pipeline = Pipeline.from_checkpoint("IPLAP", file, "cpu", {"model.inference.save_debug_video": True})
    pipeline(video, tmp_path / "voice.wav", tmp_path / "out.mp4")
    debug = probe(tmp_path / "out_debug.mp4")
    assert (debug.height, debug.width) == (32, 96) and debug.has_audio
    assert probe(tmp_path / "out.mp4").width == 128


def test_a_checkpoint_of_the_first_stage_is_refused(saved):
    with pytest.raises(CheckpointError, match="no trained renderer"):
        Pipeline.from_checkpoint("IPLAP", saved("landmark_generator"))


def test_another_margin_is_said_when_a_checkpoint_is_opened(saved, caplog):
    file = saved("landmark_generator", "renderer")
    Pipeline.from_checkpoint("IPLAP", file, "cpu", {"model.inference.margin": 9.0, "model.inference.ref_n": 3})
    assert "face crops" not in caplog.text
    Pipeline.from_checkpoint("IPLAP", file, "cpu", {"model.crop.margin": 0.3})
    assert "trained on face crops with margin 0.05 relative" in caplog.text
