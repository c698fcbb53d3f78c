"""Evaluation of a lip-sync expert: groups of people, figures, plots, and what is printed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from helpers.clips import write_clip
from helpers.sync_clips import make_sync_clip, people
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError
from talkingface.faces.crop import crop_face, face_boxes
from talkingface.lipsync.expert.inputs import CROP
from talkingface.lipsync.expert.scores import Sweep
from talkingface.models.syncnet.evaluator import FIGURES, SyncEvaluator
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import load_config


@pytest.fixture(scope="module")
def model(sync_run):
    return Pipeline.from_checkpoint("SyncNet", sync_run, "cpu").model


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return people(tmp_path_factory.mktemp("held"), 5, first=200)


@pytest.fixture(scope="module")
def evaluated(model, clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval")
    identity = {"model": "SyncNet", "dataset": "drawn", "checkpoint": "here"}
    evaluator = SyncEvaluator(model, strangers=clips[3:], speakers=["p200", "p201"], identity=identity, synthetic=True)
    return evaluator.run(clips[:3], out), out


def test_people_of_the_training_clips_and_strangers_are_scored_apart(evaluated):
    result, _ = evaluated
    assert {name: row.clips for name, row in result.rows.items()} == {"seen": 2, "unseen": 3}
    for row in result.rows.values():
        assert set(row.values) == set(FIGURES) and row.values["accuracy"] > 0.65
        low, high = row.intervals["two_alternative"]
        assert low <= row.values["two_alternative"] <= high


def test_rows_are_means_of_their_clips_and_hits_the_share_with_a_clear_peak_at_0(evaluated):
    result, _ = evaluated
    for row in ("seen", "unseen"):
        own = [clip for clip in result.clips if clip.row == row]
        for key in FIGURES:
            assert result.rows[row].values[key] == pytest.approx(np.mean([clip.values[key] for clip in own]))
        hits = [Sweep(np.array(clip.curves["expert"])).hit for clip in own]
        assert result.rows[row].values["sweep_hits"] == pytest.approx(np.mean(hits))


def test_the_files_hold_what_the_result_says(evaluated):
    result, out = evaluated
    content = json.loads((out / "metrics.json").read_text())
    assert content["rows"] == result.content["rows"] and content["rows"]["seen"]["clips"] == 2
    assert content["definitions"]["expert"]["negatives_from_frames"] == 5
    assert len(content["definitions"]["expert"]["sha256"]) == 64
    with (out / "per_clip.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["clip"] for line in lines] == [f"c{n}" for n in range(200, 205)]
    assert float(lines[0]["sweep_peak"]) == 0.0
    for name in ("sweep.png", "sweep_clips.png"):
        assert (out / name).read_bytes()[:4] == b"\x89PNG" and (out / name).stat().st_size > 10_000


def test_the_page_has_both_groups_of_people_and_their_offsets(evaluated, model, clips, tmp_path):
    _, out = evaluated
    page = (out / "report.html").read_text()
    for words in ("people of the training clips", "people of no training clip", "two_alternative", "expert of c200"):
        assert words in page
    for settings, quiet in ((EvaluationConfig(), True), (EvaluationConfig(html=False), False)):
        SyncEvaluator(model, settings).run(clips[:1], tmp_path, quiet=quiet)
        assert not (tmp_path / "report.html").exists()


def test_the_table_prints_accuracy_sweep_and_every_clip(evaluated):
    table = evaluated[0].table()
    assert "SyncNet on drawn; synthetic data, no evidence of model quality" in table
    assert "accuracy" in table and "two_alternative" in table
    sweep = next(line for line in table.splitlines() if line.startswith("unseen ") and line.count(".") == 15)
    at_zero = float(sweep.split()[8])
    assert at_zero == max(float(value) for value in sweep.split()[1:])
    assert sum(line.split()[1:2] == [f"c{n}"] for line in table.splitlines() if line for n in range(200, 205)) == 5


def test_a_clip_that_cannot_be_scored_is_left_out_with_the_reason(model, clips, tmp_path):
    gaps = make_sync_clip(tmp_path, "gaps", 1, gone=range(0, 60, 5), speaker="p1")
    result = SyncEvaluator(model).run([gaps, *clips[:1]], tmp_path / "eval")
    assert result.rows["unknown"].clips == 1
    reason = "fewer than two windows of 5 frames with a face and sound"
    assert result.skipped == [("unknown", "gaps", "clip", reason)] and reason in result.table()
    with pytest.raises(DataError, match="none of 1 clips could be scored"):
        SyncEvaluator(model).run([gaps], tmp_path / "none")


def test_where_other_crops_are_stored_the_faces_are_cut_from_the_video(model, tmp_path):
    clip = make_sync_clip(tmp_path, "large", 1, size=96)
    faces = clip.faces(CROP.artefact).read(range(len(clip)))
    frames = np.full((len(clip), 128, 128, 3), 40, np.uint8)
    frames[:, 16:112, 16:112] = faces
    write_clip(tmp_path / "large.mp4", list(frames))
    halves, valid = SyncEvaluator(model)._faces(ClipFolder(clip.path, tmp_path / "large.mp4"))
    halves = np.stack([*halves])
    boxes = face_boxes(clip.track().points_px, (128, 128), model.config.crop)
    expected = [crop_face(frame, box, 48)[24:] for frame, box in zip(frames, boxes, strict=True)]
    assert halves.shape == (60, 24, 48, 3) and valid.all()
    assert np.abs(halves.astype(int) - expected).mean() < 3  # the video is compressed


def test_the_limit_of_clips_holds_for_each_list(model, clips, tmp_path):
    evaluator = SyncEvaluator(model, EvaluationConfig(max_clips=1), strangers=clips[3:], speakers=["p200"])
    assert [clip.clip_id for clip in evaluator.run(clips[:3], tmp_path).clips] == ["c200", "c203"]


def test_the_configuration_tells_who_is_in_the_training_clips(sync_run, clips, tmp_path):
    for split, names in (("train", ["c200", "c201"]), ("val", ["c201"]), ("test", ["c202"]), ("unseen", ["c203"])):
        (tmp_path / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    lists = {f"{split}_filelist": str(tmp_path / f"{split}.txt") for split in ("train", "val", "test", "unseen")}
    config = load_config("SyncNet", "demo", (), {**lists, "data_root": str(tmp_path), "profile": "tiny"}).config
    evaluator = SyncEvaluator.from_config(config, Pipeline.from_checkpoint("SyncNet", sync_run, "cpu"), clips)
    assert [evaluator.group(clip) for clip in clips] == ["seen", "seen", "unseen", "unseen", "unseen"]
    assert [clip.clip_id for clip in evaluator.strangers] == ["c203"]
