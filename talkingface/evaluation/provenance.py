"""What a reader must know of an evaluation to compare its numbers with others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.evaluation.metric import Metric

OWN_WAY = {"predicted": "a predicted motion, not the source", "none": "nothing and rests"}
"""What a head follows that does not follow the source."""


def head_remark(head: str) -> list[str]:
    """Say that the heads go their own way."""
    return [] if head == "source" else [f"the head of the videos follows {OWN_WAY[head]}"]


def seen_speakers(clips: Iterable[ClipFolder], trained: Collection[str]) -> list[str]:
    """Say that people of the training clips are scored, where that is known."""
    people = {clip.speaker for clip in clips} - {""}
    seen = people.intersection(trained)
    return [f"{len(seen)} of {len(people)} speakers are in the training clips, too"] if seen else []


def whose(own: int, total: int) -> str:
    """Where the references of `total` clips come from, of which `own` lend themselves."""
    if own == total:
        return "the same clip"
    return "another clip of the same speaker" + (f" (but {own} of {total} from the same clip)" if own else "")


def detector_of(here: dict[str, Any], tracks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What found the landmarks: `here`, else while the clips were prepared; empty where none were used.

    Args:
        here: the detector that ran in this evaluation, empty if none did.
        tracks: detectors behind the prepared landmarks that were used.
    """
    if here:
        return here
    values: dict[str, set[str]] = {}
    for described in tracks:
        for key, value in described.items():
            values.setdefault(key, set()).add(value)
    return {key: ", ".join(sorted(found)) for key, found in values.items()}


def definitions_of(metrics: Sequence[Metric], detector: Mapping[str, Any]) -> dict[str, Any]:
    """What makes each figure comparable, with the landmark detector where it took part."""
    provider = " ".join(str(value) for value in detector.values())
    definitions: dict[str, Any] = {}
    for metric in metrics:
        for key, definition in metric.definitions().items():
            involved = metric.needs_landmarks or metric.uses_landmarks
            involved = involved or definition.get("region") in ("face", "mouth")
            landmarks = {"landmarks": provider} if provider and involved and key in metric.figures else {}
            definitions[key] = {**definition, **landmarks}
    return definitions
