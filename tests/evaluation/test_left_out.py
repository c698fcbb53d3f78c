"""What an evaluation cannot make or score is left out, counted, and named with its reason."""

from __future__ import annotations

import errno
import json

import pytest

from helpers.toy_evaluation import ToyPipeline, evaluate, setup
from helpers.toy_faces import ToyProvider
from talkingface.errors import DataError, OutputError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.metric import make_metric
from talkingface.files import output_error


def test_a_clip_that_fails_is_left_out_of_every_row(clips, tmp_path):
    result, _ = evaluate(clips, tmp_path, ("PSNR",), fail=("ann/two",))
    assert [row.clips for row in result.rows.values()] == [2, 2, 2, 2]
    assert ("generated", "ann/two", "clip") in [skip[:3] for skip in result.skipped]
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert "is no good" in report["skipped"][0]["reason"]
    assert report["details"]["still"]["clips_left_out"] == {"psnr": 1, "psnr_mouth": 1}
    assert "skipped ann/two (generated, clip)" in result.table()
    with pytest.raises(DataError, match="none of 2 clips could be scored; the first: .*is no good"):
        evaluate(clips[:2], tmp_path, ("PSNR",), fail=("ann/one", "ann/two"))
    with pytest.raises(DataError, match="list of clips is empty"):
        evaluate([], tmp_path)


def test_a_metric_that_fails_on_one_clip_keeps_the_others(clips, tmp_path):
    class NoFaceInAnnTwo(ToyProvider):
        def detect(self, frame):
            return [] if frame[30, 30, 0] > 130 else super().detect(frame)

    judge = Evaluator(ToyPipeline(), setup(("LMD", "PSNR"), provider=NoFaceInAnnTwo(), rows=("generated",)))
    result = judge.run(clips, tmp_path, stage_scores=False)
    assert [(clip, what) for _, clip, what, _ in result.skipped] == [("bob/one", "LMD")]
    assert "no face found" in result.skipped[0][3]
    assert result.rows["generated"].scored["m_lmd"] == 2
    assert result.rows["generated"].scored["psnr"] == 3


def test_other_length_is_noted(clips, tmp_path):
    class Short(ToyPipeline):
        def generate_file(self, source, audio, output, progress=False):
            super().generate_file(source, type(audio)(audio.samples[: 640 * 20]), output)

    judge = Evaluator(Short(), setup(("PSNR",), rows=("generated",)))
    result = judge.run(clips[:1], tmp_path)
    assert result.clips[0].notes == ["20 frames, the real video has 30"]
    assert result.clips[0].frames["psnr"] == 20


def test_undefined_figures_are_left_out_and_counted(clips, tmp_path):
    result, _ = evaluate(clips[:2], tmp_path, ("PSNR",), rows=("real",), ssim_variant="skimage")
    assert "psnr" not in result.values("real")  # equal frames: infinite
    assert result.rows["real"].non_finite == {"psnr": 2, "psnr_mouth": 2}
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"]["real"]["psnr"] is None
    assert result.clips[0].excluded["psnr"] == 30


def test_a_metric_whose_rows_are_not_there_says_what_to_set_and_strict_does_not_mind(clips, tmp_path):
    result, _ = evaluate(clips[:1], tmp_path, ("SWAP", "PSNR"), rows=("generated", "real"), strict=True)
    reason = 'needs the rows generated and shuffled; set --evaluation.rows="[generated, shuffled, real]"'
    assert result.unavailable == {"SWAP": reason}
    assert f"SWAP: n/a ({reason})" in result.table()
    assert json.loads((tmp_path / "metrics.json").read_text())["unavailable"]["SWAP"]["reason"] == reason
    assert "needs the rows generated and shuffled" in (tmp_path / "report.html").read_text(encoding="utf-8")
    files = Evaluator(None, setup(("SWAP",)))._needed_rows(make_metric("SWAP"), ("generated",))
    assert files == "needs the rows generated and shuffled, which only a model can make that is given another voice"


def test_strict_refuses_a_missing_metric(clips, tmp_path):
    with pytest.raises(DataError, match="metric LSE is not available: weights not found"):
        evaluate(clips, tmp_path, ("LSE",), strict=True)


def test_output_that_cannot_be_written_stops_at_once(clips, tmp_path):
    class FullDisk(ToyPipeline):
        def generate_file(self, source, audio, output, progress=False):
            error = OSError(errno.ENOSPC, "no space")
            raise output_error(output, error) from error

    with pytest.raises(OutputError, match="disk is full"):
        Evaluator(FullDisk(), setup(("PSNR",))).run(clips, tmp_path)


def test_a_video_that_cannot_be_encoded_is_left_out_like_any_other(clips, tmp_path):
    class Choosy(ToyPipeline):
        def generate_file(self, source, audio, output, progress=False):
            if source.clip.clip_id == clips[0].clip_id:
                raise OutputError(f"{output}: cannot be encoded")
            super().generate_file(source, audio, output, progress)

    result = Evaluator(Choosy(), setup(("PSNR",), rows=("generated",), html=False)).run(clips, tmp_path)
    assert result.failed("generated")[0][0] == clips[0].clip_id and result.rows["generated"].clips == len(clips) - 1


def test_a_sample_that_cannot_be_drawn_costs_no_figures(clips, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ValueError("max() arg is an empty sequence")

    monkeypatch.setattr("talkingface.evaluation.report.samples.write_strip", fails)
    result, _ = evaluate(clips[:1], tmp_path, ("PSNR",), rows=("generated",), samples=1)
    assert ("samples", "ann/one", "side by side") in [skip[:3] for skip in result.skipped]
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["rows"]["generated"]["clips"] == 1 and (tmp_path / "report.html").is_file()
