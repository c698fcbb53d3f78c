"""Shares of a data set for job arrays: each job prepares one, and `--merge` puts together what all of them have made.

The jobs need no word from each other: which clips are whose follows from the list of clips, and every clip lies in a
folder of its own. What tells of all clips (manifest, list of rejections, histograms) is written by the merge alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from talkingface.clips.layouts import ClipItem
from talkingface.clips.meta import read_meta
from talkingface.errors import DataError
from talkingface.preprocess.clip import current_outcome
from talkingface.preprocess.job import Job
from talkingface.preprocess.outcome import FAILED, Outcome
from talkingface.preprocess.report import Report

log = logging.getLogger("talkingface")


def in_shard(items: Sequence[ClipItem], shard: str | None) -> list[ClipItem]:
    """Every n-th clip from the i-th on, for `i/n` counted from 1; all of them for None.

    Neighbours, often of one speaker and one length, thus go to different shares.
    """
    if shard is None:
        return list(items)
    number, count = map(int, shard.split("/"))
    return list(items[number - 1 :: count])


def merged(items: Sequence[ClipItem], job: Job) -> Report:
    """What other processes have made of the clips; nothing is made here.

    Raises:
        DataError: clips are not done yet.
    """
    job = replace(job, force=False)
    report = Report()
    lacking = []
    for item in items:
        outcome = current_outcome(item, job) or _failure(item, job)
        if outcome is None:
            lacking.append(item.clip_id)
        else:
            report.add(outcome)
    if lacking:
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise DataError(
            f"{job.root}: {len(lacking)} of {len(items)} clips are not prepared yet ({shown}): some shards still work"
            " or were ended; run these again, what is finished stays, and then --merge"
        )
    log.info("preprocessing: %s", report.table())
    return report


def _failure(item: ClipItem, job: Job) -> Outcome | None:
    """What is noted of a clip that failed, which a run would try again; None where none has failed."""
    meta = read_meta(job.root / item.clip_id)
    if meta.get("status") != FAILED:
        return None
    return Outcome(item.clip_id, FAILED, str(meta.get("reason", "")))
