"""Training curves of a run, from its `log.jsonl`, as a picture."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from pathlib import Path

from talkingface.stored.jsons import parse_json

MOST_POINTS = 1000
"""Points of a curve that are drawn; a long training has more records than a picture has pixels."""

_MOST_BYTES = 2**28
_PANELS = 6
_LEFT_OUT = ("grad_norm", "lr/", "seconds", "epoch", "step")
_WIDTH, _HEIGHT = 5.2, 2.6  # inches of a panel

Curve = list[tuple[int, float]]


def read_curves(log: Path) -> dict[str, dict[str, Curve]]:
    """Losses and validation figures by stage: stage -> name -> (step, value) in the order of the file.

    Records that are damaged, as the last one of a killed run may be, are passed over.
    """
    found: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(list))
    if not log.is_file() or log.stat().st_size > _MOST_BYTES:
        return {}
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = parse_json(line)
                stage, step = str(record["stage"]), int(record["step"])
            except (ValueError, LookupError, TypeError):
                continue
            for name, value in record.items():
                if _is_figure(name, value):
                    found[stage][name].append((step, float(value)))
    return {stage: dict(curves) for stage, curves in found.items()}


def _is_figure(name: str, value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return number and name.startswith(("train/", "val/", "eval/")) and not any(part in name for part in _LEFT_OUT)


def draw_curves(curves: dict[str, dict[str, Curve]]) -> bytes | None:
    """The curves as PNG, a panel for each stage; None where there are none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = [(stage, named) for stage, named in curves.items() if named][:_PANELS]
    if not stages:
        return None
    figure = Figure(figsize=(_WIDTH * min(2, len(stages)), _HEIGHT * math.ceil(len(stages) / 2)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(math.ceil(len(stages) / 2), min(2, len(stages)), squeeze=False).flat
    for (stage, named), panel in zip(stages, panels, strict=False):
        for name, points in named.items():
            thinned = points[:: max(1, len(points) // MOST_POINTS)]
            style = "o-" if name.startswith(("val/", "eval/")) else "-"
            panel.plot([step for step, _ in thinned], [value for _, value in thinned], style, label=name, lw=1, ms=3)
        if min(value for points in named.values() for _, value in points) > 0:
            panel.set_yscale("log")
        panel.set_title(stage)
        panel.set_xlabel("step")
        panel.legend(fontsize=6)
    for panel in list(panels):
        panel.set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
