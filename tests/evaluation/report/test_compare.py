"""`compare`: several runs in one report, with what can and what cannot be compared."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from helpers.results import BASE, make_result, write_run
from talkingface.cli.commands import main
from talkingface.errors import DataError
from talkingface.evaluation.bootstrap import mean_interval
from talkingface.evaluation.report.compare import compare_runs, remarks_and_verdicts
from talkingface.evaluation.report.comparison import Comparison, read_runs
from talkingface.evaluation.report.stored import read_result
from talkingface.evaluation.report.write import write_report

NAN = float("nan")
FEW = "4 clips may all differ in one way by chance"


def compared(*paths):
    return Comparison(read_runs(paths))


def test_a_stored_evaluation_is_read_back_whole(tmp_path):
    made = make_result(
        {"generated": {"ssim": {"a": 0.1234567890123, "b": NAN}, "m_lmd": {"a": 2.0}}}, checkpoint="x.pt"
    )
    made.unavailable["LSE"] = "no weights"
    made.skipped = [("generated", "c", "clip", "broken")]
    made.stage_figures = {"l1": 0.5}
    made.clips[0].curves = {"lse": [1.0, NAN, 3.0]}
    made.clips[0].video, made.clips[0].reference = tmp_path / "videos" / "a.mp4", tmp_path.parent / "real.mp4"
    write_report(made, tmp_path)
    back = read_result(tmp_path / "metrics.json")
    assert back.clips[0].video == made.clips[0].video and back.clips[0].reference == made.clips[0].reference
    assert np.isnan(back.clips[0].curves["lse"][1]) and np.isnan(back.clips[1].values["ssim"])
    assert back.clips[0].values == made.clips[0].values
    for name in ("rows", "figures", "metric_of", "definitions", "provenance", "unavailable", "skipped", "date"):
        assert getattr(back, name) == getattr(made, name), name
    assert back.to_json() == made.to_json()
    assert back.table() == made.table()


def test_differences_are_paired_clip_by_clip(tmp_path):
    gain = {"a": 0.02, "b": 0.01, "c": 0.03, "d": 0.02}
    better = {clip: value + gain[clip] for clip, value in BASE.items() if clip != "d"} | {"e": 0.1}
    runs = [write_run(tmp_path, "one", BASE, model="One"), write_run(tmp_path, "two", better, model="Two")]
    comparison = compared(*runs)
    found = {d.figure: d for d in comparison.differences}
    assert set(found) == {"ssim", "m_lmd", "av_lag"}
    ssim = found["ssim"]
    assert (ssim.run, ssim.base, ssim.clips, ssim.verdict) == ("Two", "One", 3, "better")
    assert ssim.mean == pytest.approx(0.02)
    assert ssim.interval95 == pytest.approx(mean_interval([0.02, 0.01, 0.03], 2000))
    # The means alone say the opposite, since Two has a hard clip that One has not.
    assert comparison.runs[1].result.values()["ssim"] < comparison.runs[0].result.values()["ssim"]
    assert (found["m_lmd"].mean, found["m_lmd"].verdict) == (pytest.approx(-0.08), "better"), "lower is better"
    assert (found["av_lag"].mean, found["av_lag"].verdict) == (0.0, "unclear")
    [warning] = comparison.warnings
    assert warning.startswith("clips differ (One: 4, Two: 4; 3 in all)")
    assert comparison.doubtful["ssim"] == "means over different clips"


def test_a_figure_that_fails_on_some_clips_of_one_run_is_marked(tmp_path):
    def fail(result):
        for clip in result.clips:
            if (clip.row, clip.clip_id) == ("generated", "b"):
                clip.values["m_lmd"] = NAN

    runs = [write_run(tmp_path, "one", BASE, model="One"), write_run(tmp_path, "two", BASE, fail, model="Two")]
    comparison = compared(*runs)
    assert comparison.warnings == ["m_lmd: scored on different clips (One: 4, Two: 3)"]
    assert comparison.doubtful == {"m_lmd": "means over different clips"}
    assert {d.figure: d.clips for d in comparison.differences}["m_lmd"] == 3


def test_a_difference_that_may_be_chance_or_has_one_clip_is_unclear(tmp_path):
    noisy = dict(zip(BASE, (0.7, 0.5, 0.8, 0.7)))
    runs = [write_run(tmp_path, n, v, model=n) for n, v in (("one", BASE), ("two", noisy), ("three", {"a": 0.9}))]
    found = {(d.run, d.figure): d for d in compared(*runs).differences}
    assert found["two", "ssim"].verdict == "unclear" and found["two", "ssim"].interval95[0] < 0
    assert found["three", "ssim"].verdict == "unclear" and found["three", "ssim"].interval95 is None


def test_figures_of_the_shuffled_row_take_part(tmp_path):
    def respond(result):
        for clip in result.clips:
            clip.values |= {"av_lag": 5.0} if clip.row == "shuffled" else {}
        result.rows["shuffled"].values["av_lag"] = 5.0

    runs = [write_run(tmp_path, "one", BASE, model="One"), write_run(tmp_path, "two", BASE, respond, model="Two")]
    comparison = compared(*runs)
    assert {d.figure: d for d in comparison.differences}["av_lag"].verdict == "different"
    assert "av_lag (shuffled, frames)" in comparison.merged().table()
    assert comparison.runs[0].result.values()["ssim"] == pytest.approx(0.65), "its own figures stay"

    def fail(result):
        result.skipped = [("generated", clip, "MOUTH", "no face found") for clip in BASE]

    [run] = read_runs([write_run(tmp_path, "three", BASE, fail)])
    assert "av_lag" not in run.result.values(), "what failed on the generated clips is not taken from others"


@pytest.mark.parametrize(
    "change, warning, doubtful",
    [
        (
            lambda r: r.definitions["ssim"].update(variant="wang"),
            "ssim: variant differs (One: piq, Two: wang)",
            {"ssim": "variant differs (One: piq, Two: wang)"},
        ),
        (
            lambda r: r.definitions["m_lmd"].update(weights={"sha256": "b" * 64}),
            f"m_lmd: weights.sha256 differs (One: {'a' * 12}, Two: {'b' * 12})",
            {"m_lmd": f"weights.sha256 differs (One: {'a' * 12}, Two: {'b' * 12})"},
        ),
        (
            lambda r: r.definitions["m_lmd"].update(landmarks="toy 1"),
            "m_lmd: landmarks differs (One: mesh 1, Two: toy 1)",
            {"m_lmd": "landmarks differs (One: mesh 1, Two: toy 1)"},
        ),
        (lambda r: r.provenance.update(fps=30.0), "fps differs (One: 25.0, Two: 30.0)", {}),
        (
            lambda r: r.provenance.update(references={"policy": "same_clip"}),
            "references differs (One: other_clip, Two: same_clip)",
            {},
        ),
        (
            lambda r: r.provenance.update(dataset="others"),
            "dataset differs (One: toys, Two: others)",
            dict.fromkeys(("ssim", "m_lmd", "av_lag"), "other data sets"),
        ),
        (lambda r: r.clips.clear(), "Two: no per_clip.json, so it has no distributions and no differences", {}),
    ],
)
def test_numbers_that_do_not_compare_are_marked(tmp_path, change, warning, doubtful):
    def both(result):
        result.definitions["m_lmd"] |= {"landmarks": "mesh 1", "weights": {"sha256": "a" * 64}}
        result.provenance["references"] = {"policy": "other_clip"}

    def second(result):
        both(result)
        change(result)

    runs = [write_run(tmp_path, "one", BASE, both, model="One"), write_run(tmp_path, "two", BASE, second, model="Two")]
    comparison = compared(*runs)
    assert comparison.warnings == [warning]
    assert comparison.doubtful == doubtful
    if doubtful:
        assert not {d.figure for d in comparison.differences} & set(doubtful), "no difference of what does not compare"
    compare_runs(runs, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert warning in page
    assert page.count('class="doubtful"') == len(doubtful)


def lie_in(folder, contents):
    """Let the real video of every clip be a file in `folder` of the given content."""

    def change(result):
        for clip in result.clips:
            clip.reference = folder / f"{clip.clip_id}.mp4"
            clip.reference.parent.mkdir(exist_ok=True)
            clip.reference.write_text(contents[clip.clip_id])

    return change


def test_clips_are_paired_by_their_real_videos_and_not_by_the_name_of_the_data_set(tmp_path):
    same = {clip: f"video {clip}" for clip in BASE}
    better = {clip: value + 0.1 for clip, value in BASE.items()}
    one = write_run(tmp_path, "one", BASE, lie_in(tmp_path / "data", same), model="One", dataset="demo")
    two = write_run(tmp_path, "two", better, lie_in(tmp_path / "copy", same), model="Two", dataset="main")
    comparison = compared(one, two)
    assert comparison.warnings == [] and comparison.doubtful == {}
    assert {d.figure: (d.clips, d.verdict) for d in comparison.differences}["ssim"] == (4, "better")

    other = same | {"a": "another video", "b": "video B"}
    three = write_run(tmp_path, "three", better, lie_in(tmp_path / "others", other), model="Three", dataset="demo")
    comparison = compared(one, three)
    assert comparison.warnings == ["Three and One have other real videos of one name: 2 of 4 clips"]
    assert set(comparison.doubtful.values()) == {"other data sets"}
    assert {d.clips for d in comparison.differences} == {2} and comparison.paired(comparison.runs[1]) == {"c", "d"}


def test_a_verdict_on_a_handful_of_clips_is_no_evidence(tmp_path):
    """The interval of five differences of one sign never holds 0, which happens by chance in one case of 16."""
    for clips in (5, 6):
        base = {f"clip{k}": 0.5 + 0.01 * k for k in range(clips)}
        better = {clip: value + 0.1 for clip, value in base.items()}
        one, two = (write_run(tmp_path, f"{name}{clips}", v) for name, v in (("one", base), ("two", better)))
        ssim = next(d for d in compared(one, two).differences if d.figure == "ssim")
        assert ssim.verdict == "better"
        assert ssim.doubt == ("" if clips == 6 else "5 clips may all differ in one way by chance")


def test_a_judge_that_is_also_the_loss_makes_verdicts_doubtful(tmp_path):
    def judge(in_loss):
        return lambda result: result.definitions["ssim"].update(judge={"run": "x", "also_in_loss": in_loss})

    better = {clip: value + 0.1 for clip, value in BASE.items()}
    one = write_run(tmp_path, "one", BASE, judge(False), model="One")
    two = write_run(tmp_path, "two", better, judge(True), model="Two", remarks=["judged by its own loss: no evidence"])
    lines = remarks_and_verdicts(compare_runs([one, two], tmp_path / "out").comparison)
    assert lines[0] == "Two: judged by its own loss: no evidence"
    verdict = "ssim: Two less One 0.1000 [0.1000, 0.1000] on 4 common clips: better, but no evidence: the judge of"
    assert any(line.startswith(verdict) for line in lines)
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["does_not_compare"] == {"ssim": "the judge of Two is also in its loss"}
    assert {d["figure"]: d["doubt"] for d in content["differences"]} == {
        **{"ssim": f"the judge of Two is also in its loss; {FEW}", "m_lmd": FEW, "av_lag": ""}
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>Two</b>: judged by its own loss" in page and "no evidence: the judge of Two" in page


def test_runs_that_agree_give_no_warning_and_reference_rows_once(tmp_path):
    runs = [write_run(tmp_path, name, BASE, model=name.title()) for name in ("one", "two")]
    comparison = compared(*runs)
    assert comparison.warnings == [] and comparison.doubtful == {} and comparison.notes == {}
    assert list(comparison.merged().rows) == ["One", "Two", "real", "still"]


def test_a_reference_row_with_other_numbers_is_noted(tmp_path):
    def change(result):
        result.rows["still"].values["ssim"] = 0.5
        result.rows["real"].values["ssim"] *= 1 + 1e-5  # codecs

    runs = [write_run(tmp_path, "one", BASE, model="One"), write_run(tmp_path, "two", BASE, change, model="Two")]
    comparison = compared(*runs)
    assert comparison.notes == {("still", "ssim"): "Two: 0.5"}
    assert comparison.warnings == ["the still row, shown from One, is not the same in all runs: ssim"]


def test_the_command_writes_all_files_and_prints_the_table(tmp_path, capsys):
    better = {clip: value + 0.1 for clip, value in BASE.items()}
    one = write_run(tmp_path, "one", BASE, model="Toy")
    remarks = ["synthetic data, no evidence of model quality"]
    two = write_run(tmp_path, "two", better, model="Toy", synthetic=True, remarks=remarks)
    out = tmp_path / "out"
    assert main(["compare", str(one), str(two / "eval" / "metrics.json"), f"--output={out}"]) == 0
    printed = capsys.readouterr().out
    assert "Toy one" in printed.splitlines()[1] and "Toy two" in printed.splitlines()[1]
    assert "ssim: Toy two less Toy one 0.1000 [0.1000, 0.1000] on 4 common clips: better" in printed
    assert "warning: synthetic differs (Toy one: False, Toy two: True)" in printed
    assert f"Toy two: {remarks[0]}" in printed.splitlines()
    content = json.loads((out / "comparison.json").read_text())
    assert [(run["name"], run["remarks"]) for run in content["runs"]] == [("Toy one", []), ("Toy two", remarks)]
    assert content["rows"]["Toy two"]["ssim"] == pytest.approx(0.75)
    assert content["differences"][0] | {"mean": 0, "interval95": 0} == {
        **{"figure": "ssim", "run": "Toy two", "base": "Toy one", "mean": 0, "interval95": 0},
        **{"clips": 4, "verdict": "better", "doubt": FEW},
    }
    lines = list(csv.DictReader((out / "comparison.csv").open()))
    assert len(lines) == 3 * 4
    line = next(line for line in lines if (line["figure"], line["row"]) == ("ssim", "Toy two"))
    assert (line["mean"], line["clips"], line["difference"], line["verdict"]) == ("0.75", "4", "0.1", "better")
    page = (out / "report.html").read_text()
    for words in ("Toy one", "Toy two", "+0.1000", "synthetic differs", "an unmoving face"):
        assert words in page
    assert f"<b>Toy two</b>: {remarks[0]}" in page


def test_one_run_alone_is_a_report_too(tmp_path):
    assert len(compare_runs([write_run(tmp_path, "one", BASE)], tmp_path / "out").comparison.runs) == 1
    assert "Differences to" not in (tmp_path / "out" / "report.html").read_text()


def test_eighteen_runs_look_different_from_each_other(tmp_path):
    runs = [write_run(tmp_path, f"run{index}", BASE, model=f"Model{index}") for index in range(18)]
    compare_runs(runs, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    styles: dict[str, set[str]] = {}
    for style, name in re.findall(r'<span class="swatch ([^"]+)"></span>(Model[0-9]+)', page):
        styles.setdefault(name, set()).add(style)
    assert len(styles) == 18 and all(len(found) == 1 for found in styles.values()), "the same style everywhere"
    assert len(set.union(*styles.values())) == 18, "a style belongs to one run"
    for name in {name for style in set.union(*styles.values()) for name in style.split()}:
        assert f".swatch.{name}" in page or f".{name} {{ color:" in page, f"the style sheet knows {name}"


def test_names_are_distinct(tmp_path):
    paths = [write_run(tmp_path / folder, "first", BASE, model="real") for folder in "ab"]
    assert [run.name for run in read_runs(paths)] == ["real first", "real first (2)"]
    assert [run.name for run in read_runs(paths[:1])] == ["real (2)"], "the reference row has that name"
    nameless = write_run(tmp_path, "third", BASE, model=None)
    assert [run.name for run in read_runs([nameless])] == ["third"]


def test_what_cannot_be_compared_is_one_clear_line(tmp_path, capsys):
    good = write_run(tmp_path, "good", BASE)
    (tmp_path / "empty").mkdir()
    damaged = write_run(tmp_path, "damaged", BASE)
    (damaged / "eval" / "metrics.json").write_text('{"rows": ')
    foreign = tmp_path / "foreign.json"
    foreign.write_text('{"rows": {"generated": 3}}')
    listed = tmp_path / "list.json"
    listed.write_text("[1, 2]")
    other = write_run(tmp_path, "other", BASE, lambda result: result.rows.pop("generated"))
    cut = write_run(tmp_path, "cut", BASE)
    (cut / "eval" / "per_clip.json").write_text("[{}]")
    for path, words in (
        (tmp_path / "nothing", "no such file or folder; give a run folder"),
        (tmp_path / "empty", "has no metrics.json; evaluate it first"),
        (damaged, "is not JSON .*; evaluate again"),
        (foreign, "not a report of this toolkit"),
        (listed, "not a report of this toolkit"),
        (other, "has no `generated` row"),
        (cut, "not a report of this toolkit"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            compare_runs([good, path], tmp_path / "out")
        assert "\n" not in str(caught.value) and path.name in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert main(["compare"]) == 2
    assert capsys.readouterr().err.startswith("error: nothing to compare: give run folders")
