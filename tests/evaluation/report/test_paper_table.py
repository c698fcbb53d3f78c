"""Tables for papers: what is bold, what is escaped, what does not compare."""

from __future__ import annotations

import re

import pytest

from helpers.results import BASE, write_run
from talkingface.cli.commands import main
from talkingface.errors import DataError
from talkingface.evaluation.report.comparison import Comparison, read_runs
from talkingface.evaluation.report.paper_table import latex_text, markdown_text, paper_table, to_latex, to_markdown
from talkingface.evaluation.report.seed_groups import SeedGroup

NASTY = r"A_b & 50% $x^2$ #1 {c} ~ \end | <i>"


@pytest.fixture
def runs(tmp_path):
    """Two runs, the second better in both figures; its model has a name full of markup."""
    one = write_run(tmp_path, "one", BASE, model="Plain")
    return [one, write_run(tmp_path, "two", {clip: value + 0.1 for clip, value in BASE.items()}, model=NASTY)]


def table_of(paths, groups=(), figures=()):
    return paper_table(Comparison(read_runs(paths)), groups, figures)


def rows(text, separator):
    return [line for line in text.splitlines() if separator in line and not line.startswith("%")]


def test_latex_has_the_rules_of_booktabs_arrows_and_the_best_in_bold(runs):
    text = to_latex(table_of(runs))
    rules = re.findall(r"\\(toprule|midrule|bottomrule)", text)
    assert rules == ["toprule", "midrule", "midrule", "bottomrule"], "the last rule sets the reference rows apart"
    head, plain, nasty, real, still = rows(text, " & ")
    assert head == r" & ssim $\uparrow$ & m\_lmd $\downarrow$ \\"
    assert plain == r"Plain & 0.6500 & 1.400 \\"
    assert nasty.endswith(r"& \textbf{0.7500} & \textbf{1.000} \\"), "lower is better for a distance"
    assert real.startswith("real & 1.0000 & --") and "textbf" not in real, "a reference is never the best"
    assert still.startswith("still & ")
    assert "% ssim (piq, frame): structural similarity" in text.splitlines()


def test_nothing_in_a_name_is_a_command():
    assert latex_text(NASTY) == (
        r"A\_b \& 50\% \$x\textasciicircum{}2\$ \#1 \{c\} \textasciitilde{} \textbackslash{}end \textbar{}"
        r" \textless{}i\textgreater{}"
    )
    assert latex_text("a\nb\x1b[0m") == "a b [0m"
    assert markdown_text("a|b*c_d`<i>") == r"a\|b\*c\_d\`\<i\>"


def test_every_line_has_as_many_cells(runs):
    latex, markdown = to_latex(table_of(runs)), to_markdown(table_of(runs))
    assert len({len(re.split(r"(?<!\\)&", line)) for line in rows(latex, " & ")}) == 1
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")}) == 1


def test_markdown_says_the_same(runs):
    text = to_markdown(table_of(runs))
    lines = text.splitlines()
    assert lines[:3] == ["|  | `ssim` ↑ | `m_lmd` ↓ |", "|---|---:|---:|", "| Plain | 0.6500 | 1.400 |"]
    assert lines[3].endswith("| **0.7500** | **1.000** |")
    assert lines[4] == "| real | 1.0000 | - |"


def test_numbers_that_are_written_alike_are_both_best_and_a_single_run_has_none(tmp_path):
    one = write_run(tmp_path, "one", BASE, model="One")
    two = write_run(tmp_path, "two", {clip: value + 1e-7 for clip, value in BASE.items()}, model="Two")
    assert to_latex(table_of([one, two])).count(r"\textbf{0.6500}") == 2
    assert r"\textbf" not in to_latex(table_of([one]))


def test_numbers_that_do_not_compare_are_marked_and_have_no_best(tmp_path):
    one = write_run(tmp_path, "one", BASE, model="One")
    change = lambda result: result.definitions["ssim"].update(variant="wang")  # noqa: E731
    two = write_run(tmp_path, "two", {clip: value + 0.1 for clip, value in BASE.items()}, change, model="Two")
    latex, markdown = to_latex(table_of([one, two])), to_markdown(table_of([one, two]))
    assert r"ssim $\uparrow$$^\dagger$" in latex and r"\textbf{0.7500}" not in latex and r"\textbf{1.000}" in latex
    assert "† does not compare: variant differs (One: piq, Two: wang)" in latex
    assert "`ssim` ↑ †" in markdown and "**0.7500**" not in markdown


def test_groups_show_their_deviation_and_how_many_runs_stand_behind_it(runs):
    comparison = Comparison(read_runs(runs))
    both = SeedGroup("Both", tuple(comparison.runs), (1, 2))
    text = to_latex(paper_table(comparison, [both]))
    assert r"Both & 0.7000 $\pm$ 0.0707 & 1.200 $\pm$ 0.283 \\" in text
    assert "(Both: n = 2)" in text


def test_negative_numbers_have_a_minus_and_figures_can_be_chosen(tmp_path):
    low = write_run(tmp_path, "one", {clip: -value for clip, value in BASE.items()}, model="One")
    assert "One & $-$0.6500 " in to_latex(table_of([low], figures=["ssim"]))
    assert " & av\\_lag \\\\" in to_latex(table_of([low], figures=["av_lag"])), "no arrow where neither way is better"
    with pytest.raises(DataError, match="unknown figure 'sim', did you mean 'ssim'"):
        table_of([low], figures=["sim"])


def test_the_command_writes_the_tables_that_are_asked_for(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", *map(str, runs), f"--output={out}", "--latex", "--figures=m_lmd"]) == 0
    assert f"wrote {out / 'table.tex'}" in capsys.readouterr().out and not (out / "table.md").exists()
    assert r" & m\_lmd $\downarrow$ \\" in (out / "table.tex").read_text()
    assert main(["compare", *map(str, runs), f"--output={out}", "--markdown"]) == 0
    assert (out / "table.md").read_text().startswith("|  | `ssim` ↑ |")
