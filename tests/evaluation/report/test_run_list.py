"""`list runs`: every folder has its line, however broken it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from helpers import ROOT
from talkingface.cli.commands import main
from talkingface.evaluation.report.run_list import SILENT, list_runs, summary_of
from talkingface.weights.lock import FolderLock

CONFIG = {
    "model_name": "Toy-Model",
    "dataset": "toys",
    "seed": 5,
    "stages": [{"name": "warm", "max_steps": 10}, {"name": "gan", "epochs": 4}],
}
FIGURES = {key: {"higher_is_better": better} for key, better in (("ssim", True), ("mouth_corr", True), ("lag", None))}


@pytest.fixture
def saved(tmp_path):
    """Makes a run folder: `saved(name, log=[...], told={...}, config=..., rows=...)`."""

    def make(name, log=(), told=None, config=CONFIG, rows=None):
        folder = tmp_path / "saved" / "Toy-Model-toys" / name
        (folder / "eval").mkdir(parents=True)
        if config is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if told is not None:
            (folder / "run.json").write_text(json.dumps(told))
        if rows is not None:
            (folder / "eval" / "metrics.json").write_text(json.dumps({"rows": rows, "figures": FIGURES}))
        (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
        return folder

    make.root = tmp_path / "saved"
    return make


def told(status, **more):
    return {"status": status, "time": "2026-01-02T03:04:05", **more}


def test_a_run_is_told_with_stage_state_and_main_figures(saved):
    rows = {"generated": {"ssim": 0.5, "mouth_corr": 0.25, "lag": 3.0, "clips": 4}, "real": {"ssim": 1.0}}
    folder = saved("one", [{"stage": "gan", "epoch": 4, "step": 9}], told("finished"), rows=rows)
    run = summary_of(folder)
    assert (run.model, run.dataset, run.name, run.seed) == ("Toy-Model", "toys", "one", 5)
    assert (run.date, run.state, run.problem) == ("2026-01-02T03:04:05", "finished", "")
    assert run.progress == "gan epoch 4/4 (stage 2 of 2)"
    assert list(run.figures.items()) == [("mouth_corr", 0.25), ("ssim", 0.5)]


def test_running_and_stopped_are_told_apart_by_the_lock(saved):
    folder = saved("one", [{"stage": "warm", "epoch": 0, "step": 7}], told("running"))
    lock = FolderLock.take(folder)
    assert (summary_of(folder).state, summary_of(folder).progress) == ("running", "warm 7/10 (stage 1 of 2)")
    asked = "from talkingface.weights.lock import *; print(is_held(Path(sys.argv[1])))"
    seen = [sys.executable, "-c", f"import sys; {asked}", str(folder)]
    assert subprocess.run(seen, capture_output=True, text=True, cwd=ROOT).stdout == "True\n", "by another process, too"
    lock.release()
    assert summary_of(folder).state == "stopped"


def test_without_a_lock_the_last_sign_of_life_counts(saved):
    folder = saved("one", [{"stage": "warm", "step": 7}], told("running"))
    assert summary_of(folder).state == "running", "its log has just been written"
    past = time.time() - SILENT - 60
    for name in ("log.jsonl", "run.json"):
        os.utime(folder / name, (past, past))
    assert summary_of(folder).state == "stopped"


def test_broken_folders_are_listed_with_what_is_broken(saved, capsys):
    whole = saved("a", told=told("finished"))
    damaged = saved("b")
    for name in ("run.json", "config.yaml", "eval/metrics.json"):
        (damaged / name).write_bytes(b"\xff{[")
    (damaged / "log.jsonl").write_text('{"stage": "warm", "step": 3}\n{"stage": "wa')
    saved("c", config={"stages": "no", "seed": "x", "model_name": ["q"]}, told={"status": 3}, rows=[1])
    (saved.root / "Toy-Model-toys" / "d\x1b[31m").mkdir()
    (saved.root / "stray.txt").touch()
    runs = {run.name: run for run in list_runs(saved.root)}
    assert len(runs) == 4 and runs["a"].path == whole and runs["a"].problem == ""
    assert runs["b"].problem == "config.yaml is damaged; run.json is damaged; metrics.json is damaged"
    assert (runs["b"].model, runs["b"].progress) == ("Toy", "warm step 3"), "by the name of the folder"
    assert runs["c"].state == "evaluated" and runs["c"].seed is None
    assert main(["list", "runs", f"--saved_dir={saved.root}"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 5 and "\x1b" not in printed and r"d\x1b[31m" in printed


def test_json_holds_the_same_and_an_empty_folder_is_no_error(saved, tmp_path, capsys):
    saved("one", told=told("finished"), rows={"seen": {"ssim": 0.5}})
    assert main(["list", "runs", "--json", f"--saved_dir={saved.root}"]) == 0
    [run] = json.loads(capsys.readouterr().out)
    assert (run["name"], run["state"], run["figures"]) == ("one", "finished", {"ssim": 0.5})
    assert main(["list", "runs", f"--saved_dir={tmp_path / 'nothing'}"]) == 0
    assert "no runs here yet" in capsys.readouterr().out
    assert main(["list", "rums"]) == 2 and "there are `list`, `list runs`" in capsys.readouterr().err


def test_only_the_end_of_a_long_log_is_read(saved):
    folder = saved("long")
    with open(folder / "log.jsonl", "w") as log:
        for step in range(5000):
            log.write(json.dumps({"stage": "warm", "step": step, "value": 0.5}) + "\n")
    assert summary_of(folder).progress == "warm 4999/10 (stage 1 of 2)"
