"""`report.html`: one file without scripts or links that opens offline, with its plots, pictures and films inside."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from talkingface.clips.layouts import sound_beside
from talkingface.errors import TalkingFaceError
from talkingface.evaluation.report import plots, showcase, views
from talkingface.evaluation.report.comparison import GENERATED, Comparison, Difference
from talkingface.evaluation.report.numbers import interval, number
from talkingface.evaluation.report.result import ClipScore, EvalResult, safe_name
from talkingface.evaluation.rows import ROWS
from talkingface.files import write_text
from talkingface.version import __version__

METHOD_COLOURS = 6  # m0 to m5 in style.css
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


def write_html(result: EvalResult, folder: Path) -> None:
    """Write `report.html` about one evaluation.

    Raises:
        OutputError: the folder cannot be written.
    """
    columns = [
        views.Column(name, ROWS_ABOUT.get(name, ""), _style(name, index), result, name, name not in BACKGROUND)
        for index, name in enumerate(result.rows)
    ]
    page = environment().get_template("report.html.j2")
    text = page.render(
        result=result,
        facts=facts(result),
        columns=columns,
        groups=views.groups(columns),
        distributions=views.distributions(columns),
        curve_sets=views.curve_sets(columns),
        showcase=_showcase(result),
        strips=_strips(result, folder),
        skipped=result.skipped[:MAX_SKIPPED],
        undefined=_undefined(result),
        strange=result.provenance.get("without_a_real_video") or [],
        definitions=views.definitions(result),
    )
    write_text(folder / "report.html", text)


def write_comparison_html(comparison: Comparison, folder: Path) -> None:
    """Write `report.html` about several evaluations.

    Raises:
        OutputError: the folder cannot be written.
    """
    columns = [
        views.Column(run.name, run.result.date[:10], f"m{index % METHOD_COLOURS}", run.result, GENERATED)
        for index, run in enumerate(comparison.runs)
    ]
    columns += [
        views.Column(row, ROWS_ABOUT.get(row, ""), f"s-{row}", run.result, row, row == "real")
        for row, run in comparison.references
    ]
    page = environment().get_template("comparison.html.j2")
    text = page.render(
        runs=[(run, facts(run.result), views.definitions(run.result)) for run in comparison.runs],
        comparison=comparison,
        columns=columns,
        groups=views.groups(columns, comparison.doubtful, comparison.notes),
        differences=_differences(comparison),
        distributions=views.distributions(columns),
        curve_sets=views.curve_sets(columns),
        showcase=_compared_showcase(comparison),
    )
    write_text(folder / "report.html", text)


@cache
def environment() -> Environment:
    """The templates; whatever is put into them is escaped."""
    loader = PackageLoader("talkingface.evaluation.report", "templates")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"number": number, "interval": interval, "flatten": views.flatten}
    found.globals |= {
        "version": __version__,
        "film_size": showcase.SEEN_AS,
        "max_points": plots.MAX_POINTS,
        "max_skipped": MAX_SKIPPED,
    }
    return found


def _style(row: str, index: int) -> str:
    """Class of a row's colour: its own, or for a row of another name the next of the methods'."""
    return f"s-{row}" if row in ROWS else f"m{index % METHOD_COLOURS}"


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
        "date": result.date.replace("T", " "),
        "clips": known.get("clips", ""),
        "frame rate": ", ".join(f"{rate:g}" for rate in (rates if isinstance(rates, list) else [rates]) if rate),
        "landmarks": landmarks,
        "reference frames": f"from {whose}" if references.get("policy") else "",
    }
    return [(name, str(value)) for name, value in pairs.items() if value not in ("", None)]


def _showcase(result: EvalResult) -> dict[str, Any]:
    """Which figure decided, and the clips at both ends of it."""
    key = showcase.main_figure([result])
    if key is None:
        return {"figure": "", "clips": [], "signed": False}
    values = result.per_clip(GENERATED, key)
    clips = {clip.clip_id: clip for clip in result.clips if clip.row == GENERATED}
    shown = []
    for rank, name in showcase.extremes(values, bool(result.figures[key].higher_is_better)):
        videos = {"real": clips[name].reference, "generated": clips[name].video}
        shown.append(showcase.show(rank, name, values[name], videos, _sounds(result, clips[name])))
    return {"figure": key, "clips": shown, "signed": False}


def _sounds(result: EvalResult, clip: ClipScore) -> list[Path]:
    """Files that may hold the sound a generated video was judged by; the first one that has a sound does.

    A pipeline writes that sound into its video. Videos of strangers are judged by the real video's sound if it has one.
    """
    real = [] if clip.reference is None else [sound_beside(clip.reference), clip.reference]
    # `sound: real` is what an evaluation of plain video files writes, in `evaluation/folders.py`.
    own_first = result.provenance.get("sound") != "real"
    return [path for path in ([clip.video, *real] if own_first else [*real, clip.video]) if path is not None]


def _compared_showcase(comparison: Comparison) -> dict[str, Any]:
    """The clips in which the other runs do best and worst against the first (a run alone: best and worst clips)."""
    results = [run.result for run in comparison.runs]
    key = showcase.main_figure(results)
    if key is None:
        return {"figure": "", "clips": [], "signed": False}
    first, *others = [result.per_clip(GENERATED, key) for result in results]
    # Only clips that every run has, and whose real video is the same: others cannot be held against each other.
    shared = [comparison.paired(run) for run in comparison.runs[1:]]
    common = [clip for clip in first if all(clip in one for one in (*others, *shared))]
    values = {clip: first[clip] for clip in common}
    if others:
        # With several runs a clip is remarkable by its difference to the first run, not by its own value.
        values = {clip: sum(v[clip] for v in others) / len(others) - first[clip] for clip in common}
    shown = []
    for rank, name in showcase.extremes(values, bool(results[0].figures[key].higher_is_better)):
        clips = [next(c for c in r.clips if (c.row, c.clip_id) == (GENERATED, name)) for r in results]
        videos = {"real": clips[0].reference} | {
            run.name: clip.video for run, clip in zip(comparison.runs, clips, strict=True)
        }
        shown.append(showcase.show(rank, name, values[name], videos, _sounds(results[-1], clips[-1])))
    return {"figure": key, "clips": shown, "signed": bool(others)}


def _differences(comparison: Comparison) -> list[tuple[str, list[Difference | None]]]:
    """One line per figure: (figure, the difference of every run but the first)."""
    found = {(d.figure, d.run): d for d in comparison.differences}
    lines = [(key, [found.get((key, run.name)) for run in comparison.runs[1:]]) for key in comparison.figures]
    return [(key, cells) for key, cells in lines if any(cells)]


def _strips(result: EvalResult, folder: Path) -> list[tuple[str, str]]:
    """Picture strips that lie in `samples/`: (clip, address)."""
    strips = []
    for clip_id in dict.fromkeys(clip.clip_id for clip in result.clips):
        path = folder / "samples" / f"{safe_name(clip_id)}.png"
        if len(strips) < MAX_STRIPS and path.is_file():
            try:
                strips.append((clip_id, showcase.picture_address(path)))
            except TalkingFaceError:
                continue  # a damaged picture is no reason to have no report
    return strips


def _undefined(result: EvalResult) -> list[tuple[str, str, list[str]]]:
    """Figures that are undefined in some clips: (row, figure, clips)."""
    found = []
    for row, averages in result.rows.items():
        for key in averages.non_finite:
            defined = result.per_clip(row, key)
            clips = [c.clip_id for c in result.clips if c.row == row and key in c.values and c.clip_id not in defined]
            found.append((row, key, clips))
    return found
