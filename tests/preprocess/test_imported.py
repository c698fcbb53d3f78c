"""From the folders of older code to a trained model, without the videos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.old_data import iplap_tree, wav2lip_tree
from talkingface.cli import main
from talkingface.clips.face_store import FaceStore
from talkingface.clips.folder import ClipFolder
from talkingface.clips.meta import read_meta
from talkingface.faces.crop import CropConfig
from talkingface.faces.mesh import IPLAP_ORDER
from talkingface.models.iplap.data import LandmarkWindows
from talkingface.plugin.configuration import load_config
from talkingface.workflow import prepare

CROP = {"size": 48, "margin_mode": "relative", "margin": 0.0, "box": "frame", "rule": "mesh"}
FACES = CropConfig(**CROP).artefact
IPLAP_CROP = {"size": 128, "margin_mode": "px", "margin": 5.0, "box": "frame", "rule": "iplap"}


@pytest.fixture(scope="module")
def clips(tiny_dataset):
    """Prepared clips of the tiny corpus, with their videos."""
    found = prepare(load_config("IPLAP", "demo", (), tiny_dataset))
    return {clip.clip_id: clip for split in ("train", "val", "test") for clip in found[split]}


@pytest.fixture(scope="module")
def wav2lip(clips, tmp_path_factory):
    root = tmp_path_factory.mktemp("wav2lip")
    faces = wav2lip_tree(root / "old", list(clips.values()), gone=(29,))
    assert main(["convert-data", "--kind=wav2lip", f"--faces={faces}", f"--out={root / 'new'}", "--size=48"]) == 0
    return root / "new"


def options(model, prepared, saved, crop, **more):
    values = {
        "data_root": "nowhere",
        "preprocessed_root": str(prepared),
        "saved_dir": str(saved),
        "run_name": "r",
        "profile": "tiny",
        "device": "cpu",
        "show_progress": False,
        "tensorboard": False,
        "preprocess.workers": 0,
        "max_steps": 2,
        **{f"{split}_filelist": None for split in ("train", "val", "test")},
        **{f"model.crop.{key}": value for key, value in crop.items()},
        **more,
    }
    return [f"--model={model}", "--dataset=lrs2", *(f"--{key}={json.dumps(value)}" for key, value in values.items())]


def content(folder):
    """The files of all clips."""
    return {path: path.read_bytes() for path in sorted(Path(folder).glob("*/*/*"))}


def test_a_wav2lip_tree_becomes_what_wav2lip_and_syncnet_read(clips, wav2lip):
    name, source = next(iter(clips.items()))
    clip = ClipFolder(wav2lip / name)
    assert (clip.status, clip.imported, clip.speaker, len(clip)) == ("ok", "wav2lip", name.split("/")[0], 29)
    faces = clip.faces(FACES)
    assert faces.size == 48 and faces.valid.all() and CropConfig(**CROP).differs_from(faces.meta) is None
    np.testing.assert_allclose(clip.audio(), source.audio(), atol=1e-4)
    assert clip.mel("mel@reflect").shape[1] == pytest.approx(len(source.audio()) / 200, abs=1)
    assert not clip.has("landmarks")


@pytest.mark.parametrize("model", ["SyncNet", "Wav2Lip"])
def test_a_converted_wav2lip_tree_is_trained_on(model, wav2lip, tmp_path, caplog):
    before = content(wav2lip)
    assert main(options(model, wav2lip, tmp_path, CROP)) == 0
    stages = {path.parent.name for path in tmp_path.rglob("last.pt")}
    assert stages >= ({"expert"} if model == "SyncNet" else {"expert", "generator"})
    assert json.loads(next(tmp_path.rglob("run.json")).read_text())["status"] == "finished"
    if model == "SyncNet":
        assert (tmp_path / "SyncNet-lrs2/r/eval/metrics.json").is_file(), "stored crops can be scored"
    else:
        assert "nothing is evaluated: the clips were converted from older code without their videos" in caplog.text
    after = content(wav2lip)
    assert {path: after[path] for path in before} == before, "nothing was made again"


def test_a_converted_iplap_tree_is_trained_on(clips, tmp_path, capsys):
    folders = iplap_tree(tmp_path / "old", list(clips.values()))
    named = [f"--{name}={folder}" for name, folder in folders.items()]
    assert main(["convert-data", "--kind=iplap", *named, f"--out={tmp_path / 'new'}"]) == 0
    few = {"stages.render.batch_size": 2, "stages.render.val_batches": 1}
    assert main(options("IPLAP", tmp_path / "new", tmp_path / "saved", IPLAP_CROP, **few)) == 0
    assert {path.parent.name for path in tmp_path.rglob("last.pt")} == {"landmark", "render"}
    capsys.readouterr()
    scored = ["evaluate", *options("IPLAP", tmp_path / "new", tmp_path / "saved", IPLAP_CROP)]
    assert main(scored) == 2
    # Whether the log also goes to stderr depends on who set it up first; of errors there is one line, the last.
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "nothing can be evaluated: the clips were converted" in lines[-1]


def test_iplap_sees_converted_landmarks_as_they_were_cut(clips, tmp_path):
    name, clip = next(iter(clips.items()))
    folders = iplap_tree(tmp_path / "old", [clip])
    named = [f"--{key}={folder}" for key, folder in folders.items()]
    assert main(["convert-data", "--kind=iplap", *named, f"--out={tmp_path / 'new'}"]) == 0
    changes = {f"model.crop.{key}": value for key, value in IPLAP_CROP.items()} | {"profile": "tiny"}
    model = load_config("IPLAP", "demo", (), changes).config.model
    mine = LandmarkWindows([ClipFolder(tmp_path / "new" / name)], "val", {"min_frames": 12}, model)
    stored = np.load(folders["landmarks"] / name / "0.npy", allow_pickle=True).item()
    shares = {int(k): (x, y) for k, x, y in [*stored["pose_landmarks"], *stored["content_landmarks"]]}
    expected = np.array([shares[k] for k in IPLAP_ORDER]).T
    np.testing.assert_allclose(mine._points(np.array([0]), np.array([[0]]))[0, 0], expected, atol=1e-5)


def test_crops_that_the_model_does_not_want_are_named_and_left_alone(wav2lip, tmp_path, capsys):
    before = content(wav2lip)
    other = {**CROP, "margin": 0.05}
    for force in (False, True):
        assert main(["preprocess", *options("SyncNet", wav2lip, tmp_path, other, **{"preprocess.force": force})]) == 2
        error = capsys.readouterr().err
        assert "converted with margin 0.0, asked for is margin 0.05, and there is no video" in error
        assert "train with --model.crop.margin=0.0" in error
    after = content(wav2lip)
    assert {path: after[path] for path in before} == before


def test_lists_beside_other_videos_spoil_no_converted_clip(clips, wav2lip, tmp_path):
    prepared, names = tmp_path / "prepared", list(clips)
    shutil.copytree(wav2lip, prepared)
    shutil.rmtree(prepared / names[0])
    video = tmp_path / "data/main" / f"{names[0]}.mp4"
    video.parent.mkdir(parents=True)
    shutil.copy(clips[names[0]].video, video)
    (tmp_path / "all.txt").write_text("\n".join(names))
    lists = {f"{split}_filelist": str(tmp_path / "all.txt") for split in ("train", "val", "test")}
    there = {"data_root": str(tmp_path / "data"), **lists}
    assert main(["preprocess", *options("SyncNet", prepared, tmp_path, CROP, **there)]) == 0
    assert [ClipFolder(prepared / name).imported for name in names] == ["", *["wav2lip"] * (len(names) - 1)]
    assert {ClipFolder(prepared / name).status for name in names} == {"ok"}
    assert ClipFolder(prepared / names[0]).has("landmarks")


def test_clips_that_the_first_converter_wrote_are_trained_on(wav2lip, tmp_path):
    """It called the crops `faces`, with the detector as rule, and made a mel that no model of such clips reads."""
    prepared = tmp_path / "prepared"
    shutil.copytree(wav2lip, prepared)
    for folder in {path.parent for path in prepared.rglob("clip.json")}:
        meta = read_meta(folder)
        steps, store = meta["steps"], FaceStore(folder, FACES)
        crop = {"size": 48, "margin_mode": "px", "margin": 0.0, "box": "frame", "rule": "s3fd"}
        described = np.array(json.dumps({**crop, "frame_hw": [48, 48], "storage": "jpeg"}))
        np.savez(folder / "faces.npz", boxes=store.boxes, offsets=store.offsets, meta=described)
        (folder / f"{FACES}.npz").unlink()
        (folder / f"{FACES}.bin").rename(folder / "faces.bin")
        (folder / "mel@reflect.npy").rename(folder / "mel.npy")
        steps["faces"] = {**steps.pop(FACES), "params": crop, "files": ["faces.npz", "faces.bin"]}
        steps["mel"] = {**steps.pop("mel@reflect"), "params": {}, "files": ["mel.npy"]}
        (folder / "clip.json").write_text(json.dumps(meta))
    before = content(prepared)
    assert main(options("SyncNet", prepared, tmp_path / "saved", CROP, evaluate=False)) == 0
    name = next(iter(before)).parent.relative_to(prepared)
    clip, made_now = ClipFolder(prepared / name), ClipFolder(wav2lip / name)
    np.testing.assert_array_equal(clip.mel("mel@reflect"), made_now.mel("mel@reflect"))
    np.testing.assert_array_equal(clip.faces(FACES)[3], made_now.faces(FACES)[3])
    after = content(prepared)
    assert all(after[path] == data for path, data in before.items() if path.suffix != ".json")
    assert main(["train", *options("SyncNet", prepared, tmp_path / "again", CROP)]) == 0
