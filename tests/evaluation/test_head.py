"""Whose head motion it is: figures that compare point by point are left out where the head goes its own way."""

from __future__ import annotations

import json

import pytest

from helpers.toy_evaluation import ToyPipeline, make_clip, setup
from talkingface.evaluation.evaluator import Evaluator


@pytest.mark.parametrize("head", ["source", "predicted", "none"])
def test_pointwise_figures_need_a_head_that_follows_the_source(tmp_path, head):
    clips = [make_clip(tmp_path / "clips", "ann", name) for name in ("one", "two")]
    pipeline = ToyPipeline()
    pipeline.model.head_follows = lambda picture: head
    result = Evaluator(pipeline, setup(("PSNR", "LMD", "MOUTH"), rows=("generated",))).run(clips, tmp_path / "out")
    assert "mouth_corr" in result.values("generated")
    assert ("psnr" in result.values("generated")) == (head == "source")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["head"] == head
    if head != "source":
        assert all("point by point" in result.unavailable[name] for name in ("PSNR", "LMD"))
        assert any("the head of the videos follows" in remark for remark in content["remarks"])
