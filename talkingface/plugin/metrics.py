"""Metrics by name, built in and of plug-ins.

Importing this module loads no metric: `METRICS` names the module of each, which is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from talkingface.errors import RegistryError, unknown


class MetricEntry(NamedTuple):
    """Where a metric lives, and what it says in one line."""

    module: str
    class_name: str
    line: str


METRICS: dict[str, MetricEntry] = {
    "SSIM": MetricEntry(
        "talkingface.evaluation.metrics.image",
        "SSIM",
        "structural similarity to the real video: frame or region, and mouth",
    ),
    "PSNR": MetricEntry(
        "talkingface.evaluation.metrics.image", "PSNR", "peak signal-to-noise ratio to the real video: likewise"
    ),
    "LMD": MetricEntry(
        "talkingface.evaluation.metrics.lmd", "LMD", "distances of facial landmarks to those of the real frames"
    ),
    "MOUTH": MetricEntry(
        "talkingface.evaluation.metrics.mouth",
        "Mouth",
        "mouth opening: correlation with the truth, lag behind the sound",
    ),
    "LSE": MetricEntry(
        "talkingface.evaluation.metrics.lse",
        "LSE",
        "lip-sync error: LSE-C, LSE-D and offset (needs the public SyncNet weights)",
    ),
    "EXPERT": MetricEntry(
        "talkingface.evaluation.metrics.expert_sync",
        "ExpertSync",
        "agreement of lips and sound in the eyes of a trained expert",
    ),
    "FID": MetricEntry(
        "talkingface.evaluation.metrics.fid",
        "FID",
        "Frechet distance of Inception features (needs the published Inception)",
    ),
    "LPIPS": MetricEntry(
        "talkingface.evaluation.metrics.lpips",
        "LPIPS",
        "perceptual distance to the real frames (needs AlexNet or VGG16)",
    ),
    "CSIM": MetricEntry(
        "talkingface.evaluation.metrics.csim",
        "CSIM",
        "likeness of the person: cosine of ArcFace embeddings (needs ArcFace)",
    ),
    "JITTER": MetricEntry(
        "talkingface.evaluation.metrics.jitter",
        "Jitter",
        "trembling: second difference of landmarks and of pixels off the mouth",
    ),
    "SILENCE": MetricEntry(
        "talkingface.evaluation.metrics.silence", "Silence", "motion of the mouth while nobody speaks"
    ),
    "SWAP": MetricEntry(
        "talkingface.evaluation.metrics.swap", "AudioSwap", "whether the mouth changes when only the audio changes"
    ),
}


def register_metric(name: str) -> Callable[[type[Any]], type[Any]]:
    """Class decorator for plug-ins: make a metric known under `name`; its one line is the docstring's first."""

    def decorate(cls: type[Any]) -> type[Any]:
        taken = METRICS.get(name.upper())
        if taken is not None and (taken.module, taken.class_name) != (cls.__module__, cls.__qualname__):
            raise RegistryError(f"metric name '{name}' is already taken by {taken.module}")
        line = (cls.__doc__ or "").strip().split("\n")[0]
        METRICS[name.upper()] = MetricEntry(cls.__module__, cls.__qualname__, line)
        _CLASSES[name.upper()] = cls
        return cls

    return decorate


_CLASSES: dict[str, type[Any]] = {}


def metric_class(name: str) -> type[Any]:
    """The class of a metric, from its name in any case.

    Raises:
        RegistryError: unknown name; the message lists the names and the closest.
    """
    entry = METRICS.get(str(name).upper())
    if entry is None:
        raise RegistryError(unknown("metric", str(name), METRICS))
    return _CLASSES.get(str(name).upper()) or getattr(importlib.import_module(entry.module), entry.class_name)
