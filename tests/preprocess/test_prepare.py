"""Preprocessing end to end on tiny clips: statuses, provenance, atomicity, processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import ROOT
from helpers.clips import face_frames, tone, write_clip
from helpers.notes_step import NotesStep
from talkingface.cli.commands import main
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import ClipItem
from talkingface.clips.meta import read_meta
from talkingface.config.sections import LandmarkConfig, PreprocessConfig
from talkingface.errors import ConfigError, DataError, OutputError
from talkingface.faces.landmark_file import write_landmarks
from talkingface.files import write_text
from talkingface.models.syncnet.model import SyncNet, SyncNetConfig
from talkingface.preprocess import prepare as preprocess
from talkingface.preprocess.at_work import NOTE, at_work, deaths
from talkingface.preprocess.clip import Job, record_crash
from talkingface.preprocess.outcome import Outcome
from talkingface.preprocess.plan import named_artefacts, plan_steps
from talkingface.preprocess.prepare import Preprocessor, ensure, worker_count
from talkingface.preprocess.report import Report
from talkingface.workers import WorkerDied

pytest.importorskip("mediapipe")
ALL = ("audio", "mel", "landmarks", "faces")
FAST = ("audio", "mel")


def steps_with(artefacts=ALL, settings=None, **overrides):
    return plan_steps(artefacts, {"faces": {"size": 48}, **overrides}, settings or PreprocessConfig(workers=0))


def run(items, root, artefacts=ALL, settings=None, **overrides):
    settings = settings or PreprocessConfig(workers=0)
    return Preprocessor(steps_with(artefacts, settings, **overrides), settings, root, progress=False).run(items)


def item(path: Path, name: str = "s/1") -> ClipItem:
    return ClipItem(name, path, name.split("/")[0])


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    """A face, then a picture without one, then the face again."""
    return write_clip(tmp_path_factory.mktemp("slide") / "slide.mp4", face_frames(12, blank=(4, 5)))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """One video of each kind."""
    root = tmp_path_factory.mktemp("videos")
    (root / "broken.mp4").write_bytes(b"not a video" * 50)
    (root / "empty.mp4").write_bytes(b"")
    return {
        "good": write_clip(root / "good.mp4", face_frames(12, blurred=(4, 5))),
        "faceless": write_clip(root / "faceless.mp4", face_frames(6, blank=tuple(range(6)))),
        "half": write_clip(root / "half.mp4", face_frames(10, blank=tuple(range(3, 10)))),
        "mute": write_clip(root / "mute.mp4", face_frames(6), audio=None),
        "silent": write_clip(root / "silent.mp4", face_frames(6), audio=np.zeros(16000 // 4, np.float32)),
        "broken": root / "broken.mp4",
        "empty": root / "empty.mp4",
        "missing": root / "missing.mp4",
    }


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


def test_detectors_look_for_their_weights_in_weights_dir(videos, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.copy(videos["good"], tmp_path / "data/a.mp4")
    boxes = PreprocessConfig(workers=0, landmarks=LandmarkConfig(provider="s3fd"))
    with pytest.raises(DataError, match=f"{tmp_path}/weights/s3fd"):
        ensure(settings_for(tmp_path, preprocess=boxes, weights_dir=f"{tmp_path}/weights"), Model, artefacts=ALL)


def test_a_landmark_file_beside_the_video_is_used_instead_of_a_detector(videos, tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(videos["good"], data / "a.mp4")
    config = settings_for(tmp_path)
    ensure(config, Model, artefacts=ALL)
    detected = ClipFolder(tmp_path / "prepared/a").track()
    write_landmarks(detected, data / "a.landmarks.csv")
    monkeypatch.setattr("talkingface.preprocess.steps.make_provider", lambda *_: pytest.fail("nothing is detected"))
    report = ensure(config, Model, artefacts=ALL)
    assert report.outcomes["a"].made == ("landmarks", "faces"), "sound and spectrogram stay"
    assert report.outcomes["a"].facts["landmarks"] == {"file": "a.landmarks.csv"}
    clip = ClipFolder(tmp_path / "prepared/a")
    np.testing.assert_array_equal(clip.track().points_px[detected.found], detected.points_px[detected.found])
    assert clip.track().provider == "file" and len(clip.meta["source"]["landmarks_sha256"]) == 64
    assert ensure(config, Model, artefacts=ALL).worked == 0
    moved = replace(detected, points_px=detected.points_px + 5)
    write_landmarks(moved, data / "a.landmarks.csv")
    assert ensure(config, Model, artefacts=ALL).outcomes["a"].made == ("landmarks", "faces"), "another file is noticed"
    np.testing.assert_allclose(ClipFolder(clip.path).track().points_px, moved.points_px, atol=1e-4)
    (data / "a.landmarks.csv").write_text("frame,x_0\n")
    with pytest.raises(DataError, match=r"a\.landmarks\.csv: has 1 columns x_0"):
        ensure(config, Model, artefacts=ALL)


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


def test_processes_give_the_same_and_survive_crashes_which_a_restart_passes_over(videos, tmp_path, caplog):
    names = ["s/0", "s/1", "s/2", "s/3"]
    settings = PreprocessConfig(workers=2)
    items, crash = [item(videos["good"], name) for name in names], {"die_on": "s/1"}
    report = run(items, tmp_path / "two", ("mel", "notes"), settings, notes=crash)
    assert report.ok_ids == ["s/0", "s/2", "s/3"] and list(report.outcomes) == names
    assert "the process that worked on this clip died, every time" in report.failed["s/1"]
    assert read_meta(tmp_path / "two/s/1")["status"] == "failed" and not (tmp_path / "two/s/1" / NOTE).exists()
    run(items[:1], tmp_path / "one", FAST)
    np.testing.assert_array_equal(ClipFolder(tmp_path / "one/s/0").mel(), ClipFolder(tmp_path / "two/s/3").mel())

    caplog.clear()
    again = run(items, tmp_path / "two", ("mel", "notes"), settings, notes=crash)
    assert again.worked == 0 and set(again.failed) == {"s/1"}
    assert "1 clips are passed over, whose work ended its process in an earlier run (s/1)" in caplog.text
    here = PreprocessConfig(workers=0)
    other = run(items[:2], tmp_path / "two", ("mel", "notes"), here, notes={"text": "other"})
    assert other.ok_ids == names[:2], "something else is to be made"
    record_crash(items[1], Preprocessor(steps_with(FAST), here, tmp_path / "two").job)
    assert run(items[:2], tmp_path / "two", FAST, here).worked == 0
    once_more = here.model_copy(update={"retry_crashed": True})
    assert run(items[:2], tmp_path / "two", FAST, once_more).ok_ids == names[:2]


SCRIPT = """
import os, sys
from pathlib import Path
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.outcome import Outcome
from talkingface.preprocess.report import Report
from talkingface.preprocess.prepare import Preprocessor
from talkingface.preprocess.step import Step, register_step


@register_step("boom")
class Boom(Step):
    def run(self, ctx):
        if ctx.item.clip_id == "b":
            os.abort()
        return []


def main():
    settings = PreprocessConfig(workers={workers})
    items = [ClipItem(name, Path(sys.argv[1])) for name in "abc"]
    report = Preprocessor([Boom("boom", {}, settings)], settings, sys.argv[2], progress=False).run(items)
    print(*report.ok_ids, *report.failed)


{guard}main()
"""


def in_a_script(folder, video, workers, guard='if __name__ == "__main__":\n    '):
    (folder / "script.py").write_text(SCRIPT.replace("{workers}", workers).replace("{guard}", guard))
    command = [sys.executable, "script.py", str(video), str(folder / "out")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_a_crash_that_ends_the_command_is_passed_over_by_the_next_one(videos, tmp_path):
    assert in_a_script(tmp_path, videos["good"], "0").returncode == -signal.SIGABRT
    assert deaths(tmp_path / "out/a") == 0 and deaths(tmp_path / "out/b") == 1
    done = in_a_script(tmp_path, videos["good"], "0")
    assert (done.returncode, done.stdout.split()) == (0, ["a", "c", "b"])
    assert "every time" in read_meta(tmp_path / "out/b")["reason"]


@pytest.mark.slow
def test_a_script_that_each_process_would_run_again_does_the_work_itself(videos, tmp_path):
    done = in_a_script(tmp_path, videos["good"], "None", guard="")
    assert done.returncode == -signal.SIGABRT, "clip b, in the process of the script"
    assert "no worker process can be started here, so this process does the work" in done.stderr
    assert ClipFolder(tmp_path / "out/a").status == "ok" and deaths(tmp_path / "out/b") == 1


def test_a_clip_that_was_at_work_when_somebody_killed_the_command_is_simply_made(videos, tmp_path, monkeypatch):
    with at_work(tmp_path / "s/1"):
        assert deaths(tmp_path / "s/1") == 0, "at work is not dead"
    (tmp_path / "s/1" / NOTE).write_text("1\n")
    assert deaths(tmp_path / "s/1") == 1
    began = called_here(monkeypatch)
    assert run([item(videos["good"]), item(videos["good"], "s/2")], tmp_path, FAST).ok_ids == ["s/1", "s/2"]
    assert began == ["s/1"], "in a process of its own, the other one in this"
    assert deaths(tmp_path / "s/1") == 0 and not (tmp_path / "s/1" / NOTE).exists()
    (tmp_path / "s/3").mkdir()
    (tmp_path / "s/3" / NOTE).write_text("2\n")
    report = run([item(videos["good"], "s/3")], tmp_path, FAST)
    assert "passed over" in report.failed["s/3"]


def called_here(monkeypatch):
    """Worker processes replaced by calls; returns the names of what they are given."""
    given = []

    def calls(work, items, workers, began):
        for each in items:
            given.append(each.clip_id)
            yield each, work(each)

    monkeypatch.setattr(preprocess, "map_in_processes", calls)
    return given


def test_where_the_first_clips_all_crash_it_is_not_the_clips(videos, tmp_path, monkeypatch):
    def crashes(work, items, workers, began):
        for each in items:
            (tmp_path / each.clip_id).mkdir(parents=True)
            (tmp_path / each.clip_id / NOTE).write_text("2\n")
            yield each, WorkerDied("it died")

    monkeypatch.setattr(preprocess, "map_in_processes", crashes)
    items = [item(videos["good"], f"s/{k}") for k in range(9)]
    with pytest.raises(DataError, match="the first 5 clips all ended the process that worked on them"):
        run(items, tmp_path, FAST, PreprocessConfig(workers=1))


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


def test_workers_follow_the_setting_and_the_number_of_clips():
    assert worker_count(8, 3) == 3 and worker_count(0, 100) == 0 and worker_count(None, 0) == 0
    assert worker_count(None, 3) == 1, "a process of its own"
    assert worker_count(None, 10**6) >= 1


class Model:
    """What `ensure` asks of a model."""

    artefacts = ("mel",)
    trains_without = ()

    @classmethod
    def artefacts_for(cls, config):
        return cls.artefacts

    @classmethod
    def step_settings(cls, config):
        return {"mel": {"pad_mode": config["pad"]}}


def settings_for(root, **changes) -> SimpleNamespace:
    lists = {f"{split}_filelist": str(root / "filelist" / f"{split}.txt") for split in ("train", "val", "test")}
    values = {
        "layout": "folder",
        "data_root": str(root / "data"),
        "preprocessed_root": str(root / "prepared"),
        "need_preprocess": True,
        "fps": 25.0,
        "weights_dir": "checkpoints",
        "device": "cpu",
        "show_progress": False,
        "preprocess": PreprocessConfig(workers=0),
        "model": {"pad": "constant"},
        "unseen_filelist": None,
        **lists,
        **changes,
    }
    return SimpleNamespace(**values)


def write_list(root, split, name):
    (root / "filelist").mkdir(exist_ok=True)
    (root / "filelist" / f"{split}.txt").write_text(f"{name}\n")


def test_ensure_prepares_the_listed_clips_for_a_model(videos, tmp_path, caplog):
    caplog.set_level(logging.INFO, "talkingface")
    for name in ("a", "b", "c", "unlisted"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.mp4").write_bytes(videos["mute" if name == "c" else "good"].read_bytes())
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        write_list(tmp_path, split, name)
    config = settings_for(tmp_path)
    report = ensure(config, Model)
    assert report.ok_ids == ["a", "b"] and report.rejected == {"c": "no sound track"}
    assert "1 rejected" in caplog.text
    assert ensure(config, Model).worked == 0
    assert ensure(settings_for(tmp_path, model={"pad": "reflect"}), Model).outcomes["a"].made == ("mel",)
    assert ensure(settings_for(tmp_path, need_preprocess=False), Model).ok_ids == ["a", "b"]


def test_prepared_clips_need_no_measuring_where_filters_came_on_later(videos, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(videos["good"].read_bytes())
    ensure(settings_for(tmp_path), Model)
    filters = {"duration": {"min": 0.1}, "face_size": 10}
    settings = {"preprocess": PreprocessConfig(workers=0, filters=filters)}
    assert ensure(settings_for(tmp_path, need_preprocess=False, **settings), Model).ok_ids == ["a"]
    assert ensure(settings_for(tmp_path, **settings), Model).outcomes["a"].made[:2] == ("duration", "landmarks")


def test_ensure_makes_only_the_artefacts_asked_for_and_leaves_the_others(videos, tmp_path):
    class Faces(Model):
        artefacts = ALL

        @classmethod
        def step_settings(cls, config):
            return {"faces": {"size": config["size"]}}

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(videos["good"].read_bytes())
    small, large = (settings_for(tmp_path, model={"size": size}) for size in (32, 64))
    report = ensure(small, Faces, artefacts=("audio", "landmarks"))
    assert report.outcomes["a"].made == ("audio", "landmarks")
    ensure(small, Faces)
    clip = ClipFolder(tmp_path / "prepared" / "a")
    before = {path.name: path.read_bytes() for path in clip.path.iterdir() if path.suffix != ".json"}
    assert ensure(large, Faces, artefacts=("audio", "landmarks")).worked == 0
    (clip.path / "audio.wav").unlink()
    assert ensure(large, Faces, artefacts=("audio", "landmarks")).outcomes["a"].made == ("audio",)
    assert {path.name: path.read_bytes() for path in clip.path.iterdir() if path.suffix != ".json"} == before
    clip = ClipFolder(clip.path)
    assert clip.status == "ok" and clip.has("faces") and clip.faces().size == 32
    assert ensure(small, Faces).worked == 0
    assert ensure(large, Faces).outcomes["a"].made == ("faces",)


def test_ensure_refuses_a_list_that_is_missing_also_beside_prepared_clips(videos, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(videos["good"].read_bytes())
    ensure(settings_for(tmp_path), Model)
    with pytest.raises(DataError, match=r"typo\.txt: the train file list does not exist"):
        ensure(settings_for(tmp_path, train_filelist=str(tmp_path / "typo.txt")), Model)


def test_a_rejected_clip_is_tried_again_although_it_is_in_no_split(videos, tmp_path):
    (tmp_path / "data").mkdir()
    for name, kind in (("a", "good"), ("b", "good"), ("c", "good"), ("d", "mute")):
        (tmp_path / "data" / f"{name}.mp4").write_bytes(videos[kind].read_bytes())
    config = settings_for(tmp_path)
    assert set(ensure(config, Model).rejected) == {"d"}
    (tmp_path / "data" / "d.mp4").write_bytes(videos["good"].read_bytes())
    assert ensure(config, Model).ok_ids == ["a", "b", "c", "d"]


def test_ensure_works_on_prepared_clips_when_the_videos_are_gone(videos, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(videos["good"].read_bytes())
    ensure(settings_for(tmp_path), Model)
    (tmp_path / "data" / "a.mp4").unlink()
    assert ensure(settings_for(tmp_path), Model).ok_ids == ["a"]
    write_list(tmp_path, "train", "a")
    write_list(tmp_path, "test", "a")
    (tmp_path / "data" / "other.mp4").write_bytes(b"x")
    assert ensure(settings_for(tmp_path), Model).ok_ids == ["a"]


def test_ensure_says_when_nothing_is_usable_or_there(videos, tmp_path):
    with pytest.raises(DataError, match="--dataset=demo"):
        ensure(settings_for(tmp_path), Model)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(videos["mute"].read_bytes())
    with pytest.raises(DataError, match=r"no clip can be used.*1 x no sound track"):
        ensure(settings_for(tmp_path), Model)


def test_meta_is_plain_json(videos, tmp_path):
    run([item(videos["good"])], tmp_path, FAST)
    assert json.loads((tmp_path / "s/1/clip.json").read_text())["format"] == 1


def test_leftovers_of_a_killed_run_are_removed_but_not_those_of_a_running_one(videos, tmp_path):
    old, new = tmp_path / "s/1/.making-1", tmp_path / "s/1/.making-2"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "mel.npy").write_bytes(b"half")
    os.utime(old, (1, 1))
    run([item(videos["good"])], tmp_path, FAST)
    assert not old.exists() and new.exists()


def test_only_the_named_artefacts_and_what_they_need_are_made(videos, tmp_path, capsys):
    for name in ("a", "b", "c"):
        (tmp_path / "data").mkdir(exist_ok=True)
        shutil.copy(videos["good"], tmp_path / f"data/{name}.mp4")
    options = ["--model=SyncNet", "--dataset=folder", f"--data_root={tmp_path}/data", "--show_progress=False"]
    options += [f"--preprocessed_root={tmp_path}/prepared", "--preprocess.workers=0"]
    options += [f"--{split}_filelist=null" for split in ("train", "val", "test")]

    def made():
        return {name for name in ClipFolder(tmp_path / "prepared/a").meta["steps"]}

    assert main(["preprocess", "--only=mel", *options]) == 0
    first = made()
    assert {name.partition("@")[0] for name in first} == {"audio", "mel"}
    assert first & set(named_artefacts(["mel"], SyncNet.artefacts_for(SyncNetConfig()))), (
        "the variant that the model reads"
    )
    assert main(["preprocess", "--only=landmarks, audio", *options]) == 0
    assert made() == first | {"landmarks"}
    assert main(["preprocess", "--only=mels", *options]) == 2
    assert "no preprocessing step makes 'mels'; known: audio, mel, landmarks" in capsys.readouterr().err


def test_clips_with_two_people_are_counted_in_the_table():
    report = Report()
    for name, facts in {"a": {"two_faces": 0.9}, "b": {}, "c": {"two_faces": 0.2}}.items():
        report.add(Outcome(name, "ok", facts={"landmarks": facts}))
    assert "two faces of like size in 2 clips" in report.table() and "[a, c]" in report.table()
