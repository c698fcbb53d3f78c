"""What is read of all clips, in one file."""

from __future__ import annotations

import os
import pickle
import shutil
import threading

import numpy as np
import pytest

from helpers.drawn_clips import make_clip
from talkingface.clips import pack as packs
from talkingface.clips.folder import ClipFolder
from talkingface.clips.pack import file_stamp, load_pack
from talkingface.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for name in ("a/0", "a/1", "b/0"):
        make_clip(root, name, 24)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "prepared")
    return tmp_path / "prepared"


class Reader:
    """Reads clips, and notes which."""

    def __init__(self, reasons=()):
        self.read, self.reasons, self.names = [], dict(reasons), ("numbers", "valid")

    def look(self, clip):
        self.read.append(clip.clip_id)
        if clip.clip_id in self.reasons:
            reason = self.reasons[clip.clip_id]
            if isinstance(reason, Exception):
                raise reason
            return reason
        value = float(np.load(clip.path / "mel.npy")[0, 0])
        return {"numbers": np.full((len(clip), 3), value, np.float32), "valid": np.arange(len(clip)) % 2 == 0}

    def __call__(self, root, names=("a/0", "a/1", "b/0"), about=1, stamp=None):
        clips = [ClipFolder(root / name) for name in names]
        stamp = stamp or (lambda clip: file_stamp(clip, ("mel",)))
        self.read.clear()
        return load_pack(
            "toy", about, self.names, clips, stamp, self.look, lambda function, some: list(map(function, some))
        )


def files(root):
    return sorted((root / packs.FOLDER).glob("*"))


def change(root, name, value):
    mel = np.load(root / name / "mel.npy")
    mel[0, 0] = value
    np.save(root / name / "mel.npy", mel)
    os.utime(root / name / "mel.npy", ns=(1, int(value * 1000)))  # the clock may be coarse


def test_a_second_start_opens_no_clip_and_gives_the_same(root):
    reader = Reader({"b/0": "too dark"})
    first = reader(root)
    assert reader.read == ["a/0", "a/1", "b/0"]
    second = reader(root)
    assert reader.read == []
    for pack in (first, second):
        assert [pack.reason(name) for name in ("a/0", "a/1", "b/0")] == [None, None, "too dark"]
        assert pack.array("a/1", "valid").dtype == bool
    np.testing.assert_array_equal(first.array("a/0", "numbers"), second.array("a/0", "numbers"))
    start = second.start("a/1", "numbers")
    np.testing.assert_array_equal(second.floats[start : start + 72], second.array("a/1", "numbers").ravel())


def test_only_what_has_changed_or_is_new_is_read_again(root):
    reader = Reader()
    reader(root, ("a/0", "a/1"))
    change(root, "a/1", 5.0)
    pack = reader(root)
    assert reader.read == ["a/1", "b/0"]  # of another list, and of one clip an older version
    assert (pack.array("a/1", "numbers") == 5).all()
    reader(root, ("b/0",))
    assert reader.read == []
    reader(root, about=2)
    assert reader.read == ["a/0", "a/1", "b/0"]


def test_clips_without_an_array_that_is_wanted_now_are_read_again(root):
    reader = Reader()
    reader(root)
    reader.names = ("numbers", "valid", "more")
    look = reader.look
    reader.look = lambda clip: {**look(clip), "more": np.zeros(1, np.int64)}
    assert reader(root).array("a/0", "more").tolist() == [0] and len(reader.read) == 3


def test_a_clip_that_cannot_be_read_now_is_tried_again(root):
    reader = Reader({"a/1": DataError(f"{root / 'a/1'}{os.sep}mel.npy: no permission")})
    assert reader(root).reason("a/1") == "mel.npy: no permission"
    reader.reasons.clear()
    assert reader(root).reason("a/1") is None and reader.read == ["a/1"]


def test_clips_without_their_files_are_looked_at_every_time(root):
    (root / "b/0" / "mel.npy").unlink()
    reader = Reader({"b/0": "has no mel"})
    for _ in range(2):
        assert reader(root).reason("b/0") == "has no mel" and "b/0" in reader.read


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: whole[:3], lambda whole: b"", lambda whole:
    whole.replace(b'"offset":', b'"offset":9')], ids=["cut", "short", "empty", "elsewhere"])  # fmt: skip
def test_a_damaged_file_is_made_anew(root, damage):
    reader = Reader()
    first = reader(root).array("a/0", "numbers").copy()
    (file,) = files(root)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = reader(root)
    assert len(reader.read) == 3 and file.read_bytes() == whole
    np.testing.assert_array_equal(again.array("a/0", "numbers"), first)


def test_no_more_than_a_few_are_kept_and_the_last_one_used_is_among_them(root, monkeypatch):
    monkeypatch.setattr(packs, "MOST_PACKS", 2)
    reader = Reader()
    for number, names in enumerate((("a/0",), ("a/1",), ("a/0",), ("b/0",), ("a/0",))):
        reader(root, names)
        for age, file in enumerate(sorted(files(root), key=lambda file: file.stat().st_mtime_ns)):
            os.utime(file, (1000 + 10 * number + age,) * 2)
    assert len(files(root)) == 2 and reader.read == []


def test_folders_that_cannot_be_written_and_clips_of_several_roots_serve_all_the_same(root, tmp_path, monkeypatch):
    reader = Reader()
    (root / packs.FOLDER).write_text("in the way")
    assert reader(root).array("a/0", "numbers").shape == (24, 3)
    elsewhere = shutil.copytree(root / "b", tmp_path / "other" / "b")
    clips = [ClipFolder(root / "a/0"), ClipFolder(elsewhere / "0")]
    pack = load_pack(
        "toy", 1, reader.names, clips, lambda clip: "x", reader.look, lambda function, some: list(map(function, some))
    )
    assert pack.array("b/0", "numbers").shape == (24, 3) and not (tmp_path / "other" / packs.FOLDER).exists()
    copy = pickle.loads(pickle.dumps(pack))
    np.testing.assert_array_equal(copy.array("b/0", "numbers"), pack.array("b/0", "numbers"))


def test_another_process_maps_the_same_file(root):
    pack = Reader()(root)
    content = pickle.dumps(pack)
    assert len(content) < 5000  # the numbers stay in the file
    np.testing.assert_array_equal(pickle.loads(content).array("a/0", "numbers"), pack.array("a/0", "numbers"))


def replace(root):
    """The pack at the same path made anew: one clip has become longer, so that the next lies elsewhere."""
    (old,) = files(root)
    reader = Reader()
    look = reader.look
    reader.look = lambda clip: {name: np.repeat(array, 2, axis=0) for name, array in look(clip).items()}
    change(root, "a/0", 7.0)
    change(root, "b/0", 9.0)
    reader(root)
    assert files(root) == [old]


@pytest.mark.parametrize("begone", [replace, lambda root: files(root)[0].unlink()], ids=["replaced", "removed"])
def test_another_process_never_reads_what_has_taken_the_place_of_the_file(root, begone):
    pack = Reader()(root)
    before, sent = pack.array("b/0", "numbers").copy(), pickle.dumps(pack)
    begone(root)
    with pytest.raises(DataError, match=r"\.pack: re(plac|mov)ed while a process that reads it began; start again"):
        pickle.loads(sent)
    for _ in range(2):  # sent afterwards, the numbers go along
        pack = pickle.loads(pickle.dumps(pack))
        np.testing.assert_array_equal(pack.array("b/0", "numbers"), before)


def test_another_start_that_uses_the_file_does_not_stop_a_process_that_begins(root):
    pack = Reader()(root)
    sent = pickle.dumps(pack)
    os.utime(files(root)[0], (1, 1))
    Reader()(root)
    np.testing.assert_array_equal(pickle.loads(sent).array("b/0", "numbers"), pack.array("b/0", "numbers"))


def test_a_clip_that_cannot_be_read_again_is_no_cause_to_write_all_others_again(root):
    (root / "b/0" / "mel.npy").unlink()
    reader = Reader({"a/1": DataError("no permission"), "b/0": "has no mel"})
    first = reader(root)
    (file,) = files(root)
    written = file.stat().st_ino, first.array("a/0", "numbers").copy()
    reader.reasons["a/1"] = DataError("no disk")
    again = reader(root)
    assert reader.read == ["a/1", "b/0"] and file.stat().st_ino == written[0]
    assert [again.reason(name) for name in ("a/0", "a/1", "b/0")] == [None, "no disk", "has no mel"]
    np.testing.assert_array_equal(again.array("a/0", "numbers"), written[1])
    reader.reasons["a/1"] = "too dark"
    assert reader(root).reason("a/1") == "too dark"
    assert reader(root).reason("a/1") == "too dark" and reader.read == ["b/0"]  # that is kept


def test_two_that_make_it_at_once_both_get_it(root):
    gate, found = threading.Barrier(2), []

    def start():
        reader = Reader()
        wait = reader.look
        reader.look = lambda clip: (clip.clip_id == "b/0" and gate.wait(10), wait(clip))[1]
        found.append(reader(root).array("a/0", "numbers").copy())

    both = [threading.Thread(target=start) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(20)
    np.testing.assert_array_equal(*found)
    assert [file.suffix for file in files(root)] == [".pack"]
