"""Data of DINet's and LawDNet's own scripts: to clip folders, with every defect told, and back."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from helpers.clips import face_frames, write_clip
from helpers.old_dubbing import BASE, OLD, content, listed, old_video, row, shade, write_list
from talkingface.cli import main
from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.errors import DataError
from talkingface.lipsync.dubbing.config import DubbingCropConfig, DubbingDataConfig
from talkingface.lipsync.dubbing.data import DubbingClips, DubbingFrames
from talkingface.lipsync.dubbing.sound import heard_in
from talkingface.preprocess.convert import convert_legacy, export_clips
from talkingface.preprocess.converters import dubbing_forest
from talkingface.preprocess.converters.base import EXPORTERS
from talkingface.preprocess.converters.dubbing_forest import DubbingForest
from talkingface.preprocess.export_dubbing import export_dubbing

FRONTAL = "aligned@80-frontal-1.6-0-half_pixel"
HEARD, HEARD2 = "features@deepspeech_onnx", "features@deepspeech2"


def convert(*roots, out, kind="lawdnet", **options):
    return convert_legacy(kind, {"root": list(roots)}, out, progress=False, width=80, **options)


def settings(kind="frontal", **audio) -> DubbingDataConfig:
    own = {"half_pixel": True} if kind == "frontal" else {"blocks": True}
    audio = audio or {"generator_features": "deepspeech_onnx"}
    return DubbingDataConfig(crop=DubbingCropConfig(kind=kind, width=80, smooth=0, **own), audio=audio)


def test_a_video_of_crops_and_text_becomes_a_clip_that_trains(tmp_path, caplog):
    caplog.set_level("INFO", logger="talkingface")
    old_video(tmp_path / "old", rows=63, rows2=64)
    before = content(tmp_path / "old")
    report = convert(tmp_path / "old", out=tmp_path / "new")
    assert report.ok_ids == ["clip"], report.table()
    assert content(tmp_path / "old") == before
    assert "--model.crop.width=80 --model.crop.smooth=0.0 --model.crop.half_pixel=True" in caplog.text
    assert "--model.audio.generator_features=deepspeech_onnx" in caplog.text
    clip = ClipFolder(tmp_path / "new/clip")
    faces = clip.faces(FRONTAL)
    assert (clip.imported, len(clip), faces.size_hw, int(faces.valid.sum())) == ("lawdnet", 63, (104, 80), 63)
    assert faces[20][50, 40, 0] > 190, "colours are turned to RGB"
    assert abs(int(faces[20][50, 40, 2]) - shade(20)) < 4
    config = settings(generator_features="deepspeech2", sync_features="deepspeech_onnx")
    np.testing.assert_allclose(heard_in(clip, config.audio.sync).at(20), row(20), rtol=1e-6)
    data = DubbingClips([clip], "train", {"mouth": 64}, config)
    item = data[0]
    start = round(float(item["heard"][0, 2]))
    np.testing.assert_allclose(item["heard"][:, 4], row(start + 2), rtol=1e-6)
    np.testing.assert_allclose(item["audio"][2][:, 2], row(start + 2, "deepspeech2"), rtol=1e-6)
    assert abs(int(item["faces"][2, 50, 40, 2]) - shade(start + 2)) < 4
    assert clip.has("audio") and report.repairs == {}


@pytest.mark.parametrize("kinds", [("deep_speech_list",), ("deep_speech_list", "deep_speech_dp2_list")])
def test_lists_of_every_age_are_read_with_paths_relative_to_the_root(tmp_path, kinds):
    crops = old_video(tmp_path, clips=(0, 1, 2, 4, 5, 6, 7), rows=None, sound=None)
    shutil.move(crops.parent, tmp_path / BASE / "pictures")
    entry = listed("clip", (0, 1, 2, 4, 5, 6, 7), kinds)
    text = json.dumps({"clip": entry}).replace(f"{OLD}_crop_face", "pictures")
    (tmp_path / BASE / "training_json.json").write_text(text)
    report = convert(tmp_path, out=tmp_path / "new")
    clip = ClipFolder(tmp_path / "new/clip")
    assert report.ok_ids == ["clip"] and clip.has(HEARD2) == (len(kinds) == 2), report.table()
    faces, heard = clip.faces(FRONTAL), heard_in(clip, settings().audio.sync).at(np.arange(len(clip)))
    assert len(clip) == 72 and not faces.valid[27:36].any() and faces.valid[[26, 36, 71]].all()
    np.testing.assert_allclose(heard[40], row(40), rtol=1e-6)
    np.testing.assert_allclose(heard[30], row(26), rtol=1e-6, err_msg="nobody knows: the last one is held")
    assert len(DubbingFrames([clip], "train", {"sampling": "published"}, settings()))


def test_pictures_numbered_anew_in_every_clip_are_those_of_its_frames(tmp_path):
    old_video(tmp_path, relative=True)
    convert(tmp_path, out=tmp_path / "new")
    faces = ClipFolder(tmp_path / "new/clip").faces(FRONTAL)
    assert len(faces) == 63 and abs(int(faces[50][50, 40, 2]) - shade(50)) < 4


def test_every_defect_is_counted_with_its_reason_and_the_clip_stays(tmp_path, capsys):
    crops = old_video(tmp_path, rows=66)
    (crops / "000001/000010.jpg").write_bytes(b"")
    (crops / "000002/000020.jpg").unlink()
    cv2.imwrite(str(crops / "000003/000030.jpg"), np.zeros((80, 80, 3), np.uint8))
    old_video(tmp_path, "short", rows=50, clips=range(7))
    old_video(tmp_path, "float", rows=None, sound=np.zeros(9 * 640 * 7))
    few = old_video(tmp_path, "few", clips=range(4), rows=36)
    (few / "p_1.jpg").write_bytes(b"best p")
    entry = listed("float", range(8), rows=9)
    entry["video_clip_num"] = 11
    entry["clip_data_list"][3]["deep_speech_list"] = entry["clip_data_list"][3]["deep_speech_list"][:2]
    differing = listed("few", range(4))
    differing["clip_data_list"][0]["deep_speech_list"][4][0] += 1
    write_list(tmp_path, {"float": entry, "few": differing, "gone": listed("gone", range(6))})
    before = content(tmp_path / BASE)
    options = [f"--root={tmp_path}", f"--out={tmp_path / 'new'}", "--width=80"]
    assert main(["convert-data", "--kind=lawdnet", *options]) == 0
    assert content(tmp_path / BASE) == before
    printed = capsys.readouterr().out
    assert "5 clips: 4 ok, 1 rejected, 0 failed" in printed
    assert "repaired      1 x 1 clips of other than 9 pictures  [clip]" in printed
    assert "repaired      2 x 4 pictures without features of their frame, left out  [float, short]" in printed
    assert "1 x none of its pictures is there  [gone]" in printed
    names = ("clip", "short", "float", "few")
    told = {name: sorted(ClipFolder(tmp_path / "new" / name).facts(FRONTAL)["repairs"]) for name in names}
    assert told == {
        "clip": [
            "1 clips of other than 9 pictures",
            "1 pictures that are not 1.3 times as high as wide, left out",
            "1 pictures that cannot be read, left out",
            "3 rows of features behind the last frame, left out",
        ],
        "short": [
            "10 pictures without features of their frame, left out",
            "3 frames for which the last row of deepspeech is held",
        ],
        "float": [
            "1 listed clips with fewer rows of deepspeech than pictures",
            "1 no text file of deepspeech",
            "1 silent sound in the .wav file",
            "3 clips that the JSON counts but does not list",
            "3 frames for which the last row of deepspeech is held",
            "4 pictures without features of their frame, left out",
            "9 pictures that the JSON lists are not there",
        ],
        "few": [
            "1 fewer clips than the 6 that published sampling needs",
            "1 rows of deepspeech differ between JSON and text, whose are taken",
        ],
    }
    gaps = {name: np.flatnonzero(~ClipFolder(tmp_path / "new" / name).faces(FRONTAL).valid) for name in told}
    assert {name: frames.tolist() for name, frames in gaps.items()} == {
        "clip": [10, 20, 30],
        "short": list(range(53, 63)),
        "float": [32, 33, 34, 35],
        "few": [],
    }


def sizes_like_dinet(root, name="clip"):
    """A tree whose crops have another size in every clip."""
    crops = old_video(root, name)
    for clip in range(7):
        for path in (crops / f"{clip:06d}").iterdir():
            cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (80 + 10 * (clip % 3), 104 + 13 * (clip % 3))))


def test_crops_of_dinet_have_a_kind_of_their_own(tmp_path):
    sizes_like_dinet(tmp_path)
    assert "--kind=dinet" in convert(tmp_path, out=tmp_path / "a").rejected["clip"]
    assert convert(tmp_path, out=tmp_path / "b", kind="dinet").ok_ids == ["clip"]
    clip = ClipFolder(tmp_path / "b/clip")
    faces = clip.faces("aligned@80-upright-1.05-0-blocks")
    assert faces.valid.all() and settings("upright").crop.differs_from(faces.meta) is None
    assert abs(int(faces[20][50, 40, 2]) - shade(20)) < 5


def test_several_trees_become_one_data_set_without_twins(tmp_path):
    for place, names in {"a/data": ("x", "y"), "b/data": ("x", "z"), "c": ("x",)}.items():
        for name in names:
            old_video(tmp_path / place, name, clips=range(6), rows=54)
    picture = tmp_path / "b/data" / BASE / f"{OLD}_crop_face/x/000000/000000.jpg"
    cv2.imwrite(str(picture), np.full((104, 80, 3), 7, np.uint8))
    places = [f"--root={tmp_path / place}" for place in ("a/data", "b/data", "c")]
    assert main(["convert-data", "--kind=lawdnet", *places, f"--out={tmp_path / 'new'}", "--width=80"]) == 0
    names = ("data_1/x", "data_1/y", "data_2/x", "data_2/z", "c/x")
    found = {name: ClipFolder(tmp_path / "new" / name) for name in names}
    assert {name: clip.status for name, clip in found.items()} == {**dict.fromkeys(found, "ok"), "c/x": "rejected"}
    assert "its pictures are those of data_1/x, in another tree" in found["c/x"].reason


def test_pictures_are_compared_only_with_those_of_a_video_of_the_same_name_in_an_earlier_tree(tmp_path, monkeypatch):
    for place, names in {"a": ("x", "y"), "b": ("x", "z")}.items():
        for name in names:
            old_video(tmp_path / place, name, clips=range(1))
    looked = []
    listed = dubbing_forest._pictures_of
    monkeypatch.setattr(dubbing_forest, "_pictures_of", lambda tree, name: looked.append(name) or listed(tree, name))
    forest = DubbingForest([tmp_path / "a", tmp_path / "b"])
    assert [forest.twin(clip_id) for clip_id in ("a/x", "a/y", "b/x", "b/z")] == [None, None, "a/x", None]
    assert looked == ["x", "x"]


def test_a_second_start_makes_only_what_is_new_and_nothing_goes_into_the_old_tree(tmp_path):
    crops = old_video(tmp_path / "old", "a")
    old_video(tmp_path / "old", "b")
    assert convert(tmp_path / "old", out=tmp_path / "new").worked == 2
    (crops / "000000/000000.jpg").unlink()
    report = convert(tmp_path / "old", out=tmp_path / "new")
    assert report.worked == 1 and report.repairs == {"1 clips of other than 9 pictures": ["a"]}
    assert convert(tmp_path / "old", out=tmp_path / "new").repairs == report.repairs, "told again of what is done"
    with pytest.raises(DataError, match="lies in the old tree"):
        convert(tmp_path / "old", out=tmp_path / "old" / BASE / "clips")
    with pytest.raises(DataError, match="neither a folder"):
        convert(tmp_path / "new", out=tmp_path / "other")


def filmed(root, frames=63, fps=25.0, csv_rows=None, **more):
    film = write_clip(root / "film.mp4", face_frames(frames))
    if fps != 25.0:
        from talkingface.media import VideoWriter

        with VideoWriter(film, fps=fps) as writer:
            for frame in face_frames(frames):
                writer.write(frame)
    old_video(root / "old", film=film, **more)
    if csv_rows is not None:
        folder = root / "old" / BASE / f"{OLD}_landmark_openface"
        folder.mkdir()
        points = [f"x_{k}" for k in range(68)] + [f"y_{k}" for k in range(68)]
        lines = [", ".join(["frame", "face_id", "confidence", "success", "gaze_0_x", *points])]
        for k in range(csv_rows):
            places = [*range(10, 78), *(y + k / 10 for y in range(20, 88))]
            lines.append(", ".join(map(str, [k + 1, 0, 0.98, 1, 9.5, *places])))
        (folder / "clip.csv").write_text("\n".join(lines))
    return root / "old"


def test_a_clip_has_its_video_as_source_and_landmarks_of_openface(tmp_path):
    root = filmed(tmp_path, frames=64, csv_rows=62, clips=range(7), sound=None)
    assert convert(root, out=tmp_path / "new").ok_ids == ["clip"]
    clip = ClipFolder(tmp_path / "new/clip")
    assert clip.has_video and len(clip) == 64 and clip.has("audio"), "the sound is the video's"
    track = clip.track()
    assert track.layout == "ibug68" and int(track.found.sum()) == 62 and track.valid[62:].all()
    np.testing.assert_allclose(track.points_px[5, 0], [10, 20.5])


def test_videos_and_landmarks_that_do_not_fit_are_told(tmp_path):
    report = convert(filmed(tmp_path / "fast", fps=25.9), out=tmp_path / "a")
    assert report.rejected["clip"].startswith("its video has 25.9 frames per second: features and pictures run apart")
    report = convert(filmed(tmp_path / "few", frames=40), out=tmp_path / "b")
    assert report.rejected["clip"] == "pictures are numbered to 62, its video has 40 frames"
    report = convert(filmed(tmp_path / "more", csv_rows=80), out=tmp_path / "c")
    (told,) = report.repairs
    assert told.startswith(
        "1 landmarks of OpenFace that cannot be used (has landmarks of frame 80, but the video has 63"
    )


def crop_landmarks(root, value, name="landmark_crop_dic.npy"):
    """The pickled landmarks of the frames of `clip`, `value(frame)` each."""
    names = {k: f"./{BASE}/{OLD}_crop_face/clip/{k // 9:06d}/{k:06d}.jpg" for k in range(63)}
    np.save(root / BASE / name, {path: value(k) for k, path in names.items()})


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_pickled_landmarks_in_the_crops_are_read_as_tensors_of_any_device(tmp_path, monkeypatch, device):
    torch = pytest.importorskip("torch")
    old_video(tmp_path, size=(208, 160))
    whole = torch.arange(63 * 68 * 2).reshape(63, 68, 2) % 150
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: device)
        crop_landmarks(tmp_path, lambda k: whole[k])
    assert convert(tmp_path, out=tmp_path / "new").ok_ids == ["clip"]
    track = ClipFolder(tmp_path / "new/clip").track()
    assert track.layout == "ibug68" and track.size == (104, 80)
    np.testing.assert_allclose(track.points_px, whole.numpy() / 2)


def test_the_oldest_pickled_landmarks_are_lists_and_empty_where_there_is_no_face(tmp_path):
    old_video(tmp_path)
    crop_landmarks(tmp_path, lambda k: [] if k in (3, 4) else [[float(k), 1.0]] * 68)
    report = convert(tmp_path, out=tmp_path / "new")
    clip = ClipFolder(tmp_path / "new/clip")
    assert report.repairs == {"2 pictures in which the old script found no face": ["clip"]}
    assert np.flatnonzero(~clip.faces(FRONTAL).valid).tolist() == [3, 4]
    assert clip.track().points_px[50, 0].tolist() == [50, 1]


class Runs:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return (print, ("code has run",))


class Larger:
    """A tensor that asks for more memory than there is."""

    def __reduce__(self):
        import torch

        storage = torch.zeros(4).storage()
        return (torch._utils._rebuild_tensor_v2, (storage, 0, (10**9, 2), (0, 0), False, {}))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Runs(), r"holds code \(builtins.print\)"),
        (Larger(), "larger than its storage"),
        ([[1.0, 2.0]] * 5, "68 landmarks"),
    ],
)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_other_pickles_are_refused_and_run_nothing(tmp_path, capsys, value, told):
    old_video(tmp_path)
    crop_landmarks(tmp_path, lambda k: value)
    with pytest.raises(DataError, match=rf"landmark_crop_dic.npy: .*{told}"):
        convert(tmp_path, out=tmp_path / "new")
    assert "code has run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["[]", '{"a": 1}', '{"a": {"clip_data_list": [{}]}}', '{"clip', '{"a": ' + "[" * 10**5]
)
def test_lists_that_are_none_are_refused_in_one_line(tmp_path, text):
    from talkingface.preprocess.converters.dubbing_lists import read_lists

    path = tmp_path / "training_json.json"
    path.write_text(text)
    with pytest.raises(DataError, match="training_json.json: ") as error:
        read_lists(path)
    assert "\n" not in str(error.value)


def test_damaged_features_fail_their_clip_alone(tmp_path):
    for name, text in {"a": "", "b": "1 2 three", "c": "1 2\n3"}.items():
        old_video(tmp_path, name)
        (tmp_path / BASE / f"{OLD}_deepspeech/{name}_deepspeech.txt").write_text(text)
    old_video(tmp_path, "narrow")
    np.savetxt(tmp_path / BASE / f"{OLD}_deepspeech/narrow_deepspeech.txt", np.zeros((63, 28)))
    report = convert(tmp_path, out=tmp_path / "new")
    assert {
        name: "_deepspeech.txt: not rows of numbers" in told for name, told in report.failed.items()
    } == dict.fromkeys("abc", True)
    assert report.repairs == {"1 features of deepspeech of another width than 29, left out": ["narrow"]}
    assert not ClipFolder(tmp_path / "new/narrow").has(HEARD) and ClipFolder(tmp_path / "new/narrow").has("audio")


def test_an_export_is_what_the_published_code_reads_and_converts_to_the_same_clip(tmp_path):
    old_video(tmp_path / "old", rows2=64, clips=(0, 1, 2, 3, 5, 6))
    convert(tmp_path / "old", out=tmp_path / "clips")
    out = tmp_path / "new"
    assert main(["convert-data", "--kind=lawdnet", f"--root={tmp_path / 'clips'}", f"--export={out}"]) == 0
    stored = json.loads((out / "training_json.json").read_text())
    assert list(stored) == ["clip"] and stored["clip"]["video_clip_num"] == 6
    fifth = stored["clip"]["clip_data_list"][4]
    assert fifth["frame_name_list"][0] == "clip/000005/000045.jpg"
    assert cv2.imread(fifth["frame_path_list"][0]).shape == (104, 80, 3)
    np.testing.assert_allclose(fifth["deep_speech_list"], [row(k) for k in range(45, 54)], rtol=1e-6)
    np.testing.assert_allclose(fifth["deep_speech_dp2_list"][0], row(45, "deepspeech2"), rtol=1e-6)
    convert(out, out=tmp_path / "again")
    first, second = (ClipFolder(tmp_path / name / "clip") for name in ("clips", "again"))
    for key in (HEARD, HEARD2):
        np.testing.assert_allclose(first.features(key).values, second.features(key).values, rtol=1e-6)
    np.testing.assert_array_equal(first.faces(FRONTAL).valid, second.faces(FRONTAL).valid)
    assert np.abs(first.faces(FRONTAL)[50].astype(int) - second.faces(FRONTAL)[50]).max() <= 3
    with pytest.raises(DataError, match="is there already, and is left as it is"):
        export_dubbing(tmp_path / "clips", out, "frontal", progress=False)
    old_video(tmp_path / "few", clips=range(5), rows=45)
    convert(tmp_path / "few", out=tmp_path / "few_clips")
    report = export_dubbing(tmp_path / "few_clips", tmp_path / "none", "frontal", progress=False)
    assert report.rejected["clip"].startswith("has 5 whole blocks of 9 frames with a face, 6 are needed")


def test_an_export_has_the_crops_of_its_kind_or_of_the_model_whichever_were_made_first(tmp_path):
    old_video(tmp_path / "old")
    for kind in ("lawdnet", "dinet"):
        convert(tmp_path / "old", out=tmp_path / kind, kind=kind)
    both, other = (ClipFolder(tmp_path / kind / "clip") for kind in ("lawdnet", "dinet"))
    upright = settings("upright").crop.artefact
    # As where LawDNet prepares a data set and DINet after it, its crops told apart by their black.
    writer = FaceWriter(both.path, upright, "npy")
    for _ in range(len(both)):
        writer.add(np.zeros((104, 80, 3), np.uint8))
    faces = other.faces(upright)
    files = writer.close(faces.boxes, {"size_hw": [104, 80], "frame_hw": [104, 80]}, faces.valid)
    meta = both.meta
    meta["steps"][upright] = {"files": list(files)}
    (both.path / "clip.json").write_text(json.dumps(meta))
    for name, shown in (("dinet", 0), (upright, 0), ("lawdnet", shade(20)), (FRONTAL, shade(20))):
        out = tmp_path / f"out {name}"
        if name in EXPORTERS:
            report = export_clips(name, tmp_path / "lawdnet", out, progress=False)
        else:
            report = export_dubbing(tmp_path / "lawdnet", out, name, progress=False)
        assert report.ok_ids == ["clip"]
        picture = cv2.imread(str(out / f"{OLD}_crop_face/clip/000002/000020.jpg"))
        assert abs(int(picture[50, 40, 0]) - shown) < 4, name
    report = export_clips("lawdnet", tmp_path / "dinet", tmp_path / "none", progress=False)
    assert report.rejected["clip"] == f"has no frontal crops, but {upright}"
