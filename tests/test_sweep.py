"""`sweep`: every combination once, in folders that group by seed, and one report with intervals over seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helpers.results import BASE, write_run
from talkingface import sweep
from talkingface.cli.commands import main
from talkingface.cli.sweep import read_over
from talkingface.errors import ConfigError, DataError
from talkingface.plugin.borrowed import LenderMissing
from talkingface.sweep import Job, points
from talkingface.weights.runs import RunFolder
from toys.build import toy_config, toy_trainer


@pytest.fixture
def command(toys, tmp_path, monkeypatch):
    """`sweep` of the toy, with runs that are written instead of trained; `ran` are their configurations."""
    ran = []

    def pretend(loaded):
        config = loaded.config
        ran.append(config)
        if config.seed == 13:
            raise DataError("clips.txt: gone")
        folder = Path(config.saved_dir) / f"{config.model_name}-{config.dataset}"
        shift = config.seed / 100 + config.model.width / 1000
        run = write_run(folder, config.run_name, {clip: value + shift for clip, value in BASE.items()})
        (run / "config.yaml").write_text(yaml.safe_dump(loaded.as_dict()))
        RunFolder(run).set_status("finished")

    monkeypatch.setattr(sweep, "run_configured", pretend)
    fixed = ["--model=ToyGAN", "--dataset=folder", "--device=cpu", f"--saved_dir={tmp_path / 'saved'}"]

    def run(*options):
        return main(["sweep", *fixed, *options])

    run.ran, run.folder = ran, tmp_path / "saved" / "ToyGAN-folder"
    return run


def test_every_combination_runs_once_and_seeds_are_put_together(command, capsys):
    assert command("--run_name=s", "--over=model.width=4,8", "--over=seed=1,2,3") == 0
    assert [(config.model.width, config.seed) for config in command.ran] == [
        *[(4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3)]
    ]
    assert (command.folder / "s-width=4-seed1" / "run.json").is_file()
    content = json.loads((command.folder / "s-report" / "comparison.json").read_text())
    assert "[95 % interval of the mean]" in (command.folder / "s-report" / "report.html").read_text()
    first, second = content["groups"]
    assert (first["seeds"], len(content["groups"])) == ([1, 2, 3], 2)
    # 0.65 + 0.004 and seeds that add 0.01, 0.02, 0.03: t(0.975, 2) is 4.3027.
    assert first["mean"]["ssim"] == pytest.approx(0.674) and second["mean"]["ssim"] == pytest.approx(0.678)
    half = 4.302653 * 0.01 / 3**0.5
    assert first["interval95"]["ssim"] == pytest.approx([0.674 - half, 0.674 + half], abs=1e-6)
    printed = capsys.readouterr().out
    assert "± 0.0100 [0.6492, 0.6988]" in printed and "6 of 6:" in printed and "width=4" in printed


def test_a_sweep_without_a_name_is_called_after_its_time_and_so_is_its_report(command):
    assert command("--over=seed=1,12") == 0
    [report] = command.folder.glob("*-report")
    runs = sorted(folder.name for folder in command.folder.iterdir() if folder != report)
    series = report.name.removesuffix("-report")
    assert series.startswith("sweep-") and runs == [f"{series}-seed1", f"{series}-seed12"]


def test_a_run_that_fails_is_told_and_the_others_are_compared_and_finished_later(command, capsys, monkeypatch):
    assert command("--run_name=s", "--over=seed=1,13,2") == 2
    shown = capsys.readouterr()
    assert "error: s-seed13: clips.txt: gone" in shown.err and "1 of 3 runs failed" in shown.err
    assert json.loads((command.folder / "s-report" / "comparison.json").read_text())["groups"][0]["seeds"] == [1, 2]
    assert command("--run_name=s", "--over=seed=1,2") == 2
    assert "there already; go on with --resume=auto" in capsys.readouterr().err
    command.ran.clear()
    assert command("--run_name=s", "--over=seed=1,2,3", "--resume=auto") == 0
    assert [config.seed for config in command.ran] == [3] and capsys.readouterr().out.count("finished before") == 2


def test_a_bug_is_seen_in_full_once_the_others_have_run(command, monkeypatch):
    def fails(loaded):
        command.ran.append(loaded.config)
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(sweep, "run_configured", fails)
    with pytest.raises(ZeroDivisionError):
        command("--over=seed=1,2")
    assert len(command.ran) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "`sweep` needs --over KEY=a,b"),
        (["--over=seed"], "expected KEY=VALUE,VALUE"),
        (["--over=seed=1,1"], "a value comes twice"),
        (["--over=seed=1", "--over=seed=2"], "names seed twice"),
        (["--over=seed=1,2", "--seed=3"], "give --seed or --over seed=..., not both"),
        (["--over=model.wdith=1,2"], "did you mean 'width'"),
        (["--over=model.width=4,x"], "model.width"),
        (["--over=seed=1,2", "--evaluate=False"], "trains and compares"),
        (["--over=seed=1,2", "--resume=auto"], "with the --run_name that it had"),
        (["--over=seed=1,2", "--executor=slurm"], "unknown --executor 'slurm'"),
        (["--over=seed=1,2", "--ray_address=auto"], "--ray_address goes with --executor=ray"),
        (["--over=seed=1,2", "--gpus_per_run=0.5"], "--gpus_per_run goes with --executor=ray"),
        (["--over=seed=1,2", "--executor=ray", "--gpus_per_run=-1"], "--gpus_per_run=-1: must be 0 or more"),
    ],
)
def test_what_cannot_run_is_one_line_before_anything_starts(command, capsys, options, message):
    assert command(*options) == 2
    assert message in capsys.readouterr().err and not command.ran


def test_values_are_those_of_yaml():
    assert read_over(["a.lr=1e-4,3e-4", "b=[0.5, 0.9],[0.9, 0.99]", "c=x,null,true"]) == {
        "a.lr": [1e-4, 3e-4],
        "b": [[0.5, 0.9], [0.9, 0.99]],
        "c": ["x", None, True],
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        read_over(["a="])


def test_names_of_folders_tell_the_settings_and_are_names_of_folders():
    names = [point.name for point in points({"optim.a.lr": [0.1], "optim.b.lr": [1], "seed": [5]}, "s")]
    assert names == ["s-optim.a.lr=0.1-optim.b.lr=1-seed5"]
    assert [point.name for point in points({"x.file": ["../a b"]}, "s")] == ["s-file=.._a_b"]
    long = [point.name for point in points({"x.file": ["y" * 300, "z" * 300], "seed": [1]}, "s")]
    assert long == ["s-000-seed1", "s-001-seed1"]


def test_ray_gives_a_run_a_gpu_where_there_is_one_unless_told_otherwise():
    assert [sweep.gpus_each(has, wanted) for has in ({"GPU": 4.0}, {"CPU": 4.0}) for wanted in (None, 0.5, 0.0)] == [
        *[1.0, 0.5, 0.0, 0.0, 0.5, 0.0]
    ]


class Begun(Exception):
    """Stands for the cluster, which a test does not reach."""


@pytest.fixture
def prepared_for_ray(tmp_path, monkeypatch):
    """Jobs of two seeds of a toy that borrows, begun on Ray; gives the configurations whose data were prepared."""
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_painter,toys.toy_borrower")
    prepared = []

    def connected(*_):
        raise Begun

    monkeypatch.setattr(sweep, "need", lambda *_: None)
    monkeypatch.setattr(sweep, "prepare", lambda loaded: prepared.append(loaded.config))
    monkeypatch.setattr(sweep, "connected", connected)

    def begin(**settings):
        prepared.clear()
        made = [toy_config(tmp_path, "ToyBorrower", need_preprocess=True, seed=n, **settings) for n in (1, 2)]
        with pytest.raises(Begun):
            sweep.run_on_ray([Job(f"seed{n}", tmp_path, loaded) for n, loaded in enumerate(made)], lambda *_: None)
        return prepared

    return begin


def test_on_ray_data_are_prepared_once_and_with_what_the_model_borrows(prepared_for_ray, tmp_path, monkeypatch):
    with pytest.raises(LenderMissing):
        prepared_for_ray(prerequisites="refuse")
    run = tmp_path / "saved/ToyEar-folder/a"

    def trained(loaded):
        assert loaded.config.model_name == "ToyEar"
        toy_trainer(loaded, run).fit()
        RunFolder(run).set_status("finished")

    monkeypatch.setattr(sweep, "run_configured", trained)
    [config] = prepared_for_ray(prerequisites="train")
    assert config.experts["ear"] == str(run) and config.experts_weights["ear"]


@pytest.mark.slow
def test_on_ray_every_run_is_heard_of(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from talkingface.plugin.configuration import load_config

    fixed = {"need_preprocess": False, "saved_dir": str(tmp_path / "saved"), "device": "cpu"}
    told = {}
    jobs = []
    for seed in (1, 2):
        loaded = load_config("Wav2Lip", "folder", (), {**fixed, "seed": seed, "preprocessed_root": str(tmp_path)})
        jobs.append(Job(f"seed{seed}", tmp_path / f"seed{seed}", loaded))
    sweep.run_on_ray(jobs, lambda job, reason: told.update({job.name: reason}))
    assert told.keys() == {"seed1", "seed2"} and all("no videos of data set" in text for text in told.values())
