"""Clips that were converted from older code, and often have no video: what they hold stays as it is.

It is never made again nor spoilt by a failure. What follows from it without a video is made as for any clip (a mel from
the sound); what training does not read may be lacking. A converter may find the video that a clip was cut from: then
all else that is asked for is made from that one. A video that only the data set has under the clip's name may be
another cut, or of another rate; a clip whose own one is not known is prepared from it as all others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkingface.clips.folder import find_record, is_faces
from talkingface.clips.layouts import ClipItem, sound_beside
from talkingface.errors import NoFaceError
from talkingface.faces.crop import CropConfig, todays_crop
from talkingface.faces.landmark_file import landmarks_beside
from talkingface.preprocess.artefacts import SetupError, clean, has_files, run_step, scratch_folder, set_up, write_meta
from talkingface.preprocess.job import Job
from talkingface.preprocess.outcome import FAILED, OK, Outcome, facts_of
from talkingface.preprocess.step import ClipContext, Rejected, Step

IMPORTED = "imported"
"""Key in `clip.json` (its value: the layout), and fingerprint of artefacts that were not made from a video."""

WITHOUT = "without"
"""Key in `clip.json`: what could not be made from a converted clip's video, with the parameters and the reason."""


def own_video(folder: Path, meta: Mapping[str, Any]) -> Path | None:
    """The video that a converted clip was cut from, where it is known and still there."""
    name = meta.get("source", {}).get("path") if meta.get(IMPORTED) else None
    video = Path(os.path.normpath(folder / name)) if name else None
    return video if video is not None and video.is_file() else None


def is_converted(item: ClipItem, folder: Path, meta: Mapping[str, Any]) -> bool:
    """Whether a clip was converted from older code and stays so."""
    return bool(meta.get(IMPORTED)) and (own_video(folder, meta) is not None or not os.path.exists(item.video))


def converted_outcome(item: ClipItem, folder: Path, meta: Mapping[str, Any], job: Job) -> Outcome | None:
    """What is known of the clip; None where something can still be made of what it has."""
    if meta.get("status") != OK:
        return Outcome(item.clip_id, str(meta.get("status")), str(meta.get("reason", "")))
    if _makeable(folder, meta, job):
        return None
    reasons = [why for step in _needed(job) if (why := _reason(folder, meta, step))]
    status = FAILED if reasons else OK
    return Outcome(item.clip_id, status, "; ".join(reasons), frames=int(meta.get("frames", 0)), facts=facts_of(meta))


def complete_converted(item: ClipItem, folder: Path, meta: dict[str, Any], job: Job) -> Outcome:
    """Make what follows from the clip's artefacts, and from its own video where there is one."""
    clean(folder)
    if video := own_video(folder, meta):
        item = ClipItem(item.clip_id, video, item.speaker, sound_beside(video), landmarks_beside(video))
    context = ClipContext(item, folder, scratch_folder(folder), job.settings, job.fps, False, job.cache_bytes)
    made: dict[str, float] = {}
    tried: set[str] = set()
    while todo := [step for step in _makeable(folder, meta, job) if step.artefact not in tried]:
        step = todo[0]
        tried.add(step.artefact)
        try:
            set_up([] if step.takes_landmark_file and item.landmarks else [step])
            made[step.artefact] = _make(step, context, meta)
        except SetupError:
            if step.artefact not in job.optional:
                raise
        except (Rejected, NoFaceError) as reason:
            meta.setdefault(WITHOUT, {})[step.artefact] = {"params": step.params, "reason": f"{reason}"}
            write_meta(folder, meta)
    outcome = converted_outcome(item, folder, meta, job)
    if outcome is None:  # what only scoring needs, and no detector is installed
        outcome = Outcome(item.clip_id, OK, frames=int(meta.get("frames", 0)), facts=facts_of(meta))
    outcome.made, outcome.seconds = tuple(made), made
    return outcome


def _make(step: Step, context: ClipContext, meta: dict[str, Any]) -> float:
    """Run a step; its artefact must have as many frames as those that were converted.

    Raises:
        Rejected: the clip's video gives nothing that could be used.
    """
    frames = meta.get("frames")
    seconds = run_step(step, context, meta, IMPORTED)
    if meta.get("frames") != frames:
        del meta["steps"][step.artefact]
        context.count, meta["frames"] = None, frames
        raise Rejected("its video has another number of frames than the pictures that were cut from it")
    return seconds


def _needed(job: Job, optional: bool = False) -> list[Step]:
    return [step for step in job.steps if not step.for_filters and (optional or step.artefact not in job.optional)]


def _makeable(folder: Path, meta: Mapping[str, Any], job: Job) -> list[Step]:
    """Steps whose artefact is missing, or other than asked for, and that need nothing but what is there."""
    steps, video = meta.get("steps", {}), own_video(folder, meta) is not None
    return [
        step
        for step in _needed(job, optional=video)
        if (video or (step.needs and not step.reads_video))
        and all(has_files(folder, find_record(steps, name)) for name in step.needs)
        and _lacks(folder, steps, step)
        and not _was_tried(meta, step)
        and not _of_converted_boxes(steps, step)
    ]


def _of_converted_boxes(steps: Mapping[str, Any], step: Step) -> bool:
    """Whether these are another size of crops that were converted: cut at our boxes, they would not lie upon them."""
    wanted = CropConfig.of_artefact(step.artefact)
    converted = (CropConfig.of_artefact(name) for name, record in steps.items() if "step" not in record)
    return wanted is not None and wanted in (c and c.model_copy(update={"size": wanted.size}) for c in converted)


def _was_tried(meta: Mapping[str, Any], step: Step) -> bool:
    """Whether nothing came of the clip's video with these parameters."""
    return meta.get(WITHOUT, {}).get(step.artefact, {}).get("params") == step.params


def _reason(folder: Path, meta: Mapping[str, Any], step: Step) -> str:
    """Why an artefact cannot be used, see `_lacks`; or why none could be made."""
    why = _lacks(folder, meta.get("steps", {}), step)
    if why and _was_tried(meta, step):
        return f"has no {step.artefact}: {meta[WITHOUT][step.artefact].get('reason')}"
    if why and own_video(folder, meta) and _of_converted_boxes(meta.get("steps", {}), step):
        return f"has no {step.artefact}, and cut from its video they would not lie upon those that were converted"
    return why


def _of_its_kind(steps: Mapping[str, Any], step: Step) -> str:
    """What there is instead of an artefact: rows of another front end, say."""
    others = [name for name in steps if "@" in step.artefact and name.partition("@")[0] == step.kind]
    return f" but {', '.join(others)}" if others else ""


def _lacks(folder: Path, steps: Mapping[str, Any], step: Step) -> str:
    """What is wrong with an artefact; empty where it is there and agrees with the parameters known of it."""
    record = find_record(steps, step.artefact)
    if record is None and is_faces(step.artefact):  # name the crops that there are
        record = next((other for name, other in steps.items() if is_faces(name)), None)
    if not has_files(folder, record):
        return f"has no {step.artefact}{_of_its_kind(steps, step)}, which cannot be made without its video"
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
