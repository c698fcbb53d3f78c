"""Options of DINet's and LawDNet's `data_processing.py` that `preprocess` understands."""

from __future__ import annotations

import json

import pytest

from helpers.old_dubbing import old_video
from talkingface.cli import earlier_script
from talkingface.cli.arguments import parse
from talkingface.cli.commands import COMMANDS, main
from talkingface.errors import ConfigError
from talkingface.preprocess.convert import convert_legacy

STEPS = ("extract_video_frame", "extract_audio", "extract_deep_speech", "crop_face", "generate_training_json")


def command(*words):
    return parse(["preprocess", *words], COMMANDS, "run")


def test_the_seven_options_and_their_folders_are_our_steps_and_keys(caplog):
    caplog.set_level("INFO", logger="talkingface")
    words = ["--extract_video_frame", "--extract_audio", "--crop_face_multithreading", "--extract_deep_speech"]
    words += ["--source_video_dir", "videos", "--openface_landmark_dir", "csv", "--video_frame_dir", "frames"]
    arguments, only = earlier_script.translated(command(*words, "--clip_length=9", "--preprocess.workers=1"))
    assert only == ["audio", "features", "aligned"]
    assert arguments.overrides == {"data_root": "videos", "landmarks_root": "csv", "preprocess.workers": 1}
    assert (arguments["model"], arguments["dataset"]) == ("LawDNet", "folder")
    assert "frames are streamed from the videos" in caplog.text
    assert all(earlier_script.is_asked(command(f"--{name}")) for name in STEPS)
    assert not earlier_script.is_asked(command("--model=IPLAP"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--crop_face", "--clip_length=5"], "--clip_length=5: clips have 9 frames"),
        (["--extract_deep_speech", "--deep_speech_model=a.pb"], "convert-deepspeech a.pb"),
    ],
)
def test_what_cannot_be_done_is_told(words, told):
    with pytest.raises(ConfigError, match=told):
        earlier_script.translated(command(*words))


def test_a_folder_without_a_step_is_an_error_and_not_passed_over(capsys):
    assert main(["preprocess", "--model=IPLAP", "--dataset=demo", "--json_path=a.json"]) == 2
    assert "--json_path goes with a step of data_processing.py, say --crop_face" in capsys.readouterr().err


def test_the_training_json_is_written_where_the_options_say(tmp_path, monkeypatch):
    old_video(tmp_path / "old", rows2=63)
    convert_legacy("lawdnet", {"root": tmp_path / "old"}, tmp_path / "clips", width=80, progress=False)
    monkeypatch.chdir(tmp_path)
    words = ["--generate_training_json", "--crop_face_dir=crops", "--deep_speech_dir=heard/ds", "--json_path=list.json"]
    words += ["--model=IPLAP", f"--preprocessed_root={tmp_path / 'clips'}"]
    assert main(["preprocess", *words]) == 0
    listed = json.loads((tmp_path / "list.json").read_text())
    assert listed["clip"]["clip_data_list"][2]["frame_path_list"][0] == "crops/clip/000002/000018.jpg"
    assert (tmp_path / "crops/clip/000002/000018.jpg").is_file()
    assert (tmp_path / "heard/ds_2/clip_deepspeech_dp2.txt").is_file()
    assert (tmp_path / "asserts/training_data/split_video_25fps_audio/clip.wav").is_file()
