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
    "EXPERT": MetricEntry(
        "talkingface.evaluator.expert_sync", "ExpertSync", "agreement of lips and sound in the eyes of a trained expert"
    ),
    "FID": MetricEntry(
        "talkingface.evaluator.fid", "FID", "Frechet distance of Inception features (needs the published Inception)"
    ),
    "LPIPS": MetricEntry(
        "talkingface.evaluator.lpips", "LPIPS", "perceptual distance to the real frames (needs AlexNet or VGG16)"
    ),
    "CSIM": MetricEntry(
        "talkingface.evaluator.csim", "CSIM", "likeness of the person: cosine of ArcFace embeddings (needs ArcFace)"
    ),
    "JITTER": MetricEntry(
        "talkingface.evaluator.jitter",
        "Jitter",
        "trembling: second difference of landmarks and of pixels off the mouth",
    ),
    "SILENCE": MetricEntry("talkingface.evaluator.silence", "Silence", "motion of the mouth while nobody speaks"),
    "SWAP": MetricEntry(
        "talkingface.evaluator.swap", "AudioSwap", "whether the mouth changes when only the audio changes"
    ),
}
