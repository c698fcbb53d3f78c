"""Figures of IPLAP's first stage by itself: what the landmarks say before a face is drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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


def _scores(model: IPLAPNetworks, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
    tracks = [clip.track() for clip in clips]
    points = [clip_points(track, model.config.inference_crop) for track in tracks]
    values: dict[str, list[float]] = {}
    for index, (clip, donor) in enumerate(zip(clips, donors, strict=True)):
        peers = [k for k, other in enumerate(clips) if k != index and clip.speaker and other.speaker == clip.speaker]
        groups = _groups(model, tracks, points, index, peers[0] if peers else None)
        for suffix, voice in (("", clip), ("_shuffled", donor)):
            frames = np.arange(min(len(points[index].valid), len(voice)))
            content = _centre_content(model, points[index], frames, voice.mel(), groups, clip.fps)
            usable = points[index].valid[frames]
            truth = points[index].relative[frames][..., POSE:]
            opening = [
                opening_px(part, points[index].boxes[frames])[usable] / _face_height(tracks[index])
                for part in (content, truth)
            ]
            error = float(np.abs(content - truth)[usable].mean())
            values.setdefault(f"landmark_opening_corr{suffix}", []).append(_correlation(*opening))
            values.setdefault(f"landmark_l1{suffix}", []).append(error)
    return {name: float(np.nanmean(found)) for name, found in values.items()}


def opening_px(content: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Distance of the inner lips in pixels, (F,), from lips and jaws (F, 2, 57) relative to the boxes (F, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.linalg.norm((content[..., LIP_TOP] - content[..., LIP_BOTTOM]) * sides, axis=1)


def _groups(
    model: IPLAPNetworks, tracks: Sequence[LandmarkTrack], points: Sequence[ClipPoints], index: int, peer: int | None
) -> list[ReferenceGroup]:
    """Reference landmarks of one clip, from a peer or from its other half."""
    count = len(points[index].valid)
    if peer is not None:
        choices = [(np.ones(count, bool), peer, np.flatnonzero(points[peer].found))]
    else:
        first, usable = np.arange(count) < (count + 1) // 2, np.flatnonzero(points[index].found)
        choices = [(first, index, usable[~first[usable]]), (~first, index, usable[first[usable]])]
    groups = []
    for serves, origin, candidates in choices:
        if not len(candidates):
            candidates = np.flatnonzero(points[origin].found)
        openness = mouth_openness(tracks[origin].points_px, tracks[origin].size)
        chosen = points[origin].relative[select_references(openness, model.config.inference.nl, candidates)]
        groups.append(ReferenceGroup(serves, encode_landmarks(model, chosen), None, chosen[0]))
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
