"""Prepared clips that somebody has damaged or changed: each is left out with its reason, the others serve."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from helpers.drawn_clips import CROP, make_clip
from talkingface.clips.crop_pictures import encode_jpeg
from talkingface.clips.dataset import ClipDataset
from talkingface.clips.face_store import FaceStore, FaceWriter
from talkingface.clips.folder import ClipFolder, usable_clips
from talkingface.clips.meta import load_meta
from talkingface.clips.windows import known_columns
from talkingface.errors import DataError
from talkingface.faces.track import LandmarkTrack
from talkingface.models.iplap.points import stored_points

FACES = CROP.artefact


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A prepared clip of 30 frames."""
    return make_clip(tmp_path_factory.mktemp("drawn"), "a", 30)


@pytest.fixture
def clip(drawn, tmp_path):
    """A copy of it to be damaged."""
    return ClipFolder(shutil.copytree(drawn.path, tmp_path / "a"))


def changed(clip: ClipFolder, **values) -> ClipFolder:
    """The clip with other values in `clip.json`; dots lead into parts."""
    meta = json.loads((clip.path / "clip.json").read_text())
    for key, value in values.items():
        *parts, last = key.split("__")
        place = meta
        for part in parts:
            place = place[part]
        place[last] = value
    (clip.path / "clip.json").write_text(json.dumps(meta))
    return ClipFolder(clip.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frames", "30"),
        ("frames", -1),
        ("frames", 10**30),
        ("frames", True),
        ("frames", None),
        ("fps", 0),
        ("fps", float("nan")),
        ("fps", [25]),
        ("status", "fine"),
        ("speaker", 7),
        ("clip_id", ""),
        ("clip_id", ["a"]),
        ("steps", []),
        ("steps", {"mel": "mel.npy"}),
        ("steps__mel", {"files": "mel.npy"}),
        ("steps__mel", {"files": ["/etc/passwd"]}),
        ("steps__mel", {"files": ["../other/mel.npy"]}),
        ("steps__mel", {"files": ["mel.npy\0"]}),
        ("steps__mel", {"files": [".."]}),
        ("steps__mel", {"files": ["m" * 300]}),
        ("steps__mel", {"facts": 3}),
        ("source", "a.mp4"),
        ("source", {"path": {}}),
        ("source", {"path": "a\0.mp4"}),
        ("rejected_by", []),
        ("format", 2),
        ("format", "1"),
    ],
)
def test_a_wrong_value_in_clip_json_is_named_and_leaves_out_the_clip(clip, key, value):
    bad = changed(clip, **{key: value})
    (kept, dropped), others = usable_clips([bad, clip], ("mel",)), [clip]
    assert kept == others
    assert dropped == [(bad.clip_id, bad.problem)] and len(bad) == 0 and bad.status == ""
    assert bad.problem.startswith(f"{clip.path / 'clip.json'}: ") and "preprocess this clip again" in bad.problem
    assert key.replace("__", ".") in bad.problem and "\n" not in bad.problem


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"format": 1, "format": 1}', "[" * 10**5, "\ud800"])
def test_another_file_in_the_place_of_clip_json_is_one_line(clip, text):
    (clip.path / "clip.json").write_text(text, errors="surrogatepass")
    with pytest.raises(DataError, match=r"clip\.json: .*"):
        load_meta(clip.path)
    assert ClipFolder(clip.path).reason


def test_a_clip_without_clip_json_is_not_preprocessed(tmp_path):
    assert usable_clips([ClipFolder(tmp_path)]) == ([], [(tmp_path.name, "not preprocessed")])


def test_what_is_shown_of_a_clip_spoils_no_terminal(clip):
    shown = changed(clip, status="rejected", reason="\x1b[2J\n\ud800", speaker="a\tb")
    assert (shown.reason, shown.speaker) == (r"\x1b[2J\x0a\ud800", r"a\x09b")


def test_links_out_of_the_clip_are_not_followed(clip, tmp_path):
    (tmp_path / "secret.npy").write_bytes((clip.path / "mel.npy").read_bytes())
    (clip.path / "mel.npy").unlink()
    (clip.path / "mel.npy").symlink_to(tmp_path / "secret.npy")
    assert not clip.has("mel")
    with pytest.raises(DataError, match=r"mel\.npy: is a link that leads out of the clip's folder"):
        clip.mel()
    shutil.move(tmp_path / "secret.npy", clip.path / "own.npy")
    (clip.path / "mel.npy").unlink()
    (clip.path / "mel.npy").symlink_to("own.npy")
    assert clip.has("mel") and clip.mel().shape[0] == 80
    (tmp_path / "moved").symlink_to(clip.path)
    assert ClipFolder(tmp_path / "moved").mel().shape[0] == 80, "the folder itself may lie elsewhere"
    (clip.path / "mel.npy").unlink()
    os.mkfifo(clip.path / "mel.npy")
    assert not clip.has("mel")


def test_artefacts_of_another_length_are_refused(clip):
    other = changed(clip, frames=29)
    for read in (other.track, lambda: other.faces(FACES), lambda: stored_points(other)):
        with pytest.raises(DataError, match="has 30 frames, the clip has 29; delete it and preprocess again"):
            read()


def test_facts_that_are_no_numbers_are_named(clip):
    other = changed(clip, steps__audio={"facts": {"moved_frames": "many"}})
    with pytest.raises(DataError, match=r"clip\.json: facts of audio: 'moved_frames' must be a number, not many"):
        known_columns(other, 100)


def packed(tmp_path, count=5, **meta) -> None:
    writer = FaceWriter(tmp_path, "faces")
    for k in range(count):
        writer.add(np.full((32, 32, 3), 40 * k, np.uint8))
    boxes = np.tile(np.array([1, 2, 50, 60], np.float32), (count, 1))
    writer.close(boxes, {"size": 32, "frame_hw": [100, 120], **meta})


def rewritten(tmp_path, **arrays) -> None:
    with np.load(tmp_path / "faces.npz") as stored:
        np.savez(tmp_path / "faces.npz", **{**stored, **arrays})


@pytest.mark.parametrize(
    "meta",
    [
        {"size": 0},
        {"size": 10**9},
        {"size": "32"},
        {"frame_hw": 3},
        {"frame_hw": [0, 5]},
        {"frame_hw": [10**9, 5]},
        {"frame_hw": [1, 2, 3]},
        {"storage": "zip"},
    ],
)
def test_a_face_index_with_wrong_settings_is_one_line(tmp_path, meta):
    packed(tmp_path)
    described = {"size": 32, "frame_hw": [100, 120], **meta}
    for text in (json.dumps(described), "[]", "{", '{"size": 32}'):
        rewritten(tmp_path, meta=np.array(text))
        with pytest.raises(DataError, match=r"faces\.npz: unreadable \(.*preprocess again$"):
            FaceStore(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"boxes": np.full((5, 4), 1e30, np.float32)}, "far outside the frame"),
        ({"boxes": np.tile(np.array([9, 9, 1, 1], np.float32), (5, 1))}, "boxes that are none"),
        ({"boxes": np.zeros((4, 4), np.float32)}, "5 faces for 4 boxes"),
        ({"boxes": np.zeros((5, 3), np.float32)}, r"expected floats \(5, 4\)"),
        ({"offsets": np.array([0, 100, 50, 60, 70, 80])}, "its offsets do not rise"),
        ({"offsets": np.array([-5, 0, 5, 6, 7, 8])}, "its offsets do not rise"),
        ({"offsets": np.arange(6) * 2**60}, "ends at byte"),
        ({"offsets": np.arange(6) * 1.0}, "expected whole numbers"),
    ],
)
def test_a_face_index_that_cannot_be_right_is_refused_at_once(tmp_path, arrays, why):
    packed(tmp_path)
    rewritten(tmp_path, **arrays)
    with pytest.raises(DataError, match=why):
        FaceStore(tmp_path)


def test_pictures_shorter_than_their_index_are_found_when_it_is_opened(tmp_path):
    packed(tmp_path)
    blob = (tmp_path / "faces.bin").read_bytes()
    (tmp_path / "faces.bin").write_bytes(blob[:-1])
    with pytest.raises(DataError, match=rf"faces\.bin: ends at byte {len(blob) - 1:,}, its index at {len(blob):,}"):
        FaceStore(tmp_path)
    (tmp_path / "faces.bin").unlink()
    with pytest.raises(DataError, match=r"faces\.bin: cannot be read"):
        FaceStore(tmp_path)


def test_a_picture_of_another_size_is_not_even_decoded(tmp_path, monkeypatch):
    import cv2

    packed(tmp_path)
    large = encode_jpeg(np.zeros((2000, 2000, 3), np.uint8))
    (tmp_path / "faces.bin").write_bytes(large)
    rewritten(tmp_path, offsets=np.array([0, *[len(large)] * 5]))
    faces = FaceStore(tmp_path)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a bomb would unfold here"))
    with pytest.raises(DataError, match=r"faces\.bin: face 0 is damaged"):
        faces[0]


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"size": np.array([0, 5], np.int32)}, "a frame of 5 x 0 pixels is none"),
        ({"layout": np.array("ibug68")}, "holds 478 points, which are not 'ibug68'"),
        ({"layout": np.array("x" * 1000)}, f"which are not '{'x' * 20}'"),
        ({"points_px": np.full((30, 478, 2), np.inf, np.float32)}, "points far outside the frame"),
        ({"points_px": np.full((30, 478, 2), -1e20, np.float32)}, "points far outside the frame"),
        ({"points_px": np.zeros((29, 478, 2), np.float32)}, r"'found': it holds bool \(30,\)"),
        ({"points_px": np.zeros((30, 478), np.float32)}, r"expected floats \(frames, points, 2\)"),
        ({"points_px": np.zeros((30, 478, 2), np.int32)}, "it holds int32"),
        ({"valid": np.ones(30, np.int64)}, "expected truth values"),
        ({"provider": np.array(3)}, "expected text"),
    ],
)
def test_landmarks_that_cannot_be_right_are_refused(clip, arrays, why):
    with np.load(clip.path / "landmarks.npz") as stored:
        np.savez(clip.path / "landmarks.npz", **{**stored, **arrays})
    with pytest.raises(DataError, match=rf"landmarks\.npz: .*{why}"):
        LandmarkTrack.load(clip.path / "landmarks.npz")


def test_points_that_were_kept_are_made_anew_where_they_are_damaged(clip):
    good = stored_points(clip)
    kept = clip.path / "landmarks131.npz"
    whole = kept.read_bytes()
    with np.load(kept) as stored:
        arrays = dict(stored)
    for wrong in ({"points_px": arrays["points_px"] + np.inf}, {"valid": np.ones(3, bool)}, {"size": np.zeros(2, int)}):
        np.savez(kept, **{**arrays, **wrong})
        np.testing.assert_array_equal(stored_points(clip).points_px, good.points_px)
        assert kept.read_bytes() == whole


class Windows(ClipDataset):
    """Items that read a face and the mel."""

    def usable(self, clip):
        clip.faces(FACES), clip.mel_columns()
        return super().usable(clip)

    def sample(self, clip, rng):
        return {"clip": clip.clip_id, "draw": rng.random(), "mel": clip.mel(), "face": clip.faces(FACES)[3]}


@pytest.fixture
def three(drawn, tmp_path):
    """Copies a, b and c."""
    return [ClipFolder(shutil.copytree(drawn.path, tmp_path / name), clip_id=name) for name in "abc"]


def test_a_clip_whose_files_cannot_be_read_is_left_out_of_training_and_counted(three, caplog):
    for clip in three[:2]:
        (clip.path / "mel.npy").write_bytes((clip.path / "mel.npy").read_bytes()[:500])
    data = Windows(three, "train")
    assert [clip.clip_id for clip in data.clips] == ["c"]
    assert "2 of 3 clips left out: 2 x mel.npy: unreadable (it ends before its" in caplog.text
    assert "preprocess again (a, ...)" in caplog.text and "Traceback" not in caplog.text
    with pytest.raises(DataError, match="none of 2 clips can be used: 2 x mel.npy"):
        Windows(three[:2], "train")


def test_damage_inside_that_training_comes_upon_passes_over_the_clip_and_is_said_once(three, caplog):
    mel = np.load(three[0].path / "mel.npy")
    mel[3, 4] = np.nan
    np.save(three[0].path / "mel.npy", mel)
    data, intact = Windows(three, "train", {"draw": "order"}), Windows(three[1:], "train", {"draw": "order"})
    assert len(data.clips) == 3, "the header says nothing of it"
    items = [data[key] for key in range(6)]
    assert [item["clip"] for item in items] == ["b", "b", "c"] * 2
    assert items[0]["draw"] == data[0]["draw"] != intact[1]["draw"], "the same for the same key"
    assert caplog.text.count("a is passed over: ") == 1 and "holds numbers that are not finite" in caplog.text
    for clip in three[1:]:
        np.save(clip.path / "mel.npy", mel)
    with pytest.raises(DataError, match="holds numbers that are not finite"):
        data[0]
