"""The bootstrap interval, against scipy and against what an interval promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from talkingface.config.sections import EvaluationConfig
from talkingface.evaluation import bootstrap
from talkingface.evaluation.bootstrap import mean_interval
from talkingface.evaluation.metric import Figure, Metric


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_it_is_the_percentile_interval_of_scipy(level):
    values = np.random.default_rng(1).gamma(2.0, size=23)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, confidence_level=level, method="percentile", random_state=3
    ).confidence_interval
    ours = mean_interval(values, 4000, level)
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


def test_it_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    samples = rng.normal(5.0, 2.0, (400, 40))
    inside = [low <= 5.0 <= high for low, high in (mean_interval(sample, 400) for sample in samples)]
    assert 0.91 <= np.mean(inside) <= 0.975  # 0.94 expected of 40 values, 0.012 standard error


def test_the_same_values_give_the_same_interval_however_much_fits_into_memory(monkeypatch):
    values = np.random.default_rng(4).normal(size=50)
    whole = mean_interval(values, 500)
    assert mean_interval(list(values), 500) == whole
    monkeypatch.setattr(bootstrap, "_CHUNK", 50 * 64)  # an odd share of the draws at a time
    assert mean_interval(values, 500) == pytest.approx(whole, abs=1e-12)


def test_too_few_values_and_no_resamples_give_none():
    assert mean_interval([], 100) is None
    assert mean_interval([1.0], 100) is None
    assert mean_interval([1.0, np.nan, np.inf], 100) is None
    assert mean_interval([1.0, 2.0], 0) is None
    assert mean_interval([1.0, np.nan, 2.0], 1000) == (1.0, 2.0)
    assert mean_interval([3.0, 3.0], 100) == (3.0, 3.0)


class Toy(Metric):
    """Hands out what it is given; one figure is of the whole set."""

    name = "TOY"
    figures = {"a": Figure("", True, "per clip"), "whole": Figure("", False, "of the set")}

    def score(self, sample):
        return {"a": sample}

    def compute(self):
        return {**super().compute(), "whole": 7.0}


def test_a_metric_has_intervals_of_the_figures_that_clips_have():
    metric = Toy(EvaluationConfig(bootstrap=300))
    for value in (1.0, 2.0, np.nan, 4.0):
        metric._clips.append((metric.score(value), {}))
    assert metric.compute().keys() == {"a", "whole"}
    assert metric.intervals() == {"a": mean_interval([1.0, 2.0, 4.0], 300)}
    assert Toy(EvaluationConfig(bootstrap=0)).intervals() == {}


def test_every_figure_has_a_definition_and_shares_what_the_metric_says():
    class Defined(Toy):
        def definition(self):
            return {"toy": {"weights": "w", "region": "frame"}, "a": {"region": "mouth"}}

    definitions = Defined(EvaluationConfig()).definitions()
    assert definitions["a"] == {"weights": "w", "region": "mouth"}
    assert definitions["whole"] == definitions["toy"] == {"weights": "w", "region": "frame"}
