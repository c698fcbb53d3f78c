"""Whose audio and whose references a clip gets, and at which rate it is scored."""

from __future__ import annotations

import json

import pytest

from helpers.toy_evaluation import evaluate, make_clip
from talkingface.media import probe


@pytest.fixture(scope="module")
def fast_clips(tmp_path_factory):
    """Clips prepared at 32 fps: 500 samples to the frame."""
    root = tmp_path_factory.mktemp("fast")
    return [make_clip(root, "ann", name, frames=38, fps=32.0) for name in ("one", "two")]


def test_clips_are_generated_and_scored_at_their_own_rate(fast_clips, tmp_path):
    import torch

    from talkingface.networks.syncnet_v2 import SyncNetV2

    torch.manual_seed(0)
    torch.save(SyncNetV2().state_dict(), tmp_path / "random.model")
    options = {"lse_checkpoint": str(tmp_path / "random.model"), "samples": 1}
    result, _ = evaluate(fast_clips, tmp_path, ("PSNR", "LMD", "MOUTH", "LSE"), **options)
    assert result.skipped == []
    for row in ("generated", "real", "still", "shuffled"):
        scores = [clip for clip in result.clips if clip.row == row]
        assert [clip.frames["psnr"] for clip in scores] == [38, 38]
        assert [clip.notes for clip in scores] == [["LSE: resampled from 32.00 to 25 fps"]] * 2
        assert [clip.frames["lse_c"] for clip in scores] == [24, 24]  # 38 frames at 32 fps are 29 audio frames
    generated = result.values()
    assert generated["mouth_corr"] > 0.95 and generated["mouth_lag"] == 0
    assert result.values("real")["mouth_corr"] == pytest.approx(1.0)
    assert result.values("shuffled")["mouth_corr_donor"] > 0.95
    for video in (*(tmp_path / "videos").rglob("*.mp4"), tmp_path / "samples" / "ann_one.mp4"):
        assert probe(video).fps == pytest.approx(32, abs=0.01), video
    assert result.provenance["fps"] == 32


def test_references_of_another_rate_serve_and_donors_do_not(clips, fast_clips, tmp_path):
    chosen = [clips[0], fast_clips[1]]  # one speaker, so each is the other's reference
    result, pipeline = evaluate(chosen, tmp_path, ("PSNR", "MOUTH"))
    assert [row.clips for row in result.rows.values()] == [2, 2, 2, 0]
    assert pipeline.asked == [("ann/one", "ann/two"), ("ann/two", "ann/one")]
    assert {reason for row, _, _, reason in result.skipped} == {
        "no other clip of 25 fps to lend its audio",
        "no other clip of 32 fps to lend its audio",
    }
    assert result.provenance["fps"] == [25, 32]


def test_a_lone_clip_gets_its_donor_from_the_pool_and_the_report_says_so(clips, tmp_path):
    result, _ = evaluate(clips[:1], tmp_path, ("MOUTH",), rows=("generated", "shuffled"), pool=clips)
    assert result.values("shuffled")["mouth_corr_donor"] > 0.95
    assert result.stage_figures == {"toy_l1": 0.5, "toy_l1_shuffled": 1.0}
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["donors"] == {"ann/one": "bob/one"}, "another speaker is preferred"
    assert report["donors_from_outside_the_list"] == ["bob/one"]


def test_the_shuffled_row_says_how_the_mouth_answers_another_audio(clips, tmp_path):
    result, _ = evaluate(clips, tmp_path, ("SWAP",))
    answered = result.values("shuffled")
    assert answered["swap_opening"] == pytest.approx(1.0, abs=0.1)
    assert answered["swap_mouth"] > 10 > 1 > answered["swap_rest"]
    assert [result.values(row) for row in ("generated", "real", "still")] == [{}, {}, {}]
    assert result.skipped == []
    assert evaluate(clips, tmp_path, ("SWAP",), rows=("shuffled",))[0].values("shuffled") == {}
