"""Shares of a data set, prepared apart and put together: the same manifest as from one run, whatever was killed."""

from __future__ import annotations

import pytest

from helpers.notes_step import TRAP
from helpers.preparing import item, run, steps_with
from talkingface.cli import main
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import DataError
from talkingface.preprocess.manifest import FILE as MANIFEST
from talkingface.preprocess.prepare import Preprocessor
from talkingface.preprocess.rejections import FILE as REJECTIONS
from talkingface.preprocess.shards import in_shard

pytest.importorskip("mediapipe")
LISTS = (MANIFEST, REJECTIONS)
MADE = ("mel", "notes")


@pytest.fixture
def items(videos):
    names = {"s/0": "good", "s/1": "good", "t/0": "mute", "t/1": "broken", "u/0": "good"}
    return [item(videos[kind], name) for name, kind in names.items()]


def merge(items, root):
    settings = PreprocessConfig(workers=0)
    return Preprocessor(steps_with(MADE, settings), settings, root, progress=False).merge(items)


def prepare_share(items, root, shard: str, workers: int = 0):
    return run(in_shard(items, shard), root, MADE, PreprocessConfig(workers=workers, shard=shard))


def test_shares_have_every_clip_once_and_differ_by_one_at_most():
    names = [str(number) for number in range(10)]
    shares = [in_shard(names, f"{number}/4") for number in (1, 2, 3, 4)]
    assert sorted(sum(shares, [])) == names and {len(share) for share in shares} == {2, 3}
    assert in_shard(names, None) == names and in_shard(names[:1], "2/2") == []


def test_shards_merge_into_the_lists_of_one_run_though_a_worker_was_killed(items, tmp_path):
    run(items, tmp_path / "whole", MADE)
    parts = tmp_path / "parts"
    prepare_share(items, parts, "2/2")
    assert not any((parts / name).exists() for name in LISTS), "a shard does not know the other clips"
    with pytest.raises(DataError, match=r"3 of 5 clips are not prepared yet \(s/0, t/0, u/0\).*--merge"):
        merge(items, parts)
    (parts / "s/0").mkdir(parents=True)
    (parts / "s/0" / TRAP).touch()
    report = prepare_share(items, parts, "1/2", workers=1)
    assert report.ok_ids == ["s/0", "u/0"] and not (parts / "s/0" / TRAP).exists()
    assert merge(items, parts).counts == {"ok": 3, "rejected": 1, "failed": 1}
    for name in LISTS:
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    text = (parts / MANIFEST).read_text()
    assert text.count("null") == 0 and "broken.mp4" not in text, "all files have hashes, and there are no paths"


def test_the_manifest_tells_of_another_content(items, tmp_path):
    run(items[:1], tmp_path / "a", MADE)
    run(items[:1], tmp_path / "b", MADE, notes={"text": "other"})
    assert (tmp_path / "a" / MANIFEST).read_bytes() != (tmp_path / "b" / MANIFEST).read_bytes()


@pytest.mark.parametrize(
    "command, message",
    [
        (["preprocess", "--preprocess.shard=3/2"], "must be i/n with i from 1 to n"),
        (["preprocess", "--preprocess.shard=1/2", "--merge"], "leave --preprocess.shard out"),
        (["run", "--preprocess.shard=1/2", "--device=cpu"], "--preprocess.shard is for `preprocess`"),
    ],
)
def test_a_shard_that_cannot_be_is_refused(command, message, tmp_path, capsys):
    folders = [f"--{name}={tmp_path / name}" for name in ("data_root", "preprocessed_root", "saved_dir")]
    assert main([*command, "--model=SyncNet", "--dataset=folder", *folders]) == 2
    assert message in capsys.readouterr().err
