"""The best values of a stage, and when it stops waiting."""

from __future__ import annotations

import math

import pytest

from talkingface.config.sections import StageConfig
from talkingface.errors import ConfigError
from talkingface.training.best import BestSoFar


def best(**options) -> BestSoFar:
    return BestSoFar(StageConfig(name="s", kind="k", max_steps=1, **options))


def test_the_monitored_value_improves_upwards_or_downwards():
    down, up = best(), best(monitor="eval/ssim", mode="max")
    assert [down.note({"val/loss": value}) for value in (3.0, 2.0, 2.0, math.nan, 1.0)] == [1, 1, 0, 0, 1]
    assert [up.note({"eval/ssim": value}) for value in (0.1, 0.3, 0.2, math.inf)] == [1, 1, 0, 0]
    assert down.values == {"val/loss": 1.0} and up.values == {"eval/ssim": 0.3}


def test_the_lowest_highest_and_latest_of_every_other_figure_are_kept_for_the_steps():
    seen = best()
    for sync in (0.9, 0.4, math.nan, 0.6):
        seen.note({"val/loss": 1.0, "val/sync": sync, "eval/ssim": 0.5})
    assert seen.values == {"val/loss": 1.0, "val/sync": 0.4, "highest/sync": 0.9, "last/sync": 0.6}


def test_patience_counts_validations_that_do_not_improve():
    seen = best(patience=2)
    stops = []
    for value in (3.0, 4.0, 2.0, 2.0, 2.5):
        seen.note({"val/loss": value})
        stops.append(seen.out_of_patience())
    assert stops == [False, False, False, False, True] and seen.waited == 2


def test_a_validation_without_videos_neither_counts_nor_fails():
    seen = best(monitor="eval/ssim", patience=1)
    assert seen.note({"val/loss": 1.0}) is False and seen.waited == 0
    with pytest.raises(ConfigError, match="stage 's': monitor 'eval/ssim' is not among the values: eval/psnr"):
        seen.note({"eval/psnr": 30.0})
