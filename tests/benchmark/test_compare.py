"""Two benchmarks side by side, and the figures of every model."""

from __future__ import annotations

import json

import pytest

from talkingface.benchmark import every
from talkingface.benchmark.compare import compared, read_figures
from talkingface.benchmark.metrics import TOWER
from talkingface.benchmark.overview import overview
from talkingface.cli.commands import main
from talkingface.errors import DataError
from talkingface.files import write_text
from talkingface.plugin.configuration import load_config
from talkingface.workers import TookTooLong, WorkerDied


def figures(model="IPLAP", steps=2.0, **hardware):
    known = {"device": "cpu", "cpu": "A", "threads": 1, "torch": "2.14", "profile": "demo", "model": model, **hardware}
    return {"hardware": known, "training steps/s": {"render": steps}, "batch size": {"render": 4}}


def test_every_common_figure_stands_beside_the_one_before():
    old, new = {"models": {"IPLAP": figures(steps=2.0), "Wav2Lip": figures("Wav2Lip")}}, figures(steps=3.0)
    head, line = compared(old, new)
    assert head.split() == ["before", "now", "times"]
    assert line.split() == ["IPLAP:", "training", "steps/s:", "render", "2", "3", "1.50"]
    assert compared(figures("SyncNet"), new) == ["nothing to compare: the two have no figure in common"]


def test_another_machine_is_said_first():
    old = {"models": {name: figures(name, cpu="B", threads=4) for name in ("IPLAP", "Wav2Lip")}}
    new = {"models": {name: figures(name) for name in ("IPLAP", "Wav2Lip")}}
    lines = compared(old, new)
    assert lines[:2] == [
        "warning: cpu was B, is A: the figures do not compare",
        "warning: threads was 4, is 1: the figures do not compare",
    ]
    assert len(lines) == 5


@pytest.mark.parametrize("text", ["[]", "{}", '{"models": 1}', "no json"])
def test_what_is_no_benchmark_is_one_line_before_anything_is_measured(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("talkingface.benchmark.speed.measure", lambda *_: pytest.fail("nothing is measured"))
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(DataError):
        read_figures(tmp_path / "old.json")
    assert main(["benchmark", "--model=IPLAP", f"--compare={tmp_path / 'old.json'}"]) == 2
    assert "old.json: is " in capsys.readouterr().err


def test_every_model_is_measured_and_one_that_cannot_be_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    seen = []

    def pretend(function, task, seconds, look):
        name = task.loaded.config.model_name
        seen.append((name, task.only))
        if name == "SyncNet":
            raise WorkerDied
        if name == "MakeItTalk":
            raise ZeroDivisionError("a bug")
        if name == "HyperLipsHR":
            write_text(task.notes, json.dumps({"part": "generation", "figures": figures(name)}))
            look()
            raise TookTooLong
        scored = {TOWER: {"ours": 1.0}} if "metrics" in task.only else {}
        return {"not measured": "no data"} if name == "IPLAP" else figures(name) | scored

    monkeypatch.setattr(every, "call_in_process", pretend)
    (tmp_path / "old.json").write_text(json.dumps({"models": {"Wav2Lip": figures("Wav2Lip", steps=1.0)}}))
    files = [f"--json={tmp_path / 'new.json'}", f"--compare={tmp_path / 'old.json'}"]
    parts = ["--only=metrics,training", "--most_minutes=2"]
    assert main(["benchmark", "--model=all", "--profile=tiny", *parts, *files]) == 0
    measured = read_figures(tmp_path / "new.json")["models"]
    names = list(measured)
    assert {"IPLAP", "SyncNet", "Wav2Lip", "MakeItTalk", "HyperLipsBase", "HyperLipsHR"} <= set(names)
    asked = ["metrics" in only for _, only in seen]
    measured_first = next(k for k, (name, _) in enumerate(seen) if TOWER in measured[name])
    assert asked == [k <= measured_first for k in range(len(seen))], "once, with the first model that can be measured"
    assert measured["IPLAP"] == {"not measured": "no data"}
    assert "killed for memory" in measured["SyncNet"]["not measured"]
    assert measured["MakeItTalk"] == {"not measured": "ZeroDivisionError: a bug"}
    late = measured["HyperLipsHR"]
    assert late["training steps/s"] and "generation: took more than 2 minutes" in late["not finished"]
    said = capsys.readouterr()
    assert "Wav2Lip: training steps/s: render" in said.out and "IPLAP: not measured: no data" in said.out
    assert "| Wav2Lip | render 2 | - |" in said.out
    assert f" of {len(names)}, HyperLipsHR: generation (after 0 s)" in said.err


def test_what_a_user_can_mend_is_the_reason_in_place_of_figures(monkeypatch, tmp_path):
    def fails(loaded, seconds, only, told, failed):
        told("training", {})
        raise DataError("no clips")

    monkeypatch.setattr(every, "measure", fails)
    loaded = load_config("Wav2Lip", "demo", (), {"profile": "tiny"})
    task = every._Task(loaded, 1.0, (), tmp_path / "notes.json")
    assert every._measured(task) == {"not measured": "no clips"} and every._noted(task) == ("training", {})

    def fails_late(loaded, seconds, only, told, failed):
        failed["onnx"] = "no graphs"
        return figures()

    monkeypatch.setattr(every, "measure", fails_late)
    assert every._measured(task) == figures() | {"not finished": "onnx: no graphs"}


def test_all_models_stand_in_one_table_without_empty_columns():
    spoken = {"generation": {"network fps": 30.5, "end to end fps": 20.0}, "peak memory MiB": {"process": 900.2}}
    late = figures("SyncNet") | {"not finished": "evaluation: took long"}
    rows = {"IPLAP": figures() | spoken, "SyncNet": late, "Wav2Lip": {"not measured": "no data"}}
    assert overview({"models": rows}).splitlines() == [
        "| model | training, steps/s | network, fps | end to end, fps | memory, MiB | missing |",
        "| --- | --- | --- | --- | --- | --- |",
        "| IPLAP | render 2 | 30.5 | 20 | 900.2 | - |",
        "| SyncNet | render 2 | - | - | - | evaluation: took long |",
        "| Wav2Lip | - | - | - | - | no data |",
    ]
