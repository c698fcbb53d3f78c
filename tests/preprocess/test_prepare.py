"""Preprocessing end to end on tiny clips: what is made, what is made again, what ends with which reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import ROOT
from helpers.clips import face_frames, tone, write_clip
from helpers.notes_step import NotesStep
from helpers.preparing import ALL, FAST, item, run, steps_with
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import ClipItem
from talkingface.clips.meta import read_meta
from talkingface.config.sections import LandmarkConfig, PreprocessConfig
from talkingface.errors import ConfigError, DataError, OutputError
from talkingface.files import write_text
from talkingface.preprocess import prepare as preprocess
from talkingface.preprocess.artefacts import write_meta
from talkingface.preprocess.clip import Job
from talkingface.preprocess.outcome import Outcome
from talkingface.preprocess.prepare import worker_count
from talkingface.preprocess.report import Report

pytest.importorskip("mediapipe")


def test_good_clip_gets_every_artefact(videos, tmp_path):
    report = run([item(videos["good"])], tmp_path)
    assert report.ok_ids == ["s/1"] and report.made == 1
    clip = ClipFolder(tmp_path / "s/1")
    assert (clip.status, len(clip), clip.speaker) == ("ok", 12, "s")
    assert clip.video.samefile(videos["good"])
    track, faces = clip.track(), clip.faces()
    assert len(track) == len(faces) == 12 and track.valid.all() and not track.found[4:6].any()
    between = track.points_px[3] + (track.points_px[6] - track.points_px[3]) / 3
    np.testing.assert_allclose(track.points_px[4], between, atol=1e-3)
    assert faces[0].shape == (48, 48, 3) and (faces.meta["margin"], faces.meta["box"]) == (5.0, "frame")
    assert clip.mel().shape[0] == 80 and abs(len(clip.audio()) / 16000 - 12 / 25) < 0.1
    meta = clip.meta
    assert len(meta["source"]["sha256"]) == 64 and meta["steps"]["landmarks"]["params"]["provider"] == "mediapipe"
    assert track.provider == "mediapipe" and track.version
    assert sorted(path.name for path in clip.path.iterdir()) == sorted(
        ["audio.wav", "clip.json", "faces.bin", "faces.npz", "landmarks.npz", "mel.npy"]
    )


def test_a_record_is_not_waited_for_until_it_is_on_the_disk_and_one_that_a_power_cut_emptied_is_made_anew(
    videos, tmp_path, monkeypatch
):
    forced = []
    monkeypatch.setattr("talkingface.files._to_disk", forced.append)
    assert run([item(videos["good"])], tmp_path, FAST).ok_ids == ["s/1"]
    assert [path.suffix for path in forced] == [".wav"]
    (tmp_path / "s/1/clip.json").write_bytes(b"")
    assert run([item(videos["good"])], tmp_path, FAST).made == 1
    assert ClipFolder(tmp_path / "s/1").status == "ok" and (tmp_path / "rejections.csv").is_file()
    write_meta(tmp_path / "s/1", {"imported": "iplap"})
    assert forced[-1].suffix == ".json", "it cannot be made anew"


def test_slides_are_no_faces_however_short(slide, tmp_path):
    assert run([item(slide)], tmp_path).ok_ids == ["s/1"]
    clip = ClipFolder(tmp_path / "s/1")
    seen = np.array([k not in (4, 5) for k in range(12)])
    np.testing.assert_array_equal(clip.track().valid, seen)
    np.testing.assert_array_equal(clip.faces().valid, seen)


def as_version_1(folder, job, points=None):
    """Make a prepared clip what commit e143258 would have left: other fingerprints, gaps bridged, no `found`."""
    meta = read_meta(folder)
    landmarks, faces = (next(s for s in job.steps if s.artefact == name) for name in ("landmarks", "faces"))
    old = {**landmarks.params, "pick": "largest"}
    first = job._fingerprint(landmarks, 1, old, meta["source"], [])
    meta["steps"]["landmarks"] |= {"version": 1, "params": old, "fingerprint": first}
    meta["steps"]["faces"]["fingerprint"] = job._fingerprint(faces, 1, faces.params, meta["source"], [first])
    write_text(folder / "clip.json", json.dumps(meta))
    if points is not None:
        track = ClipFolder(folder).track()
        points(track)
        track.save(folder / "landmarks.npz")
    with np.load(folder / "faces.npz") as stored:
        kept = {name: stored[name] for name in stored.files if name != "found"}
    np.savez(folder / "faces.npz", **kept)


def bridge_all(track):
    track.points_px[~track.found], track.valid = track.points_px[0], np.ones(len(track), bool)


def see_two(track):
    track.faces_seen[:] = 2


def test_clips_of_earlier_versions_are_made_again_only_where_that_gives_something_else(videos, slide, tmp_path):
    items = [item(videos["half"], "s/1"), item(slide, "s/2"), item(videos["mute"], "s/3")]
    settings = PreprocessConfig(workers=0, max_missing=0.9)
    artefacts = ("landmarks", "faces")
    job = Job(tmp_path, tuple(steps_with(artefacts, settings)), settings, 25.0)
    run(items, tmp_path, artefacts, settings)
    for name, change in {"s/1": None, "s/2": bridge_all, "s/3": see_two}.items():
        as_version_1(tmp_path / name, job, change)
    assert ClipFolder(tmp_path / "s/1").faces().found.sum() == 3, "crops of before say so"
    report = run(items, tmp_path, artefacts, settings)
    assert [outcome.made for outcome in report.outcomes.values()] == [(), artefacts, artefacts]
    assert run(items, tmp_path, artefacts, settings).worked == 0, "what was found right is noted"
    other = PreprocessConfig(workers=0, max_missing=0.9, landmarks=LandmarkConfig(max_gap=3))
    assert run(items[:1], tmp_path, artefacts, other).outcomes["s/1"].made == artefacts


def test_fingerprints_of_sound_are_those_of_the_first_releases(tmp_path):
    settings = PreprocessConfig(workers=0)
    steps = steps_with(settings=settings)
    for step in steps:
        step.bind(SimpleNamespace(weights_dir="/elsewhere", device="cuda"))
    prints = Job(tmp_path, tuple(steps), settings, 25.0).fingerprints({"sha256": "0" * 64})
    assert prints == {  # of commit e143258: what it has prepared is not made again
        "audio": "7be89d6e3bf4d81f4c85",
        "mel": "01e238108884b2e053a0",
        "landmarks": "54d740ca5a0edd7e445b",  # of version 2; earlier ones are made again only where they differ
        "faces": "45cd6038deef8148712c",
    }


def test_every_clip_ends_with_one_status_and_its_reason(videos, tmp_path):
    report = run([item(path, f"s/{name}") for name, path in videos.items()], tmp_path)
    assert report.ok_ids == ["s/good"]
    assert report.rejected["s/faceless"].startswith("no face found in any of 6 frames; one under a twentieth")
    assert report.rejected["s/half"] == "no face in 70% of the frames (more than 50%)"
    assert report.rejected["s/mute"] == "no sound track"
    assert report.rejected["s/silent"] == "sound track is silent"
    assert set(report.failed) == {"s/broken", "s/empty", "s/missing"}
    for name in ("broken", "empty", "missing"):
        assert f"{name}.mp4" in report.failed[f"s/{name}"] and "\n" not in report.failed[f"s/{name}"]
    for clip_id, outcome in report.outcomes.items():
        meta = read_meta(tmp_path / clip_id)
        assert (meta["status"], meta["reason"]) == (outcome.status, outcome.reason)
        assert not ClipFolder(tmp_path / clip_id).has("faces") or clip_id == "s/good"
    table = report.table()
    assert "8 clips: 1 ok, 4 rejected, 3 failed" in table and "1 x sound track is silent  [s/silent]" in table


def test_second_run_does_nothing_and_does_not_read_the_video(videos, tmp_path, monkeypatch):
    items = [item(videos["good"]), item(videos["mute"], "s/2")]
    run(items, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(preprocess, "prepare_clip", lambda *_, **__: pytest.fail("nothing is to be done"))
    report = run(items, tmp_path)
    assert report.worked == 0 and report.counts == {"ok": 1, "rejected": 1, "failed": 0}
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_only_what_is_missing_or_outdated_is_made(videos, tmp_path):
    items, folder = [item(videos["good"])], tmp_path / "s/1"
    run(items, tmp_path)
    (folder / "mel.npy").unlink()
    assert run(items, tmp_path).outcomes["s/1"].made == ("mel",)
    assert run(items, tmp_path, faces={"size": 64}).outcomes["s/1"].made == ("faces",)
    assert ClipFolder(folder).faces().size == 64
    settings = PreprocessConfig(workers=0, landmarks=LandmarkConfig(max_gap=1))
    assert run(items, tmp_path, settings=settings, faces={"size": 64}).outcomes["s/1"].made == ("landmarks", "faces")
    assert ClipFolder(folder).faces().valid.sum() == 10
    forced = settings.model_copy(update={"force": True})
    assert run(items, tmp_path, settings=forced, faces={"size": 64}).outcomes["s/1"].made == ALL


def test_new_version_of_a_step_remakes_it_and_what_depends_on_it(videos, tmp_path, monkeypatch):
    items = [item(videos["good"])]
    run(items, tmp_path, ("mel", "notes"))
    monkeypatch.setattr(NotesStep, "version", 2)
    assert run(items, tmp_path, ("mel", "notes")).outcomes["s/1"].made == ("notes",)
    monkeypatch.setattr("talkingface.preprocess.steps.AudioStep.version", 7)
    assert run(items, tmp_path, ("mel", "notes")).outcomes["s/1"].made == ("audio", "mel", "notes")


def test_other_video_under_the_same_name_remakes_all_and_touched_one_nothing(videos, tmp_path):
    source = tmp_path / "clip.mp4"
    source.write_bytes(videos["good"].read_bytes())
    run([item(source)], tmp_path / "out", FAST)
    os.utime(source, ns=(1, 1))
    assert run([item(source)], tmp_path / "out", FAST).outcomes["s/1"].made == ()
    source.write_bytes(videos["silent"].read_bytes())
    assert run([item(source)], tmp_path / "out", FAST).rejected == {"s/1": "sound track is silent"}
    write_clip(source, face_frames(7))
    assert run([item(source)], tmp_path / "out", FAST).outcomes["s/1"].made == FAST


def test_another_variant_lies_beside_the_first(videos, tmp_path):
    run([item(videos["good"])], tmp_path)
    variant = {"faces@small": {"size": 32, "storage": "npy"}}
    assert run([item(videos["good"])], tmp_path, (*ALL, "faces@small"), **variant).outcomes["s/1"].made == (
        "faces@small",
    )
    clip = ClipFolder(tmp_path / "s/1")
    assert clip.faces().size == 48 and clip.faces("faces@small")[0].shape == (32, 32, 3)


def test_rejected_clip_is_tried_again_only_when_the_limit_changes(videos, tmp_path):
    items = [item(videos["half"])]
    assert run(items, tmp_path).rejected
    assert run(items, tmp_path).worked == 0
    report = run(items, tmp_path, settings=PreprocessConfig(workers=0, max_missing=0.8))
    assert report.ok_ids == ["s/1"]


def test_error_in_the_middle_leaves_nothing_half_made_and_others_go_on(videos, tmp_path, monkeypatch):
    items = [item(videos["good"], f"s/{k}") for k in range(3)]
    report = run(items, tmp_path, ("notes",), notes={"fail_on": "s/1"})
    assert report.ok_ids == ["s/0", "s/2"]
    assert report.failed == {"s/1": "RuntimeError: the middle of it"}
    assert sorted(path.name for path in (tmp_path / "s/1").iterdir()) == ["audio.wav", "clip.json"]
    assert run(items, tmp_path, ("notes",)).outcomes["s/1"].made == ("notes",), "a failed clip is tried again"

    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(NotesStep, "run", cut)
    with pytest.raises(KeyboardInterrupt):
        run(items, tmp_path, ("notes",), notes={"text": "new"})
    assert sorted(path.name for path in (tmp_path / "s/0").iterdir()) == ["audio.wav", "clip.json", "notes.npy"]
    assert not ClipFolder(tmp_path / "s/0").has("notes"), "no record vouches for what was being replaced"


def test_sound_may_lie_in_a_file_of_its_own(videos, tmp_path):
    from talkingface.media import write_wav

    write_wav(tmp_path / "own.wav", tone(0.5, 440.0))
    source = ClipItem("s/1", videos["mute"], "s", tmp_path / "own.wav")
    assert run([source], tmp_path / "out", FAST).ok_ids == ["s/1"]
    assert len(ClipFolder(tmp_path / "out/s/1").audio()) == 8000
    write_wav(tmp_path / "own.wav", tone(0.6, 440.0))
    assert run([source], tmp_path / "out", FAST).outcomes["s/1"].made == FAST


def test_video_is_decoded_once_for_all_steps(videos, tmp_path, monkeypatch):
    from talkingface import media

    passes = []
    iterate = media.VideoReader.__iter__

    def counted(reader):
        passes.append(reader.with_audio)
        return iterate(reader)

    monkeypatch.setattr(media.VideoReader, "__iter__", counted)
    monkeypatch.setattr(media, "read_audio", None)
    assert run([item(videos["good"])], tmp_path).ok_ids == ["s/1"]
    assert passes == [True]


def test_long_videos_are_decoded_again_instead_of_kept(videos, tmp_path, monkeypatch):
    monkeypatch.setattr("talkingface.preprocess.step.CACHE_BYTES", 1)
    run([item(videos["good"])], tmp_path / "a")
    monkeypatch.undo()
    run([item(videos["good"])], tmp_path / "b")
    first, second = ClipFolder(tmp_path / "a/s/1"), ClipFolder(tmp_path / "b/s/1")
    np.testing.assert_array_equal(first.faces()[3], second.faces()[3])
    np.testing.assert_allclose(first.audio(), second.audio(), atol=1e-4)


def test_workers_share_the_memory_for_decoded_frames():
    from talkingface.preprocess.prepare import cache_budget

    assert cache_budget(0) == cache_budget(2) == 768 * 2**20
    assert 16 * cache_budget(16) <= 3 * 2**30


def test_missing_detector_and_unwritable_folder_end_the_run(videos, tmp_path):
    settings = PreprocessConfig(workers=0, landmarks=LandmarkConfig(provider="mediapipe_tasks", model_path="no.task"))
    with pytest.raises(DataError, match=r"no\.task: landmark provider"):
        run([item(videos["good"])], tmp_path, settings=settings)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run([item(videos["good"])], tmp_path / "file")


def test_full_disk_ends_the_run_with_one_line(videos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(NotesStep, "run", full)
    with pytest.raises(OutputError, match="disk is full"):
        run([item(videos["good"])], tmp_path, ("notes",))
    assert not list(tmp_path.rglob(".making*"))


def test_plan_adds_needs_and_refuses_unknown_names():
    assert [step.artefact for step in steps_with(("faces", "mel"))] == ["landmarks", "faces", "audio", "mel"]
    with pytest.raises(ConfigError, match="no preprocessing step makes 'hair'; known: audio, mel, landmarks, faces"):
        steps_with(("hair",))
    with pytest.raises(ConfigError, match="step 'faces' has no parameter sise; it has: size"):
        steps_with(("faces",), faces={"sise": 3})


def test_a_plan_without_filter_sync_needs_no_torch():
    code = (
        "import sys\n"
        "from talkingface.config.sections import PreprocessConfig\n"
        "from talkingface.preprocess.plan import plan_steps\n"
        "plan_steps(['faces', 'mel'], {}, PreprocessConfig())\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_artefact_that_readers_refuse_is_made_again(videos, tmp_path):
    run([item(videos["good"])], tmp_path / "here", FAST)
    mel = tmp_path / "here/s/1/mel.npy"
    mel.rename(tmp_path / "mel.npy")
    mel.symlink_to(tmp_path / "mel.npy")
    assert not ClipFolder(mel.parent).has("mel"), "a link out of the folder"
    assert run([item(videos["good"])], tmp_path / "here", FAST).worked == 1
    assert not mel.is_symlink() and ClipFolder(mel.parent).has("mel") and (tmp_path / "mel.npy").is_file()


def test_workers_follow_the_setting_and_the_number_of_clips():
    assert worker_count(8, 3) == 3 and worker_count(0, 100) == 0 and worker_count(None, 0) == 0
    assert worker_count(None, 3) == 1, "a process of its own"
    assert worker_count(None, 10**6) >= 1


def test_meta_is_plain_json(videos, tmp_path):
    run([item(videos["good"])], tmp_path, FAST)
    assert json.loads((tmp_path / "s/1/clip.json").read_text())["format"] == 1


def test_clips_with_two_people_are_counted_in_the_table():
    report = Report()
    for name, facts in {"a": {"two_faces": 0.9}, "b": {}, "c": {"two_faces": 0.2}}.items():
        report.add(Outcome(name, "ok", facts={"landmarks": facts}))
    assert "two faces of like size in 2 clips" in report.table() and "[a, c]" in report.table()


def test_this_process_computes_with_one_thread_like_a_worker_and_then_as_before(videos, tmp_path, monkeypatch):
    """Networks give other last bits with other numbers of threads, and what is stored is not to depend on them."""
    seen, before, original = [], torch.get_num_threads(), NotesStep.run

    def counting(self, ctx):
        seen.append(torch.get_num_threads())
        return original(self, ctx)

    monkeypatch.setattr(NotesStep, "run", counting)
    torch.set_num_threads(2)
    try:
        run([item(videos["good"])], tmp_path, ("notes",), PreprocessConfig(workers=0))
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
