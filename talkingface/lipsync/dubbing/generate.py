"""Generation: faces are cut out of the frames of a video, their mouths drawn to a sound, and pasted back in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from talkingface.clips.redraw import FrameBatch, frame_batches
from talkingface.clips.source import report_missing
from talkingface.devices import OnTheWay, in_flight
from talkingface.lipsync.dubbing.paste import MouthPaster
from talkingface.lipsync.dubbing.scene import FaceScene, Lent, lend
from talkingface.lipsync.dubbing.sound import BESIDE, rows_of_frames
from talkingface.lipsync.pauses import Loudness, Pauses
from talkingface.networks.dubbing.geometry import hard_hole
from talkingface.plugin.contract import Drawn
from talkingface.sound.recogniser import fitted, frame_windows
from talkingface.sound.rows import Rows

if TYPE_CHECKING:
    from torch import Tensor

    from talkingface.clips.source import Audio, Source
    from talkingface.lipsync.dubbing.config import DubbingCropConfig, DubbingInference
    from talkingface.lipsync.dubbing.networks import DubbingNetworks
    from talkingface.networks.dubbing.generator import References
    from talkingface.networks.dubbing.geometry import MouthCrop
    from talkingface.sound.front_ends import FrontEnd

CPU_BATCH, GPU_BATCH = 4, 20
"""Frames per pass. Published: 20. At 416x320 the largest map of the published width is 34 MB per frame."""


def generate(model: DubbingNetworks, source: Source, audio: Audio) -> Iterator[np.ndarray | Drawn]:
    """Yield one full frame, uint8 RGB (H, W, 3), per video frame (wanted) of the audio, panes for `save_debug_video`.

    Frames without a face pass through as they are. Outside the box of the mouth every frame equals the source exactly.

    Raises:
        NoFaceError: the source or its reference shows no face, or some frames do not and `no_face` is `error`.
        DataError: a reference frame that was named does not serve.
    """
    settings = model.config.inference
    scene = source.once(model, "scene", lambda: FaceScene.look(crops_of(model), source))
    order, rows = np.asarray(source.order(audio.n_frames(source.fps))), audio.rows(source.fps)
    report_missing(scene.valid, order[rows], str(source.path), settings.no_face)
    pauses = _pauses(settings, audio, len(order))
    heard = heard_at_frames(model.front_end, pauses.hushed(audio.samples), len(order))
    known = Knowledge.of(model, scene, source, shut=bool(pauses.shut[rows].any()))
    paster = audio.going_on("paster", lambda: MouthPaster(model.drawn, settings, model.config.pasting))
    size = settings.batch or (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    parts = frame_batches(iter(source.frames(order[rows])), order, scene.valid, rows, size)
    drawn = ((part, redrawn(model, scene, known, part, heard, pauses)) for part in parts)
    for part, faces in in_flight(drawn, model.device):
        for each in faces:
            for k, face, true in zip(each.places, each.drawn.numpy(), each.true, strict=True):
                frame = int(part.shown[k])
                part.pictures[k] = paster.paste(part.pictures[k], face, true, scene.matrices[frame], frame)
        if settings.save_debug_video:
            yield from map(Drawn, part.pictures, _panes(model, part, faces))
        else:
            yield from part.pictures


def _panes(model: DubbingNetworks, part: FrameBatch, faces: list[_Redrawn]) -> np.ndarray:
    """Crops of a batch as they are hidden, drawn and true, side by side, (m, H, 3 W, 3) uint8; black without a face."""
    crop = model.drawn
    kept = 1 - model.hole(crop)[0, 0, :, :, None].numpy()
    panes = np.zeros((len(part.rows), crop.height, 3 * crop.width, 3), np.uint8)
    for each in faces:
        hidden = (each.true * kept).astype(np.uint8)
        panes[each.places] = np.concatenate([hidden, each.drawn.numpy(), each.true], axis=2)
    return panes


def crops_of(model: DubbingNetworks) -> DubbingCropConfig:
    """How faces are cut out at the size that a model draws."""
    return model.config.crop.model_copy(update={"width": model.drawn.width})


def _pauses(settings: DubbingInference, audio: Audio, frames: int) -> Pauses:
    """The pauses of a sound; of a window out of a longer one, below the loudest that was heard until now."""
    if settings.silence == "keep":
        return Pauses.none(frames)
    loudest = audio.going_on("loudness", Loudness).hear(audio.samples, frames)
    return Pauses.of(audio.samples, frames, level_db=settings.silence_db, loudest=loudest)


def heard_at_frames(front_end: FrontEnd, samples: np.ndarray, frames: int) -> np.ndarray:
    """Rows of a front end around each video frame at 25 fps, (frames, width, 5), of samples (n,) at 16 kHz."""
    rows = front_end.extract(fitted(samples, frames))
    heard = rows_of_frames(Rows(rows, front_end.rows_per_second), frames, front_end.name)
    return np.ascontiguousarray(frame_windows(heard, BESIDE, BESIDE))


class Knowledge(NamedTuple):
    """What a generator knows of the references of some frames (F,) bool; `shut`: of the most closed mouths, or None."""

    serves: np.ndarray
    references: References
    shut: References | None = None

    @classmethod
    def of(cls, model: DubbingNetworks, scene: FaceScene, source: Source, shut: bool = False) -> list[Knowledge]:
        """For all frames of a source; what a prepared source has given before is not worked out again.

        Args:
            model: the model.
            scene: of the source.
            source: what is dubbed.
            shut: mouths are to be shut in places.
        """
        serves, known = source.once(model, "references", lambda: _encoded(model, scene, source))
        if not shut:
            return [cls(*each) for each in zip(serves, known, strict=True)]
        _, closed = source.once(model, "shut references", lambda: _encoded(model, scene, source, shut=True))
        return [cls(*each) for each in zip(serves, known, closed, strict=True)]


def _encoded(
    model: DubbingNetworks, scene: FaceScene, source: Source, shut: bool = False
) -> tuple[list[np.ndarray], list[References]]:
    """Groups of frames (F,) bool of a source, and what is known of the references of each."""
    groups = lend(scene, source, model.config.inference, shut)
    return [lent.serves for lent in groups], [model.known(_shown(lent, model.drawn)) for lent in groups]


class _Redrawn(NamedTuple):
    """Faces of a batch: where they belong, what was drawn (k, H, W, 3), and what is true (k, H, W, 3)."""

    places: np.ndarray
    drawn: OnTheWay
    true: np.ndarray


def _shown(lent: Lent, crop: MouthCrop) -> np.ndarray:
    """Reference crops, without a mouth where they are the very faces to be drawn."""
    if not lent.alone:
        return lent.faces
    return (lent.faces * (1 - hard_hole(crop)[0, 0, :, :, None].numpy())).astype(np.uint8)


def redrawn(
    model: DubbingNetworks,
    scene: FaceScene,
    known: list[Knowledge],
    part: FrameBatch,
    heard: np.ndarray,
    pauses: Pauses | None = None,
) -> list[_Redrawn]:
    """The faces of a batch, drawn with the references of each to rows (n, width, 5) of all output frames."""
    found = []
    for group in known:
        places = part.faces[group.serves[part.shown[part.faces]]]
        if len(places):
            true = np.stack([scene.cut(part.pictures[k], int(part.shown[k])) for k in places])
            rows = part.rows[places]
            faces = model.redraw(true, group.references, heard[rows])
            if group.shut is not None and pauses is not None:
                faces = _shut(model, faces, true, group.shut, heard[rows], pauses.shut[rows])
            found.append(_Redrawn(places, OnTheWay(faces), true))
    return found


def _shut(
    model: DubbingNetworks,
    faces: Tensor,
    true: np.ndarray,
    closed: References,
    heard: np.ndarray,
    shares: np.ndarray,
) -> Tensor:
    """Drawn faces (k, H, W, 3) mixed with those of closed mouths, by shares (k,) in [0, 1]."""
    some = np.flatnonzero(shares)
    if not len(some):
        return faces
    others = model.redraw(true[some], closed, heard[some]).float()
    share = torch.from_numpy(shares[some]).to(others.device)[:, None, None, None]
    mixed = faces.clone()
    mixed[some] = ((1 - share) * faces[some].float() + share * others).round().to(faces.dtype)
    return mixed
