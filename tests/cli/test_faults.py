"""Files that once failed or misled, through the command line: one line or a usable result, little memory, nothing left.

The samples lie beside the project, not in it; where they are absent, the kinds are covered by the tests of each reader.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from helpers import ROOT
from helpers.commands import run_command
from talkingface.media import write_wav
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent

FAULTS = ROOT.parent / "shared" / "faults"
MOST = 2 * 2**20  # KiB of resident memory, everything imported
if "forkserver" not in multiprocessing.get_all_start_methods():
    pytest.skip("measures processes by fork", allow_module_level=True)
# One process imports what all commands need, and none of the native libraries that a fork would break.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["talkingface.workflow", "talkingface.models.iplap.model"])

# What else than exit code 2 and one line a sample gives: a video.
USABLE = {
    "anamorphic_192x256_sar_4to3.mp4",
    "face_enters_after_12_frames_of_slide.mp4",
    "iphone_like_hlg_bt2020_10bit.mp4",
    "jpg_exif_orientation_2_mirrored_comes_out_upside_down.jpg",
    "jpg_exif_orientation_5_wrong.jpg",
    "png_with_icc_profile_crashes_python.png",
    "slide_of_20_frames_between_face_frames.mp4",
    "stereo_antiphase_voice_called_silent.wav",
    "two_audio_tracks_second_is_default_first_is_silent.mkv",
    "two_people_of_equal_size_mouth_jumps.mp4",
    "two_people_second_comes_nearer_speaker_switches.mp4",
    "vfr_picture_still_for_70s_shortened_to_2s.mkv",
}
EITHER = {
    "frames_of_1000_seconds.mkv",
    "sound_starts_hours_after_picture.mkv",
    "tiled_avif_2x2_reads_only_first_tile.avif",
}
"""Samples that are refused or give a video, whichever the reader can."""
SOUND = (".wav", ".m3u8")


class Outcome(NamedTuple):
    """What a command left: its exit code, what it said, most resident memory in KiB, and new files."""

    code: int
    said: str
    memory: int
    left: list[Path]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A tiny checkpoint, untrained but complete, a voice, and a picture of a face."""
    from skimage.data import astronaut

    from talkingface.media import write_image

    folder = tmp_path_factory.mktemp("good")
    config = load_config("IPLAP", "demo", (), {"profile": "tiny"})
    model = get_spec("IPLAP").model(config.config.model)
    names = ["landmark_generator", "renderer"]
    networks = {name: getattr(model, name).state_dict() for name in names}
    content = CheckpointContent(
        model="IPLAP", config=config.as_dict(), networks=networks, stage="render", trained=names, ready=names
    )
    checkpoint.save(folder / "good.pt", content)
    write_wav(folder / "voice.wav", 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32))
    write_image(folder / "face.png", np.ascontiguousarray(astronaut()[:256, 96:352]))
    return folder


def run(argv: list[str], folder: Path) -> Outcome:
    """Run a command in a process of its own, in `folder`."""
    log, told = folder.with_suffix(".log"), folder.with_suffix(".json")
    process = SERVER.Process(target=run_command, args=(argv, str(folder), str(log), str(told)))
    process.start()
    process.join()
    memory = json.loads(told.read_text()) if told.is_file() else 0
    return Outcome(process.exitcode, log.read_text(errors="replace"), memory, sorted(folder.rglob("*")))


def samples(*folders: str) -> list[Path]:
    found = [path for name in folders for path in sorted((FAULTS / name).glob("*")) if path.is_file()]
    return [path for path in found if path.suffix not in (".md", ".txt")]


def named(path: Path) -> str:
    return path.name


def expect_one_line(outcome: Outcome, sample: Path) -> None:
    assert outcome.code == 2, outcome.said
    errors = [line for line in outcome.said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in outcome.said, outcome.said
    assert sample.name in errors[0] and len(errors[0]) < 1000
    assert outcome.left == [] and outcome.memory < MOST, outcome


# Those that people report are right or wrong in their pictures, which the tests of the readers look at.
REPORTED = [pytest.param(path, marks=pytest.mark.slow) for path in samples("reported")]


@pytest.mark.parametrize("sample", [*samples(""), *REPORTED], ids=named)
def test_media_give_a_video_or_one_line(sample, good, tmp_path):
    given = {"source": good / "face.png", "audio": good / "voice.wav"}
    roles = ["audio"] if sample.suffix in SOUND or "audio_tracks" in sample.name else ["source"]
    roles += ["audio"] if sample.name.startswith("sound_starts") else []
    for role in dict.fromkeys(roles):
        (tmp_path / role).mkdir()
        options = [f"--{name}={path}" for name, path in {**given, role: sample}.items()]
        command = ["generate", "--model=IPLAP", f"--checkpoint={good / 'good.pt'}", "--output=out.mp4", "--device=cpu"]
        outcome = run([*command, *options], tmp_path / role)
        if sample.name in USABLE:
            assert outcome.code == 0, outcome.said
            assert [path.name for path in outcome.left] == ["out.mp4"] and outcome.memory < MOST
        elif outcome.code == 0 and sample.name in EITHER:
            assert outcome.memory < MOST
        else:
            expect_one_line(outcome, sample)


@pytest.mark.parametrize("sample", samples("checkpoints"), ids=named)
def test_checkpoints_are_refused(sample, good, tmp_path):
    (tmp_path / "run").mkdir()
    options = [f"--source={good / 'face.png'}", f"--audio={good / 'voice.wav'}", "--output=out.mp4", "--device=cpu"]
    expect_one_line(run(["generate", "--model=IPLAP", f"--checkpoint={sample}", *options], tmp_path / "run"), sample)


@pytest.mark.parametrize("sample", samples("yaml"), ids=named)
def test_configuration_files_are_refused(sample, tmp_path):
    (tmp_path / "run").mkdir()
    outcome = run(["train", "--model=IPLAP", "--dataset=lrs2", f"--config_files={sample}"], tmp_path / "run")
    assert outcome.code == 2 and "Traceback" not in outcome.said, outcome.said
    assert sample.name in outcome.said and outcome.said.count("error: ") == 1
    assert outcome.left == [] and outcome.memory < MOST
