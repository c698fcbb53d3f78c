"""The lip-sync experts behind filter `sync`: the public SyncNet, or one that was trained with this toolkit.

An expert compares the mouths of a clip with its sound at every offset. Offsets count in frames at the expert's rate;
positive: earlier audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from talkingface.devices import resolve_device
from talkingface.errors import DataError, Unavailable
from talkingface.faces.track import LandmarkTrack, tight_boxes
from talkingface.lipsync.public import face_track
from talkingface.lipsync.public.windows import WINDOW, embed, windows_scored
from talkingface.media.info import FPS, frame_count
from talkingface.sound.mfcc import pcm16
from talkingface.weights import checkpoint
from talkingface.weights.published import how_to_get, locate, sha256_of

if TYPE_CHECKING:
    from talkingface.lipsync.expert.judge import Judge
    from talkingface.networks.syncnet_v2 import FoldedSyncNet


@dataclass(frozen=True)
class ExpertSearch:
    """Where lip-sync experts may lie, and where they compute; see `find_expert`.

    Attributes:
        weights_dir: folder of published weights.
        saved_dir: folder of runs.
        dataset: name of the data set, for the runs on it.
        device: as in the configuration.
    """

    weights_dir: str = "checkpoints"
    saved_dir: str = "saved"
    dataset: str = ""
    device: str = "cpu"


class OffsetExpert(Protocol):
    """What filter `sync` asks of an expert.

    Attributes:
        name: for reports.
        sha256: of its weights.
        unit: what its confidence is: best agreement less the median over all offsets, in the expert's own measure.
    """

    name: str
    sha256: str
    unit: str

    def rate(self, fps: float) -> float:
        """Frames per second in which its offsets count, for a data set of `fps`."""
        ...

    def table(
        self, frames: Iterable[np.ndarray], track: LandmarkTrack, audio: np.ndarray, fps: float, reach: int
    ) -> np.ndarray:
        """Agreement of every mouth of a clip with the sound at every offset, higher is better.

        Args:
            frames: (H, W, 3) uint8 RGB, consumed once.
            track: landmarks of these frames.
            audio: (n,) float32 mono at 16 kHz.
            fps: rate of the frames.
            reach: largest offset.

        Returns:
            (n, 2 reach + 1) of mouth t with the sound at t - offset; NaN where one of them is not there.
        """
        ...


def shift_table(
    mouths: np.ndarray, sounds: np.ndarray, reach: int, agree: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """`agree` of every mouth with the sounds around it; see `OffsetExpert.table`.

    Args:
        mouths: (n, D), NaN where there is none.
        sounds: (n, D).
        reach: largest offset.
        agree: of (m, D) and (m, D), gives (m,).
    """
    count = len(mouths)
    table = np.full((count, 2 * reach + 1), np.nan)
    for column, offset in enumerate(range(-reach, reach + 1)):
        first, last = max(0, offset), min(count, count + offset)
        if first < last:
            table[first:last, column] = agree(mouths[first:last], sounds[first - offset : last - offset])
    return table


class PublicSyncNet:
    """The public SyncNet on crops as its authors cut them, around the landmarks; confidence as LSE-C.

    Args:
        network: in eval mode, batch norms folded.
        name: for reports.
        sha256: of its file.
        device: where it runs.
    """

    unit = "LSE-C"

    def __init__(self, network: FoldedSyncNet, name: str, sha256: str, device: str) -> None:
        self.network, self.name, self.sha256, self.device = network.to(device), name, sha256, device

    @classmethod
    def load(cls, path: Path, device: str) -> PublicSyncNet:
        """Read the published file.

        Raises:
            CheckpointError: it is missing, damaged, or of another network.
        """
        from talkingface.networks.syncnet_v2 import SyncNetV2

        network = SyncNetV2().load(path).eval().fold()
        return cls(network, path.name, sha256_of(path), device)

    def rate(self, fps: float) -> float:
        """25, whatever the data set's: the network knows no other."""
        return FPS

    def table(
        self, frames: Iterable[np.ndarray], track: LandmarkTrack, audio: np.ndarray, fps: float, reach: int
    ) -> np.ndarray:
        """See `OffsetExpert`; the agreement is the negative distance of the embeddings."""
        chosen = at_rate(len(track), fps, FPS)
        pcm = pcm16(audio)
        count = windows_scored(len(chosen), len(pcm))
        if count < 1:
            return np.full((1, 2 * reach + 1), np.nan)
        mouths, sounds = embed(self.network, sync_crops(frames, track, chosen), pcm, self.device)
        mouths, sounds = mouths.astype(np.float64), sounds.astype(np.float64)
        seen = track.valid[chosen]
        mouths[~np.lib.stride_tricks.sliding_window_view(seen, WINDOW).all(axis=1)[: len(mouths)]] = np.nan
        return shift_table(mouths, sounds, reach, lambda m, s: -np.linalg.norm(m - s, axis=1))


class TrainedExpert:
    """An expert that was trained with this toolkit, or published by Wav2Lip's or HyperLips' authors.

    Its confidence is the prominence of the mean cosine, as in the reports of SyncNet.

    Args:
        judge: the expert.
    """

    unit = "prominence"

    def __init__(self, judge: Judge) -> None:
        self.judge, self.name, self.sha256 = judge, judge.run, judge.sha256

    def rate(self, fps: float) -> float:
        """That of the data set."""
        return fps

    def table(
        self, frames: Iterable[np.ndarray], track: LandmarkTrack, audio: np.ndarray, fps: float, reach: int
    ) -> np.ndarray:
        """See `OffsetExpert`; the agreement is the cosine of the embeddings."""
        halves = self.judge.lower_halves(frames, track)
        try:
            found = self.judge.embed(halves, track.valid, audio, fps)
        except DataError:  # not one window with a face and sound
            return np.full((1, 2 * reach + 1), np.nan)
        mouths, sounds = (np.full((len(track), found.mouths.shape[1]), np.nan) for _ in range(2))
        mouths[found.starts], sounds[found.starts] = found.mouths, found.sounds
        return shift_table(mouths, sounds, reach, lambda m, s: (m * s).sum(axis=1))


def at_rate(count: int, fps: float, rate: float) -> np.ndarray:
    """Which of `count` frames at `fps` is on screen in the middle of every frame at `rate`."""
    if fps == rate:
        return np.arange(count)
    middles = (np.arange(frame_count(count / fps, rate)) + 0.5) / rate
    return np.minimum((middles * fps).astype(int), count - 1)


def sync_crops(frames: Iterable[np.ndarray], track: LandmarkTrack, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Crops of the frames `chosen` (rising, may repeat), (224, 224, 3) uint8, cut and smoothed as for SyncNet."""
    boxes = tight_boxes(track)
    known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    filled = np.stack([np.interp(np.arange(len(boxes)), known, column[known]) for column in boxes.T], axis=1)
    smooth = face_track.smooth(face_track.FaceTrack(0, filled), "nearest")
    repeats = np.bincount(chosen, minlength=len(boxes))
    for index, frame in enumerate(frames):
        crop = smooth.crop(frame, index) if index < len(repeats) and repeats[index] else None
        for _ in range(repeats[index] if crop is not None else 0):
            yield crop


def find_expert(wanted: str, search: ExpertSearch) -> OffsetExpert:
    """The expert that `filters.sync.expert` names, loaded.

    Args:
        wanted: `auto`, or a path: published SyncNet weights, a checkpoint, or the folder of a run.
        search: where `auto` looks: the public SyncNet first, then the latest finished run on the data set that
            trained an expert.

    Raises:
        DataError: there is none.
        CheckpointError: a file cannot be used.
    """
    from talkingface.lipsync.expert.judge import find_judge, load_judge

    device = str(resolve_device(search.device))
    if wanted != "auto":
        path = next((p for p in (Path(wanted), Path(search.weights_dir) / wanted) if p.exists()), Path(wanted))
        return PublicSyncNet.load(path, device) if _is_public(path) else TrainedExpert(load_judge(path, device))
    public = locate(search.weights_dir, "syncnet_v2")
    if public.is_file():
        return PublicSyncNet.load(public, device)
    try:
        return TrainedExpert(find_judge("auto", search.saved_dir, search.dataset, search.weights_dir, device))
    except Unavailable:
        get = how_to_get("syncnet_v2", search.weights_dir)
        raise DataError(
            f"preprocess.filters.sync: there is no lip-sync expert, neither {public} nor a finished run that"
            f" trained one on this data set in {search.saved_dir}; {get}, train one with `python run_talkingface.py"
            f" --model=SyncNet --dataset={search.dataset or 'NAME'} --preprocess.filters.sync.expert=none`, name one"
            " with --preprocess.filters.sync.expert=PATH, or leave the filter out"
        ) from None


def _is_public(path: Path) -> bool:
    """Whether a file holds the public SyncNet."""
    if not path.is_file():
        return False
    content = checkpoint.read(path)
    return isinstance(content, dict) and "netcnnlip.0.weight" in content
