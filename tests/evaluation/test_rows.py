"""Which clip lends its audio, and which its face."""

from __future__ import annotations

import zlib
from collections import Counter
from types import SimpleNamespace

from talkingface.evaluation import rows
from talkingface.evaluation.rows import assign_donors, choose_references


def clip_stub(name, speaker, frames=50, fps=25.0):
    class Stub(SimpleNamespace):
        def __len__(self):
            return frames

    return Stub(clip_id=name, speaker=speaker, fps=fps)


def test_donors_are_a_derangement_that_crosses_speakers():
    clips = [clip_stub(f"{s}{i}", s, 50 + 50 * i) for s in "abc" for i in range(3)]
    assert list(assign_donors(clips)) == [c.clip_id for c in clips]
    donors = list(assign_donors(clips).values())
    assert sorted(d.clip_id for d in donors) == sorted(c.clip_id for c in clips)
    assert all(d.speaker != c.speaker and len(d) == len(c) for c, d in zip(clips, donors))
    assert [d.clip_id for d in assign_donors(clips).values()] == [d.clip_id for d in donors]
    alone = [clip_stub(f"a{i}", "a") for i in range(4)]
    assert all(name != donor.clip_id for name, donor in assign_donors(alone).items())
    assert assign_donors(alone[:1]) == {}


def test_of_very_many_clips_those_of_like_length_exchange_sounds(monkeypatch):
    monkeypatch.setattr(rows, "GROUP", 4)
    clips = [clip_stub(f"{speaker}{length}", speaker, length) for length in (25, 50, 100, 200, 400) for speaker in "ab"]
    donors = assign_donors(clips)
    assert list(donors) == [c.clip_id for c in clips]
    assert sorted(d.clip_id for d in donors.values()) == sorted(donors)
    assert all(donors[c.clip_id] is not c and 0.5 <= len(donors[c.clip_id]) / len(c) <= 2 for c in clips)


def test_donors_from_the_pool_are_of_the_same_rate_and_preferably_of_another_speaker_and_like_length():
    lone = clip_stub("a0", "a")
    pool = [
        lone,
        clip_stub("a1", "a"),
        clip_stub("b0", "b", 200),
        clip_stub("b1", "b", 60),
        clip_stub("c", "c", 50, 30),
    ]
    assert assign_donors([lone], pool)["a0"].clip_id == "b1"
    assert assign_donors([lone], pool[:2])["a0"].clip_id == "a1"
    assert assign_donors([lone], [lone, pool[4]]) == {}
    assert assign_donors([lone, pool[4]], pool)["a0"].clip_id == "b1"


def test_references_come_from_the_pool_first():
    clips = [clip_stub("a0", "a"), clip_stub("a1", "a"), clip_stub("b0", "b"), clip_stub("x", "")]
    pool = [clip_stub("a9", "a"), clip_stub("a0", "a")]
    chosen = choose_references(clips, pool, "other_clip")
    assert chosen["a0"].clip.clip_id == "a9"
    assert chosen["a1"].clip.clip_id in ("a9", "a0")
    assert (chosen["b0"].clip.clip_id, chosen["b0"].reason) == ("b0", "no other clip of speaker b")
    assert chosen["x"].reason == "its speaker is not known"
    assert all(r.clip.clip_id == name for name, r in choose_references(clips, pool, "same_clip").items())


def test_a_reference_is_drawn_by_the_clips_name_from_the_others_of_its_speaker():
    clips = [clip_stub(f"{speaker}{k}", speaker) for k in range(7) for speaker in "abc"[: 1 + k % 3]]
    for pool in ([], clips[:4], clips[5:]):
        for name, reference in choose_references(clips, pool, "other_clip").items():
            others = {c.clip_id for c in pool if c.speaker == name[0]} - {name}
            others = sorted(others or {c.clip_id for c in clips if c.speaker == name[0]} - {name})
            expected = others[zlib.crc32(name.encode()) % len(others)] if others else name
            assert reference.clip.clip_id == expected


def test_choosing_references_looks_at_every_clip_a_few_times_however_many_there_are():
    looks = Counter()

    class Watched:
        def __init__(self, name):
            self.clip_id = name

        @property
        def speaker(self):
            looks[self.clip_id] += 1
            return self.clip_id[0]

    clips = [Watched(f"{'ab'[k % 2]}{k}") for k in range(200)]
    choose_references(clips, [Watched(f"a{k}") for k in range(200, 400)], "other_clip")
    assert max(looks.values()) < 10
