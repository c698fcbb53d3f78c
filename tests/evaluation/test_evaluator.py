"""The evaluator on tiny clips: rows, figures, videos and the page that it leaves."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from helpers.toy_evaluation import evaluate
from helpers.toy_faces import SIZE
from talkingface.media import VideoReader, count_frames, probe, read_mark


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval")
    result, pipeline = evaluate(clips, out, samples=1)
    return out, result, pipeline


def test_rows_tell_a_model_that_follows_the_sound(whole):
    _, result, _ = whole
    generated, real, still, shuffled = (result.values(row) for row in ("generated", "real", "still", "shuffled"))
    assert generated["mouth_corr"] > 0.95
    assert generated["mouth_lag"] == 0
    assert shuffled["mouth_corr_donor"] > 0.95 > 0.5 > shuffled["mouth_corr"]
    assert generated["psnr_mouth"] > shuffled["psnr_mouth"] + 1.5
    assert generated["psnr_mouth"] > still["psnr_mouth"] + 1.5
    assert generated["m_lmd"] < shuffled["m_lmd"]
    assert real["psnr"] == pytest.approx(80.0)
    assert real["ssim"] == pytest.approx(1.0)
    assert real["mouth_corr"] == pytest.approx(1.0)
    assert real["m_lmd"] == 0.0
    assert "mouth_corr_donor" not in generated


def test_metrics_json_says_what_was_measured(whole):
    out, result, _ = whole
    report = json.loads((out / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert report == json.loads(json.dumps(result.content))
    assert report["rows"]["generated"]["clips"] == 3
    assert report["rows"]["generated"]["psnr_mouth"] == result.values()["psnr_mouth"]
    assert report["rows"]["generated"]["lse_c"] is None
    assert "weights not found" in report["unavailable"]["LSE"]["reason"]
    assert report["definitions"]["ssim"] == {"variant": "piq", "region": "frame"}
    assert report["landmarks"] == {"provider": "toy", "version": "1", "layout": "ibug68", "mode": "static"}
    assert report["synthetic"] is True
    assert (report["model"], report["dataset"], report["checkpoint"]) == ("Toy", "toys", "x.pt")
    assert report["stage_figures"] == {"toy_l1": 0.5, "toy_l1_shuffled": 1.0}
    assert set(report["definitions"]) >= {key for key, count in report["rows"]["generated"].items() if count} - {
        "clips"
    }
    assert report["definitions"]["m_lmd"] == {**report["definitions"]["lmd"], "landmarks": "toy 1 ibug68 static"}
    assert report["definitions"]["psnr_mouth"]["landmarks"] == "toy 1 ibug68 static"
    assert "landmarks" not in report["definitions"]["psnr"]
    assert report["figures"]["psnr_mouth"]["metric"] == "PSNR"
    assert report["date"] == result.date
    low, high = report["details"]["generated"]["interval95"]["psnr"]
    assert low < report["rows"]["generated"]["psnr"] < high
    assert report["interval95"]["resamples"] == 2000
    frames = report["details"]["generated"]["mean_over_frames"]["psnr"]
    lengths = np.array([30, 30, 26])
    per_clip = [c.values["psnr"] for c in result.clips if c.row == "generated"]
    assert frames == pytest.approx(np.average(per_clip, weights=lengths))
    assert result.values()["psnr"] == pytest.approx(np.mean(per_clip))


def test_references_never_include_the_target_and_the_report_says_so(whole):
    out, _, pipeline = whole
    assert ("ann/one", "ann/two") in pipeline.asked
    assert ("ann/two", "ann/one") in pipeline.asked
    references = json.loads((out / "metrics.json").read_text())["references"]
    assert references["policy"] == "other_clip"
    assert references["from_another_clip"] == 2
    assert references["from_the_same_clip"] == 1  # bob has one clip only
    assert references["reasons"] == ["no other clip of speaker bob"]


def test_table_shows_rows_units_and_reasons(whole):
    _, result, _ = whole
    table = result.table()
    assert table.splitlines()[0].startswith("Toy on toys; references from another clip")
    assert "synthetic" in table.splitlines()[0]
    assert table.splitlines()[1].split() == ["generated", "real", "still", "shuffled"]
    line = next(line for line in table.splitlines() if line.startswith("psnr_mouth"))
    assert "(piq, mouth, dB, higher is better)" in line
    assert f"{result.values('still')['psnr_mouth']:.2f}" in line
    low, high = (f"{end:.2f}" for end in result.rows["generated"].intervals["psnr_mouth"])
    assert f"{result.values()['psnr_mouth']:.2f} [{low}, {high}]" in line
    numbers = table.splitlines()[1 : [row.split()[:1] for row in table.splitlines()].index(["clips"])]
    assert len(numbers) > 15 and max(map(len, numbers)) <= 120
    assert "LSE: n/a (weights not found" in table
    assert "toy_l1_shuffled" in table


def test_per_clip_csv_has_every_row_and_clip(whole):
    out, result, _ = whole
    lines = list(csv.DictReader((out / "per_clip.csv").open()))
    assert len(lines) == 4 * 3
    first = next(line for line in lines if (line["row"], line["clip"]) == ("still", "bob/one"))
    assert int(first["frames"]) == 26
    stored = next(c for c in result.clips if (c.row, c.clip_id) == ("still", "bob/one"))
    assert float(first["psnr"]) == pytest.approx(stored.values["psnr"], rel=1e-4)
    assert first["lse_c"] == ""
    entries = json.loads((out / "per_clip.json").read_text())
    entry = next(entry for entry in entries if (entry["row"], entry["clip_id"]) == ("still", "bob/one"))
    assert entry["values"]["psnr"] == stored.values["psnr"]
    assert entry["video"] == "videos/still/bob_one.mp4"
    assert entry["frames"]["psnr"] == 26


def test_videos_are_written(whole):
    out, _, _ = whole
    info = probe(out / "samples" / "ann_one.mp4")
    assert (info.width, info.height, info.has_audio) == (3 * SIZE, SIZE + 24, True)
    assert count_frames(out / "samples" / "ann_one.mp4") == 30
    assert count_frames(out / "videos" / "shuffled" / "ann_two.mp4") == 26  # its donor is bob's shorter clip
    assert [p.name for p in sorted((out / "samples").iterdir())] == ["ann_one.mp4", "ann_one.png"]
    assert {p.name for p in (out / "videos").iterdir()} == {"generated", "still", "shuffled"}
    made = [*(out / "samples").glob("*.mp4"), *(out / "videos" / "still").glob("*.mp4")]  # the others are the toy's
    assert len(made) > 1 and all(read_mark(path) for path in made), "every one says that it is synthetic"


def test_the_page_shows_every_clip_and_why_figures_are_missing(clips, whole, tmp_path):
    out, _, _ = whole
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<video ") == 1 + 3, "the typical clip, then the best and worst"
    assert page.count("<img ") == 1 + 1, "the picture strip of the typical clip, then of all samples"
    for words in ("best 1", "worst 1", "mouth_corr", "weights not found", "toy_l1_shuffled", "toy 1 ibug68 static"):
        assert words in page
    evaluate(clips[:1], tmp_path, ("PSNR",), rows=("generated",), html=False)
    assert (tmp_path / "metrics.json").exists() and not (tmp_path / "report.html").exists()


def test_still_face_is_the_other_clips_face_in_the_true_box(clips, whole):
    out, _, _ = whole
    still = list(VideoReader(out / "videos" / "still" / "ann_one.mp4"))
    real = list(VideoReader(clips[0].video))
    mouths = [frame[40:86, 44:52].astype(int) for frame in still]
    assert max(np.abs(mouth - mouths[0]).mean() for mouth in mouths) < 3
    assert np.abs(still[5][:10].astype(int) - real[5][:10]).mean() < 2
