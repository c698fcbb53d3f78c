"""Which generated video belongs to which real one."""

from __future__ import annotations

import pytest

from talkingface.evaluation.pairing import pair, videos_of_run
from talkingface.evaluation.report.result import safe_name


def test_names_match_below_the_folder_and_whoever_is_alone_is_named():
    found = pair(["a/1", "b/1", "c"], ["a/1", "b/2", "c"])
    assert found.partner == {"a/1": "a/1", "c": "c"}
    assert (found.unmade, found.strange) == (["b/2"], ["b/1"])


def test_a_name_with_an_accent_is_the_same_in_both_spellings():
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert pair([apart, "b"], [composed, "b"]).partner == {"b": "b", apart: composed}
    found = pair([apart, "b"], [composed, apart, "b"])
    assert found.partner[apart] == apart and found.unmade == [composed], "the same spelling comes first"


@pytest.mark.parametrize(
    ("made", "real"),
    [
        ("id00_00006", "id00/00006"),  # flat, as our reports and many scripts write
        ("id00/00006", "id00_00006"),
        ("id00_00006", "main/id00/00006"),  # LRS2's own folder in front
        ("id00/00006", "main/id00/00006"),
        ("results/id00/00006", "id00/00006"),
        ("M003/front_angry_1_001", "M003_front_angry_1_001"),
        (safe_name("M003/front_angry_1_001"), "M003/front_angry_1_001"),  # ours, with a hash behind it
        ("00006", "id00/00006"),
    ],
)
def test_a_name_may_be_written_flat_or_with_folders_in_front(made, real):
    assert pair([made, "x/1"], [real, "y/2"]).partner == {made: real}


def test_what_may_be_one_of_two_is_neither():
    assert pair(["00006"], ["id00/00006", "id01/00006"]).partner == {}
    assert pair(["a/b_c", "a_b/c"], ["a_b_c"]).partner == {}
    assert pair(["x/1"], ["y/1"]).partner == {}, "two folders in front of one name are two clips"
    assert pair(["generated/a_1", "shuffled/a_1"], ["a/1"]).partner == {}


def test_a_sure_name_keeps_others_from_its_partner():
    found = pair(["a/1", "a_1"], ["a/1"])
    assert found.partner == {"a/1": "a/1"} and found.strange == ["a_1"]


def test_a_run_folder_stands_for_the_videos_that_it_generated(tmp_path):
    videos = tmp_path / "run" / "eval" / "videos" / "generated"
    videos.mkdir(parents=True)
    for folder in (tmp_path / "run", tmp_path / "run" / "eval", videos.parent, videos):
        assert videos_of_run(folder) == videos
    (tmp_path / "other" / "generated").mkdir(parents=True)
    assert videos_of_run(tmp_path / "other") == tmp_path / "other"
