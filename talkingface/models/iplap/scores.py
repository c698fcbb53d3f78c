"""Figures of IPLAP's first stage by itself: what the landmarks say before a face is drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from talkingface.clips.folder import ClipFolder
from talkingface.faces.mesh import CHIN, FOREHEAD, INNER_LIP_BOTTOM, INNER_LIP_TOP, IPLAP_CONTENT
from talkingface.models.iplap.data import POSE
from talkingface.models.iplap.generate import encode_landmarks
from talkingface.models.iplap.mouth import Timeline, predict_by_groups
from talkingface.models.iplap.points import ClipPoints, clip_points
from talkingface.models.iplap.references import ReferenceGroup, mouth_openness, select_references

if TYPE_CHECKING:
    from talkingface.faces.crop import CropConfig
    from talkingface.faces.track import LandmarkTrack
    from talkingface.models.iplap.parts import IPLAPNetworks

LIP_TOP, LIP_BOTTOM = IPLAP_CONTENT.index(INNER_LIP_TOP), IPLAP_CONTENT.index(INNER_LIP_BOTTOM)


def landmark_scores(
    model: IPLAPNetworks, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]
) -> dict[str, float]:
    """Score predicted landmarks on held-out clips.

    References come from another of the clips of the same speaker, otherwise each half of a clip gets them from the
    other half: never from the frames that are predicted.

    Args:
        model: the model, in any mode.
        clips: held-out clips.
        donors: for each clip, the clip whose audio drives the shuffled row.

    Returns:
        `landmark_opening_corr`: correlation over time of the predicted and the true mouth opening, mean over clips;
        `landmark_l1`: mean absolute error in units of the face box; both also as `..._shuffled`.
    """
    network = model.landmark_generator
    training = network.training
    network.eval()  # batch norm over a clip's own frames would give other landmarks, and move its averages
    try:
        with torch.no_grad():
            return _scores(model, clips, donors)
    finally:
        network.train(training)


class _Face(NamedTuple):
    """Landmarks of a clip, 8 kB per frame."""

    track: LandmarkTrack
    points: ClipPoints

    @classmethod
    def of(cls, clip: ClipFolder, crop: CropConfig) -> _Face:
        track = clip.track()
        return cls(track, clip_points(track, crop))


def _scores(model: IPLAPNetworks, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
    values: dict[str, list[float]] = {}

    @lru_cache(maxsize=2)  # a clip and its peer, which most of the clips of a speaker share
    def face_of(index: int) -> _Face:
        return _Face.of(clips[index], model.config.inference_crop)

    for index, (clip, donor, peer) in enumerate(zip(clips, donors, _peers(clips), strict=True)):
        own, other = face_of(index), None if peer is None else face_of(peer)
        groups = _groups(model, own, other)
        for suffix, voice in (("", clip), ("_shuffled", donor)):
            frames = np.arange(min(len(own.points.valid), len(voice)))
            content = _centre_content(model, own.points, frames, voice.mel(), groups, clip.fps)
            usable = own.points.valid[frames]
            truth = own.points.relative[frames][..., POSE:]
            opening = [
                opening_px(part, own.points.boxes[frames])[usable] / _face_height(own.track)
                for part in (content, truth)
            ]
            error = float(np.abs(content - truth)[usable].mean())
            values.setdefault(f"landmark_opening_corr{suffix}", []).append(_correlation(*opening))
            values.setdefault(f"landmark_l1{suffix}", []).append(error)
    return {name: float(np.nanmean(found)) for name, found in values.items()}


def _peers(clips: Sequence[ClipFolder]) -> list[int | None]:
    """For each clip the first other one of its speaker, None where there is none or the speaker is not known."""
    firsts: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        known = firsts.setdefault(clip.speaker, [])
        if clip.speaker and len(known) < 2:
            known.append(index)
    return [next((k for k in firsts[clip.speaker] if k != index), None) for index, clip in enumerate(clips)]


def opening_px(content: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Distance of the inner lips in pixels, (F,), from lips and jaws (F, 2, 57) relative to the boxes (F, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.linalg.norm((content[..., LIP_TOP] - content[..., LIP_BOTTOM]) * sides, axis=1)


def _groups(model: IPLAPNetworks, own: _Face, peer: _Face | None) -> list[ReferenceGroup]:
    """Reference landmarks of one clip, from a peer or from its other half."""
    count, origin = len(own.points.valid), peer or own
    usable = np.flatnonzero(origin.points.found)
    if peer is not None:
        choices = [(np.ones(count, bool), usable)]
    else:
        first = np.arange(count) < (count + 1) // 2
        choices = [(first, usable[~first[usable]]), (~first, usable[first[usable]])]
    openness, groups = mouth_openness(origin.track.points_px, origin.track.size), []
    for serves, candidates in choices:
        chosen = select_references(openness, model.config.inference.nl, candidates if len(candidates) else usable)
        landmarks = origin.points.relative[chosen]
        groups.append(ReferenceGroup(serves, encode_landmarks(model, landmarks), None, landmarks[0]))
    return groups


def _centre_content(
    model: IPLAPNetworks,
    points: ClipPoints,
    frames: np.ndarray,
    mel: np.ndarray,
    groups: Sequence[ReferenceGroup],
    fps: float,
) -> np.ndarray:
    """Predicted lips and jaw of every frame as the middle of its window, (n, 2, 57)."""
    timeline = Timeline.of(points.valid, frames, fps, model.config.landmark.window)
    rows = np.arange(len(frames))
    return predict_by_groups(model, points, timeline, rows, mel, groups)[:, timeline.window // 2]


def _face_height(track: LandmarkTrack) -> float:
    """Median height of the face in pixels; one number per clip, so that the chin's motion cannot enter the ratio."""
    heights = np.linalg.norm(track.points_px[:, FOREHEAD, :2] - track.points_px[:, CHIN, :2], axis=1)
    return float(np.nanmedian(heights))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 3 or first.std() < 1e-9 or second.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
