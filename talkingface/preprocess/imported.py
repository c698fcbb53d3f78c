"""Clips that were converted from older code and have no source video: what they hold is all there will ever be.

They are never made again nor spoilt by a failure. What follows from their artefacts without a video is made as for any
clip (a mel from the sound); what training does without they may lack.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkingface.clips.folder import find_record, is_faces
from talkingface.clips.layouts import ClipItem
from talkingface.faces.crop import todays_crop
from talkingface.preprocess.artefacts import clean, has_files, run_step, scratch_folder
from talkingface.preprocess.job import Job
from talkingface.preprocess.outcome import FAILED, OK, Outcome, facts_of
from talkingface.preprocess.step import ClipContext, Step

IMPORTED = "imported"
"""Key in `clip.json` (its value: the layout), and fingerprint of artefacts that were not made from a video."""


def is_orphan(item: ClipItem, meta: Mapping[str, Any]) -> bool:
    """Whether a clip was converted from older code and its video is not there."""
    return bool(meta.get(IMPORTED)) and not os.path.exists(item.video)


def orphan_outcome(item: ClipItem, folder: Path, meta: Mapping[str, Any], job: Job) -> Outcome | None:
    """What is known of the clip; None where something can still be made of what it has."""
    if meta.get("status") != OK:
        return Outcome(item.clip_id, str(meta.get("status")), str(meta.get("reason", "")))
    steps = meta.get("steps", {})
    if _makeable(folder, steps, job):
        return None
    reasons = [why for step in _needed(job) if (why := _lacks(folder, steps, step))]
    status = FAILED if reasons else OK
    return Outcome(item.clip_id, status, "; ".join(reasons), frames=int(meta.get("frames", 0)), facts=facts_of(meta))


def complete_orphan(item: ClipItem, folder: Path, meta: dict[str, Any], job: Job) -> Outcome:
    """Make what follows from the clip's artefacts without a video."""
    clean(folder)
    made: dict[str, float] = {}
    while todo := [step for step in _makeable(folder, meta["steps"], job) if step.artefact not in made]:
        context = ClipContext(item, folder, scratch_folder(folder), job.settings, job.fps, False, job.cache_bytes)
        made[todo[0].artefact] = run_step(todo[0], context, meta, IMPORTED)
    outcome = orphan_outcome(item, folder, meta, job)
    assert outcome is not None, f"{item.clip_id}: still something to make"
    outcome.made, outcome.seconds = tuple(made), made
    return outcome


def _needed(job: Job) -> list[Step]:
    return [step for step in job.steps if not step.for_filters and step.artefact not in job.optional]


def _makeable(folder: Path, steps: Mapping[str, Any], job: Job) -> list[Step]:
    """Steps whose artefact is missing, or other than asked for, and that need nothing but what is there."""
    return [
        step
        for step in _needed(job)
        if step.needs
        and not step.reads_video
        and all(has_files(folder, find_record(steps, name)) for name in step.needs)
        and _lacks(folder, steps, step)
    ]


def _lacks(folder: Path, steps: Mapping[str, Any], step: Step) -> str:
    """What is wrong with an artefact; empty where it is there and agrees with the parameters known of it."""
    record = find_record(steps, step.artefact)
    if record is None and is_faces(step.artefact):  # name the crops that there are
        record = next((other for name, other in steps.items() if is_faces(name)), None)
    if not has_files(folder, record):
        return f"has no {step.artefact}, which cannot be made without its video"
    known = record.get("params", {})
    known = todays_crop(known) if is_faces(step.artefact) else known
    other = {key: value for key, value in known.items() if step.params.get(key, value) != value}
    if not other:
        return ""
    asked = ", ".join(f"{key} {step.params[key]}" for key in other)
    has = ", ".join(f"{key} {value}" for key, value in other.items())
    options = " ".join(f"--model.crop.{key}={value}" for key, value in other.items())
    advice = f"; train with {options}" if is_faces(step.artefact) else ""
    return f"its {step.kind} were converted with {has}, asked for is {asked}, and there is no video{advice}"
