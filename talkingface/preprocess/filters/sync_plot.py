"""What filter `sync` found in a data set, as one line and as histograms of offsets and confidences."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.files import atomic_output
from talkingface.preprocess.outcome import OK, Outcome

log = logging.getLogger("talkingface")
FILE = "sync_histogram.png"
BINS = 40
# Colours that stay apart for colour-blind eyes, and in grey.
KINDS = {"in step": "#1b6ca8", "moved into step": "#e3a02f", "rejected": "#a33b3b"}


def measured_clips(outcomes: Iterable[Outcome]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """(kind, facts) of every clip whose sync was measured and decided on, by the name of the expert; kinds: `KINDS`."""
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    for outcome in outcomes:
        facts = outcome.facts.get("sync")
        if not facts or not (outcome.status == OK or outcome.by == "sync"):
            continue
        kind = "rejected" if outcome.status != OK else "moved into step" if facts["offset"] else "in step"
        found[facts["expert"]].append((kind, facts))
    return dict(found)


def report_sync(outcomes: Iterable[Outcome], root: Path, limits: Mapping[str, Any]) -> None:
    """Say what was found, one line per expert, and draw the histograms into `root`."""
    found = measured_clips(outcomes)
    for expert, clips in found.items():
        counts = Counter(kind for kind, _ in clips)
        shown = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        log.info("sync of %d clips by %s: %s; see %s", len(clips), expert, shown, root / FILE)
    if len(found) > 1:
        log.warning("the clips were measured by %d experts, whose confidences cannot be compared", len(found))
    if found:
        draw_histograms(found, limits, root / FILE)


def draw_histograms(
    found: Mapping[str, list[tuple[str, Mapping[str, Any]]]], limits: Mapping[str, Any], path: Path
) -> None:
    """One row of two histograms per expert: offsets in frames, and confidences with the limit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(found), 2, squeeze=False)
    for (left, right), (expert, clips) in zip(axes, found.items(), strict=True):
        reach = max(limits["max_offset"] + 1, *(abs(facts["offset"]) for _, facts in clips))
        _bars(left, clips, "offset", np.arange(-reach - 0.5, reach + 1))
        left.set(title=f"{expert}: {len(clips)} clips", xlabel="offset in frames; positive: earlier audio matches best")
        values = [facts["confidence"] for _, facts in clips]
        _bars(right, clips, "confidence", np.linspace(min(0.0, *values), max(*values, 1e-6), BINS + 1))
        right.set(xlabel=f"confidence ({clips[0][1]['unit']})")
        if limits["min_confidence"] is not None:
            right.axvline(limits["min_confidence"], color="black", linestyle="--", label="min_confidence")
        kept = limits["max_offset"] if limits["repair"] else 0
        for edge in (-kept - 0.5, kept + 0.5):
            left.axvline(edge, color="black", linestyle="--")
        right.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    with atomic_output(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _bars(axis: Any, clips: list[tuple[str, Mapping[str, Any]]], key: str, edges: np.ndarray) -> None:
    values = [[facts[key] for kind, facts in clips if kind == wanted] for wanted in KINDS]
    labels = [f"{kind} ({len(some)})" for kind, some in zip(KINDS, values, strict=True)]
    axis.hist(values, bins=edges, stacked=True, color=list(KINDS.values()), label=labels)
    axis.set_ylabel("clips")
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
