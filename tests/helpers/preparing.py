"""Preprocessing of a few clips, as the tests of it ask for it."""

from __future__ import annotations

from pathlib import Path

import helpers.notes_step  # noqa: F401  (makes the step known)
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.prepare import Preprocessor

ALL = ("audio", "mel", "landmarks", "faces")
FAST = ("audio", "mel")


def steps_with(artefacts=ALL, settings=None, **overrides):
    return plan_steps(artefacts, {"faces": {"size": 48}, **overrides}, settings or PreprocessConfig(workers=0))


def run(items, root, artefacts=ALL, settings=None, **overrides):
    settings = settings or PreprocessConfig(workers=0)
    return Preprocessor(steps_with(artefacts, settings, **overrides), settings, root, progress=False).run(items)


def item(path: Path, name: str = "s/1") -> ClipItem:
    return ClipItem(name, path, name.split("/")[0])
