"""Clips that were converted from older code and have no source video: what they hold is all there will ever be.

They are never made again nor spoilt by a failure. What follows from their artefacts without a video is made as for any
clip (a mel from the sound); what training does without they may lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkingface.clips.layouts import ClipItem
from talkingface.faces.crop import todays_crop
from talkingface.preprocess.artefacts import clean, has_files, run_step, scratch_folder, write_meta
from talkingface.preprocess.job import Job
from talkingface.preprocess.outcome import FAILED, OK, Outcome, facts_of
from talkingface.preprocess.step import ClipContext, Step

IMPORTED = "imported"
"""Key in `clip.json` (its value: the layout), and fingerprint of artefacts that were not made from a video."""

# What the first converter called Wav2Lip's crops, with the detector's name as rule, and what models ask for.
_FORMER_FACES = ("faces", "faces@wav2lip")


def is_orphan(item: ClipItem, meta: Mapping[str, Any]) -> bool:
    """Whether a clip was converted from older code and its video is not there."""
    return bool(meta.get(IMPORTED)) and not item.video.exists()


def orphan_outcome(item: ClipItem, folder: Path, meta: Mapping[str, Any], job: Job) -> Outcome | None:
    """What is known of the clip; None where something can still be made of what it has."""
    if meta.get("status") != OK:
        return Outcome(item.clip_id, str(meta.get("status")), str(meta.get("reason", "")))
    steps = meta.get("steps", {})
    if _former_faces(meta) or _makeable(folder, steps, job):
        return None
    reasons = [why for step in _needed(job) if (why := _lacks(folder, steps.get(step.artefact), step))]
    status = FAILED if reasons else OK
    return Outcome(item.clip_id, status, "; ".join(reasons), frames=int(meta.get("frames", 0)), facts=facts_of(meta))


def complete_orphan(item: ClipItem, folder: Path, meta: dict[str, Any], job: Job) -> Outcome:
    """Make what follows from the clip's artefacts without a video; those of older versions get today's names."""
    clean(folder)
    if _former_faces(meta):
        former, name = _FORMER_FACES
        record = meta["steps"].pop(former)
        meta["steps"][name] = {**record, "params": todays_crop(record["params"])}
        write_meta(folder, meta)
    made: dict[str, float] = {}
    while todo := [step for step in _makeable(folder, meta["steps"], job) if step.artefact not in made]:
        context = ClipContext(item, folder, scratch_folder(folder), job.settings, job.fps, False, job.cache_bytes)
        made[todo[0].artefact] = run_step(todo[0], context, meta, IMPORTED)
    outcome = orphan_outcome(item, folder, meta, job)
    assert outcome is not None, f"{item.clip_id}: still something to make"
    outcome.made, outcome.seconds = tuple(made), made
    return outcome


def _former_faces(meta: Mapping[str, Any]) -> bool:
    former, name = _FORMER_FACES
    steps = meta.get("steps", {})
    return name not in steps and steps.get(former, {}).get("params", {}).get("rule") == "s3fd"


def _needed(job: Job) -> list[Step]:
    return [step for step in job.steps if not step.for_filters and step.artefact not in job.optional]


def _makeable(folder: Path, steps: Mapping[str, Any], job: Job) -> list[Step]:
    """Steps whose artefact is missing, or other than asked for, and that need nothing but what is there."""
    return [
        step
        for step in _needed(job)
        if step.needs
        and not step.reads_video
        and all(has_files(folder, steps.get(name)) for name in step.needs)
        and _lacks(folder, steps.get(step.artefact), step)
    ]


def _lacks(folder: Path, record: Mapping[str, Any] | None, step: Step) -> str:
    """What is wrong with an artefact; empty where it is there and agrees with the parameters known of it."""
    if not has_files(folder, record):
        return f"has no {step.artefact}, which cannot be made without its video"
    other = {key: value for key, value in record.get("params", {}).items() if step.params.get(key, value) != value}
    if not other:
        return ""
    asked = ", ".join(f"{key} {step.params[key]}" for key in other)
    has = ", ".join(f"{key} {value}" for key, value in other.items())
    options = " ".join(f"--model.crop.{key}={value}" for key, value in other.items())
    advice = f"; train with {options}" if step.kind == "faces" else ""
    return f"its {step.artefact} were converted with {has}, asked for is {asked}, and there is no video{advice}"
