"""What became of one clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK, REJECTED, FAILED, ABORT = "ok", "rejected", "failed", "abort"


@dataclass
class Outcome:
    """Result of one clip.

    Attributes:
        status: `ok`, `rejected`, `failed`; `abort` when no clip can be prepared (then `reason` is the whole message).
        reason: one line; empty for `ok`.
        by: the filter or step that rejected the clip.
        measured: the value that decided, where there is one.
        limit: what it was held against.
        made: artefacts made in this run.
        seconds: time of each step that ran, and of `decode`, which serves all of them.
        frames: number of frames.
        output_error: whether an abort came from writing.
        facts: what the steps noted of the clip, by artefact: values that filters measured, the landmark file used, ...
    """

    clip_id: str
    status: str
    reason: str = ""
    made: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    output_error: bool = False
    by: str = ""
    measured: Any = None
    limit: Any = None
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def facts_of(meta: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """`Outcome.facts`, from the content of `clip.json`."""
    return {name: record["facts"] for name, record in meta.get("steps", {}).items() if "facts" in record}
