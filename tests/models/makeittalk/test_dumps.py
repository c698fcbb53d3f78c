"""Dumps and text trees of the published code: what is read, what is repaired, what is refused, and the way back."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from helpers.canonical_faces import faces_3d, make_clip, small_config
from helpers.dumps import PREFIX, Runs, clip, mel_of, rows_of, write_dump, write_texts
from talkingface import files
from talkingface.clips.folder import ClipFolder
from talkingface.errors import DataError
from talkingface.faces.ibug68 import eye_distances
from talkingface.media import write_wav
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.data import read_motion
from talkingface.models.makeittalk.dumps import export
from talkingface.preprocess.convert import convert_legacy, export_clips
from talkingface.sound.choice import FrontEndConfig


def convert(root, out, **options):
    return convert_legacy("makeittalk", {"root": root}, out, progress=False, **options)


def made(out, clip_id):
    return ClipFolder(out / clip_id)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Prepared clips, and what was exported of them."""
    root = tmp_path_factory.mktemp("exported")
    clips = [make_clip(root / "prepared", f"a/{k}", 60, phase=0.13 * k) for k in range(3)]
    (root / "filelist").mkdir()
    (root / "filelist/train.txt").write_text("a/0\na/1\n")
    (root / "filelist/test.txt").write_text("a/2\n")
    return root, clips, export_clips("makeittalk", root / "prepared", root / "data", progress=False)


def test_what_was_exported_comes_back_as_the_same_numbers(exported, tmp_path):
    root, clips, report = exported
    assert list(report.ok_ids) == ["a/0", "a/1", "a/2"]
    prepared = tmp_path / "made"
    assert convert(root / "data", prepared).counts == {"ok": 3, "rejected": 0, "failed": 0}
    for clip_id, own in zip(("train/00000_a_0", "train/00001_a_1", "test/00002_a_2"), clips, strict=True):
        before, after = (read_motion(each, small_config()) for each in (own, made(prepared, clip_id)))
        for name, value in before._asdict().items():
            np.testing.assert_array_equal(value, getattr(after, name), name)
        sound = made(prepared, clip_id).audio()
        np.testing.assert_array_equal(sound, own.audio()[: len(sound)])
    (tmp_path / "filelist").mkdir()
    (tmp_path / "filelist/test.txt").write_text("test/00002_a_2\n")
    export_clips("makeittalk", prepared, tmp_path / "again", progress=False)
    for kind in ("au", "fl"):
        files = (folder / f"dump/{PREFIX}_test_{kind}.pickle" for folder in (root / "data", tmp_path / "again"))
        first, second = (pickle.loads(file.read_bytes()) for file in files)
        np.testing.assert_array_equal(first[0][0], second[0][0])


def test_other_programs_read_what_was_exported(exported):
    folder = exported[0] / "data/dump"
    sound, faces, gaze = (
        pickle.loads((folder / f"{PREFIX}_train_{kind}.pickle").read_bytes()) for kind in ("au", "fl", "gaze")
    )
    assert [(rows.shape, about[:2]) for rows, about in sound] == [((148, 80), (k, f"a_{k}.mp4")) for k in range(2)]
    assert all(about[2].shape == (256,) for _, about in sound) and [f[0].shape for f in faces] == [(148, 204)] * 2
    assert set(gaze) == {"rot_trans", "rot_quat", "anchor_t_shape"}
    assert gaze["rot_trans"][0].shape == (148, 3, 4) and gaze["rot_quat"][0].shape == (148, 4)
    assert b"numpy._core" not in (folder / f"{PREFIX}_train_au.pickle").read_bytes(), "numpy 1 has no such module"
    about = json.loads((folder / f"{PREFIX}.json").read_text())
    assert about["front_end"]["made_by"]["name"] == "vc_mel" and about["canonical"] == "own"


def test_nothing_is_exported_over_dumps_that_are_there(exported):
    with pytest.raises(DataError, match="holds dumps already"):
        export_clips("makeittalk", exported[0] / "prepared", exported[0] / "data", progress=False)


@pytest.mark.parametrize("ended_by", ["_faces_item", "write_wav"])
def test_an_export_that_ends_early_leaves_nothing(exported, tmp_path, monkeypatch, ended_by):
    real, calls = getattr(export, ended_by), []

    def ends(*arguments):
        calls.append(1)
        if len(calls) == 3:  # in the test dump, or at the last sound
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(export, ended_by, ends)
        with pytest.raises(KeyboardInterrupt):
            export_clips("makeittalk", exported[0] / "prepared", tmp_path, progress=False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert export_clips("makeittalk", exported[0] / "prepared", tmp_path, progress=False).counts["ok"] == 3


def test_what_is_noted_of_exported_dumps_has_its_name_before_they_have_theirs(exported, tmp_path, monkeypatch):
    replace, order = files.os.replace, []
    monkeypatch.setattr(files.os, "replace", lambda old, new: order.append(new.name) or replace(old, new))
    export_clips("makeittalk", exported[0] / "prepared", tmp_path, progress=False)
    dumps = [name for name in order if name.endswith(".pickle")]
    assert len(dumps) == 6 and order[-7:] == [f"{PREFIX}.json", *dumps]
    assert all(name.endswith("_au.pickle") for name in dumps[-2:])


def test_a_second_conversion_makes_nothing(exported, tmp_path):
    assert convert(exported[0] / "data", tmp_path).worked == 3
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert convert(exported[0] / "data", tmp_path).worked == 0
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}


def test_a_published_dump_is_made_fit_and_its_sound_is_autovcs(tmp_path):
    flat = clip(1)["faces"].reshape(-1, 68, 3).copy()
    flat[..., 2] = 1.0
    pixels = rows_of(80, 0.2, moving=True)
    holes = clip(3)["faces"].copy()
    holes[[10, 11, 30]] = np.nan
    holes[50:70] = 0
    clips = [clip(0), clip(1, faces=flat.reshape(-1, 204)), clip(2, faces=pixels), clip(3, faces=holes)]
    write_dump(tmp_path / "old/dump", "train", clips)
    report = convert(tmp_path / "old", tmp_path / "new")
    assert report.counts["ok"] == 4
    table = report.table()
    for line in ("constant depth refilled", "pixel units rescaled, the eyes were 40", "3 rows without a face refilled",
                 "20 rows without a face left out"):  # fmt: skip
        assert f"1 x {line}" in table
    for number, one in enumerate(clips):
        found = made(tmp_path / "new", f"train/{number:05d}_video{number:06d}")
        rows = found.features("features@autovc+resemblyzer")
        np.testing.assert_allclose(rows.values, one["sound"], atol=1e-6)
        np.testing.assert_allclose(rows.vector, one["about"][2], atol=1e-7)
        faces = found.array("faces68")[:, 0]
        there = np.isfinite(faces).all(axis=(1, 2))
        assert np.median(eye_distances(faces[there])) == pytest.approx(1, abs=1e-5)
        brows = faces[there][:, 17:48].mean(axis=0)
        np.testing.assert_allclose(brows, canonical_face()[17:48], atol=0.02)
    assert found.fps == 62.5 and len(found) == 80 and int((~there).sum()) == 20


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"faces": rows_of(60)}, "unequal lengths: 80 rows of sound, 60 of landmarks"),
        ({"faces": None}, "ends before this clip"),
        ({"face_about": (9, "other.mp4")}, "the files are not of one order"),
        ({"sound": np.zeros((80, 80), int)}, r"clip 1: expected sound \(rows, 80\), found int64 \(80, 80\)"),
        ({"sound": mel_of(80)[:, :40]}, r"expected sound \(rows, 80\), found float64 \(80, 40\)"),
        ({"sound": None}, r"expected sound \(rows, 80\), found NoneType"),
        ({"face_about": None}, r"_test_fl\.pickle: clip 1 is no \(array, \(number, name, \.\.\.\)\), but tuple"),
        ({"sound": mel_of(27), "faces": rows_of(27)}, "27 rows; clips of fewer than 28"),
        ({"faces": np.full((80, 204), np.nan)}, "no row has a face"),
        ({"faces": np.ones((80, 136))}, r"expected landmarks \(rows, 204\), found float64 \(80, 136\)"),
        ({"sound": np.full((80, 80), np.nan)}, "rows of sound that are no numbers"),
        ({"sound": np.full((80, 80), 1e300)}, "rows of sound that are no numbers"),
        (
            {"faces": np.where(np.arange(204) == 30, 1e9, clip(1)["faces"])},
            "points that lie more than 1000 eye distances",
        ),
    ],
)
def test_what_cannot_be_used_is_told_with_its_reason_and_the_others_go_on(tmp_path, changes, reason):
    behind = [] if changes.get("faces", "") is None else [clip(2)]  # which then stands at its place in one file
    write_dump(tmp_path / "old", "test", [clip(0), clip(1, **changes), *behind])
    report = convert(tmp_path / "old", tmp_path / "new")
    assert report.ok_ids == ["test/00000_video000000", "test/00002_video000002"][: 1 + len(behind)]
    told = {**report.rejected, **report.failed}["test/00001_video000001"]
    assert re.search(reason, told), told


def test_a_few_rows_more_are_cut_off(tmp_path):
    write_dump(tmp_path / "old", "train", [clip(0, faces=rows_of(77) / 40)])
    report = convert(tmp_path / "old", tmp_path / "new")
    assert "1 x cut by 3 rows to the shorter" in report.table()
    assert len(made(tmp_path / "new", "train/00000_video000000")) == 77


def test_a_dump_with_code_in_it_is_refused_by_name_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dump(tmp_path / "old", "train", [clip(0), clip(1, sound=Runs())])
    with pytest.raises(DataError, match=rf"{PREFIX}_train_au.pickle: refused: the file holds code"):
        convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "harm.txt").exists()


def test_the_old_files_are_left_as_they_are(tmp_path):
    write_dump(tmp_path / "old", "train", [clip(0)])
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*")}
    convert(tmp_path / "old", tmp_path / "new")
    assert before == {path: path.read_bytes() for path in (tmp_path / "old").rglob("*")}


def test_clips_are_not_put_among_the_old_files(tmp_path):
    write_dump(tmp_path / "old/dump", "train", [clip(0)])
    with pytest.raises(DataError, match="lies in the old tree"):
        convert(tmp_path / "old", tmp_path / "old/new")


def test_a_text_clip_whose_files_are_the_same_is_not_made_again(tmp_path):
    for number in range(2):
        write_texts(tmp_path / "old", number, "one", dict(enumerate(faces_3d(40).reshape(-1, 204))), 1.6)
    assert convert(tmp_path / "old", tmp_path / "new").worked == 2
    write_wav(tmp_path / "old/raw_wav/00001_one_audio.wav", np.full(25600, 0.1, np.float32))
    assert convert(tmp_path / "old", tmp_path / "new").worked == 1


def test_a_family_is_chosen_by_its_prefix(tmp_path):
    write_dump(tmp_path / "old", "train", [clip(0)])
    write_dump(tmp_path / "old", "train", [clip(5)], prefix="autovc_align")
    assert convert(tmp_path / "old", tmp_path / "a").ok_ids == ["train/00000_video000000"]
    assert convert(tmp_path / "old", tmp_path / "b", prefix="autovc_align").ok_ids == ["train/00005_video000005"]
    with pytest.raises(DataError, match="no dumps called 'mine_...'; there are autovc_align, autovc_retrain_mel"):
        convert(tmp_path / "old", tmp_path / "c", prefix="mine")


@pytest.mark.parametrize("name", ["../../up", "nobody"])
def test_a_front_end_that_nobody_knows_is_refused_before_anything_is_written(tmp_path, name):
    write_dump(tmp_path / "old", "train", [clip(0)])
    (tmp_path / f"old/{PREFIX}.json").write_text(json.dumps({"front_end": {"name": name}, "canonical": "own"}))
    with pytest.raises(DataError, match=rf"{PREFIX}.json: front_end: unknown front end"):
        convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_names_in_a_dump_lead_nowhere_else(tmp_path):
    bad = clip(0)
    bad["about"] = (0, "../../up.mp4", bad["about"][2])
    bad["face_about"] = bad["about"][:2]
    write_dump(tmp_path / "old", "train", [bad])
    assert convert(tmp_path / "old", tmp_path / "new").ok_ids == ["train/00000__.._up"]


def test_speakers_that_the_dump_lacks_come_from_the_file_beside_it(tmp_path):
    without = clip(0, about=(0, "abcdefghijk_1.mp4"), face_about=(0, "abcdefghijk_1.mp4"))
    write_dump(tmp_path / "old", "train", [without, clip(1, about=(1, "x.mp4"), face_about=(1, "x.mp4"))])
    (tmp_path / "old/emb.pickle").write_bytes(pickle.dumps({"abcdefghijk": np.full(256, 0.5)}))
    assert convert(tmp_path / "old", tmp_path / "new").counts["ok"] == 2
    known = made(tmp_path / "new", "train/00000_abcdefghijk_1").features("features@autovc+resemblyzer")
    np.testing.assert_array_equal(known.vector, np.full(256, 0.5, np.float32))
    assert made(tmp_path / "new", "train/00001_x").features("features@autovc").vector is None


def test_turns_beside_a_dump_give_the_motion_of_the_head(tmp_path):
    from talkingface.faces.rigid import register

    moving = rows_of(80, 0.0, moving=True).reshape(-1, 68, 3) / 40
    anchored, turns = register(moving, canonical_face())
    write_dump(tmp_path / "old", "train", [clip(0, faces=anchored.reshape(-1, 204)), clip(1)])
    gaze = {"rot_trans": [turns[:, :3], np.zeros((80, 3, 4))], "rot_quat": [], "anchor_t_shape": [
        anchored.reshape(-1, 204), clip(1)["faces"]]}  # fmt: skip
    (tmp_path / f"old/{PREFIX}_train_gaze.pickle").write_bytes(pickle.dumps(gaze))
    report = convert(tmp_path / "old", tmp_path / "new")
    assert "1 x motion of the head left out: its turns are none" in report.table()
    found = made(tmp_path / "new", "train/00000_video000000")
    faces, size = found.array("faces68")[:, 1], np.median(eye_distances(moving))
    np.testing.assert_allclose(np.diff(faces, axis=0), np.diff(moving, axis=0) / size, atol=1e-5)
    assert found.facts("faces68")["head_motion"]


def test_motion_of_a_head_that_is_no_array_costs_its_clip_the_motion_alone(tmp_path):
    write_dump(tmp_path / "old", "train", [clip(0), clip(1)])
    gaze = {"rot_trans": [None, None], "anchor_t_shape": [None, 3]}
    (tmp_path / f"old/{PREFIX}_train_gaze.pickle").write_bytes(pickle.dumps(gaze))
    report = convert(tmp_path / "old", tmp_path / "new")
    assert report.counts["ok"] == 2 and "motion of the head left out: expected landmarks" in report.table()
    assert not made(tmp_path / "new", "train/00001_video000001").facts("faces68")["head_motion"]


# -- text trees --------------------------------------------------------------------------------------------------------


def test_text_trees_become_landmarks_and_sound_at_25_frames(tmp_path):
    root = tmp_path / "old"
    faces = faces_3d(60)
    there = {k: faces[k].reshape(-1) for k in range(60) if k not in (7, 8, 30, 31, 32, 33, 34, 35, 36)}
    write_texts(root, 0, "holes", there, 2.4)
    flat = faces.copy()
    flat[..., 2] = 1
    write_texts(root, 1, "flat", dict(enumerate(flat.reshape(-1, 204))), 2.4)
    write_texts(root, 2, "dense", dict(enumerate(rows_of(148, moving=True))), 2.4)
    write_texts(root, 3, "odd", dict(enumerate(rows_of(100))), 2.4)
    write_texts(root, 4, "short", dict(enumerate(faces[:9].reshape(-1, 204))), 0.4)
    (root / "raw_wav/00004_short_audio.wav").replace(root / "raw_wav/gone.wav")
    report = convert(root, tmp_path / "new")
    assert report.ok_ids == ["00000_holes", "00001_flat", "00002_dense"]
    assert "100 lines for 2.40 s of sound are 41.7 per second, neither 25 nor 62.5" in report.rejected["00003_odd"]
    assert "no sound: 00004_short_audio.wav" in report.rejected["00004_short"]
    for line in ("9 frame numbers are missing", "2 rows without a face refilled", "7 rows without a face left out",
                 "constant depth refilled", "62.5 rows per second brought to 25 frames"):  # fmt: skip
        assert f"1 x {line}" in report.table()
    track = made(tmp_path / "new", "00000_holes").track()
    assert np.flatnonzero(~track.valid).tolist() == list(range(30, 37)) and not track.found[[7, 8]].any()
    moved = track.points_px[0] - faces[0, :, :2]
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=0.02)
    dense = made(tmp_path / "new", "00002_dense").track()
    assert len(dense) == 59 and made(tmp_path / "new", "00002_dense").fps == 25
    np.testing.assert_allclose(np.diff(dense.points_px[:, 30], axis=0), np.diff(faces[:59, 30, :2], axis=0), atol=0.1)


def test_text_trees_train_like_clips_with_a_video(tmp_path):
    write_texts(tmp_path / "old", 0, "one", dict(enumerate(faces_3d(60).reshape(-1, 204))), 2.4)
    convert(tmp_path / "old", tmp_path / "new")
    found = made(tmp_path / "new", "00000_one")
    assert found.has("landmarks") and found.has("audio")
    assert FrontEndConfig(name="vc_mel", speaker="statistics").artefact not in found.meta["steps"], "training makes it"


def test_frames_beyond_all_lines_are_refused_before_room_is_made(tmp_path):
    write_texts(tmp_path / "old", 0, "one", {10**9: np.ones(204), 10**9 + 1: np.ones(204)}, 2.4)
    assert "2 lines are numbered to 1000000001" in convert(tmp_path / "old", tmp_path / "new").failed["00000_one"]


def test_text_that_is_no_numbers_is_told(tmp_path):
    write_texts(tmp_path / "old", 0, "one", {0: np.zeros(204)}, 2.4)
    (tmp_path / "old/raw_fl3d/fan_00000_one_3d.txt").write_text("0 1 2 three\n")
    assert "no lines of numbers" in convert(tmp_path / "old", tmp_path / "new").failed["00000_one"]
