"""Passes over the clips where a network has the main process for itself: nothing is done twice, no failure either."""

from __future__ import annotations

from collections import Counter

import pytest

from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.outcome import OK, Outcome
from talkingface.preprocess.prepare import Preprocessor
from talkingface.preprocess.report import Report
from talkingface.preprocess.step import Step

RUNS: Counter[tuple[str, str]] = Counter()


class Written(Step):
    """Writes a file; fails for the clip `bad`."""

    kind = "written"

    def run(self, ctx):
        RUNS[self.artefact, ctx.item.clip_id] += 1
        if ctx.item.clip_id == "bad":
            raise OSError("broken")
        (ctx.scratch / f"{self.artefact}.txt").write_text("x")
        return [f"{self.artefact}.txt"]


class Drawn(Written):
    """Made by a network."""

    needs, runs_network = ("first",), True

    @classmethod
    def defaults(cls, settings):
        return {"weights": "aaaa"}


class Last(Written):
    """Needs what the network made."""

    needs = ("drawn",)


@pytest.fixture
def runner(tmp_path, monkeypatch):
    monkeypatch.setattr("talkingface.preprocess.clip._frames_of", lambda context: 25)
    RUNS.clear()

    def make(**settings) -> Preprocessor:
        config = PreprocessConfig(workers=0, **settings)
        steps = [Written("first", {}, config), Drawn("drawn", {}, config), Last("last", {}, config)]
        return Preprocessor(steps, config, tmp_path / "out", progress=False, on_gpu=True)

    return make


@pytest.fixture
def items(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / f"{name}.mp4").write_bytes(b"stands for a video")
    return [ClipItem(name, tmp_path / f"{name}.mp4") for name in ("good", "bad")]


def test_everything_is_made_once_also_where_it_is_forced(runner, items):
    report = runner().run(items[:1])
    assert report.outcomes["good"].made == ("first", "drawn", "last") and report.worked == 1
    assert set(report.outcomes["good"].seconds) == {"first", "drawn", "last"}
    runner(force=True).run(items[:1])
    assert set(RUNS.values()) == {2}


def test_a_clip_that_failed_in_one_pass_is_not_tried_in_the_next(runner, items):
    report = runner().run(items)
    assert report.ok_ids == ["good"] and list(report.failed) == ["bad"]
    assert RUNS["first", "bad"] == 1


def test_faces_without_a_mesh_are_counted_in_the_table():
    report = Report()
    report.add(Outcome("a", OK, facts={"hyper_mesh@raw": {"without_mesh": 3}, "landmarks": {}}))
    report.add(Outcome("b", OK, facts={"hyper_mesh@raw": {"without_mesh": 0}}))
    assert "no mesh on 3 drawn faces of 1 clips, left out  [a]" in report.table()
