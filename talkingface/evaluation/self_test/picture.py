"""Checks of the self-test that copy or freeze pictures, and those of batches and orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from talkingface.errors import Unavailable
from talkingface.evaluation.metric import Metric
from talkingface.evaluation.metrics.silence import Silence
from talkingface.evaluation.metrics.swap import AudioSwap
from talkingface.evaluation.sample import EvalSample
from talkingface.evaluation.self_test.bench import Bench, Broken, score
from talkingface.media import SAMPLE_RATE, samples_of

if TYPE_CHECKING:
    from talkingface.evaluation.folders import FileClip

SLOW = ("LSE", "FID", "CSIM")
"""Metrics whose networks take their time: a few frames must do."""
VARIANTS = ("piq", "gray224", "skimage", "wang")
BATCHES = (1, 3, 8)
TOLERANCE = 1e-3
"""Relative difference that float32 sums in another order may make; a lost or doubled frame makes more."""


def _clips(bench: Bench, name: str) -> list[FileClip]:
    return bench.bits if name in SLOW else bench.pieces


def identical(bench: Bench, name: str) -> str:
    """Figures of a video compared with a copy of itself."""
    expected, tolerance, variants = IDENTICAL[name]
    clip = _clips(bench, name)[0]
    for settings in variants:
        metric = bench.metric(name, **settings)
        values = metric.update(bench.sample(clip, bench.copy(clip)))
        values |= metric.compute()  # a figure of the whole set exists only there
        wanted = {key: want for key in metric.figures if (want := expected(key, settings)) is not None}
        if not wanted.keys() & values.keys():
            raise Broken(f"no value of {', '.join(wanted)} {settings or ''}")
        for key, want in wanted.items():
            if key not in values:
                continue
            found = values[key]
            if not (abs(found - want) <= tolerance or (math.isnan(want) and not math.isfinite(found))):
                raise Broken(f"{key} is {found:.9g}, expected {want:g} {settings or ''}")
    names = [str(next(iter(settings.values()))) for settings in variants if settings]
    return ", ".join(names) or "as expected"


def _ssim(key: str, settings: dict[str, str]) -> float:
    return 1.0


def _psnr(key: str, settings: dict[str, str]) -> float:
    return 80.0 if settings["ssim_variant"] == "piq" else math.nan  # infinite in every frame, so left out of the mean


def _zero(key: str, settings: dict[str, str]) -> float:
    return 0.0


def _csim(key: str, settings: dict[str, str]) -> float:
    return 1.0


def _mouth(key: str, settings: dict[str, str]) -> float | None:
    return {"mouth_corr": 1.0, "mouth_lag": 0.0}.get(key)


_EACH = [{"ssim_variant": variant} for variant in VARIANTS]
IDENTICAL: dict[str, tuple[Callable[[str, dict[str, str]], float | None], float, list[dict[str, str]]]] = {
    "SSIM": (_ssim, 1e-6, _EACH),
    "PSNR": (_psnr, 1e-4, _EACH),
    "LMD": (_zero, 0.0, [{}]),
    "MOUTH": (_mouth, 1e-9, [{}]),
    "LPIPS": (_zero, 1e-6, [{}]),
    "CSIM": (_csim, 1e-5, [{"csim_aggregation": "aligned"}]),  # over all pairs of frames nothing is 1
    "FID": (_zero, 1e-2, [{}]),
}
"""Metric -> its value for identical videos by figure and settings (None: not told, NaN: undefined), tolerance, settings
to try."""


def batch_sizes(bench: Bench, name: str, random: bool = False) -> str:
    """Figures of a few frames with different batch sizes."""
    make = bench.random if random else bench.metric
    found = [_means(make(name, batch=batch), bench, _clips(bench, name)[:1]) for batch in BATCHES]
    if not found[0]:
        raise Unavailable("undefined on these clips")
    worst = max(_difference(found[0], other) for other in found[1:])
    if worst > TOLERANCE:
        raise Broken(f"figures differ by up to {worst:.2g} of their size between batches of {BATCHES}")
    return f"batches of {', '.join(map(str, BATCHES))}: {worst:.1g} of the value at most"


def _means(metric: Metric, bench: Bench, clips: Iterable[FileClip]) -> dict[str, float]:
    for clip in clips:
        metric.update(bench.sample(clip, bench.still(clip)))
    return metric.compute()


def _difference(first: dict[str, float], second: dict[str, float]) -> float:
    """Largest difference between two results, relative to the value."""
    if first.keys() != second.keys():
        raise Broken(f"figures {sorted(first.keys() ^ second.keys())} are only sometimes there")
    return max((abs(first[key] - second[key]) / max(abs(first[key]), 1e-9) for key in first), default=0.0)


def order(bench: Bench, name: str) -> str:
    """Means over the pieces in two orders."""
    clips = _clips(bench, name)
    there = _means(bench.metric(name), bench, clips)
    back = _means(bench.metric(name), bench, clips[::-1])
    if not there:
        raise Unavailable("undefined on these clips")
    worst = _difference(there, back)
    if worst > TOLERANCE:
        raise Broken(f"means differ by up to {worst:.2g} of their size")
    return f"{len(there)} figures, {len(clips)} clips"


def _frozen_sample(bench: Bench) -> EvalSample:
    """A still picture of 40 frames, with half a second of sound and then silence."""
    clip = bench.pieces[0]
    video = bench.frozen(clip, 40)
    audio = np.zeros(samples_of(40, clip.fps), np.float32)
    spoken = SAMPLE_RATE // 2
    audio[:spoken] = clip.audio()[:spoken]
    return replace(bench.sample(clip, audio=lambda: audio, reference_track=None), generated=video, reference=video)


def frozen_mouth(bench: Bench) -> str:
    """Motion of the mouth in a still picture, in silence and over all frames."""
    sample = _frozen_sample(bench)
    motion = score(Silence(bench.settings), sample)["silence_motion"]
    whole = float(np.ptp(sample.generated_track().opening()))
    if motion != 0.0 or whole != 0.0:
        raise Broken(f"silence_motion {motion:.3g}, range of the opening {whole:.3g}")
    return f"{sample.frames['silence_motion']} pairs of silent frames"


def frozen_picture(bench: Bench) -> str:
    """Trembling of a still picture."""
    values = score(bench.metric("JITTER"), _frozen_sample(bench))
    if any(value != 0.0 for value in values.values()):
        raise Broken(", ".join(f"{key} {value:.3g}" for key, value in values.items()))
    return ", ".join(values)


def deaf_swap(bench: Bench) -> str:
    """Answer of a system that makes the same video whatever it hears."""
    clip, donor = bench.pieces[:2]
    sample = bench.sample(clip, bench.still(clip), counterpart=bench.still(clip), donor_track=donor.track)
    values = score(AudioSwap(bench.settings), sample)
    if any(value != 0.0 for value in values.values()):
        raise Broken(", ".join(f"{key} {value:.3g}" for key, value in values.items()))
    return ", ".join(values)
