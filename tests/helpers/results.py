"""Evaluation results made by hand, as an evaluator leaves them."""

from __future__ import annotations

import math
from pathlib import Path

from talkingface.evaluation.bootstrap import mean_interval
from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.result import ClipScore, EvalResult, RowResult

FIGURES = {
    "ssim": Figure("", True, "structural similarity"),
    "m_lmd": Figure("px", False, "lips, Euclidean"),
    "av_lag": Figure("frames", None, "shift"),
}
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
