"""Preparing one clip: which artefacts are missing or outdated, running their steps, and `clip.json`.

An artefact's fingerprint covers its step's name and version, its parameters, the fingerprints of what it needs, the
frame rate and the content of the source. A changed parameter therefore remakes that artefact and what depends on it,
nothing else. Files appear by renaming, `clip.json` last; a killed run leaves whole artefacts only.

A filter is a step that makes no file: what it measured stands in `clip.json`, and is held against the limits of the
moment at every start. A changed limit therefore turns clips away, or takes them back, without measuring anything again.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from talkingface.clips.folder import ClipFolder, find_record
from talkingface.clips.layouts import ClipItem
from talkingface.clips.meta import FORMAT, read_meta
from talkingface.errors import MediaError, NoFaceError, OutputError, TalkingFaceError
from talkingface.files import is_unwritable, output_error
from talkingface.media import frame_count
from talkingface.packages import import_failure
from talkingface.preprocess.artefacts import SetupError, clean, has_files, run_step, scratch_folder, set_up, write_meta
from talkingface.preprocess.at_work import MOST_DEATHS, at_work, deaths, forget
from talkingface.preprocess.imported import complete_converted, converted_outcome, is_converted
from talkingface.preprocess.job import Job
from talkingface.preprocess.original import describe_source, same_stat
from talkingface.preprocess.outcome import ABORT, FAILED, OK, REJECTED, Outcome, facts_of
from talkingface.preprocess.step import ClipContext, Rejected, Step

log = logging.getLogger("talkingface")

CRASHED = "crashed"
"""Key in `clip.json` of a clip whose work has ended a process; its value: what was to be made (`Job.digest`)."""

CRASH = (
    "the process that worked on this clip died, every time (crash in native code, or out of memory); it is passed over"
    " unless --preprocess.retry_crashed=True"
)


def current_outcome(item: ClipItem, job: Job) -> Outcome | None:
    """The stored result when nothing has to be done, judged without opening the media; otherwise None."""
    folder = job.root / item.clip_id
    meta = read_meta(folder)
    if is_converted(item, folder, meta):
        return converted_outcome(item, folder, meta, job)
    if meta.get("status") == FAILED and not (job.force or job.settings.retry_crashed):
        return _passed_over(item, meta, job)
    if job.force or meta.get("status") not in (OK, REJECTED):
        return None
    source, stored = meta.get("source", {}), meta.get("steps", {})
    if not all(_facts_fit(stored, step) for step in job.steps):
        return None
    # Without its video a clip is taken as it is: nothing could be made again anyway.
    if os.path.exists(item.video) and not same_stat(item, source):
        return None
    stored = meta.get("steps", {})
    prints = job.fingerprints(source, stored)
    if meta["status"] == REJECTED:
        by = meta.get("rejected_by", {})
        limits = {step.artefact: step.limits for step in job.steps}.get(by.get("artefact"))
        same = prints.get(by.get("artefact")) == by.get("fingerprint") and limits == by.get("limits", {})
        return _rejection(item, meta) if same else None
    if any(not _made(folder, stored, name, wanted) for name, wanted in prints.items()):
        return None
    if any(step.judge(_facts(stored, step)) for step in job.steps):
        return None
    return Outcome(item.clip_id, OK, frames=int(meta.get("frames", 0)), facts=facts_of(meta))


def _passed_over(item: ClipItem, meta: dict[str, Any], job: Job) -> Outcome | None:
    """The outcome of a clip whose work has ended a process; None where the clip, or what is to be made, is another."""
    source = meta.get("source", {})
    same = CRASHED in meta and (not os.path.exists(item.video) or same_stat(item, source))
    return Outcome(item.clip_id, FAILED, meta["reason"]) if same and meta[CRASHED] == job.digest(source) else None


def _rejection(item: ClipItem, meta: dict[str, Any]) -> Outcome:
    """The outcome of a clip whose `clip.json` says that it was rejected."""
    by = meta.get("rejected_by", {})
    return Outcome(
        item.clip_id,
        REJECTED,
        meta.get("reason", ""),
        frames=int(meta.get("frames", 0)),
        by=by.get("artefact", ""),
        measured=by.get("measured"),
        limit=by.get("limit"),
        facts=facts_of(meta),
    )


def prepare_clip(item: ClipItem, job: Job) -> Outcome:
    """Make what is missing or outdated of one clip. Runs in a worker process; every error becomes an `Outcome`."""
    folder = job.root / item.clip_id
    try:
        if deaths(folder) >= MOST_DEATHS and not job.settings.retry_crashed:
            return record_crash(item, job)
        with at_work(folder):
            meta = read_meta(folder)
            if is_converted(item, folder, meta):
                return complete_converted(item, folder, meta, job)
            return _prepare(item, job, folder)
    except SetupError as error:
        return Outcome(item.clip_id, ABORT, str(error))
    except OSError as error:
        if not is_unwritable(error):
            return _give_up(item, job, folder, f"{type(error).__name__}: {error}")
        return Outcome(item.clip_id, ABORT, str(output_error(folder, error)), output_error=True)
    except OutputError as error:
        return Outcome(item.clip_id, ABORT, str(error), output_error=True)
    except TalkingFaceError as error:
        return _give_up(item, job, folder, str(error))
    except Exception as error:
        if reason := import_failure(error):
            return Outcome(item.clip_id, ABORT, reason)
        log.debug("%s failed", item.clip_id, exc_info=True)
        return _give_up(item, job, folder, f"{type(error).__name__}: {error}")
    finally:
        clean(folder)


def _give_up(item: ClipItem, job: Job, folder: Path, reason: str) -> Outcome:
    reason = " ".join(reason.split()) or "unknown error"
    try:
        return record_failure(item, job, reason)
    except OSError as error:
        return Outcome(item.clip_id, ABORT, str(output_error(folder, error)), output_error=True)


def record_failure(item: ClipItem, job: Job, reason: str, **more: Any) -> Outcome:
    """Note in `clip.json` that a clip failed; what was converted from older code cannot be made again, and stays."""
    folder = job.root / item.clip_id
    clean(folder)
    meta = read_meta(folder)
    if not is_converted(item, folder, meta):
        write_meta(folder, {**_base_meta(item, job), **meta, **more, "status": FAILED, "reason": reason})
    return Outcome(item.clip_id, FAILED, reason)


def record_crash(item: ClipItem, job: Job) -> Outcome:
    """Note that the work on a clip ends its process, so that the next start passes over it.

    The verdict holds for this file and what was to be made of it; another one is tried.
    """
    folder = job.root / item.clip_id
    forget(folder)
    old = read_meta(folder).get("source", {})
    try:
        source = describe_source(item, folder, old)
    except (MediaError, OSError) as error:
        return _give_up(item, job, folder, str(error))
    return record_failure(item, job, CRASH, source=source, **{CRASHED: job.digest(source)})


def _prepare(item: ClipItem, job: Job, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    old = read_meta(folder)
    source = describe_source(item, folder, old.get("source", {}))
    meta = _base_meta(item, job) | {"source": source} | _kept(old, source)
    prints = job.fingerprints(source, meta["steps"], ClipFolder(folder))
    done = {step.artefact for step in job.steps if _done(folder, meta["steps"], step, prints[step.artefact])}
    todo = [step for step in job.steps if job.forced(step) or step.artefact not in done]
    set_up([step for step in todo if not (step.takes_landmark_file and item.landmarks)])
    video = any(step.reads_video for step in todo)
    context = ClipContext(item, folder, scratch_folder(folder), job.settings, job.fps, video, job.cache_bytes)
    outcome = Outcome(item.clip_id, OK)
    for step in job.steps:
        try:
            if step in todo:
                outcome.seconds[step.artefact] = run_step(step, context, meta, prints[step.artefact])
            if verdict := step.judge(_facts(meta["steps"], step)):
                raise verdict
        except (Rejected, NoFaceError) as reason:
            meta |= {"status": REJECTED, "reason": " ".join(str(reason).split())}
            meta["rejected_by"] = _verdict(step, prints[step.artefact], reason)
            write_meta(folder, meta)
            return replace(_rejection(item, meta), seconds=outcome.seconds)
    if "frames" not in meta:
        meta["frames"] = _frames_of(context)
    meta["status"] = OK
    write_meta(folder, meta)
    outcome.made, outcome.frames, outcome.facts = tuple(outcome.seconds), int(meta["frames"]), facts_of(meta)
    if context.decode_seconds:
        outcome.seconds["decode"] = context.decode_seconds
    return outcome


def _kept(old: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """What stays of an earlier `clip.json`: records of artefacts, unless they are of another video."""
    if old.get("source", {}).get("sha256") not in (source["sha256"], None):
        return {"steps": {}}
    return {"steps": dict(old.get("steps", {}))} | {key: old[key] for key in ("frames", "video") if key in old}


def _verdict(step: Step, fingerprint: str, reason: Rejected | NoFaceError) -> dict[str, Any]:
    """Who turned a clip away, and by what: it stands until the step, its limits or the clip change."""
    verdict: dict[str, Any] = {"artefact": step.artefact, "fingerprint": fingerprint}
    if step.limits:
        verdict["limits"] = step.limits
    if isinstance(reason, Rejected):
        verdict |= {"measured": reason.measured, "limit": reason.limit}
    return verdict


def _frames_of(context: ClipContext) -> int:
    """Frames of a clip none of whose steps decoded the video."""
    return frame_count(context.info.duration, context.fps)


def _base_meta(item: ClipItem, job: Job) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "clip_id": item.clip_id,
        "speaker": item.speaker,
        "status": "",
        "reason": "",
        "fps": job.fps,
    }


def _facts(steps: dict[str, Any], step: Step) -> dict[str, Any]:
    return (find_record(steps, step.artefact) or {}).get("facts", {})


def _facts_fit(steps: dict[str, Any], step: Step) -> bool:
    """Whether what is noted of a step, if anything, is of the form that it notes."""
    return find_record(steps, step.artefact) is None or step.knows(_facts(steps, step))


def _done(folder: Path, steps: dict[str, Any], step: Step, fingerprint: str) -> bool:
    """Whether nothing is left to be done for a step."""
    return _made(folder, steps, step.artefact, fingerprint) and _facts_fit(steps, step)


def _made(folder: Path, steps: dict[str, Any], artefact: str, fingerprint: str) -> bool:
    """Whether an artefact is there and made as wanted."""
    record = find_record(steps, artefact)
    return has_files(folder, record) and record.get("fingerprint") == fingerprint
