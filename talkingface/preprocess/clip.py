"""Preparing one clip: which artefacts are missing or outdated, running their steps, and `clip.json`.

An artefact's fingerprint covers its step's name and version, its parameters, the fingerprints of what it needs, the
frame rate and the content of the source. A changed parameter therefore remakes that artefact and what depends on it,
nothing else. Files appear by renaming, `clip.json` last; a killed run leaves whole artefacts only.

A filter is a step that makes no file: what it measured stands in `clip.json`, and is held against the limits of the
moment at every start. A changed limit therefore turns clips away, or takes them back, without measuring anything again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talkingface.clips.folder import FORMAT, META_FILE, read_meta
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import NoFaceError, OutputError, TalkingFaceError
from talkingface.files import output_error
from talkingface.media import frame_count
from talkingface.preprocess.original import describe_source, same_stat
from talkingface.preprocess.outcome import ABORT, FAILED, OK, REJECTED, Outcome
from talkingface.preprocess.step import CACHE_BYTES, ClipContext, Rejected, Step

log = logging.getLogger("talkingface")

_SCRATCH = ".making-"
_STALE_SECONDS = 3600.0
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class SetupError(Exception):
    """A step cannot work at all."""


@dataclass(frozen=True)
class Job:
    """What is done to every clip.

    Attributes:
        root: folder of the prepared clips.
        steps: in order.
        settings: `preprocess:` of the configuration.
        fps: frame rate of all artefacts.
        force: make everything again.
        cache_bytes: decoded frames that one process may keep for the next step.
    """

    root: Path
    steps: tuple[Step, ...]
    settings: PreprocessConfig
    fps: float
    force: bool = False
    cache_bytes: int = CACHE_BYTES

    def fingerprints(self, source: dict[str, Any]) -> dict[str, str]:
        """Fingerprint of every artefact for a source with these hashes."""
        prints: dict[str, str] = {}
        content = [source.get("sha256"), source.get("audio_sha256"), self.fps]
        for step in self.steps:
            parts = [step.kind, step.version, step.params, content, [prints[name] for name in step.needs]]
            if step.takes_landmark_file and "landmarks_sha256" in source:
                parts.append(source["landmarks_sha256"])  # of no other step: the same sound and picture as without it
            text = json.dumps(parts, sort_keys=True, default=str)
            prints[step.artefact] = hashlib.sha256(text.encode()).hexdigest()[:20]
        return prints

    def record_failure(self, item: ClipItem, reason: str) -> Outcome:
        """Note in `clip.json` that a clip failed outside its own process."""
        folder = self.root / item.clip_id
        _clean(folder)
        _write_meta(folder, {**_base_meta(item, self), **read_meta(folder), "status": FAILED, "reason": reason})
        return Outcome(item.clip_id, FAILED, reason)


def current_outcome(item: ClipItem, job: Job) -> Outcome | None:
    """The stored result when nothing has to be done, judged without opening the media; otherwise None."""
    folder = job.root / item.clip_id
    meta = read_meta(folder)
    if job.force or meta.get("status") not in (OK, REJECTED):
        return None
    source = meta.get("source", {})
    if meta.get("imported") and not item.video.exists():
        steps = [step for step in job.steps if meta.get("steps") and not step.for_filters]
        same = all(_imported(folder, meta["steps"].get(step.artefact), step) for step in steps)
        if not same:
            return None
        frames = meta.get("frames", 0)
        return Outcome(item.clip_id, meta["status"], meta.get("reason", ""), frames=frames, facts=_facts(meta))
    if item.video.exists() and not same_stat(item, source):
        return None
    prints = job.fingerprints(source)
    if meta["status"] == REJECTED:
        by = meta.get("rejected_by", {})
        limits = {step.artefact: step.limits for step in job.steps}.get(by.get("artefact"))
        same = prints.get(by.get("artefact")) == by.get("fingerprint") and limits == by.get("limits", {})
        return _rejection(item, meta) if same else None
    stored = meta.get("steps", {})
    if any(not _made(folder, stored.get(name), wanted) for name, wanted in prints.items()):
        return None
    if any(step.judge(stored[step.artefact].get("facts", {})) for step in job.steps):
        return None
    return Outcome(item.clip_id, OK, frames=int(meta.get("frames", 0)), facts=_facts(meta))


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
        facts=_facts(meta),
    )


def _facts(meta: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: record["facts"] for name, record in meta.get("steps", {}).items() if "facts" in record}


def prepare_clip(item: ClipItem, job: Job) -> Outcome:
    """Make what is missing or outdated of one clip. Runs in a worker process; every error becomes an `Outcome`."""
    folder = job.root / item.clip_id
    try:
        return _prepare(item, job, folder)
    except SetupError as error:
        return Outcome(item.clip_id, ABORT, str(error))
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            return _give_up(item, job, folder, f"{type(error).__name__}: {error}")
        return Outcome(item.clip_id, ABORT, str(output_error(folder, error)), output_error=True)
    except OutputError as error:
        return Outcome(item.clip_id, ABORT, str(error), output_error=True)
    except TalkingFaceError as error:
        return _give_up(item, job, folder, str(error))
    except Exception as error:
        log.debug("%s failed", item.clip_id, exc_info=True)
        return _give_up(item, job, folder, f"{type(error).__name__}: {error}")
    finally:
        _clean(folder)


def _give_up(item: ClipItem, job: Job, folder: Path, reason: str) -> Outcome:
    reason = " ".join(reason.split()) or "unknown error"
    try:
        return job.record_failure(item, reason)
    except OSError as error:
        return Outcome(item.clip_id, ABORT, str(output_error(folder, error)), output_error=True)


def _prepare(item: ClipItem, job: Job, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    _clean(folder)
    old = read_meta(folder)
    source = describe_source(item, folder, old.get("source", {}))
    prints = job.fingerprints(source)
    meta = _base_meta(item, job) | {"source": source, "steps": dict(old.get("steps", {}))}
    if old.get("source", {}).get("sha256") in (source["sha256"], None):
        meta |= {key: old[key] for key in ("frames", "video") if key in old}
    else:
        meta["steps"] = {}  # artefacts of another video, whoever made them
    todo = [s for s in job.steps if job.force or not _made(folder, meta["steps"].get(s.artefact), prints[s.artefact])]
    _set_up([step for step in todo if not (step.takes_landmark_file and item.landmarks)])
    video = any(step.reads_video for step in todo)
    scratch = folder / f"{_SCRATCH}{os.getpid()}"
    context = ClipContext(item, folder, scratch, job.settings, job.fps, video, job.cache_bytes)
    outcome = Outcome(item.clip_id, OK)
    for step in job.steps:
        try:
            if step in todo:
                outcome.seconds[step.artefact] = _run_step(step, context, meta, prints[step.artefact])
            if verdict := step.judge(meta["steps"][step.artefact].get("facts", {})):
                raise verdict
        except (Rejected, NoFaceError) as reason:
            meta |= {"status": REJECTED, "reason": " ".join(str(reason).split())}
            meta["rejected_by"] = {"artefact": step.artefact, "fingerprint": prints[step.artefact]}
            meta["rejected_by"] |= {"limits": step.limits} if step.limits else {}
            if isinstance(reason, Rejected):
                meta["rejected_by"] |= {"measured": reason.measured, "limit": reason.limit}
            _write_meta(folder, meta)
            return replace(_rejection(item, meta), seconds=outcome.seconds)
    if "frames" not in meta:
        meta["frames"] = _frames_of(context)
    meta["status"] = OK
    _write_meta(folder, meta)
    outcome.made, outcome.frames, outcome.facts = tuple(outcome.seconds), int(meta["frames"]), _facts(meta)
    if context.decode_seconds:
        outcome.seconds["decode"] = context.decode_seconds
    return outcome


def _set_up(steps: Sequence[Step]) -> None:
    try:
        for step in steps:
            step.setup()
    except TalkingFaceError as error:
        raise SetupError(str(error)) from error


def _run_step(step: Step, context: ClipContext, meta: dict[str, Any], fingerprint: str) -> float:
    """Run one step, move its files into place and note it in `meta`; returns the seconds it took."""
    folder = context.folder
    if meta["steps"].pop(step.artefact, None):
        _write_meta(folder, meta)  # the old record must not vouch for half-replaced files
    context.scratch.mkdir()
    context.facts = {}
    started = time.perf_counter() - context.decode_seconds
    try:
        names = list(step.run(context))
        for name in names:
            os.replace(context.scratch / name, folder / name)
    finally:
        shutil.rmtree(context.scratch, ignore_errors=True)
    seconds = time.perf_counter() - context.decode_seconds - started  # decoding serves several steps
    meta["steps"][step.artefact] = {
        "step": step.kind,
        "version": step.version,
        "params": step.params,
        "fingerprint": fingerprint,
        "files": names,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
    }
    if context.facts:
        meta["steps"][step.artefact]["facts"] = context.facts
    if context.count is not None:
        info = context.info
        meta["frames"] = context.count
        meta["video"] = {"width": info.width, "height": info.height, "fps": info.fps, "duration": info.duration}
    _write_meta(folder, meta)
    return seconds


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


def _made(folder: Path, record: dict[str, Any] | None, fingerprint: str) -> bool:
    """Whether an artefact is there and made as wanted."""
    if not record or record.get("fingerprint") != fingerprint:
        return False
    return all((folder / name).is_file() for name in record.get("files", ()))


def _imported(folder: Path, record: dict[str, Any] | None, step: Step) -> bool:
    """Whether an artefact converted from older code is there and agrees with the parameters known of it."""
    if not record or any(step.params.get(key, value) != value for key, value in record.get("params", {}).items()):
        return False
    return all((folder / name).is_file() for name in record.get("files", ()))


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write `clip.json` by renaming."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{_SCRATCH}{os.getpid()}.json"
    temporary.write_text(json.dumps(meta, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, folder / META_FILE)


def _clean(folder: Path) -> None:
    """Remove what this process or an interrupted run left half-made; what another run may be writing now stays."""
    for leftover in folder.glob(f"{_SCRATCH}*"):
        own = leftover.name.startswith(f"{_SCRATCH}{os.getpid()}")
        if not own and time.time() - leftover.stat().st_mtime < _STALE_SECONDS:
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
