"""Metrics by name: where each lives, what it says in one line, and whether it is computed where nobody names any.

Reading this table loads no metric: the module of one is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from talkingface.errors import RegistryError, unknown
from talkingface.plugin.registry import load_plugins


class MetricEntry(NamedTuple):
    """A metric that can be named.

    Attributes:
        module: where its class lives.
        class_name: the class.
        line: what it says.
        default: whether it is computed unless the configuration names others.
    """

    module: str
    class_name: str
    line: str
    default: bool = False


def _ours(module: str, class_name: str, line: str, default: bool = True) -> MetricEntry:
    return MetricEntry(f"talkingface.evaluation.metrics.{module}", class_name, line, default)


METRICS: dict[str, MetricEntry] = {
    "SSIM": _ours("image", "SSIM", "structural similarity to the real video: frame or region, and mouth"),
    "PSNR": _ours("image", "PSNR", "peak signal-to-noise ratio to the real video: likewise"),
    "LPIPS": _ours("lpips", "LPIPS", "perceptual distance to the real frames (needs AlexNet or VGG16)"),
    "FID": _ours("fid", "FID", "Frechet distance of Inception features (needs the published Inception)"),
    "CSIM": _ours(
        "csim", "CSIM", "likeness of the person: cosine of ArcFace embeddings (needs ArcFace)", default=False
    ),
    "LMD": _ours("lmd", "LMD", "distances of facial landmarks to those of the real frames"),
    "LANDMARKS": _ours(
        "landmark_motion",
        "LandmarkMotion",
        "landmark figures of papers: aligned lips and jaw, velocities, mouth area, turn and place of the head",
        default=False,
    ),
    "MOUTH": _ours("mouth", "Mouth", "mouth opening: correlation with the truth, lag behind the sound"),
    "JITTER": _ours(
        "jitter", "Jitter", "trembling: second difference of landmarks, of lips alone, of pixels off the mouth"
    ),
    "SILENCE": _ours("silence", "Silence", "motion of the mouth while nobody speaks"),
    "SWAP": _ours("swap", "AudioSwap", "whether the mouth changes when only the audio changes"),
    "LSE": _ours("lse", "LSE", "lip-sync error: LSE-C, LSE-D and offset (needs the public SyncNet weights)"),
    "EXPERT": _ours("expert_sync", "ExpertSync", "agreement of lips and sound in the eyes of a trained expert"),
}
"""In the order in which figures are reported."""

_CLASSES: dict[str, type[Any]] = {}
"""Of plug-ins, which register the class itself."""


def default_metrics() -> list[str]:
    """Names of the metrics that are computed where the configuration names none."""
    return [name for name, entry in METRICS.items() if entry.default]


def register_metric(name: str) -> Callable[[type[Any]], type[Any]]:
    """Class decorator for plug-ins: make a metric known under `name`; its one line is the docstring's first.

    Raises:
        RegistryError: the name is taken by another metric.
    """

    def decorate(cls: type[Any]) -> type[Any]:
        taken = METRICS.get(name.upper())
        if taken is not None and (taken.module, taken.class_name) != (cls.__module__, cls.__qualname__):
            raise RegistryError(f"metric name '{name}' is already taken by {taken.module}")
        line = (cls.__doc__ or "").strip().split("\n")[0]
        METRICS[name.upper()] = MetricEntry(cls.__module__, cls.__qualname__, line)
        _CLASSES[name.upper()] = cls
        return cls

    return decorate


def metric_class(name: str) -> type[Any]:
    """The class of a metric, from its name in any case.

    Raises:
        RegistryError: unknown name; the message lists the names and the closest.
    """
    load_plugins()  # one of them may bring it
    entry = METRICS.get(str(name).upper())
    if entry is None:
        raise RegistryError(unknown("metric", str(name), METRICS))
    return _CLASSES.get(str(name).upper()) or getattr(importlib.import_module(entry.module), entry.class_name)
