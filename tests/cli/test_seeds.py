"""`--seeds`: one training after the other, each as if it ran alone; nothing of the others is lost when one fails."""

from __future__ import annotations

import pytest
import torch

from talkingface.cli.commands import main
from talkingface.cli.seeds import read_seeds
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError, DataError
from talkingface.weights.checkpoint import load
from talkingface.weights.runs import RunFolder
from talkingface.workflow import calls
from toys.build import CLIPS


@pytest.fixture
def train(toys, tmp_path, monkeypatch):
    """`train` of the toy model on clips in memory, with more arguments; returns the exit code."""
    monkeypatch.setattr(calls, "prepared_clips", lambda config: CLIPS)
    saved = tmp_path / "saved"
    fixed = ("--model=ToyGAN", "--dataset=folder", "--profile=short", "--device=cpu", "--show_progress=False")

    def command(*arguments):
        return main(["train", *fixed, "--tensorboard=False", f"--saved_dir={saved}", *arguments])

    command.folder = saved / "ToyGAN-folder"
    return command


def weights(folder):
    return load(folder / "gan" / "last.pt").networks["generator"]


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_each_seed_trains_in_a_folder_of_its_own_as_if_alone(train, capsys):
    assert train("--seeds=1,2", "--run_name=base") == 0
    folders = [train.folder / f"base-seed{seed}" for seed in (1, 2)]
    assert [RunFolder(folder).status for folder in folders] == ["finished", "finished"]
    assert [read_yaml(folder / "config.yaml")[0]["seed"] for folder in folders] == [1, 2]
    assert f"compare --group {folders[0]} {folders[1]}" in capsys.readouterr().out
    assert train("--seed=2", "--run_name=alone") == 0
    assert same(weights(folders[1]), weights(train.folder / "alone"))
    assert not same(weights(folders[0]), weights(folders[1]))


def test_a_seed_that_fails_is_told_and_the_others_are_kept_and_can_be_finished(train, monkeypatch, capsys):
    begun = []
    real = calls.train_in_folder

    def fails(loaded, get_clips, held):
        begun.append(loaded.config.seed)
        if loaded.config.seed == 2 and begun.count(2) == 1:
            raise DataError("clips.txt: gone")
        return real(loaded, get_clips, held)

    monkeypatch.setattr(calls, "train_in_folder", fails)
    assert train("--seeds=1,2,3") == 2
    printed = capsys.readouterr()
    assert "error: seed 2: clips.txt: gone" in printed.err.splitlines()
    assert "1 of 3 seeds failed: 2" in printed.err
    names = {folder.name.rpartition("-seed")[0] for folder in train.folder.iterdir()}
    assert begun == [1, 2, 3] and len(names) == 1, "one series, one name"

    assert train("--seeds=1,2,3", "--resume=auto") == 0
    assert begun == [1, 2, 3, 2], "what was finished is not done again"
    assert len(list(train.folder.iterdir())) == 3
    assert "finished before" in capsys.readouterr().out


def test_a_bug_in_one_seed_is_shown_in_full_and_the_others_run(train, monkeypatch, capsys):
    real = calls.train_in_folder

    def fails(loaded, get_clips, held):
        return 1 / 0 if loaded.config.seed == 1 else real(loaded, get_clips, held)

    monkeypatch.setattr(calls, "train_in_folder", fails)
    assert train("--seeds=1,2", "--run_name=x") == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert RunFolder(train.folder / "x-seed2").status == "finished"


def test_an_open_seed_goes_on_where_it_stopped(train, monkeypatch):
    assert train("--seeds=1,2", "--run_name=x", "--stage=warm") == 0
    assert RunFolder(train.folder / "x-seed1").status == "running"
    assert train("--seeds=1,2", "--resume=auto") == 0
    assert train("--seed=1", "--run_name=alone") == 0
    assert same(weights(train.folder / "x-seed1"), weights(train.folder / "alone"))
    assert sorted(folder.name for folder in train.folder.iterdir()) == ["alone", "x-seed1", "x-seed2"]


def test_what_is_wrong_is_told_before_the_first_seed_starts(train, monkeypatch, capsys):
    (train.folder / "x-seed2").mkdir(parents=True)
    (train.folder / "x-seed2" / "run.json").write_text('{"status": "finished"}')
    for arguments, words in (
        (["--seeds=1,2", "--run_name=x"], "x-seed2: there already; go on with --resume=auto"),
        (["--seeds=1,2", "--seed=3"], "give --seed or --seeds, not both"),
        (["--seeds=1,2", "--resume=saved/x"], "with --seeds give --resume=auto"),
        (["--seeds=1,2", "--train=False", "--evaluate_model_file=x.pt"], "--seeds trains"),
        (["--seeds=1,2", "--distributed.devices=2"], "start one command per seed"),
        (["--seeds=1,two"], "--seeds=1,two: whole numbers"),
        (["--seeds=1,2", "--nonsense=1"], "nonsense"),
    ):
        assert train(*arguments) == 2
        assert words in capsys.readouterr().err
    assert [folder.name for folder in train.folder.iterdir()] == ["x-seed2"], "and nothing is left behind"


def test_seeds_are_read_in_every_way_people_write_them():
    assert read_seeds("1,2,3") == read_seeds("[1, 2, 3]") == read_seeds(" 1 2 3 ") == [1, 2, 3]
    for text in ("", "1,1", "-1", "1.5", "1;2", "99999999999999999999"):
        with pytest.raises(ConfigError, match="--seeds="):
            read_seeds(text)
