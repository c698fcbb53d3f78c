"""File lists as people write them: one clip has one name, and a bad line spoils no other."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from talkingface.clips.held_out import warn_once
from talkingface.clips.layouts import make_layout
from talkingface.clips.lists import canonical
from talkingface.errors import DataError


@pytest.fixture(autouse=True)
def fresh():
    warn_once.cache_clear()


def layout(root, kind, text, files):
    """A layout, its configuration with one list, and the files of the data set."""
    for name in files:
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / "train.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    names = dict.fromkeys(("val_filelist", "test_filelist"))
    settings = SimpleNamespace(
        layout=kind,
        data_root=str(root / "data"),
        preprocessed_root=str(root / "prepared"),
        landmarks_root="",
        train_filelist=str(root / "train.txt"),
        **names,
    )
    return make_layout(settings), settings


WAYS = ["spk1/00001", "./spk1/00001", "main/spk1/00001", "./main/spk1/00001", "spk1//00001", "spk1/./00001"]
WAYS += ["spk1/00001.mp4", "spk1\\00001", "/spk1/00001", "spk1/00001 NF:12 tag", "spk1/00001.MP4"]


@pytest.mark.parametrize("line", WAYS)
def test_a_clip_of_lrs2_has_one_name_and_one_speaker_however_it_is_listed(tmp_path, line):
    made, settings = layout(tmp_path, "lrs2", f"{line}\nspk2/00001\n", ["main/spk1/00001.mp4", "main/spk2/00001.mp4"])
    items = made.find(settings)
    assert [(item.clip_id, item.speaker) for item in items] == [("spk1/00001", "spk1"), ("spk2/00001", "spk2")]
    assert all(item.video.exists() for item in items)


def test_all_ways_of_writing_a_clip_are_one_clip(tmp_path):
    made, settings = layout(tmp_path, "lrs2", "\n".join(WAYS), ["main/spk1/00001.mp4"])
    assert made.listed_ids(settings, "train") == ["spk1/00001"]


def test_folders_named_like_the_layout_are_still_speakers(tmp_path):
    made, settings = layout(tmp_path, "lrs2", "main/00001\n", ["main/main/00001.mp4"])
    assert [(item.clip_id, item.speaker) for item in made.find(settings)] == [("main/00001", "main")]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_marks_and_line_ends_of_windows_do_no_harm(tmp_path, mark, end):
    text = mark + end.join([b"spk1/00001", b"", b"# a comment", b"  spk1/00002\tNF  ", b""])
    made, settings = layout(tmp_path, "lrs2", text, [])
    assert made.listed_ids(settings, "train") == ["spk1/00001", "spk1/00002"]


@pytest.mark.parametrize(
    "line", ["/", ".", "./", "a/../../b", "C:/films/a", "a/\x00b", "a/\x1b[2J", "a/" + "x" * 300, "a/" * 900 + "b"]
)
def test_a_line_that_names_no_clip_is_left_out_and_the_others_are_used(tmp_path, caplog, line):
    made, settings = layout(tmp_path, "folder", f"one\n{line}\ntwo\n", ["one.mp4", "two.mp4"])
    assert [item.clip_id for item in made.find(settings)] == ["one", "two"]
    assert "train.txt:2: left out, '" in caplog.text and len(caplog.text) < 500
    assert not set(caplog.text) & {"\x00", "\x1b"}


def test_the_lines_of_a_binary_file_are_counted_and_not_all_shown(tmp_path, caplog):
    binary = "".join(f"\0{number}\n" for number in range(1000))
    made, settings = layout(tmp_path, "folder", f"one\n{binary}", ["one.mp4"])
    assert [item.clip_id for item in made.find(settings)] == ["one"]
    assert caplog.text.count("left out, '") == 5 and "995 further lines are left out" in caplog.text


@pytest.mark.parametrize("data", [b"\x93NUMPY\x01\x00v\x00{", b"\xff\xfeo\0n\0e\0", bytes(range(256))])
def test_another_file_than_a_list_is_one_line(tmp_path, data):
    made, settings = layout(tmp_path, "folder", data, ["one.mp4"])
    with pytest.raises(DataError, match=r"train\.txt: cannot read this file list: it is not UTF-8 text \(byte \d+\)$"):
        made.find(settings)


def test_names_as_long_as_the_system_allows_are_found(tmp_path):
    name = "n" * 251
    made, settings = layout(tmp_path, "folder", f"{name}\n{name}xxxx\n", [f"{name}.mp4"])
    assert [item.video.exists() for item in made.find(settings)[:1]] == [True]
    assert len(made.scan(tmp_path / "data")) == 1


def test_a_list_without_any_clip_is_an_error(tmp_path):
    made, settings = layout(tmp_path, "lrs2", "/\n.\n", [])
    with pytest.raises(DataError, match=r"train\.txt: no line names a clip"):
        made.find(settings)


def test_the_file_that_a_list_names_is_the_one_that_is_used(tmp_path):
    files = ["d/dup.mp4", "d/dup.avi", "d/UPPER.MP4", "d/12:30 talk.mp4", "ok.mp4"]
    text = "d/dup.avi\nd/UPPER.MP4\nd/12:30 talk.mp4\nok.mp4\td1\t3.2\n"
    made, settings = layout(tmp_path, "folder", text, files)
    found = {item.clip_id: item.video.relative_to(tmp_path / "data").as_posix() for item in made.find(settings)}
    assert found == {
        "d/dup": "d/dup.avi",
        "d/UPPER": "d/UPPER.MP4",
        "d/12:30 talk": "d/12:30 talk.mp4",
        "ok": "ok.mp4",
    }


def test_links_to_folders_are_followed_and_loops_are_cut(tmp_path, caplog):
    made, settings = layout(tmp_path, "folder", "", ["fold/one.mp4"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "two.mp4").write_bytes(b"x")
    root = tmp_path / "data"
    os.symlink(elsewhere, root / "linkdir")
    os.symlink(root, root / "fold" / "loop")
    os.symlink(tmp_path / "gone.mp4", root / "gone.mp4")
    assert sorted(item.clip_id for item in made.scan(root)) == ["fold/one", "linkdir/two"]
    assert "gone.mp4: left out, a link to a file that is not there" in caplog.text


def test_names_keep_their_dots():
    assert canonical("a.b/c.d.e") == "a.b/c.d.e"
