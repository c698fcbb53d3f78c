"""What a reader sees first: one typical clip, as pictures and as film, in every version there is of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talkingface.errors import TalkingFaceError
from talkingface.evaluation.report import showcase
from talkingface.evaluation.report.comparison import GENERATED, SHUFFLED, Comparison
from talkingface.evaluation.report.result import ClipScore, EvalResult, safe_name

if TYPE_CHECKING:
    from talkingface.media import KeptFrames

TITLES = {GENERATED: "generated", SHUFFLED: "shuffled: other audio"}
"""What stands above the videos of a row."""


@dataclass(frozen=True)
class Evidence:
    """A typical clip.

    Attributes:
        figure: what makes it typical: it is the nearest to the median of this figure.
        film: its film.
        strips: picture strips of it: (whose, address).
    """

    figure: str
    film: showcase.Shown
    strips: list[tuple[str, str]] = field(default_factory=list)


def of_result(result: EvalResult, folder: Path, kept: KeptFrames | None = None) -> Evidence | None:
    """The typical clip of one evaluation: real, generated and driven by another clip's audio; None without videos."""
    key = showcase.main_figure([result])
    clip_id = typical_clip(result)
    if key is None or clip_id is None:
        return None
    own = clip_of(result, GENERATED, clip_id)
    if own.video is None:
        return None
    by_row = {clip.row: clip.video for clip in result.clips if clip.clip_id == clip_id}
    videos = {"real": own.reference} | {title: by_row[row] for row, title in TITLES.items() if row in by_row}
    film = showcase.show("typical", clip_id, own.values[key], videos, showcase.sounds_of(result, own), kept)
    return Evidence(key, film, strips([("", folder)], clip_id))


def of_comparison(comparison: Comparison) -> Evidence | None:
    """The same clip by every run, beside the real one; None where the runs share no clip or left no videos."""
    results = [run.result for run in comparison.runs]
    key = showcase.main_figure(results)
    if key is None:
        return None
    values = comparison.shared_clips(key)
    folders = [(run.name, run.path.parent) for run in comparison.runs]
    clip_id = typical({name: sum(of) / len(of) for name, of in values.items()})
    if clip_id is None:
        return None
    clips = {run.name: clip_of(run.result, GENERATED, clip_id) for run in comparison.runs}
    first, *_, last = [*clips.values(), *clips.values()]  # of one run both are the same
    if not any(clip.video for clip in clips.values()):
        return None
    videos = {"real": first.reference} | {name: clip.video for name, clip in clips.items()}
    film = showcase.show("typical", clip_id, first.values[key], videos, showcase.sounds_of(results[-1], last))
    return Evidence(key, film, strips(folders, clip_id))


def typical_clip(result: EvalResult) -> str | None:
    """The clip that stands for an evaluation: the nearest to the median of the figure that decides."""
    key = showcase.main_figure([result]) if GENERATED in result.rows else None
    return typical(result.per_clip(GENERATED, key)) if key else None


def typical(values: Mapping[str, float]) -> str | None:
    """The clip nearest to the median."""
    middle = float(np.median(list(values.values()))) if values else 0.0
    return min(values, key=lambda clip: (abs(values[clip] - middle), clip), default=None)


def clip_of(result: EvalResult, row: str, clip_id: str) -> ClipScore:
    """A clip of a row."""
    return next(clip for clip in result.clips if (clip.row, clip.clip_id) == (row, clip_id))


def strip_of(folder: Path, clip_id: str) -> Path:
    """Where the evaluation leaves the picture strip of a clip."""
    return folder / "samples" / f"{safe_name(clip_id)}.png"


def strips(folders: Sequence[tuple[str, Path]], clip_id: str) -> list[tuple[str, str]]:
    """The picture strips of a clip that are there: (whose, address)."""
    found = []
    for whose, folder in folders:
        if strip_of(folder, clip_id).is_file():
            try:
                found.append((whose, showcase.picture_address(strip_of(folder, clip_id))))
            except TalkingFaceError:
                continue  # a damaged picture is no reason to have no report
    return found
