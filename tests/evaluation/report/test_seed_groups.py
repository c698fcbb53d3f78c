"""Runs that differ in their seed only, as one line of a table."""

from __future__ import annotations

import json
import statistics

import pytest
import yaml

from helpers.results import BASE, write_run
from talkingface.cli.commands import main
from talkingface.evaluation.report.comparison import Comparison, read_runs
from talkingface.evaluation.report.seed_groups import group_runs

SHIFTS = {1: 0.0, 2: 0.02, 3: 0.1}


def write_seed(root, name, seed, shift=0.0, model="Toy", **settings):
    """An evaluated run with its configuration."""
    run = write_run(root, name, {clip: value + shift for clip, value in BASE.items()}, model=model)
    config = {"model_name": model, "seed": seed, "run_name": name, "stages": [{"name": "s", "epochs": 3}], **settings}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


@pytest.fixture
def series(tmp_path):
    """Three seeds of one configuration, and one run of another."""
    runs = [write_seed(tmp_path, f"x-seed{seed}", seed, shift, resume="none") for seed, shift in SHIFTS.items()]
    return [*runs, write_seed(tmp_path, "y-seed1", 1, 0.05, stages=[{"name": "s", "epochs": 4}])]


def groups_of(paths):
    return group_runs(read_runs(paths))


def test_runs_of_one_configuration_become_mean_and_deviation(series):
    first, second = groups_of(series)
    values = [0.65 + shift for shift in SHIFTS.values()]
    assert (first.name, first.seeds, first.about) == ("Toy x", (1, 2, 3), "3 runs, seeds 1, 2, 3")
    assert first.mean("ssim") == pytest.approx(statistics.fmean(values))
    assert first.deviation("ssim") == pytest.approx(statistics.stdev(values))
    assert (second.name, second.about, second.deviation("ssim")) == ("Toy y", "1 run, seed 1", None)


def test_what_changes_nothing_that_is_learnt_does_not_keep_runs_apart(tmp_path):
    one = write_seed(tmp_path, "x-seed1", 1, device="cuda:0", resume="none", log_wandb=True)
    two = write_seed(tmp_path, "x-seed2", 2, device="cuda:1", resume="saved/x", num_workers=4)
    assert len(groups_of([one, two])) == 1
    other = write_seed(tmp_path, "z", 3, device="cuda:1", precision="bf16")
    assert [group.name for group in groups_of([one, two, other])] == ["Toy x", "Toy z"]


def test_a_run_without_its_configuration_stands_alone(tmp_path):
    runs = [write_run(tmp_path, name, BASE, model="Toy") for name in ("one", "two")]
    (write_seed(tmp_path, "three", 3) / "config.yaml").write_text("seed: [")
    assert [len(group.runs) for group in groups_of([*runs, tmp_path / "three"])] == [1, 1, 1]


def test_an_evaluation_kept_elsewhere_finds_the_configuration_by_its_checkpoint(tmp_path):
    one, two = (write_seed(tmp_path, f"x-seed{seed}", seed) for seed in (1, 2))
    elsewhere = write_run(tmp_path / "reports", "two", BASE, model="Toy", checkpoint=str(two / "s" / "best.pt"))
    [group] = groups_of([one, elsewhere])
    assert group.seeds == (1, 2)


def test_of_one_seed_the_later_run_counts_and_that_is_said(tmp_path, capsys):
    runs = [write_seed(tmp_path, name, 1, shift) for name, shift in (("first", 0.0), ("again", 0.1))]
    [group] = groups_of(runs)
    assert group.mean("ssim") == pytest.approx(0.75) and group.deviation("ssim") is None
    assert main(["compare", "--group", *map(str, runs), f"--output={tmp_path / 'out'}"]) == 0
    assert "Toy first: not counted, a later run has the same seed" in capsys.readouterr().out


def test_a_figure_that_one_seed_lacks_has_no_mean(tmp_path):
    one = write_seed(tmp_path, "x-seed1", 1)
    two = write_seed(tmp_path, "x-seed2", 2)
    content = json.loads((two / "eval" / "metrics.json").read_text())
    content["rows"]["generated"]["m_lmd"] = None
    (two / "eval" / "metrics.json").write_text(json.dumps(content))
    [group] = groups_of([one, two])
    assert group.mean("m_lmd") is None and group.mean("ssim") == pytest.approx(0.65)


def test_the_command_prints_and_writes_them(series, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", "--group", *map(str, series), f"--output={out}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    line = next(line for line in printed if line.startswith("ssim "))
    assert "0.6900 ± 0.0529" in line and line.endswith("0.7000")
    assert "3 runs, seeds 1, 2, 3" in "\n".join(printed)
    first, second = json.loads((out / "comparison.json").read_text())["groups"]
    assert (first["runs"], first["seeds"]) == (["Toy x-seed1", "Toy x-seed2", "Toy x-seed3"], [1, 2, 3])
    assert first["deviation"]["ssim"] == pytest.approx(0.05291, abs=1e-4) and "ssim" not in second["deviation"]
    page = (out / "report.html").read_text()
    assert page.index("Over seeds") < page.index("Single runs") and "± 0.0529" in page and "n = 3 runs" in page
    assert main(["compare", *map(str, series), f"--output={out}"]) == 0
    assert "groups" not in json.loads((out / "comparison.json").read_text())
    assert "Over seeds" not in (out / "report.html").read_text()


def test_names_of_groups_are_distinct(tmp_path):
    for place, steps in (("a", 1), ("b", 2)):
        write_seed(tmp_path / place, "x-seed1", 1, stages=[{"max_steps": steps}])
    comparison = Comparison(read_runs([tmp_path / "a" / "x-seed1", tmp_path / "b" / "x-seed1"]))
    assert [group.name for group in group_runs(comparison.runs)] == ["Toy x", "Toy x (2)"]
