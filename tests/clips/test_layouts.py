"""Finding clips, reading lists, holding out."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from talkingface.clips.held_out import hold_out, warn_once
from talkingface.clips.layouts import LAYOUTS, SPLITS, make_layout
from talkingface.clips.prepared import prepared_ids
from talkingface.errors import ConfigError, DataError


def config(root, layout, **lists):
    names = {f"{split}_filelist": str(root / "filelist" / f"{split}.txt") for split in ("train", "val", "test")}
    (root / "filelist").mkdir(exist_ok=True)
    for split, text in lists.items():
        (root / "filelist" / f"{split}.txt").write_text(text)
    places = {"data_root": str(root / "data"), "preprocessed_root": str(root / "prepared"), "landmarks_root": ""}
    return SimpleNamespace(layout=layout, **places, **names)


def touch(root, *names):
    for name in names:
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_lrs2_lists_ignore_tags_and_lead_to_main(tmp_path):
    touch(tmp_path, "main/s1/001.mp4", "main/s1/002.mp4", "main/s2/003.mp4", "main/s9/999.mp4")
    settings = config(tmp_path, "lrs2", train="s1/001\ns1/002\n", val="s2/003 MV\n", test="s2/003 NF")
    layout = make_layout(settings)
    assert layout.split_ids(settings, "train") == ["s1/001", "s1/002"]
    assert layout.split_ids(settings, "test") == ["s2/003"]
    items = {item.clip_id: item for item in layout.find(settings)}
    assert list(items) == ["s1/001", "s1/002", "s2/003"]
    assert items["s2/003"].video == tmp_path / "data/main/s2/003.mp4" and items["s2/003"].speaker == "s2"


def test_data_root_may_be_main_itself(tmp_path):
    touch(tmp_path, "s1/001.mp4", "s2/002.mp4")
    settings = config(tmp_path, "lrs2", train="s1/001\ns2/002\n", test="s2/002\n")
    items = make_layout(settings).find(settings)
    assert [item.video.exists() for item in items] == [True, True]


def test_missing_val_list_holds_out_the_same_clips_every_time(tmp_path, caplog):
    ids = [f"s{k}/{n:03d}" for k in range(10) for n in range(20)]
    touch(tmp_path, *(f"main/{name}.mp4" for name in ids))
    settings = config(tmp_path, "lrs2", train="\n".join(ids), test="s0/000\n")
    layout = make_layout(settings)
    val, train = layout.split_ids(settings, "val"), layout.split_ids(settings, "train")
    assert len(val) == 4 and not set(val) & set(train) and set(val) | set(train) == set(ids) - {"s0/000"}
    assert val == make_layout(settings).split_ids(settings, "val")
    assert "holding out 4 of 199 clips" in caplog.text
    assert f"no val list at {settings.val_filelist}" in caplog.text
    settings.val_filelist = None
    assert make_layout(settings).split_ids(settings, "val") == val
    assert "no val list is named (val_filelist)" in caplog.text and "None" not in caplog.text


def test_missing_data_says_what_where_and_how_to_try(tmp_path):
    for name, address in (("lrs2", "robots.ox.ac.uk"), ("mead", "wywu.github.io"), ("folder", "--data_root")):
        settings = config(tmp_path, name)
        with pytest.raises(DataError, match="--dataset=demo") as error:
            make_layout(settings).find(settings)
        assert address in str(error.value) and str(tmp_path / "data") in str(error.value)
        assert "\n" not in str(error.value)
    touch(tmp_path, "main/s1/other.mp4")
    settings = config(tmp_path, "lrs2", train="s1/001\ns1/002", test="s1/001")
    with pytest.raises(DataError, match="none of the 2 listed clips is there"):
        make_layout(settings).find(settings)


def test_mead_takes_the_front_view_with_its_sound_and_holds_out_speakers(tmp_path):
    for person in ("M003", "W009", "W011", "M005"):
        for number in ("001", "002"):
            touch(tmp_path, f"{person}/video/front/angry/level_2/{number}.mp4")
            touch(tmp_path, f"{person}/video/left_30/angry/level_2/{number}.mp4")
            touch(tmp_path, f"{person}/audio/angry/level_2/{number}.m4a")
    settings = config(tmp_path, "mead")
    layout = make_layout(settings)
    items = layout.find(settings)
    assert len(items) == 8 and items[0].clip_id == "M003/front_angry_level_2_001"
    assert items[0].audio == tmp_path / "data/M003/audio/angry/level_2/001.m4a"
    assert layout.item(tmp_path / "data", "M003/front_angry_level_2_001") == items[0]
    found = splits(settings)
    speakers = [{clip.split("/")[0] for clip in ids} for ids in found]
    assert sum(map(len, found)) == 8 and sum(map(len, speakers)) == 4


def test_mead_archives_may_lie_in_a_folder_of_their_own_name(tmp_path):
    for person, deeper in (("M003", ""), ("W011", "W011/"), ("M005", "")):
        video = "video/video" if person == "M005" else f"{deeper}video"
        audio = "audio/audio" if person == "M005" else f"{deeper}audio"
        touch(tmp_path, f"{person}/{video}/front/angry/level_2/001.mp4", f"{person}/{audio}/angry/level_2/001.m4a")
    touch(tmp_path, "M003/video/video/front/angry/level_2/001.mp4")
    settings = config(tmp_path, "mead")
    layout, root = make_layout(settings), tmp_path / "data"
    items = {item.clip_id: item for item in layout.find(settings)}
    assert sorted(items) == [f"{person}/front_angry_level_2_001" for person in ("M003", "M005", "W011")]
    assert items["M003/front_angry_level_2_001"].video == root / "M003/video/front/angry/level_2/001.mp4"
    assert items["W011/front_angry_level_2_001"].audio == root / "W011/W011/audio/angry/level_2/001.m4a"
    for name, item in items.items():
        assert item.audio.exists() and layout.item(root, name) == item


ACTORS = ("M003", "M005", "M009", "M012", "W009", "W011")
CUT = [f"mead/{person}-{number:03d}" for person in ACTORS for number in range(1, 4)]


def people_of(settings):
    layout = make_layout(settings)
    return [{layout.speaker(clip_id) for clip_id in ids} for ids in splits(settings)]


def test_nobody_of_hyperlips_mead_lists_is_on_two_sides(tmp_path, caplog):
    touch(tmp_path, *(f"MEAD/{name.split('/')[1]}.mp4" for name in CUT))
    settings = config(tmp_path, "mead", train="\n".join(CUT))
    settings.val_filelist = settings.test_filelist = None
    train, val, test = people_of(settings)
    assert train | val | test == set(ACTORS) and val and test
    assert not (train & val or train & test or val & test), "a split by speaker puts everybody on one side"
    items = make_layout(settings).find(settings)
    assert [item.clip_id for item in items] == CUT and all(item.video.exists() for item in items), "MEAD/ on disk"
    assert {item.speaker for item in items} == set(ACTORS)
    assert "too few" not in caplog.text


@pytest.mark.parametrize("folder", ["", "mead/", "Mead/"])
def test_mead_clips_may_lie_flat_or_in_a_set_folder_of_any_case(tmp_path, folder):
    touch(tmp_path, *(f"{folder}{name.split('/')[1]}.mp4" for name in CUT))
    settings = config(tmp_path, "mead")
    assert [item.clip_id for item in make_layout(settings).find(settings)] == [
        name.replace("mead/", folder) for name in CUT
    ]
    train, val, test = people_of(settings)
    assert train | val | test == set(ACTORS) and len(train) + len(val) + len(test) == len(ACTORS)
    named = [make_layout(settings).item(tmp_path / "data", name) for name in CUT]
    assert all(item.video.exists() for item in named) and [item.clip_id for item in named] == CUT


def test_people_of_a_validation_list_are_not_trained_on(tmp_path):
    touch(tmp_path, *(f"MEAD/{name.split('/')[1]}.mp4" for name in CUT))
    held = [name for name in CUT if "M005" in name][:2]
    settings = config(tmp_path, "mead", val="\n".join(held), test="mead/W011-002")
    settings.train_filelist = None
    train, val, test = people_of(settings)
    assert (val, test) == ({"M005"}, {"W011"}) and train == set(ACTORS) - val - test
    found = [item.clip_id for item in make_layout(settings).find(settings)]
    assert len(found) == len(set(found)) == len(CUT) and set(held) < set(found), "one clip has one name"


def test_a_split_that_cannot_go_by_speaker_says_so(tmp_path, caplog):
    warn_once.cache_clear()
    touch(tmp_path, *(f"{person}/video/front/angry/level_2/{n}.mp4" for person in ("M003", "W009") for n in range(4)))
    found = splits(config(tmp_path, "mead"))
    assert all(found) and "2 speakers are too few to hold any out: clips are held out instead" in caplog.text
    (tmp_path / "two").mkdir()
    touch(tmp_path / "two", *(f"set{n}.mp4" for n in range(5)))
    assert all(splits(config(tmp_path / "two", "mead")))
    assert "who speaks in 5 of 5 clips cannot be told from their names (set0)" in caplog.text


def test_published_lists_that_share_speakers_are_taken_and_named(tmp_path, caplog):
    warn_once.cache_clear()
    settings = config(tmp_path, "mead", train="\n".join(CUT[1:]), val=CUT[0], test=CUT[0])
    assert splits(settings) == [CUT[1:], CUT[:1], CUT[:1]]
    assert "1 of 1 speakers of the val list are in the train list, too" in caplog.text


def test_lists_find_prepared_clips_in_folders_of_any_case(tmp_path, caplog):
    warn_once.cache_clear()
    for name in ("MEAD/M001-001", "MEAD/m002-001", "mead/M003-001", "MEAD/M003-001"):
        prepared(tmp_path, name)
    settings = config(tmp_path, "mead", train="mead/M001-001", val="mead/M002-001", test="mead/M003-001\nmead/M9-1")
    assert splits(settings) == [["MEAD/M001-001"], ["MEAD/m002-001"], ["mead/M003-001", "mead/M9-1"]]
    assert caplog.text.count("they are taken for the same") == 1
    assert "file lists write 'mead' where the folder of the clips is 'MEAD'" in caplog.text


def test_of_two_folders_that_differ_in_case_the_usable_one_is_meant(tmp_path):
    prepared(tmp_path, "mead/M001-001", "failed")
    prepared(tmp_path, "MEAD/M001-001")
    assert splits(config(tmp_path, "mead", train="mead/M001-001", test="mead/M001-001"))[2] == ["MEAD/M001-001"]


def test_the_old_tree_beside_prepared_clips_is_not_searched(tmp_path, monkeypatch):
    prepared(tmp_path, "MEAD/M001-001")
    prepared(tmp_path, "imgs/M002-001")
    assert prepared_ids(tmp_path / "prepared") == ["MEAD/M001-001", "imgs/M002-001"], "a set of this name"
    picture = tmp_path / "prepared/imgs/MEAD/M001-001/0.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"")
    assert prepared_ids(tmp_path / "prepared") == ["MEAD/M001-001"]


def test_without_lists_the_clips_of_a_film_stay_together(tmp_path):
    ids = [f"film{k}/{n:05d}" for k in range(6) for n in range(5)]
    touch(tmp_path, *(f"main/{name}.mp4" for name in ids))
    films = [{name.split("/")[0] for name in split} for split in splits(config(tmp_path, "lrs2"))]
    assert all(films) and len(set.union(*films)) == sum(map(len, films)) == 6


def test_folder_takes_any_tree_and_names_with_spaces(tmp_path, caplog):
    touch(tmp_path, "a b/one clip.MOV", "c/d/two.mkv", "three.mp4", "notes.txt", "three.webm", "c/d/two.wav")
    settings = config(tmp_path, "folder")
    items = {item.clip_id: item for item in make_layout(settings).find(settings)}
    assert list(items) == ["a b/one clip", "c/d/two", "three"]
    assert items["c/d/two"].audio == tmp_path / "data/c/d/two.wav" and items["three"].speaker == ""
    assert "three.webm: left out" in caplog.text
    settings = config(tmp_path, "folder", train="a b/one clip.MOV\n", val="three\n", test="c/d/two\n")
    layout = make_layout(settings)
    assert layout.split_ids(settings, "train") == ["a b/one clip"]
    assert layout.item(tmp_path / "data", "a b/one clip").video.suffix in (".MOV", ".mp4")


def test_folder_without_lists_gives_every_split_a_clip(tmp_path):
    touch(tmp_path, "one.mp4", "two.mp4", "three.mp4")
    settings = config(tmp_path, "folder")
    found = splits(settings)
    assert [len(ids) for ids in found] == [1, 1, 1] and len(set(sum(found, []))) == 3


def test_hold_out_does_not_depend_on_order_and_survives_few_clips():
    ids = [f"{k}" for k in range(100)]
    train, val, test = hold_out(ids, 2, 0.05)
    assert (len(train), len(val), len(test)) == (90, 5, 5)
    assert set(hold_out(ids[::-1], 2, 0.05)[1]) == set(val)
    assert hold_out(["only"], 2, 0.05) == [["only"]] * 3
    assert hold_out([], 2, 0.05) == [[], [], []]


def test_lists_cannot_lead_out_of_the_data_root(tmp_path, caplog):
    touch(tmp_path, "main/s1/001.mp4")
    settings = config(tmp_path, "lrs2", train="../../secret\n", test="s1/001\n")
    with pytest.raises(DataError, match=r"train\.txt: no line names a clip below the data root"):
        make_layout(settings).find(settings)
    assert "train.txt:1: left out, '../../secret' is not a clip name below the data root" in caplog.text


def test_unknown_layout_and_split_are_named(tmp_path):
    with pytest.raises(ConfigError, match="layout: 'vox' is not known; choose .*lrs2"):
        make_layout(SimpleNamespace(layout="vox"))
    with pytest.raises(DataError, match="split 'dev' is not known"):
        make_layout(config(tmp_path, "folder")).split_ids(config(tmp_path, "folder"), "dev")
    assert set(LAYOUTS) >= {"lrs2", "mead", "folder", "demo"}


def prepared(root, name, status="ok"):
    folder = root / "prepared" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clip.json").write_text(json.dumps({"format": 1, "clip_id": name, "status": status}))


def splits(settings):
    return [make_layout(settings).split_ids(settings, name) for name in SPLITS]


def test_prepared_clips_stand_in_for_videos_that_are_gone(tmp_path):
    names = ["a/1", "a/2", "a/3"]
    for name in names:
        prepared(tmp_path, name)
    settings = config(tmp_path, "lrs2")
    assert sorted(sum(splits(settings), [])) == names == make_layout(settings).known_ids(settings)


@pytest.mark.parametrize(
    "name, split", [("typo.txt", "train"), ("typo.txt", "val"), ("foldr/filelist/test.txt", "test")]
)
def test_a_list_that_is_named_but_missing_is_an_error(tmp_path, name, split):
    touch(tmp_path, "one.mp4", "two.mp4", "three.mp4")
    settings = config(tmp_path, "folder")
    setattr(settings, f"{split}_filelist", str(tmp_path / name))
    layout = make_layout(settings)
    for call in (lambda: layout.split_ids(settings, "train"), lambda: layout.find(settings)):
        with pytest.raises(DataError, match=f"{name}: the {split} file list does not exist; .*--{split}_filelist=null"):
            call()
    setattr(settings, f"{split}_filelist", None)
    assert len(layout.split_ids(settings, "train")) == 1, "no name at all is a wish for the automatic split"


@pytest.mark.parametrize("there, missing", [("train", "test"), ("test", "train"), ("val", "train")])
def test_lists_that_lack_one_of_them_are_an_error(tmp_path, there, missing):
    touch(tmp_path, "one.mp4", "two.mp4", "three.mp4")
    settings = config(tmp_path, "folder", **{there: "one\n"})
    with pytest.raises(DataError, match=rf"filelist/{missing}\.txt: the {missing} file list does not exist"):
        splits(settings)


def test_mead_line_of_no_known_form_is_a_clip_that_is_not_there(tmp_path):
    touch(tmp_path, "M003/video/front/angry/level_2/001.mp4", "set/flat_one.mp4")
    lines = ["M003/front_angry_level_2_001", "M003/abc", "M003", "M003/front__level_2_001", "set/flat_one"]
    settings = config(tmp_path, "mead", train="\n".join(lines), test=lines[0])
    items = {item.clip_id: item.video.exists() for item in make_layout(settings).find(settings)}
    assert items == {name: name in (lines[0], lines[-1]) for name in lines}


def test_clips_are_held_out_of_the_usable_ones(tmp_path, caplog):
    names = [f"{k:02d}" for k in range(30)]
    touch(tmp_path, *(f"{name}.mp4" for name in names))
    for k, name in enumerate(names):
        prepared(tmp_path, name, ("ok", "rejected", "failed")[k % 3])
    settings = config(tmp_path, "folder")
    train, val, test = splits(settings)
    assert sorted(train + val + test) == names[::3] and val and test
    assert [train, val, test] == splits(settings)
    assert "holding out 1 of 10 clips (20 unusable ones left out)" in caplog.text
    assert make_layout(settings).known_ids(settings) == names, "rejected clips are tried again after a change"


def test_clips_are_looked_at_once_for_all_splits_of_a_layout(tmp_path, monkeypatch):
    names = [f"{k:02d}" for k in range(30)]
    touch(tmp_path, *(f"{name}.mp4" for name in names))
    looked, settings = [], config(tmp_path, "folder")
    monkeypatch.setattr("talkingface.clips.layout._given_up", lambda folder: looked.append(folder.name) or False)
    layout = make_layout(settings)
    parts = [layout.split_ids(settings, name) for name in SPLITS]
    assert sorted(sum(parts, [])) == names == sorted(looked)
    (tmp_path / "filelist" / "test.txt").write_text("00\n")
    (tmp_path / "filelist" / "train.txt").write_text("\n".join(names))
    assert [layout.split_ids(settings, name) for name in SPLITS] == splits(settings) != parts, "other lists are read"


def test_a_stricter_filter_moves_no_clip_to_another_split(tmp_path):
    names = [f"{k:02d}" for k in range(60)]
    touch(tmp_path, *(f"{name}.mp4" for name in names))
    settings = config(tmp_path, "folder")
    before = splits(settings)
    for k, name in enumerate(names):
        prepared(tmp_path, name, "rejected" if k % 4 == 0 and name not in before[1][:1] + before[2][:1] else "ok")
    after = splits(settings)
    assert all(set(new) <= set(old) for new, old in zip(after, before))
    assert sum(map(len, after)) < sum(map(len, before))
    for name in before[1]:
        prepared(tmp_path, name, "rejected")
    assert all(splits(settings)), "a part that would be empty is held out of the usable clips"


def test_bytes_that_are_no_text_become_readable_clip_names(tmp_path):
    try:
        touch(tmp_path, os.fsdecode(b"caf\xe9/\xff.mp4"))
    except OSError:
        pytest.skip("this file system takes no such name")
    [item] = make_layout(config(tmp_path, "folder")).scan(tmp_path / "data")
    assert (item.clip_id, item.speaker, item.video.exists()) == ("caf%E9/%FF", "caf%E9", True)


@pytest.mark.parametrize("good", [1, 2])
def test_too_few_usable_clips_serve_every_split(tmp_path, good, caplog):
    names = ["a", "b", "c", "d"]
    touch(tmp_path, *(f"{name}.mp4" for name in names))
    for k, name in enumerate(names):
        prepared(tmp_path, name, "ok" if k < good else "rejected")
    warn_once.cache_clear()
    assert splits(config(tmp_path, "folder")) == [names[:good]] * 3
    assert f"{good} clips are too few to hold any out" in caplog.text


def test_landmark_files_of_a_data_set_may_lie_in_a_folder_of_their_own(tmp_path):
    touch(tmp_path, "s1/a.mp4", "s1/b.mp4", "s1/b.landmarks.csv", "c.mp4")
    asked = config(tmp_path, "folder")
    asked.landmarks_root = str(tmp_path / "csv")
    with pytest.raises(DataError, match="csv: the folder of landmark files"):
        make_layout(asked).find(asked)
    for name in ("s1/a.csv", "s1/b.csv"):
        (tmp_path / "csv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "csv" / name).touch()
    found = {item.clip_id: item.landmarks for item in make_layout(asked).find(asked)}
    assert found == {
        "s1/a": tmp_path / "csv/s1/a.csv",
        "s1/b": tmp_path / "data/s1/b.landmarks.csv",  # what lies beside the video comes first
        "c": None,
    }
