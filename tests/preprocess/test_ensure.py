"""`ensure`: the clips that lists or a folder name are made ready for a model."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.preparing import ALL
from talkingface.cli.commands import main
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import LandmarkConfig, PreprocessConfig
from talkingface.errors import DataError
from talkingface.faces.landmark_file import write_landmarks
from talkingface.models.syncnet.model import SyncNet, SyncNetConfig
from talkingface.preprocess.plan import named_artefacts
from talkingface.preprocess.prepare import ensure

pytest.importorskip("mediapipe")


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
        "landmarks_root": "",
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


@pytest.mark.parametrize(("rows", "told"), [(400, "has landmarks of frame 400, but the video has"), (0, "no frame")])
def test_landmarks_of_a_longer_video_or_of_nobody_reject_the_clip_with_the_number(videos, tmp_path, rows, told):
    data = tmp_path / "data"
    data.mkdir()
    for name in "ab":
        shutil.copy(videos["good"], data / f"{name}.mp4")
    lines = ["frame,x_0,y_0,x_1,y_1", *(f"{frame},40,40,120,120" for frame in range(1, rows + 1))]
    (data / "b.landmarks.csv").write_text("\n".join(lines))
    report = ensure(settings_for(tmp_path), Model, artefacts=ALL)
    assert report.ok_ids == ["a"] and told in report.rejected["b"]
    assert report.outcomes["b"].measured == rows and report.outcomes["b"].by == "landmarks"


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
    told = capsys.readouterr().err
    assert "no preprocessing step makes 'mels'; known: " in told and "audio, mel, landmarks" in told
