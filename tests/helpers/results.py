"""Evaluation results made by hand, as an evaluator leaves them."""

from __future__ import annotations

import math
from pathlib import Path

from talkingface.evaluation.bootstrap import mean_interval
from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.result import ClipScore, EvalResult, RowResult
from talkingface.evaluation.report.write import write_report

FIGURES = {
    "ssim": Figure("", True, "structural similarity"),
    "m_lmd": Figure("px", False, "lips, Euclidean"),
    "av_lag": Figure("frames", None, "shift"),
}
BASE = {"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8}
"""A figure of four clips."""
METRIC_OF = {"ssim": "SSIM", "m_lmd": "LMD", "av_lag": "MOUTH"}


def make_result(rows: dict[str, dict[str, dict[str, float]]], **provenance) -> EvalResult:
    """A result from row -> figure -> clip -> value; the means follow."""
    result = EvalResult(figures=dict(FIGURES), metric_of=dict(METRIC_OF), date="2026-01-02T03:04:05+00:00")
    result.definitions = {
        "ssim": {"variant": "piq", "region": "frame"},
        "m_lmd": {"layout": "ibug68"},
        "av_lag": {},
    }
    result.provenance = {"model": "Toy", "dataset": "toys", "fps": 25.0, "synthetic": False, "remarks": []} | provenance
    for name, by_figure in rows.items():
        row = result.rows[name] = RowResult()
        clips = dict.fromkeys(clip for values in by_figure.values() for clip in values)
        for clip in clips:
            values = {key: by_clip[clip] for key, by_clip in by_figure.items() if clip in by_clip}
            result.clips.append(ClipScore(name, clip, values))
        row.clips = len(clips)
        for key in FIGURES:
            known = by_figure.get(key, {})
            finite = [value for value in known.values() if math.isfinite(value)]
            row.scored[key] = len(finite)
            if len(finite) < len(known):
                row.non_finite[key] = len(known) - len(finite)
            if finite:
                row.values[key] = sum(finite) / len(finite)
            if ends := mean_interval(finite, 200):
                row.intervals[key] = ends
    return result


def give_videos(result: EvalResult, videos: dict[str, Path]) -> EvalResult:
    """Let the clips of every row lie in `videos[row]`, with `videos['real']` as the reference."""
    for clip in result.clips:
        clip.video, clip.reference = videos.get(clip.row), videos.get("real")
    return result


def write_run(root, name, ssim, change=None, **provenance):
    """An evaluated run: `ssim` of the generated clips by name, lag of one frame, the same reference rows for all."""
    rows = {
        "generated": {"ssim": ssim, "m_lmd": {clip: 4 * (1 - v) for clip, v in ssim.items()}},
        "real": {"ssim": dict.fromkeys(ssim, 1.0)},
        "still": {"ssim": dict.fromkeys(ssim, 0.25)},
        "shuffled": {"ssim": dict.fromkeys(ssim, 0.125), "av_lag": dict.fromkeys(ssim, 3.0)},
    }
    result = make_result(rows, **provenance)
    if change:
        change(result)
    write_report(result, root / name / "eval")
    return root / name
