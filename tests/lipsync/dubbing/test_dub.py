"""The call of the earlier inference script: what each of its arguments does, and what it refuses."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from helpers.checkpoints import random_checkpoint
from helpers.clips import face_frames, tone, write_clip
from helpers.tensorflow_graphs import look_alike
from talkingface import Pipeline, dub
from talkingface.errors import CheckpointError, ConfigError, MediaError
from talkingface.files import file_sha256
from talkingface.media import VideoReader, probe
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.models.lawdnet.networks.generator import LawDNetGenerator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A film, a sound of 24 kHz, a look-alike of DeepSpeech, weights as published, and a checkpoint of ours."""
    root = tmp_path_factory.mktemp("dub")
    write_clip(root / "anchor.mp4", face_frames(16))
    wavfile.write(root / "speech.wav", 24000, np.stack([tone(0.5, 200.0), tone(0.5, 300.0)], axis=1).repeat(3, 0)[::2])
    look_alike(root / "output_graph.pb")
    torch.manual_seed(0)
    networks = {
        "checkpoint_epoch_170": LawDNetGenerator(1 / 16, "published", condition="pooled", grid=8),
        "netG_model_epoch_9": DINetGenerator(1 / 16, "published"),
    }
    for name, network in networks.items():
        state = {f"module.{key}": value for key, value in network.state_dict().items()}
        torch.save({"epoch": 171, "state_dict": {"net_g": state}}, root / f"{name}.pth")
    random_checkpoint("LawDNet", root, profile="tiny")
    return root


@pytest.fixture
def asked(monkeypatch):
    """What the pipeline is built with and asked for, in place of a video."""
    found = {}

    def speak(pipeline, *args, **options):
        found.update(options, pipeline=pipeline, model=pipeline.model, args=args)
        return args[2]

    monkeypatch.setattr(Pipeline, "__call__", speak)
    return found


def call(root, graph="output_graph.pb", weights="checkpoint_epoch_170.pth", mouthsize=64, **options):
    graph = None if graph is None else root / graph
    files = (root / "anchor.mp4", root / "speech.wav", root / "out", graph, root / weights)
    return dub(*files, mouthsize=mouthsize, **options)


def test_names_order_and_defaults_are_those_of_the_earlier_script():
    parameters = inspect.signature(dub).parameters
    first = ["video_path", "audio_path", "output_dir", "deepspeech_model_path", "lawdnet_model_path", "BatchSize"]
    assert list(parameters)[:6] == first
    last = ["mouthsize", "gpu_index", "output_name", "start_time_sec", "max_frames", "dp2_path"]
    assert list(parameters)[6:] == last
    assert (parameters["BatchSize"].default, parameters["mouthsize"].default) == (20, 288)


def test_a_video_of_foreign_sound_begins_where_it_should_and_nothing_given_is_written_to(folder):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    inputs = ("anchor.mp4", "speech.wav", "output_graph.pb", "checkpoint_epoch_170.pth")
    before = [file_sha256(folder / name) for name in inputs]
    output = call(folder, mouthsize="64", BatchSize=7, output_name="hello", start_time_sec=0.12, max_frames=10)
    assert output.parent == folder / "out" and re.fullmatch(r"\d{8}-\d{6}-\d{6}_anchor_hello.mp4", output.name)
    made, real = (np.stack(list(VideoReader(folder / name))).astype(int) for name in (output, "anchor.mp4"))
    assert len(made) == 10 and probe(output).has_audio and made.shape[1:] == real.shape[1:]
    away = [np.abs(made[0, :30] - frame[:30]).mean() for frame in real]
    assert int(np.argmin(away)) == 3
    assert [file_sha256(folder / name) for name in inputs] == before


def test_sizes_of_pass_and_mouth_device_and_front_end_reach_the_model(folder, asked):
    pytest.importorskip("onnx")
    call(folder, BatchSize=3, mouthsize=96, gpu_index=-1, start_time_sec=2, max_frames=5)
    assert asked["model"].config.inference.batch == 3 and asked["model"].drawn.mouth == 96
    assert (str(asked["model"].device), asked["start"], asked["most_frames"]) == ("cpu", 2, 5)
    assert (asked["pipeline"].name, asked["model"].front_end.name) == ("LawDNet", "deepspeech_onnx")
    assert asked["model"].config.compat == "published"
    call(folder, weights="netG_model_epoch_9.pth")
    assert asked["pipeline"].name == "DINet"


def test_deepspeech_2_is_heard_where_its_file_is_given(folder, asked):
    second = folder / "LibriSpeech_Pretrained_v3.ckpt"
    second.write_bytes(b"read when it is first heard with")
    call(folder, dp2_path=second)
    front_end = asked["model"].front_end
    assert front_end.name == "deepspeech2" and front_end.path(front_end.files[0]) == second


def test_a_checkpoint_of_ours_knows_what_it_hears_and_draws(folder, asked):
    call(folder, None, "clip/last.pt", mouthsize=32)
    assert (asked["model"].front_end.name, asked["model"].drawn.mouth) == ("logmel", 32)
    with pytest.raises(ConfigError, match=r"last.pt: draws mouths of 32 pixels; set mouthsize=32"):
        call(folder, None, "clip/last.pt", mouthsize=288)
    with pytest.raises(ConfigError, match=r"hears logmel, so it has no use for deepspeech_model_path; set it to None"):
        call(folder, weights="clip/last.pt", mouthsize=32)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"mouthsize": 100}, ConfigError, "mouthsize=100: the side of the mouth must be a multiple of 32 pixels"),
        ({"mouthsize": "large"}, ConfigError, "mouthsize=large"),
        ({"BatchSize": 0}, ConfigError, "BatchSize=0: must be 1 or more"),
        ({"start_time_sec": -1}, ConfigError, "start_time_sec=-1: must be 0 or more"),
        ({"max_frames": 0}, ConfigError, "max_frames=0: must be 1 or more, or None"),
        ({"output_name": "../x"}, ConfigError, "without folders"),
        ({"graph": None}, ConfigError, "nothing in it tells what it hears; give deepspeech_model_path or dp2_path"),
        ({"graph": "none.pb"}, CheckpointError, "none.pb: no such file; deepspeech_onnx needs it"),
        ({"graph": "speech.wav"}, CheckpointError, "speech.wav"),
        ({"weights": "none.pth"}, CheckpointError, "none.pth: no such checkpoint"),
        ({"weights": "output_graph.pb"}, CheckpointError, "output_graph.pb"),
    ],
)
def test_what_is_wrong_is_one_line(folder, options, error, told):
    with pytest.raises(error, match=re.escape(told)) as caught:
        call(folder, **options)
    assert "\n" not in str(caught.value)


def test_a_start_behind_the_end_of_the_film_is_one_line(folder):
    with pytest.raises(MediaError, match=r"anchor.mp4: lasts 0.64 s, so nothing is left after 5 s"):
        call(folder, None, "clip/last.pt", mouthsize=32, start_time_sec=5)
