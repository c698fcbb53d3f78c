"""The checks of the self-test, by metric and title.

A check of a metric uses its real weights. A check of machinery shows, with a network of random weights or with made-up
series, that what surrounds a judge is right: shifts have the right sign, batches do not matter. It says nothing about
how well the judge sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from talkingface.evaluation.self_test import picture, sound
from talkingface.evaluation.self_test.bench import RANDOM, Bench

JUDGES = ("LSE", "EXPERT")
"""Metrics that watch lips and listen; all their figures with a direction should prefer the true sound."""
NETWORKS = ("LSE", "EXPERT", "FID", "LPIPS", "CSIM")
PLAIN = ("SSIM", "PSNR", "LMD", "MOUTH", "JITTER", "SILENCE")


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes:
        title: what is promised.
        metric: the metric it is about.
        run: returns what was found; raises `Broken`, or `Unavailable` where it cannot be tried.
        machinery: it uses made-up series or random weights.
        fallback: it is needed only where the check of the same title cannot be run on the metric's own weights.
    """

    title: str
    metric: str
    run: Callable[[Bench], str]
    machinery: bool = False
    fallback: bool = False


def all_checks() -> list[Check]:
    """Every check, in the order in which they run."""
    return [*_of_sound(), *_of_pictures(), *_of_networks()]


def _of_sound() -> list[Check]:
    own, offset = "own sound beats another clip's", "moved sound moves the offset by as much"
    return [
        Check(own, "MOUTH", partial(sound.own_sound, name="MOUTH", keys=("av_corr",))),
        *(Check(own, name, partial(sound.own_sound, name=name)) for name in JUDGES),
        *(Check(offset, name, partial(sound.offsets, name=name)) for name in JUDGES),
        *(Check(offset, name, partial(sound.echo_offsets, name=name), machinery=True) for name in JUDGES),
        Check("moved picture moves the lag by as much", "MOUTH", sound.mouth_lags),
        Check("moved sound moves the lag by as much", "MOUTH", sound.sound_lags, machinery=True),
    ]


def _of_pictures() -> list[Check]:
    same = "identical videos score best"
    return [
        *(Check(same, name, partial(picture.identical, name=name)) for name in picture.IDENTICAL),
        Check("a frozen picture has a frozen mouth", "SILENCE", picture.frozen_mouth),
        Check("a frozen picture does not tremble", "JITTER", picture.frozen_picture),
        Check("whoever ignores the audio answers it by 0", "SWAP", picture.deaf_swap),
    ]


def _of_networks() -> list[Check]:
    batch, order = "batch size does not matter", "order of clips does not matter"
    tries = partial(picture.batch_sizes, random=True)
    return [
        *(Check(batch, name, partial(picture.batch_sizes, name=name)) for name in NETWORKS),
        *(Check(batch, name, partial(tries, name=name), machinery=True, fallback=True) for name in RANDOM),
        *(Check(order, name, partial(picture.order, name=name)) for name in (*PLAIN, *NETWORKS)),
    ]
