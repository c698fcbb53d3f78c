"""`report.html`: one file without scripts or links that opens offline, with its plots, pictures and films inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from talkingface.evaluation.report import evidence, plots, showcase, views
from talkingface.evaluation.report.comparison import GENERATED, Comparison, Difference
from talkingface.evaluation.report.numbers import decimals, interval, number
from talkingface.evaluation.report.result import EvalResult
from talkingface.evaluation.report.results_table import Column, Group, flatten, groups, main_lines, shared_count
from talkingface.evaluation.report.seed_groups import SeedGroup
from talkingface.evaluation.report.seed_table import GroupColumn, seed_columns, seed_lines
from talkingface.evaluation.rows import ROWS
from talkingface.files import write_text
from talkingface.version import __version__

if TYPE_CHECKING:
    from talkingface.media import KeptFrames

METHOD_COLOURS = 6  # m0 to m5 in style.css
METHOD_LINES = 3  # of one colour: its own line, d1 and d2
MAX_STRIPS = 6  # picture strips
MAX_SKIPPED = 200  # lines of the list of skipped clips
ROWS_ABOUT = {
    "generated": "what is judged",
    "shuffled": "the same system, another clip's audio",
    "real": "the real video",
    "still": "an unmoving face",
    "seen": "people of the training clips",
    "unseen": "people of no training clip",
    "unknown": "speakers or training clips not known",
}
BACKGROUND = ("still", "shuffled")
"""Rows whose offset curves are shown averaged only."""


def write_html(result: EvalResult, folder: Path, kept: KeptFrames | None = None) -> None:
    """Write `report.html` about one evaluation.

    Args:
        result: the evaluation.
        folder: where the page goes.
        kept: memory for decoded videos: what was kept there is not decoded again.

    Raises:
        OutputError: the folder cannot be written.
    """
    columns = [
        Column(name, ROWS_ABOUT.get(name, ""), _style(name, index), result, name, name not in BACKGROUND)
        for index, name in enumerate(result.rows)
    ]
    undefined, strange = _undefined(result), result.provenance.get("without_a_real_video") or []
    lost = {"metric": result.unavailable, "clip": result.skipped, "undefined figure": undefined, "extra video": strange}
    page = environment().get_template("report.html.j2")
    text = page.render(
        result=result,
        headline=headline(result),
        facts=facts(result),
        columns=columns,
        table=_table(columns, groups(columns)),
        distributions=views.distributions(columns),
        curve_sets=views.curve_sets(columns),
        evidence=evidence.of_result(result, folder, kept),
        showcase=_showcase(result, kept),
        strips=_strips(result, folder),
        skipped=result.skipped[:MAX_SKIPPED],
        undefined=undefined,
        strange=strange,
        left_out=_counted(lost),
        definitions=views.definitions(result),
    )
    write_text(folder / "report.html", text)


def write_comparison_html(comparison: Comparison, folder: Path, seeds: Sequence[SeedGroup] = ()) -> None:
    """Write `report.html` about several evaluations.

    Args:
        comparison: the evaluations.
        folder: where to write.
        seeds: runs put together that differ in their seed only; they get a table of their own.

    Raises:
        OutputError: the folder cannot be written.
    """
    columns = [
        Column(run.name, run.result.date[:10], _method_style(index), run.result, GENERATED)
        for index, run in enumerate(comparison.runs)
    ]
    columns += [
        Column(row, ROWS_ABOUT.get(row, ""), f"s-{row}", run.result, row, row == "real")
        for row, run in comparison.references
    ]
    page = environment().get_template("comparison.html.j2")
    text = page.render(
        runs=[(run, facts(run.result), views.definitions(run.result)) for run in comparison.runs],
        comparison=comparison,
        columns=columns,
        table=_table(columns, groups(columns, comparison.doubtful, comparison.notes)),
        seeds=_seed_table(comparison, seeds),
        differences=_differences(comparison),
        distributions=views.distributions(columns),
        curve_sets=views.curve_sets(columns),
        evidence=evidence.of_comparison(comparison),
        showcase=_compared_showcase(comparison),
    )
    write_text(folder / "report.html", text)


def _table(columns: Sequence[Column | GroupColumn], found: Sequence[Group]) -> dict[str, Any]:
    """What the results table shows: its columns, all lines by metric, the few main ones, and on how many clips."""
    total = sum(len(group.lines) for group in found)
    shared = shared_count(columns)
    return {"columns": columns, "groups": found, "main": main_lines(found), "total": total, "count": shared}


def _seed_table(comparison: Comparison, seeds: Sequence[SeedGroup]) -> dict[str, Any]:
    """The table of runs put together by seed; empty without them."""
    styles = [_method_style(comparison.runs.index(group.runs[0])) for group in seeds]
    return _table(seed_columns(seeds, styles), [seed_lines(seeds, comparison)]) if seeds else {}


@cache
def environment() -> Environment:
    """The templates; whatever is put into them is escaped."""
    loader = PackageLoader("talkingface.evaluation.report", "templates")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"number": number, "interval": interval, "flatten": flatten, "method_style": _method_style}
    found.globals |= {
        "version": __version__,
        "film_size": showcase.SEEN_AS,
        "max_points": plots.MAX_POINTS,
        "max_skipped": MAX_SKIPPED,
    }
    return found


def _style(row: str, index: int) -> str:
    """Class of a row's colour: its own, or for a row of another name the next of the methods'."""
    return f"s-{row}" if row in ROWS else _method_style(index)


def _method_style(index: int) -> str:
    """Classes of the colour and the line of a method; past the last colour the first comes again with another line."""
    colour, line = index % METHOD_COLOURS, index // METHOD_COLOURS % METHOD_LINES
    return f"m{colour} d{line}" if line else f"m{colour}"


def headline(result: EvalResult) -> str:
    """The line under the title: `2026-11-28 09:18, 6 clips, 25 frames a second`."""
    known = dict(facts(result))
    clips, rate = known.get("clips", ""), known.get("frame rate", "")
    clips = f"{clips} clip{'' if clips == '1' else 's'}" if clips else ""
    return ", ".join(filter(None, (known.get("date", "")[:16], clips, f"{rate} frames a second" if rate else "")))


def facts(result: EvalResult) -> list[tuple[str, str]]:
    """The lines under the title: (name, value), those that are known."""
    known = result.provenance
    landmarks = " ".join(str(value) for value in (known.get("landmarks") or {}).values())
    references = known.get("references") or {}
    lent, own = (references.get(name, 0) for name in ("from_another_clip", "from_the_same_clip"))
    whose = f"another clip of the speaker for {lent} of {lent + own} clips" if lent else "the clip itself"
    rates = known.get("fps", "")
    pairs = {
        "model": known.get("model", ""),
        "data set": known.get("dataset", ""),
        "checkpoint": known.get("checkpoint", ""),
        "use": known.get("licence", ""),
        "date": result.date.replace("T", " "),
        "clips": known.get("clips", ""),
        "frame rate": ", ".join(f"{rate:g}" for rate in (rates if isinstance(rates, list) else [rates]) if rate),
        "landmarks": landmarks,
        "reference frames": f"from {whose}" if references.get("policy") else "",
    }
    return [(name, str(value)) for name, value in pairs.items() if value not in ("", None)]


def _showcase(result: EvalResult, kept: KeptFrames | None) -> dict[str, Any]:
    """Which figure decided, and the clips at both ends of it."""
    key = showcase.main_figure([result])
    if key is None:
        return {"figure": "", "clips": [], "signed": False}
    values = result.per_clip(GENERATED, key)
    clips = {clip.clip_id: clip for clip in result.clips if clip.row == GENERATED}
    shown = []
    for rank, name in showcase.extremes(values, bool(result.figures[key].higher_is_better)):
        videos = {"real": clips[name].reference, "generated": clips[name].video}
        sounds = showcase.sounds_of(result, clips[name])
        shown.append(showcase.show(rank, name, values[name], videos, sounds, kept))
    return {"figure": key, "clips": shown, "signed": False}


def _compared_showcase(comparison: Comparison) -> dict[str, Any]:
    """The clips in which the other runs do best and worst against the first (a run alone: best and worst clips)."""
    results = [run.result for run in comparison.runs]
    key = showcase.main_figure(results)
    if key is None:
        return {"figure": "", "clips": [], "signed": False}
    scores = comparison.shared_clips(key)
    several = len(results) > 1
    # With several runs a clip is remarkable by its difference to the first run, not by its own value.
    values = {clip: sum(rest) / len(rest) - first if rest else first for clip, (first, *rest) in scores.items()}
    shown = []
    for rank, name in showcase.extremes(values, bool(results[0].figures[key].higher_is_better)):
        clips = [next(c for c in r.clips if (c.row, c.clip_id) == (GENERATED, name)) for r in results]
        videos = {"real": clips[0].reference} | {
            run.name: clip.video for run, clip in zip(comparison.runs, clips, strict=True)
        }
        shown.append(showcase.show(rank, name, values[name], videos, showcase.sounds_of(results[-1], clips[-1])))
    return {"figure": key, "clips": shown, "signed": several}


def _differences(comparison: Comparison) -> list[tuple[str, list[Difference | None], int]]:
    """One line per figure: (figure, the difference of every run but the first, digits behind the point)."""
    found = {(d.figure, d.run): d for d in comparison.differences}
    lines = [(key, [found.get((key, run.name)) for run in comparison.runs[1:]]) for key in comparison.figures]
    return [(key, cells, decimals(cell.mean for cell in cells if cell)) for key, cells in lines if any(cells)]


def _strips(result: EvalResult, folder: Path) -> list[tuple[str, str]]:
    """Picture strips that lie in `samples/`: (clip, address)."""
    strips = []
    for clip_id in dict.fromkeys(clip.clip_id for clip in result.clips):
        if len(strips) < MAX_STRIPS:
            strips += [(clip_id, address) for _, address in evidence.strips([("", folder)], clip_id)]
    return strips


def _counted(things: Mapping[str, Sized]) -> str:
    """`1 metric, 2 clips`, of what there is any."""
    counts = {name: len(those) for name, those in things.items() if those}
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()) or "nothing"


def _undefined(result: EvalResult) -> list[tuple[str, str, list[str]]]:
    """Figures that are undefined in some clips: (row, figure, clips)."""
    found = []
    for row, averages in result.rows.items():
        for key in averages.non_finite:
            defined = result.per_clip(row, key)
            clips = [c.clip_id for c in result.clips if c.row == row and key in c.values and c.clip_id not in defined]
            found.append((row, key, clips))
    return found
