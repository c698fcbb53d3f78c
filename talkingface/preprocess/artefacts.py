"""Artefacts in a clip's folder: running a step, moving its files into place, noting it in `clip.json`."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkingface.clips.meta import META_FILE, clip_file
from talkingface.errors import DataError, TalkingFaceError
from talkingface.files import file_sha256, write_text, writer, writer_is_gone
from talkingface.preprocess.step import ClipContext, Step

SCRATCH = ".making-"
_STALE_SECONDS = 3600.0


class SetupError(Exception):
    """A step cannot work at all."""


def set_up(steps: Sequence[Step]) -> None:
    """Build what steps share for all clips.

    Raises:
        SetupError: something is missing for it.
    """
    try:
        for step in steps:
            step.setup()
    except TalkingFaceError as error:
        raise SetupError(str(error)) from error


def scratch_folder(folder: Path) -> Path:
    """Where this process makes the files of a clip before they are moved into place."""
    return folder / f"{SCRATCH}{writer()}"


def run_step(step: Step, context: ClipContext, meta: dict[str, Any], fingerprint: str) -> float:
    """Run one step, move its files into place and note it in `meta`; returns the seconds it took."""
    folder = context.folder
    if meta["steps"].pop(step.artefact, None):
        write_meta(folder, meta)  # the old record must not vouch for half-replaced files
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
        "sha256": {name: file_sha256(folder / name) for name in names},
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
    }
    if context.facts:
        meta["steps"][step.artefact]["facts"] = context.facts
    if context.count is not None:
        info = context.info
        meta["frames"] = context.count
        meta["video"] = {"width": info.width, "height": info.height, "fps": info.fps, "duration": info.duration}
    write_meta(folder, meta)
    return seconds


def has_files(folder: Path, record: Mapping[str, Any] | None) -> bool:
    """Whether an artefact is noted, and its files are there for those who read it, too (see `clip_file`)."""
    if not record:
        return False
    try:
        return all(clip_file(folder, name) for name in record.get("files", ()))
    except DataError:
        return False


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write `clip.json`, whole or not at all.

    It is not forced onto the disk: several thousand times the milliseconds of that are minutes. A process that dies
    leaves it after the files that it vouches for, as they were written; a power cut may leave it empty, and the clip is
    made anew, or it may vouch for files whose last seconds of data are lost: their readers then say so. That of a clip
    that was converted from older code, and cannot be made anew without it, is forced.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(folder / META_FILE, json.dumps(meta, indent=1, default=str) + "\n", durable=bool(meta.get("imported")))


def _is_left(leftover: Path) -> bool:
    """Whether nobody writes there any more: it is ours, of a process that is no more, or old."""
    tag = leftover.name.removeprefix(SCRATCH)
    if tag == writer() or writer_is_gone(tag):
        return True
    try:
        return time.time() - leftover.stat().st_mtime >= _STALE_SECONDS
    except OSError:
        return False  # another process has just removed it


def clean(folder: Path) -> None:
    """Remove what this process or an interrupted run left half-made; what another run may be writing now stays."""
    for leftover in folder.glob(f"{SCRATCH}*"):
        if not _is_left(leftover):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
