"""Figures of MakeItTalk's landmark stages: does it hear, how far is it from the truth, and does the head move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from talkingface.clips.folder import ClipFolder
from talkingface.evaluation.metrics.landmark_motion import landmark_figures
from talkingface.faces.ibug68 import LIPS, mouth_openings
from talkingface.faces.rigid import register
from talkingface.media import FPS
from talkingface.models.makeittalk.data import Motion, MotionDataset, read_motion
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.sound.rows import held_at

if TYPE_CHECKING:
    from talkingface.models.makeittalk.parts import MakeItTalkNetworks

_OF_THE_MOUTH = ("d_ll", "d_vl", "d_a")  # figures in which the motion of the head has no part

MOST_CLIPS = 64
"""Held-out clips, evenly spread, from which a validation finds the figures of a branch: each goes through it whole.

`head_distance` chooses the state that is kept, so they are many: ratios that differ by half from clip to clip have a
mean that is known to 6 %.
"""

_STILL = 1e-3  # ratio of a head that does not move at all

MOTIONS = ("yaw", "pitch", "roll", "x", "y")


def lips_of(rows: np.ndarray) -> np.ndarray:
    """Lips (T, 20, 3) of faces (T, 204)."""
    return rows.reshape(len(rows), -1, 3)[:, LIPS]


def lip_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the lips' points in eye distances, of faces (T, 204)."""
    return float(np.linalg.norm(lips_of(predicted) - lips_of(true), axis=-1).mean())


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two curves (T,), NaN where one is flat."""
    if len(first) < 3 or first.std() < 1e-9 or second.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


@torch.no_grad()
def audio_response(model: MakeItTalkNetworks, held_out: MotionDataset) -> float:
    """How much the lips change on another clip's sound, over their standard deviation in the truth.

    Near 0 the branch is deaf: it says the same whatever it hears. NaN with fewer than two clips.
    """
    changes = [_change(model, own, other) for own, other in _with_the_next(_some_motions(held_out))]
    return float(np.mean(changes)) if changes else float("nan")


def _some_motions(held_out: MotionDataset) -> Iterator[Motion]:
    return held_out.each_readable(held_out.motion, held_out.some_clips(MOST_CLIPS))


def _with_the_next(motions: Iterable[Motion]) -> Iterator[tuple[Motion, Motion]]:
    """Each of two or more with the one after it, the last with the first; few are held at a time."""
    motions = iter(motions)
    first = before = next(motions)
    several = False
    for motion in motions:
        yield before, motion
        before, several = motion, True
    if several:
        yield before, first


def _change(model: MakeItTalkNetworks, own: Motion, other: Motion) -> float:
    """How much the lips of a clip change on the sound of another one, over their deviation in the truth."""
    length = min(len(own.sound), len(other.sound))
    mine, theirs = (lips_of(model.content_of(motion.sound[:length], own.rest)) for motion in (own, other))
    spread = lips_of(own.still[own.valid]).std(axis=0).mean()
    return float(np.abs(mine - theirs).mean() / max(spread, 1e-9))


@torch.no_grad()
def head_spread(model: MakeItTalkNetworks, held_out: MotionDataset) -> dict[str, float]:
    """Predicted over true standard deviation of yaw, pitch, roll, x and y, and what follows from these five.

    `head_std` is their mean; `head_distance` that of their logarithms' sizes, which is 0 where the head moves as far as
    the true ones and grows with less motion as well as with more.
    """
    mean = np.mean([_spread(model, motion) for motion in _some_motions(held_out)], axis=0)
    values = {f"head_std_{name}": float(value) for name, value in zip(MOTIONS, mean, strict=True)}
    distance = np.abs(np.log(np.maximum(mean, _STILL))).mean()
    return values | {"head_std": float(mean.mean()), "head_distance": float(distance)}


def _spread(model: MakeItTalkNetworks, motion: Motion) -> np.ndarray:
    displacement = model.head_of(motion.sound, motion.speaker) + model.content_of(motion.sound, motion.rest)
    predicted = head_motion(displacement + motion.rest, motion.rest)[motion.valid]
    true = head_motion(motion.moving, motion.rest)[motion.valid]
    return predicted.std(axis=0) / np.maximum(true.std(axis=0), 1e-6)


def head_motion(rows: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll in degrees and x, y in eye distances (T, 5) of faces (T, 204), beside a resting one (204,)."""
    faces, still = rows.reshape(-1, 68, 3).astype(np.float64), rest.reshape(68, 3).astype(np.float64)
    back = register(faces, still)[1]
    rotation = np.swapaxes(back[:, :3, :3], 1, 2)
    yaw = np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = np.arcsin(np.clip(-rotation[:, 1, 2], -1, 1))
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    middle = faces[:, 27:36, :2].mean(axis=1)
    return np.concatenate([np.degrees(np.stack([yaw, pitch, roll], axis=1)), middle], axis=1)


def paper_figures(spoken: np.ndarray, true: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """D-LL, D-VL and D-A of the paper, in percent, of faces (T, 204) at rest, at 25 frames per second.

    Args:
        spoken: generated faces.
        true: those of the clip.
        valid: (T,) bool, rows that count.
    """
    places = np.arange(0, len(true) - 1 + 1e-6, ROWS_PER_SECOND / FPS)
    known = np.where(valid[:, None], true, np.nan)
    faces = [held_at(rows, places).reshape(-1, 68, 3).astype(np.float64) for rows in (spoken, known)]
    both = np.isfinite(faces[1]).all(axis=(1, 2))
    if not both.any():
        return dict.fromkeys(_OF_THE_MOUTH, float("nan"))
    found = landmark_figures(*faces, both)
    return {name: found[name] for name in _OF_THE_MOUTH}


@torch.no_grad()
def content_scores(
    model: MakeItTalkNetworks, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]
) -> dict[str, float]:
    """Figures of the content branch on held-out clips.

    Args:
        model: in any mode.
        clips: held-out clips.
        donors: for each clip, the one whose sound drives the shuffled row.

    Returns:
        `content_lip_error` in eye distances, the same of the clip's `mean_mouth`, `content_opening_corr` over time, and
        the landmark figures of the paper that a head at rest has, in percent; with `_shuffled` for the donors' sound.
    """
    branch = model.content_branch
    training = branch.training
    branch.eval()
    values: dict[str, list[float]] = {}
    try:
        for clip, donor in zip(clips, donors, strict=True):
            _score(model, clip, donor, values)
    finally:
        branch.train(training)
    return {name: float(np.nanmean(found)) for name, found in values.items() if np.isfinite(found).any()}


def _score(model: MakeItTalkNetworks, clip: ClipFolder, donor: ClipFolder, values: dict[str, list[float]]) -> None:
    artefact = model.config.sound.artefact
    if not (clip.has(artefact) and clip.has(model.config.faces_artefact)):
        return
    motion = read_motion(clip, model.config)
    true = motion.still[motion.valid]
    if len(true) < 3:
        return
    mean = np.broadcast_to(true.mean(axis=0), true.shape)
    values.setdefault("mean_mouth", []).append(lip_error(mean, true))
    whole = np.broadcast_to(true.mean(axis=0), motion.still.shape)
    values.setdefault("mean_mouth_d_ll", []).append(paper_figures(whole, motion.still, motion.valid)["d_ll"])
    for suffix, voice in (("", clip), ("_shuffled", donor)):
        if not voice.has(artefact):
            continue
        sound = voice.features(artefact).values
        length = min(len(sound), len(motion.sound))
        valid = motion.valid[:length]
        spoken = model.content_of(sound[:length], motion.rest) + motion.rest
        for name, value in paper_figures(spoken, motion.still[:length], valid).items():
            values.setdefault(f"content_{name}{suffix}", []).append(value)
        said, truth = spoken[valid], motion.still[:length][valid]
        openings = [mouth_openings(rows.reshape(-1, 68, 3)) for rows in (said, truth)]
        values.setdefault(f"content_lip_error{suffix}", []).append(lip_error(said, truth))
        values.setdefault(f"content_opening_corr{suffix}", []).append(correlation(*openings))
