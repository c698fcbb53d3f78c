"""Steps that run a trained network: where they run, and what other weights make outdated."""

from __future__ import annotations

import logging

import pytest

from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.prepare import Preprocessor, phases
from talkingface.preprocess.step import Step


class Sound(Step):
    """Needs nothing."""

    kind = "sound"

    def run(self, ctx):
        (ctx.scratch / "sound.txt").write_text("la")
        return ["sound.txt"]


class Drawn(Step):
    """Made by a network."""

    kind, needs, runs_network = "drawn", ("sound",), True

    @classmethod
    def defaults(cls, settings):
        return {"weights": ""}

    def run(self, ctx):
        (ctx.scratch / "drawn.txt").write_text(self.params["weights"])
        return ["drawn.txt"]


class Measured(Step):
    """Needs what the network made."""

    kind, needs = "measured", ("drawn",)

    def run(self, ctx):
        (ctx.scratch / "measured.txt").write_text((ctx.folder / "drawn.txt").read_text())
        return ["measured.txt"]


def steps(weights: str = "aaaa") -> list[Step]:
    settings = PreprocessConfig()
    return [
        Sound("sound", {}, settings),
        Drawn("drawn", {"weights": weights}, settings),
        Measured("measured", {}, settings),
    ]


def names(some) -> list[str]:
    return [step.artefact for step in some]


def test_on_a_gpu_a_network_has_the_main_process_for_itself():
    found = [(names(some), workers) for some, workers in phases(steps(), 4, on_gpu=True)]
    assert found == [(["sound"], 4), (["sound", "drawn"], 0), (["sound", "drawn", "measured"], 4)]
    (whole,) = phases(steps(), 4, on_gpu=False)
    assert (names(whole[0]), whole[1]) == (["sound", "drawn", "measured"], 4)
    (plain,) = phases(steps()[:1], None, on_gpu=True)
    assert (names(plain[0]), plain[1]) == (["sound"], None)


@pytest.fixture
def items(tmp_path):
    made = []
    for name in ("a", "b", "c"):
        video = tmp_path / f"{name}.mp4"
        video.write_bytes(b"stands for a video")
        made.append(ClipItem(name, video))
    return made


def prepare(tmp_path, items, monkeypatch, weights="aaaa", on_gpu=False):
    """Prepares the clips as `ensure` does; gives the last report."""
    monkeypatch.setattr("talkingface.preprocess.clip._frames_of", lambda context: 25)
    settings = PreprocessConfig(workers=0)
    for some, _ in phases(steps(weights), 0, on_gpu):
        report = Preprocessor(some, settings, tmp_path / "out", progress=False).run(items)
    return report


@pytest.mark.parametrize("on_gpu", [False, True])
def test_in_phases_or_in_one_pass_the_same_is_made_and_recorded(tmp_path, items, monkeypatch, on_gpu):
    report = prepare(tmp_path, items, monkeypatch, on_gpu=on_gpu)
    assert sorted(report.ok_ids) == ["a", "b", "c"]
    for item in items:
        clip = ClipFolder(tmp_path / "out" / item.clip_id)
        assert [clip.has(name) for name in ("sound", "drawn", "measured")] == [True] * 3
    again = prepare(tmp_path, items, monkeypatch, on_gpu=not on_gpu)
    assert again.worked == 0, "fingerprints do not depend on where a step ran"


def test_other_weights_make_what_they_made_and_what_follows_again_and_one_line_says_so(
    tmp_path, items, monkeypatch, caplog
):
    prepare(tmp_path, items, monkeypatch)
    folder = tmp_path / "out/a"
    before = {name: (folder / name).stat().st_mtime_ns for name in ("sound.txt", "drawn.txt", "measured.txt")}
    with caplog.at_level(logging.INFO, "talkingface"):
        prepare(tmp_path, items, monkeypatch, weights="bbbb")
    assert "3 clips outdated: drawn made by weights aaaa, now bbbb" in caplog.text
    after = {name: (folder / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if before[name] != after[name]} == {"drawn.txt", "measured.txt"}
    assert (folder / "measured.txt").read_text() == "bbbb"
    clip = ClipFolder(folder)
    assert clip.made_by_others("drawn", "bbbb") is None
    reason = clip.made_by_others("drawn", "cccc") or ""
    assert "made by weights bbbb, the network now has cccc; run preprocess" in reason
    assert "has no other" in clip.made_by_others("other", "cccc")
