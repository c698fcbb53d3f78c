"""Evaluation: metrics by name, and the evaluator that generates, scores and reports.

Importing this package loads no metric: `METRICS` names the module of each, which is imported when it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple


class MetricEntry(NamedTuple):
    """Where a metric lives, and what it says in one line."""

    module: str
    class_name: str
    line: str


METRICS: dict[str, MetricEntry] = {
    "SSIM": MetricEntry(
        "talkingface.evaluator.image", "SSIM", "structural similarity to the real video: frame or region, and mouth"
    ),
    "PSNR": MetricEntry(
        "talkingface.evaluator.image", "PSNR", "peak signal-to-noise ratio to the real video: likewise"
    ),
    "LMD": MetricEntry("talkingface.evaluator.lmd", "LMD", "distances of facial landmarks to those of the real frames"),
    "MOUTH": MetricEntry(
        "talkingface.evaluator.mouth", "Mouth", "mouth opening: correlation with the truth, lag behind the sound"
    ),
    "LSE": MetricEntry(
        "talkingface.evaluator.lse", "LSE", "lip-sync error: LSE-C, LSE-D and offset (needs the public SyncNet weights)"
    ),
}
