"""What stands beside the generated videos: the still face, whose audio a shuffled clip gets, who lends references.

All choices depend on the clips alone, so that two runs on the same list are comparable.
"""

from __future__ import annotations

import itertools
import math
import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from talkingface.errors import DataError, MediaError
from talkingface.faces.regions import crop, region_boxes
from talkingface.media import KeptFrames, VideoWriter, WriteBehind, synthetic_comment

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.faces.track import LandmarkTrack

ROWS = ("generated", "real", "still", "shuffled")

GROUP = 1000
"""Clips that exchange their sounds among each other: time and memory grow with its square and more."""


@dataclass(frozen=True)
class Reference:
    """Where a clip's reference frames come from; `reason` says why it is the clip itself where it should not be."""

    clip: ClipFolder
    reason: str = ""


def choose_references(clips: Sequence[ClipFolder], pool: Sequence[ClipFolder], policy: str) -> dict[str, Reference]:
    """A reference clip for every clip.

    Args:
        clips: clips to evaluate.
        pool: further clips, usually the training split; preferred, since a user has them before the target exists.
        policy: `other_clip` takes another clip of the same speaker (chosen by the clip's name), so that no reference
            frame is a target frame; where there is none, and with `same_clip`, the clip itself.
    """
    lenders = (_by_speaker(pool), _by_speaker(clips)) if policy != "same_clip" else ()
    return {clip.clip_id: _reference(clip, lenders) for clip in clips}


def _by_speaker(clips: Sequence[ClipFolder]) -> dict[str, list[ClipFolder]]:
    """Every speaker's clips, in the order of their names, each name once: of several clips the last one counts."""
    found: dict[str, list[ClipFolder]] = {}
    for clip in sorted({clip.clip_id: clip for clip in clips}.values(), key=_name):
        found.setdefault(clip.speaker, []).append(clip)
    return found


def _name(clip: ClipFolder) -> str:
    return clip.clip_id


def _reference(clip: ClipFolder, lenders: Sequence[Mapping[str, list[ClipFolder]]]) -> Reference:
    if not lenders:
        return Reference(clip)
    if not clip.speaker:
        return Reference(clip, "its speaker is not known")
    for by_speaker in lenders:
        same = by_speaker.get(clip.speaker, [])
        # Where the clip itself stands among them, which is passed over without a copy of the list.
        own = bisect_left(same, clip.clip_id, key=_name)
        among = own < len(same) and same[own].clip_id == clip.clip_id
        if len(same) > among:
            chosen = zlib.crc32(clip.clip_id.encode()) % (len(same) - among)
            return Reference(same[chosen + (among and chosen >= own)])
    return Reference(clip, f"no other clip of speaker {clip.speaker}")


def assign_donors(clips: Sequence[ClipFolder], pool: Sequence[ClipFolder] = ()) -> dict[str, ClipFolder]:
    """For every clip another one to lend its audio: of the same frame rate, another speaker if possible, like length.

    The clips lend to each other, each once. A clip that is alone (at its rate) gets its donor from the pool.

    Args:
        clips: clips to evaluate.
        pool: further clips.

    Returns:
        Donors by clip id; clips for which there is none are left out.
    """
    rates: dict[float, list[ClipFolder]] = {}
    for clip in clips:
        rates.setdefault(clip.fps, []).append(clip)
    donors: dict[str, ClipFolder] = {}
    for clip in clips:
        peers = rates[clip.fps]
        if len(peers) > 1:
            if clip is peers[0]:
                for group in _groups(peers):
                    donors |= zip((peer.clip_id for peer in group), _derangement(group), strict=True)
        elif others := [c for c in pool if c.fps == clip.fps and c.clip_id != clip.clip_id]:
            donors[clip.clip_id] = min(others, key=lambda other, clip=clip: (*_unlikeness(clip, other), other.clip_id))
    return {clip.clip_id: donors[clip.clip_id] for clip in clips if clip.clip_id in donors}


def _unlikeness(clip: ClipFolder, other: ClipFolder) -> tuple[bool, float]:
    """What makes a poor donor: the same speaker, then another length."""
    return clip.speaker == other.speaker, abs(float(np.log2(max(len(clip), 1) / max(len(other), 1))))


def _groups(clips: Sequence[ClipFolder]) -> list[Sequence[ClipFolder]]:
    """Clips that lend to each other: all, or of very many those of similar lengths: costs are kept for all pairs."""
    if len(clips) <= GROUP:
        return [clips]
    by_length = sorted(clips, key=len)
    ends = np.linspace(0, len(clips), math.ceil(len(clips) / GROUP) + 1).astype(int)
    return [by_length[start:end] for start, end in itertools.pairwise(ends)]


def _derangement(clips: Sequence[ClipFolder]) -> list[ClipFolder]:
    """Every clip's donor among at least two clips."""
    count = len(clips)
    lengths = np.log2(np.maximum([len(clip) for clip in clips], 1))
    speakers = np.array([clip.speaker for clip in clips])
    step = (np.arange(count)[None] - np.arange(count)[:, None]) % count
    # As an assignment of least cost: the same speaker costs as much as twice the length.
    cost = np.abs(lengths[:, None] - lengths[None]) + (speakers[:, None] == speakers[None])
    cost = cost + 1e-6 * step  # a fixed order among equals
    np.fill_diagonal(cost, 1e6)  # nobody lends to himself
    _, chosen = linear_sum_assignment(cost)
    return [clips[index] for index in chosen]


def median_frame(track: LandmarkTrack) -> int:
    """Index of the detected frame whose mouth opening is the median one: the fairest single guess of a mouth.

    Of boxes without landmarks, the middle one of the detected frames.

    Raises:
        DataError: no frame has a face.
    """
    found = np.flatnonzero(track.found)
    if not len(found):
        raise DataError("the reference clip has no frame with a face")
    if track.has_points:
        found = found[np.argsort(track.opening()[found], kind="stable")]
    return int(found[(len(found) - 1) // 2])


def write_still(
    clip: ClipFolder, reference: ClipFolder, output: Path, kept: KeptFrames | None = None, preset: str = "medium"
) -> None:
    """Write the real video with one still face in it: the reference's, resized into the true face box of every frame.

    The picture around the box is the real one, and the box moves and scales as the real face does: what remains to be
    predicted is the mouth. The reference frame is the one with the median mouth opening.

    Args:
        clip: whose video it is.
        reference: the clip that lends the face.
        output: file to write.
        kept: memory for decoded videos.
        preset: effort of x264.
    """
    kept = kept or KeptFrames(0)
    index = median_frame(reference.track())
    frame = next(itertools.islice(kept.frames(reference.video, reference.fps), index, None), None)
    face = None if frame is None else crop(frame, region_boxes(reference.track(), "face")[index])
    if face is None:
        raise DataError(f"{reference.video}: shorter than its landmarks; preprocess it again")
    boxes = _nearest(region_boxes(clip.track(), "face"))
    sides = {"fps": clip.fps, "audio": sound_of(clip), "preset": preset, "comment": synthetic_comment("a still face")}
    with WriteBehind(VideoWriter(output, **sides)) as writer:
        for number, target in enumerate(kept.frames(clip.video, clip.fps)):
            place = crop(target := target.copy(), boxes[min(number, len(boxes) - 1)])
            if place is not None:
                size = (place.shape[1], place.shape[0])
                place[:] = cv2.resize(face, size, interpolation=_interpolation(face, size))
            writer.write(target)


def sound_of(clip: ClipFolder) -> np.ndarray | None:
    """The clip's sound for a film, None where its files have none; prepared clips always have."""
    try:
        return clip.audio()
    except MediaError:
        return None


def _interpolation(face: np.ndarray, size: tuple[int, int]) -> int:
    return cv2.INTER_AREA if size[0] < face.shape[1] else cv2.INTER_LINEAR


def _nearest(boxes: np.ndarray) -> np.ndarray:
    """Boxes (F, 4) with missing ones taken from the nearest frame that has one."""
    known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    if not len(known):
        return boxes
    frames = np.arange(len(boxes))
    after = np.searchsorted(known, frames).clip(max=len(known) - 1)
    before = (after - 1).clip(min=0)
    earlier = np.abs(frames - known[before]) <= np.abs(known[after] - frames)
    return boxes[known[np.where(earlier, before, after)]]
