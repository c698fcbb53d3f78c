"""The expert of DINet and LawDNet as a judge of videos: it sees mouths cut as in its training, and hears rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError

from talkingface.clips.windows import window_starts
from talkingface.errors import CheckpointError, DataError, TalkingFaceError, Unavailable, first_line
from talkingface.faces.affine import crop_by_matrix
from talkingface.lipsync.dubbing.config import DubbingAudioConfig, DubbingCropConfig
from talkingface.lipsync.dubbing.sound import BESIDE, FPS, rows_of_frames
from talkingface.lipsync.expert.embedding import ClipEmbeddings, embed_clip
from talkingface.lipsync.expert.judge import (
    EXPERT,
    ExpertFile,
    Judge,
    check_size,
    is_no_cosine,
    is_trained,
    load_judge,
    loss_judge,
    weights_hash,
)
from talkingface.networks import deepspeech2, hubert_ds  # noqa: F401, front ends that register themselves
from talkingface.networks.deepspeech import front_ends  # noqa: F401, the same
from talkingface.networks.dubbing.encoders import AUDIO_WIDTH
from talkingface.networks.dubbing.geometry import MouthCrop
from talkingface.networks.dubbing.sync_expert import SIDE, MouthSyncExpert
from talkingface.networks.sync_expert import FRAMES
from talkingface.sound.choice import FrontEndConfig
from talkingface.sound.front_ends import FrontEnd
from talkingface.sound.recogniser import FRAME_SAMPLES, fitted
from talkingface.sound.rows import Rows
from talkingface.weights import checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from talkingface.faces.track import LandmarkTrack
    from talkingface.plugin.contract import TalkingFaceModel

_FULL_CHANNELS = 128  # of the encoder of sounds at width 1
_PUBLISHED_CROP = DubbingCropConfig(kind="upright", smooth=0.0)
_PUBLISHED_FRONT_END = FrontEndConfig(name="deepspeech_onnx")


@dataclass(frozen=True, kw_only=True)
class MouthJudge(Judge):
    """An expert that is no cosine, in eval mode.

    Attributes:
        crop: how faces are cut out for it, of the width that its mouths need.
        front_end: what it hears with.
    """

    network: MouthSyncExpert
    crop: DubbingCropConfig
    front_end: FrontEnd

    def describe(self) -> dict[str, Any]:
        """See `Judge.describe`; and how mouths were cut, for two judges of other crops do not compare."""
        return {**super().describe(), "crop": self.crop.artefact, "hears": self.front_end.name}

    def cut(self, frames: Iterable[np.ndarray], track: LandmarkTrack) -> Iterator[np.ndarray]:
        """Mouths (S, S, 3) uint8 RGB of the frames of a video; see `Judge.cut`.

        Raises:
            DataError: frames and landmarks are of different size, or there is no face at all.
        """
        if not track.valid.any():
            raise DataError("no frame has a face")
        mouth, matrices = MouthCrop(self.crop.mouth), self.crop.steady().matrices(track)
        blank = np.zeros((mouth.mouth, mouth.mouth, 3), np.uint8)
        for frame, matrix, valid in zip(frames, matrices, track.valid, strict=False):
            check_size(frame, track)
            if not valid:
                yield blank
                continue
            face = crop_by_matrix(frame, matrix, self.crop.size_hw, self.crop.half_pixel)
            yield face[mouth.rows, mouth.columns]

    def embed(
        self, halves: Iterable[np.ndarray], valid: np.ndarray, audio: np.ndarray, fps: float = FPS, batch: int = 64
    ) -> ClipEmbeddings:
        """Features of all windows of a clip, each once; see `Judge.embed`.

        Raises:
            DataError: another frame rate, or no window of five frames has a face and sound throughout.
        """
        if fps != FPS:
            raise DataError(f"{fps:g} frames per second, where this expert knows {FPS}")
        frames = len(valid)
        rows = Rows(self.front_end.extract(fitted(audio, frames)), self.front_end.rows_per_second)
        starts = window_starts(valid, FRAMES)
        sounding = min(frames, len(audio) // FRAME_SAMPLES) - BESIDE
        starts = starts[(starts >= BESIDE) & (starts + FRAMES <= sounding)]
        heard = rows_of_frames(rows, frames, self.front_end.name)
        clip = embed_clip(self.network, halves, heard, starts, fps, batch)
        if not len(clip.starts):
            raise DataError(f"no {FRAMES} consecutive frames with a face and sound")
        return clip


class StoredExpert(NamedTuple):
    """An expert out of a file, in eval mode, and what it learnt on: crops as wide as its mouths need, and rows."""

    network: MouthSyncExpert
    crop: DubbingCropConfig
    hears: FrontEndConfig

    @classmethod
    def of(cls, file: ExpertFile) -> StoredExpert:
        """The expert in a file that holds one of DINet's kind.

        Raises:
            CheckpointError: it does not.
        """
        crop, hears, side = _recorded(file)
        network = _shaped_like(file.state, file.path)
        checkpoint.load_state(network, file.state, str(file.path))
        return cls(network.requires_grad_(False).eval(), _at(crop, side), hears)


def load_any_judge(path: str | Path, weights_dir: str | Path = "checkpoints", device: str = "cpu") -> Judge:
    """Load a judge, whatever kind of expert it is.

    Args:
        path: see `load_judge`; or a run, checkpoint or published file with an expert of DINet's kind.
        weights_dir: of the files of its front end.
        device: where it computes.

    Raises:
        CheckpointError: missing, damaged, or without a trained expert.
        Unavailable: a file of its front end is missing.
    """
    file = ExpertFile.read(path)
    if not is_no_cosine(file.state):
        return load_judge(path, device)
    expert = StoredExpert.of(file)
    return MouthJudge(
        network=expert.network.to(device),
        crop=expert.crop,
        run=str(path),
        accuracy=file.accuracy,
        sha256=weights_hash(expert.network),
        file=file.path,
        front_end=_front_end(expert.hears, weights_dir, device),
    )


def own_judge(model: TalkingFaceModel | None, weights_dir: str | Path = "checkpoints") -> Judge | None:
    """The expert that a loss of `model` asks, of whatever kind, as a judge; None without one that learnt anything."""
    network = getattr(model, EXPERT, None)
    if not isinstance(network, MouthSyncExpert) or EXPERT not in getattr(model, "loss_experts", ()):
        return loss_judge(model)
    if not is_trained(model, EXPERT):
        return None
    config = model.config
    return MouthJudge(
        network=network,
        crop=_at(config.expert.crop or config.crop, config.expert.side),
        run=f"{type(model).__name__}.{EXPERT}",
        accuracy=None,
        sha256=weights_hash(network),
        front_end=_front_end(config.audio.sync, weights_dir, str(model.device)),
    )


def _at(crop: DubbingCropConfig, side: int) -> DubbingCropConfig:
    """The crop whose mouths have so many pixels."""
    return crop.model_copy(update={"width": MouthCrop(side).width})


def _front_end(choice: FrontEndConfig, weights_dir: str | Path, device: str) -> FrontEnd:
    front_end = choice.build(weights_dir, device)
    if missing := front_end.missing():
        raise Unavailable(f"the expert hears with {choice.name}, whose file {missing[0]} is not there")
    return front_end


def _recorded(file: ExpertFile) -> tuple[DubbingCropConfig, FrontEndConfig, int]:
    """How mouths were cut, what was heard and the side of the mouths where an expert learnt."""
    if file.content is None:
        return _PUBLISHED_CROP, _PUBLISHED_FRONT_END, SIDE
    settings = file.content.config.get("model")
    settings = settings if isinstance(settings, dict) else {}
    try:
        expert = settings.get("expert") or {}
        crop = DubbingCropConfig.model_validate(expert.get("crop") or settings.get("crop") or {})
        audio = DubbingAudioConfig.model_validate(settings.get("audio") or {})
        side = int(expert.get("side", SIDE))
        return crop, audio.sync, _at(crop, side).mouth
    except (ValidationError, ValueError, TypeError, AttributeError, TalkingFaceError) as error:
        raise CheckpointError(f"{file.path}: its settings are none of an expert ({first_line(error)})") from None


def _shaped_like(state: Mapping[str, Tensor], path: Path) -> MouthSyncExpert:
    """An expert with the channels, norms and width of sound that entries have; loading them tells what else differs."""
    first, norm = "audio_encoder.audio_conv.0", "none"
    sound = state.get(f"{first}.conv.weight")
    if not is_no_cosine(state) or not isinstance(sound, torch.Tensor) or sound.ndim != 3:
        raise CheckpointError(f"{path}: not a lip-sync expert of DINet's kind")
    if f"{first}.norm.weight" in state:
        norm = "batch" if f"{first}.norm.running_mean" in state else "group"
    linear = state.get("audio_linear.weight")
    heard = linear.shape[-1] if isinstance(linear, torch.Tensor) and linear.ndim == 2 else AUDIO_WIDTH
    return MouthSyncExpert(sound.shape[0] / _FULL_CHANNELS, heard, norm=norm)
