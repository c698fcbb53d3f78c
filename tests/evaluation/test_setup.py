"""What an evaluation is told reaches it: configuration, region, detector, weights, metrics of plug-ins."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from helpers.toy_evaluation import ToyPipeline, evaluate, setup
from helpers.toy_faces import ToyProvider
from talkingface.config.sections import Config, EvaluationConfig, LandmarkConfig
from talkingface.errors import RegistryError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.evaluation.tracking import Tracker
from talkingface.faces.detectors import Place
from talkingface.plugin.metrics import METRICS, register_metric


def test_configuration_and_manifest_reach_the_evaluator(clips, tmp_path):
    (tmp_path / "manifest.json").write_text('{"synthetic": true}')
    settings = EvaluationConfig(ssim_variant="wang", max_clips=1, rows=("generated",))
    config = Config(
        model_name="Toy", dataset="toys", data_root=str(tmp_path), metrics=["psnr", "LSE"], evaluation=settings,
        weights_dir=str(tmp_path / "w"),
    )  # fmt: skip
    pipeline = ToyPipeline()
    pipeline.checkpoint = tmp_path / "best.pt"
    pipeline.model.inference_precision = "bf16"
    result = Evaluator.from_config(config, pipeline, clips).run(clips[2:] + clips, tmp_path / "out")
    assert result.provenance["checkpoint"].endswith("best.pt")
    assert result.content["inference_precision"] == "bf16"
    assert (result.provenance["synthetic"], result.provenance["clips"]) == (True, 1)
    assert result.definitions["psnr"]["variant"] == "skimage"
    assert str(tmp_path / "w") in result.unavailable["LSE"]


def test_the_report_says_how_many_speakers_the_training_clips_have_shown(clips, tmp_path):
    people = sorted({clip.speaker for clip in clips})
    assert len(people) > 1
    for known, told in (((), []), (people[:1], [f"1 of {len(people)} speakers are in the training clips, too"])):
        settings = dataclasses.replace(setup(("PSNR",), rows=("real",), html=False), trained_speakers=frozenset(known))
        result = Evaluator(ToyPipeline(), settings).run(clips, tmp_path / str(len(told)))
        assert [remark for remark in result.provenance["remarks"] if "speakers" in remark] == told


def test_the_training_list_says_whom_the_model_has_seen(clips, tmp_path):
    for split, clip in (("train", clips[0]), ("val", clips[1]), ("test", clips[-1])):
        (tmp_path / f"{split}.txt").write_text(clip.clip_id)
    lists = {f"{split}_filelist": str(tmp_path / f"{split}.txt") for split in ("train", "val", "test")}
    config = Config(model_name="Toy", dataset="toys", metrics=["psnr"], **lists)
    assert EvaluationSetup.from_config(config, ToyPipeline(), clips).trained_speakers == {clips[0].speaker}


@pytest.mark.parametrize("region", ["face", "mouth"])
def test_region_changes_the_main_figure(clips, tmp_path, region):
    result, _ = evaluate(clips[:1], tmp_path, ("PSNR",), rows=("generated",), region=region)
    values = result.values()
    assert (values["psnr"] == values["psnr_mouth"]) == (region == "mouth")
    assert result.definitions["psnr"]["region"] == region


def test_evaluation_while_training_is_one_row_and_finds_landmarks_once(clips, tmp_path):
    ToyProvider.calls = 0
    result, pipeline = evaluate(clips[:1], tmp_path, run={"rows": ("generated",), "quiet": True})
    assert len(pipeline.asked) == 1
    assert ToyProvider.calls == 30  # LMD and MOUTH share them, the real video's are on disk
    assert result.flat("eval/")["eval/mouth_corr"] == result.values("generated")["mouth_corr"]
    assert not (tmp_path / "samples").exists()
    assert not (tmp_path / "report.html").exists()
    assert all(math.isfinite(value) for value in result.flat().values())


class Upper(Metric):
    """Height of the highest landmark of the real video: no detector is needed for it."""

    name = "UPPER"
    uses_landmarks = True
    figures = {"upper": Figure("px", None, "height")}

    def score(self, sample):
        return {"upper": float(np.nanmin(sample.real_track().points_px[..., 1]))}


def test_the_detector_behind_prepared_landmarks_is_named_where_none_was_at_work(clips, tmp_path):
    judge = Evaluator(ToyPipeline(), setup((Upper(), "PSNR"), provider=None, rows=("real",)))
    result = judge.run(clips[:2], tmp_path, quiet=True)
    assert judge.tracker.describe() == {}
    assert result.provenance["landmarks"] == {"provider": "toy", "version": "1", "layout": "ibug68", "mode": "static"}
    assert result.definitions["upper"] == {"landmarks": "toy 1 ibug68 static"}
    assert result.definitions["psnr_mouth"]["landmarks"] == "toy 1 ibug68 static"
    assert "landmarks" not in result.definitions["psnr"]


def test_detectors_of_the_evaluation_run_on_its_device(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "talkingface.evaluation.tracking.make_provider", lambda *a, **k: asked.append(k) or ToyProvider()
    )
    settings = LandmarkConfig(provider="s3fd")
    Evaluator(None, EvaluationSetup(landmarks=settings, weights_dir="/w", device="cpu")).tracker.prepare()
    Tracker(settings, place=Place("/w", "cuda:1")).prepare()
    assert [k["place"] for k in asked] == [("/w", "cpu"), ("/w", "cuda:1")]


def test_sync_scores_go_through_the_whole_chain(clips, tmp_path):
    import torch

    from talkingface.networks.syncnet_v2 import SyncNetV2

    torch.manual_seed(0)
    torch.save(SyncNetV2().state_dict(), tmp_path / "random.model")
    options = {"rows": ("generated", "real"), "lse_checkpoint": str(tmp_path / "random.model")}
    result, _ = evaluate(clips[:1], tmp_path, ("LSE",), **options)
    assert set(result.values()) == {"lse_c", "lse_d", "av_offset"}
    assert result.clips[0].frames["lse_c"] == 25  # 30 frames: the last of 26 windows is left out
    assert result.definitions["lse"]["protocol"] == "clip"
    assert result.definitions["lse"]["weights"]["published"] is False


def test_a_plugin_metric_is_scored_like_the_others(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("talkingface.plugin.metrics.METRICS", METRICS)

    @register_metric("Frames")
    class Frames(Metric):
        """Number of frames."""

        name = "FRAMES"
        figures = {"frames": Figure("frames", None, "length")}

        def score(self, sample):
            return {"frames": sum(1 for _ in sample.pairs())}

    try:
        assert METRICS["FRAMES"].line == "Number of frames."
        result, _ = evaluate(clips, tmp_path, ("frames",), rows=("real",))
        assert result.values("real") == {"frames": pytest.approx((30 + 30 + 26) / 3)}
        with pytest.raises(RegistryError, match="already taken"):
            register_metric("PSNR")(Frames)
    finally:
        METRICS.pop("FRAMES")
