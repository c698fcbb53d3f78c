"""Preprocess, train and evaluate as one call."""

from __future__ import annotations

from helpers.sync_clips import make_sync_clip
from talkingface.evaluation.rows import choose_references
from talkingface.plugin.configuration import load_config
from talkingface.workflow import prepared_clips


def test_references_come_from_the_same_person_also_of_clips_prepared_before_speakers_were_told(tmp_path):
    names = [f"mead/{person}-{n:03d}" for person in ("M005", "M009", "W011") for n in range(2)]
    for seed, name in enumerate(names):
        make_sync_clip(tmp_path / "prepared", name, seed, frames=12, speaker="mead")
    places = {"data_root": str(tmp_path / "gone"), "preprocessed_root": str(tmp_path / "prepared")}
    lists = {f"{split}_filelist": None for split in ("train", "val", "test")}
    config = load_config("SyncNet", "mead", (), {**places, **lists, "show_progress": False}).config
    clips = prepared_clips(config, ("mel@reflect",))
    assert sorted(len(clips[split]) for split in ("train", "val", "test")) == [2, 2, 2]
    for split in ("train", "val", "test"):
        assert len({clip.speaker for clip in clips[split]}) == 1
        pool = [clip for part in clips.values() for clip in part]
        for clip_id, reference in choose_references(clips[split], pool, "other_clip").items():
            assert reference.clip.clip_id[:9] == clip_id[:9] and not reference.reason
