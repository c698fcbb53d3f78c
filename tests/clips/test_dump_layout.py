"""Clips without videos: where their old data lie, and which of them belong to which part."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from helpers.dumps import clip, write_dump
from talkingface.clips.layouts import make_layout
from talkingface.errors import DataError


def config(root, **changes):
    lists = dict.fromkeys(("train_filelist", "val_filelist", "test_filelist"), "")
    made = {"layout": "dumps", "data_root": str(root / "data"), "preprocessed_root": str(root / "made")}
    made["landmarks_root"] = ""
    return SimpleNamespace(**{**made, **lists, "weights_dir": str(root / "checkpoints"), **changes})


def prepared(root, *ids):
    for clip_id in ids:
        folder = root / "made" / clip_id
        folder.mkdir(parents=True)
        (folder / "clip.json").write_text(json.dumps({"format": 1, "clip_id": clip_id, "status": "ok"}))


def test_dumps_lie_below_the_data_root_or_where_they_were_before(tmp_path):
    settings = config(tmp_path)
    layout = make_layout(settings)
    assert layout.old_data(settings) == {}
    write_dump(tmp_path / "checkpoints/dump", "train", [clip(0)])
    assert layout.old_data(settings) == {"root": tmp_path / "checkpoints/dump"}
    write_dump(tmp_path / "data/dump", "train", [clip(0)])
    assert layout.old_data(settings) == {"root": tmp_path / "data"}


def test_the_dumps_say_which_clips_are_for_testing_and_some_others_are_held_out(tmp_path):
    train = [f"train/{k:05d}_v{k}" for k in range(4)]
    prepared(tmp_path, *train, "test/00009_v9")
    settings = config(tmp_path)
    layout = make_layout(settings)
    assert layout.split_ids(settings, "test") == ["test/00009_v9"]
    val = layout.split_ids(settings, "val")
    assert len(val) == 1 and sorted([*val, *layout.split_ids(settings, "train")]) == train
    assert layout.speaker("train/00003_v3") == "v3"
    assert not layout.find(settings)[0].video.exists()


def test_dumps_that_were_not_converted_are_told_as_that(tmp_path):
    write_dump(tmp_path / "data/dump", "train", [clip(0)])
    with pytest.raises(DataError, match="data: is not converted yet; a run does it"):
        make_layout(config(tmp_path)).find(config(tmp_path))


def test_a_list_of_ones_own_has_the_last_word(tmp_path):
    prepared(tmp_path, "train/00000_a", "train/00001_b", "test/00002_c")
    (tmp_path / "test.txt").write_text("train/00001_b\n")
    settings = config(tmp_path, test_filelist=str(tmp_path / "test.txt"))
    assert make_layout(settings).split_ids(settings, "test") == ["train/00001_b"]


def test_without_dumps_the_message_says_where_they_go(tmp_path):
    with pytest.raises(DataError, match=r"no dumps of MakeItTalk found.*data/dump/<prefix>_train_au.pickle"):
        make_layout(config(tmp_path)).find(config(tmp_path))
