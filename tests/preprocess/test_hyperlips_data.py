"""Data of HyperLips' own code: to clip folders, to training and scoring, and back."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from helpers.clips import face_frames, tone, write_clip
from helpers.old_data import HR_KINDS, face_picture, hyperlips_tree, lip_mask
from talkingface.cli import main
from talkingface.clips.folder import ClipFolder
from talkingface.clips.hyperlips_tree import HyperLipsTree
from talkingface.clips.layouts import ClipItem
from talkingface.clips.meta import read_meta
from talkingface.clips.prepared import prepared_ids
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import DataError
from talkingface.faces.crop import relative_landmarks
from talkingface.faces.mesh import HYPERLIPS_LIPS
from talkingface.media import write_wav
from talkingface.models.hyperlips_hr.steps import LipBoxesStep
from talkingface.models.wav2lip.model import Wav2Lip
from talkingface.plugin.configuration import load_config
from talkingface.preprocess.convert import convert_legacy
from talkingface.preprocess.converters.hyperlips import HYPER, HYPER_SKETCH, LIP_BOXES, lip_box
from talkingface.preprocess.export_hyperlips import export_tree
from talkingface.preprocess.prepare import ensure
from talkingface.preprocess.step import ClipContext
from talkingface.workflow import prepare, prepared_clips

BASE, HR = "faces@128-frame-mesh-relative-0", "faces@512-frame-mesh-relative-0"


def convert(root, out=None, **options):
    return convert_legacy("hyperlips", {"root": root}, out, progress=False, **options)


def content(*folders):
    """Every file with what a rewrite would change."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def options(**more):
    """Settings of Wav2Lip that agree with what was converted."""
    crop = {"size": 128, "margin_mode": "relative", "margin": 0.0, "box": "frame", "rule": "mesh"}
    lists = {f"{split}_filelist": None for split in ("train", "val", "test")}
    crops = {f"model.crop.{key}": value for key, value in crop.items() if key != "size"}
    return {"model.crop.size": 96, "show_progress": False, "preprocess.workers": 0, **crops, **lists, **more}


def test_a_clip_of_the_published_tree_becomes_a_clip_folder_beside_it(tmp_path, caplog):
    caplog.set_level("INFO", logger="talkingface")
    root = hyperlips_tree(tmp_path, ["MEAD/M001-001"], gone=(3, 19), hr=HR_KINDS, hr_gone=(5,), hr_side=480)
    before = content(root)
    report = convert(root)
    assert report.ok_ids == ["MEAD/M001-001"], report.table()
    assert "--model.crop.box=frame" in caplog.text and "--model.decoder.scale=4" in caplog.text
    assert {path: found for path, found in content(root).items() if path in before} == before
    clip = ClipFolder(root / "MEAD/M001-001")
    assert (clip.status, clip.imported, clip.speaker, len(clip)) == ("ok", "hyperlips", "M001", 19)
    faces = clip.faces(BASE)
    assert faces.size == 128 and np.flatnonzero(~faces.valid).tolist() == [3]
    assert faces[4][64, 20, 2] > 180 and faces[4][64, 20, 0] < 60, "colours are turned to RGB"
    np.testing.assert_allclose(clip.audio(), 0.2 * np.sin(np.arange(12800) / 20), atol=1e-4)
    truth, drawn, sketches = clip.faces(HR), clip.faces(HYPER), clip.faces(HYPER_SKETCH)
    assert [store.size for store in (truth, drawn, sketches)] == [512, 128, 128]
    assert all(np.flatnonzero(~store.valid).tolist() == [3, 5] for store in (truth, drawn, sketches))
    assert abs(int(truth[4][9, 9, 2]) - 230) < 9 and abs(int(drawn[4][9, 9, 2]) - 120) < 9
    picture = cv2.imread(str(root / "HR_Train_Dateset/HYPER_SKETCH/MEAD/M001-001/4.jpg"))
    np.testing.assert_array_equal(sketches[4], cv2.resize(picture, (128, 128)), "kept without loss")
    boxes = clip.array(LIP_BOXES)
    np.testing.assert_allclose(boxes[4], [0.6, 0.8, 0.25, 0.75], atol=0.005)
    assert np.flatnonzero(np.isnan(boxes).all(axis=1)).tolist() == [1, 3, 5], "an empty mask is a frame without a box"


def test_lip_boxes_are_bounds_in_shares_of_the_picture():
    mask = np.zeros((50, 100), np.uint8)
    mask[30:40, 20:61] = 200  # as JPEG leaves it
    mask[0, 0] = 127
    np.testing.assert_allclose(lip_box(mask), [0.6, 0.8, 0.2, 0.61])
    assert np.isnan(lip_box(np.full((8, 8), 127, np.uint8))).all()
    np.testing.assert_allclose(lip_box(lip_mask(40, 0.2)), [0.6, 0.8, 0.25, 0.75])


def test_clips_that_cannot_be_used_are_rejected_with_their_numbers(tmp_path, capsys):
    hyperlips_tree(tmp_path, ["MEAD/M001-001"])
    hyperlips_tree(tmp_path, ["MEAD/M002-001"], fps=30.0, frames=30)
    hyperlips_tree(tmp_path, ["MEAD/M003-001"], frames=15)
    hyperlips_tree(tmp_path, ["MEAD/M004-001"], frames=30, fps=20.0)
    (tmp_path / "HR_Train_Dateset/GT_IMG/MEAD/M005-001").mkdir(parents=True)
    hyperlips_tree(tmp_path, ["MEAD/M006-001"])
    (tmp_path / "imgs/MEAD/M006-001/7.jpg").write_bytes(b"broken")
    assert main(["convert-data", "--kind=hyperlips", f"--root={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "6 clips: 1 ok, 4 rejected, 1 failed" in printed
    assert "30 pictures for 1.00 s of sound are 30.00 per second, not 25" in printed
    slow = ClipFolder(tmp_path / "MEAD/M004-001").reason
    assert slow.startswith("30 pictures for 1.50 s of sound are 20.00 per second, not 25; cut them")
    assert "15 face pictures; clips of fewer than 16 are of no use" in printed
    assert "0 face pictures" in ClipFolder(tmp_path / "MEAD/M005-001").reason
    assert "7.jpg: not a readable picture" in printed


@pytest.mark.parametrize(("frames", "seconds", "fine"), [(50, 2.05, True), (50, 1.93, True), (100, 3.88, False)])
def test_a_rate_may_be_off_by_two_per_cent_or_by_the_last_packet_of_the_sound(tmp_path, frames, seconds, fine):
    hyperlips_tree(tmp_path, ["a/b"], frames=frames, side=16)
    write_wav(tmp_path / "imgs/a/b/audio.wav", tone(seconds))
    assert bool(convert(tmp_path, tmp_path / "out").ok_ids) == fine


def test_a_second_start_makes_only_what_is_missing_or_has_changed(tmp_path):
    names = ["LRS2/a", "LRS2/b", "LRS2/c"]
    hyperlips_tree(tmp_path, names)
    assert convert(tmp_path).worked == 3
    (tmp_path / "LRS2/a/clip.json").unlink()  # killed while it worked on this one
    kept = content(tmp_path / "LRS2/b")
    cv2.imwrite(str(tmp_path / "imgs/LRS2/c/3.jpg"), face_picture(44, 9))
    report = convert(tmp_path)
    assert report.ok_ids == names and report.worked == 2
    assert content(tmp_path / "LRS2/b") == kept
    assert convert(tmp_path).worked == 0 and convert(tmp_path, hr_size=256).worked == 3


def test_the_old_tree_and_clips_of_other_origin_are_never_written_to(tmp_path):
    hyperlips_tree(tmp_path, ["MEAD/M001-001"])
    with pytest.raises(DataError, match=r"imgs/new/?.*: lies in the old tree"):
        convert(tmp_path, tmp_path / "imgs" / "new")
    hyperlips_tree(tmp_path / "second", ["IMGS/M001-001"])
    with pytest.raises(DataError, match="lies in the old tree"):
        convert(tmp_path / "second")
    mine = tmp_path / "MEAD/M001-001"
    mine.mkdir(parents=True)
    (mine / "clip.json").write_text(json.dumps({"format": 1, "status": "ok", "frames": 3}))
    before = content(mine)
    assert "is prepared from its video already" in convert(tmp_path).rejected["MEAD/M001-001"]
    assert content(mine) == before
    with pytest.raises(DataError, match="no imgs/<set>/<clip>/<frame>.jpg found here"):
        convert(tmp_path / "imgs/MEAD")
    with pytest.raises(DataError, match="hr_size=300: must be one of 128, 256, 512"):
        convert(tmp_path, hr_size=300)
    assert prepared_ids(tmp_path) == ["MEAD/M001-001"]


def test_at_128_pixels_the_pictures_of_hr_serve_both(tmp_path):
    hyperlips_tree(tmp_path, ["a/b"], hr=("GT_IMG",), hr_gone=(2,), hr_side=140)
    convert(tmp_path)
    faces = ClipFolder(tmp_path / "a/b").faces(BASE)
    assert faces.valid.all() and faces[4][9, 9, 2] > 220 and faces[2][9, 9, 2] < 210


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A tree whose clips have videos: three people, the lists write their set in small letters."""
    root = tmp_path_factory.mktemp("filmed") / "preprocessed_data"
    names = [f"MEAD/{person}-001" for person in ("M001", "M002", "W003")]
    film = write_clip(root / "video_clips" / f"{names[0]}.mp4", face_frames(20))
    hyperlips_tree(root, names, gone=(19,))
    for name in names[1:]:
        shutil.copy(film, root / "video_clips" / f"{name}.mp4")
    convert(root)
    lists = root.parent / "lists"
    lists.mkdir()
    for split, clip_id in zip(("train", "val", "test"), names, strict=True):
        (lists / f"{split}.txt").write_text(clip_id.lower().replace("/m", "/M").replace("/w", "/W") + "\n")
    return root


def test_a_clip_has_its_video_as_source(filmed):
    clip = ClipFolder(filmed / "MEAD/M001-001")
    assert clip.video == filmed / "video_clips/MEAD/M001-001.mp4" and clip.has_video
    assert len(clip) == 20, "the face is out of sight in the last frame"


def test_what_scoring_needs_is_made_from_the_video_and_nothing_is_made_again(filmed, tmp_path, caplog):
    before = content(filmed / "MEAD/M001-001")
    lists = {f"{split}_filelist": str(filmed.parent / "lists" / f"{split}.txt") for split in ("train", "val", "test")}
    shutil.copytree(filmed, tmp_path / "preprocessed_data")
    settings = options(data_root="nowhere", preprocessed_root=str(tmp_path / "preprocessed_data/imgs"), **lists)
    loaded = load_config("Wav2Lip", "MEAD", (), settings | {"model.crop.size": 96})
    assert loaded.config.preprocessed_root == str(tmp_path / "preprocessed_data")
    assert "preprocessed_data/imgs is the folder of HyperLips' pictures" in caplog.text
    clips = prepare(loaded, evaluate_only=True)
    assert {split: [clip.clip_id for clip in found] for split, found in clips.items() if found} == {
        "train": ["MEAD/M001-001"],
        "val": ["MEAD/M002-001"],
        "test": ["MEAD/W003-001"],
    }
    assert caplog.text.count("file lists write 'mead' where the folder of the clips is 'MEAD'") == 1
    clip = clips["test"][0]
    assert clip.has("landmarks") and len(clip.track()) == len(clip) == len(clip.faces(BASE)) == 20
    assert clip.imported == "hyperlips" and clip.speaker == "W003"
    stamps = content(tmp_path / "preprocessed_data/MEAD")
    prepare(loaded, evaluate_only=True)
    assert content(tmp_path / "preprocessed_data/MEAD") == stamps
    assert content(filmed / "MEAD/M001-001") == before


def test_crops_of_other_boxes_are_not_mixed_with_converted_ones(filmed, tmp_path):
    shutil.copytree(filmed, tmp_path / "d")
    place = {"data_root": "nowhere", "preprocessed_root": str(tmp_path / "d")}
    with pytest.raises(DataError, match="cut from its video they would not lie upon those that were converted"):
        prepare(load_config("Wav2Lip", "MEAD", (), options(**place)))
    clips = prepare(load_config("Wav2Lip", "MEAD", (), options(**place, **{"model.crop.margin": 0.1})))
    faces = clips["train"][0].faces("faces@96-frame-mesh-relative-0.1")
    assert faces.frame_hw == (192, 192) and clips["train"][0].faces(BASE).frame_hw == (128, 128)


def test_a_clip_without_landmarks_for_scoring_still_trains_and_is_not_tried_again(tmp_path):
    write_clip(tmp_path / "video_clips/a/b.mp4", face_frames(20, blank=tuple(range(20))))
    hyperlips_tree(tmp_path, ["a/b"])
    convert(tmp_path)
    place = {"data_root": "nowhere", "preprocessed_root": str(tmp_path)}
    loaded = load_config("Wav2Lip", "MEAD", (), options(**place))
    assert prepare(loaded, only=("mel", "landmarks", "audio"))["train"][0].clip_id == "a/b"
    meta = ClipFolder(tmp_path / "a/b").meta
    assert "no face" in meta["without"]["landmarks"]["reason"] and not ClipFolder(tmp_path / "a/b").has("landmarks")
    assert ensure(loaded.config, Wav2Lip, artefacts=("landmarks",)).worked == 0


def test_pictures_of_another_video_are_refused(tmp_path):
    hyperlips_tree(tmp_path, ["a/b"], frames=24)
    write_clip(tmp_path / "video_clips/a/b.mp4", face_frames(20))
    reason = convert(tmp_path).rejected["a/b"]
    assert "pictures are numbered to 23, its video has 20 frames" in reason


def test_a_run_that_finds_the_old_tree_names_the_command(tmp_path, capsys):
    root = hyperlips_tree(tmp_path / "preprocessed_data", ["MEAD/M001-001"])
    command = f"python run_talkingface.py convert-data --kind=hyperlips --root={root}"
    for place in (root, root / "new"):
        keys = options(data_root=str(tmp_path / "nothing"), preprocessed_root=str(place))
        arguments = [f"--{key}={json.dumps(value)}" for key, value in keys.items()]
        assert main(["preprocess", "--model=Wav2Lip", "--dataset=MEAD", *arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert command + (f" --out={place}" if place != root else "") in error
        with pytest.raises(DataError, match="convert-data --kind=hyperlips"):
            prepared_clips(load_config("Wav2Lip", "MEAD", (), keys).config)
    assert HyperLipsTree.near(root / "imgs") == HyperLipsTree(root)


def test_an_export_converts_to_the_same_clip(filmed, tmp_path):
    hyperlips_tree(tmp_path / "old", ["MEAD/M001-001"], gone=(3,), hr=HR_KINDS, hr_gone=(5,), hr_side=256)
    (tmp_path / "old/video_clips").symlink_to(filmed / "video_clips")
    convert(tmp_path / "old", tmp_path / "clips")
    assert main(["convert-data", "--kind=hyperlips", f"--root={tmp_path / 'clips'}", f"--export={tmp_path}/new"]) == 0
    for kind in HR_KINDS:
        there = {int(path.stem) for path in (tmp_path / "new/HR_Train_Dateset" / kind / "MEAD/M001-001").iterdir()}
        assert there == set(range(20)) - {1, 3, 5}, "as many of each kind, or the published code passes over the clip"
    convert(tmp_path / "new", tmp_path / "again")
    first, second = (ClipFolder(tmp_path / name / "MEAD/M001-001") for name in ("clips", "again"))
    assert len(first) == len(second) == 20 and second.has_video
    np.testing.assert_array_equal(first.audio(), second.audio())
    for name in (BASE, HR.replace("512", "256"), HYPER):
        one, two = first.faces(name), second.faces(name)
        index = np.flatnonzero(two.valid)
        assert len(index) >= 17
        assert np.abs(one.read(index).astype(int) - two.read(index)).mean() < 1.5
    boxes = [clip.array(LIP_BOXES)[4] for clip in (first, second)]
    np.testing.assert_allclose(*boxes, atol=1 / 128)
    with pytest.raises(DataError, match="is there already, and is left as it is"):
        export_tree(tmp_path / "clips", tmp_path / "new")


def test_an_export_of_a_clip_that_was_prepared_here_fills_the_outline_of_the_lips(filmed, tmp_path):
    shutil.copytree(filmed, tmp_path / "d")
    place = {"data_root": "nowhere", "preprocessed_root": str(tmp_path / "d")}
    clip = prepare(load_config("Wav2Lip", "MEAD", (), options(**place, **{"model.crop.margin": 0.1})))["train"][0]
    name = "faces@96-frame-mesh-relative-0.1"
    for suffix in ("npz", "bin"):
        shutil.copy(clip.path / f"{name}.{suffix}", clip.path / f"{HYPER}.{suffix}")
    meta = read_meta(clip.path)
    meta["steps"][HYPER] = {"files": [f"{HYPER}.npz", f"{HYPER}.bin"]}
    meta["steps"]["hyper_mesh@video"] = {"files": ["mesh.npy"]}
    shares = relative_landmarks(clip.track().points_px, clip.faces(name).boxes).transpose(0, 2, 1)
    np.save(clip.path / "mesh.npy", shares)
    (clip.path / "clip.json").write_text(json.dumps(meta))
    assert clip.clip_id in export_tree(tmp_path / "d", tmp_path / "new", progress=False).ok_ids
    trees = {kind: tmp_path / "new/HR_Train_Dateset" / kind / clip.clip_id for kind in ("GT_IMG", "GT_MASK")}
    assert cv2.imread(str(trees["GT_IMG"] / "3.jpg")).shape == (96, 96, 3), "the crops at the boxes of Base's faces"
    ring = relative_landmarks(clip.track().points_px[3:4, list(HYPERLIPS_LIPS)], clip.faces(name).boxes[3:4])[0]
    top, bottom, left, right = lip_box(cv2.imread(str(trees["GT_MASK"] / "3.jpg"), cv2.IMREAD_GRAYSCALE))
    bounds = [ring[1].min(), ring[1].max(), ring[0].min(), ring[0].max()]
    np.testing.assert_allclose([top, bottom, left, right], bounds, atol=2 / 96)
    sketch = cv2.imread(str(trees["GT_MASK"].parents[2] / "HYPER_SKETCH" / clip.clip_id / "3.jpg"))
    x1, y1, x2, y2 = clip.faces(name).boxes[3]
    assert sketch.shape[0] == round((x2 - x1 + y2 - y1) / 2) and 0.05 < (sketch > 128).mean() < 0.5


def test_lips_of_converted_crops_are_looked_for_on_the_crops(filmed, tmp_path, monkeypatch):
    """Such crops have no place in the frame, so landmarks of the video do not tell where the lips are."""
    hyperlips_tree(tmp_path, ["MEAD/M001-001"], hr=("GT_IMG",), hr_side=250)
    (tmp_path / "video_clips").symlink_to(filmed / "video_clips")
    convert(tmp_path)
    place = {"data_root": "nowhere", "preprocessed_root": str(tmp_path)}
    clip = prepare(load_config("Wav2Lip", "MEAD", (), options(**place)), only=("landmarks",))["train"][0]
    step = LipBoxesStep("lip_boxes@hr", {"faces": HR.replace("512", "256")}, PreprocessConfig())
    monkeypatch.setattr(step, "mesh", lambda faces: np.stack([np.full((478, 2), 0.25) + ring() for _ in faces]))
    item = ClipItem(clip.clip_id, clip.video)
    step.run(ClipContext(item, clip.path, tmp_path, PreprocessConfig(), 25.0, False))
    np.testing.assert_allclose(np.load(tmp_path / "lip_boxes@hr.npy")[5], [0.25, 0.75, 0.25, 0.75], atol=0.01)


def ring():
    """Offsets that place two lip points half a picture apart."""
    offsets = np.zeros((478, 2))
    offsets[HYPERLIPS_LIPS[0]] = 0.5
    return offsets


def test_an_export_says_what_it_leaves_out(tmp_path):
    hyperlips_tree(tmp_path / "old", ["a/b", "a/c"])
    convert(tmp_path / "old", tmp_path / "clips")
    shutil.move(tmp_path / "clips/a/c", tmp_path / "clips/flat")
    report = export_tree(tmp_path / "clips", tmp_path / "new", progress=False)
    assert report.ok_ids == ["a/b"] and "its name is not <set>/<clip>" in report.rejected["flat"]
    assert main(["convert-data", "--kind=iplap", f"--root={tmp_path}", f"--export={tmp_path}/x"]) == 2
