"""Holding clips out of training: which ones, the same for the same names in every run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence, Set
from functools import lru_cache

log = logging.getLogger("talkingface")


def hold_out(
    ids: Sequence[str], parts: int, share: float, speaker: Callable[[str], str] | None = None
) -> list[list[str]]:
    """Cut `parts` held-out lists from `ids`, the same for the same ids whatever their order.

    Each part gets `share` of the clips (or speakers), at least one. With too few clips to spare, the parts repeat the
    training clips: a run on one clip must still work, and says so.

    Args:
        ids: clips, each once.
        parts: number of held-out lists.
        share: of the clips or speakers, for each of them.
        speaker: who speaks in a clip, empty where that is not known; whole speakers are then held out. With too few of
            them clips are, with a warning.

    Returns:
        The training list, then the parts; each in the order of `ids`.
    """
    groups = _groups(ids, speaker if parts else None)
    if speaker is not None and parts and len(groups) <= parts < len(ids):
        warn_once(
            f"{len(groups)} {'speaker is' if len(groups) == 1 else 'speakers are'} too few to hold any out: clips are"
            " held out instead, and the same people are in training, validation and test"
        )
        groups = _groups(ids, None)
    if len(groups) <= parts:
        if parts and ids:
            warn_once(f"{len(ids)} clips are too few to hold any out: validation and test use the training clips")
        return [list(ids) for _ in range(parts + 1)]
    # By the hash of their names: neither the order of the list nor a clip that comes or goes moves the others.
    ranked = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    each = min(max(1, round(share * len(groups))), (len(groups) - 1) // parts) if parts else 0
    chosen = [set(ranked[n * each : (n + 1) * each]) for n in range(parts)]
    chosen.insert(0, set(ranked[parts * each :]))
    return [[clip_id for name in groups if name in part for clip_id in groups[name]] for part in chosen]


def hold_out_usable(
    pool: Sequence[str], usable: Set[str], parts: int, share: float, speaker: Callable[[str], str] | None = None
) -> list[list[str]]:
    """The same of all clips in `pool`, without those that cannot be used; see `hold_out`.

    Which of the others belong to which part does not depend on them, unless a part would be left with nothing.
    """
    if parts < len(pool):  # otherwise all parts are the same clips
        lists = [[clip_id for clip_id in part if clip_id in usable] for part in hold_out(pool, parts, share, speaker)]
        if all(lists):
            return lists
    return hold_out([clip_id for clip_id in pool if clip_id in usable], parts, share, speaker)


def _groups(ids: Sequence[str], speaker: Callable[[str], str] | None) -> dict[str, list[str]]:
    """Clips that stay together, by name: those of one speaker, or every clip for itself."""
    groups: dict[str, list[str]] = {}
    unknown: list[str] = []
    for clip_id in ids:
        name = speaker(clip_id) if speaker is not None else clip_id
        if not name:
            unknown.append(clip_id)
        groups.setdefault(name or clip_id, []).append(clip_id)
    if unknown:
        warn_once(
            f"who speaks in {len(unknown)} of {len(ids)} clips cannot be told from their names ({unknown[0]}): each"
            " is held out for itself, and the same person may be in training, validation and test"
        )
    return groups


@lru_cache(maxsize=256)
def warn_once(message: str) -> None:
    """Warn, once per process however often the splits are asked for."""
    log.warning(message)
