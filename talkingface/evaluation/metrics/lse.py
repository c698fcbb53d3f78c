"""Lip-sync error with the public SyncNet: LSE-D, LSE-C and the audio-video offset.

Protocol `clip` scores the whole video as it is (published for videos that are face crops already), resized to 224x224;
`track` finds, follows and crops the faces first, see `lse_track`. Both at 25 fps, as the network was trained. The
published scripts pass frames through JPEG files; here they go straight to the network, a small numerical difference.
Networks trained against a sync loss score better than real video: read the `real` row first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError, TalkingFaceError, Unavailable
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.metrics import lse_track
from talkingface.evaluation.metrics.inference import find_weights
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.public.face_track import smooth
from talkingface.lipsync.public.windows import SAMPLES_PER_FRAME, LipWindows, audio_embeddings, embed, windows_scored
from talkingface.media import FPS, probe
from talkingface.networks.syncnet_v2 import SyncNetV2
from talkingface.sound.mfcc import pcm16

if TYPE_CHECKING:
    from talkingface.networks.syncnet_v2 import FoldedSyncNet

WEIGHTS = "syncnet_v2"  # name in `talkingface.weights.published`
VSHIFT = 15  # frames, the largest shift that is tried to either side, as published
BLOCK = 256  # windows compared at once, 2 MiB of float64 for the mouths and as much for the sounds


@dataclass(frozen=True)
class SyncScore:
    """Scores of one clip.

    Attributes:
        offset: frames; positive when the best match uses earlier audio.
        confidence: LSE-C, median less minimum of the mean distances; higher is better.
        distance: LSE-D, the smallest mean distance; lower is better.
        mean_distance: (2 vshift + 1,) mean distance at every shift.
        framewise_distance: (n,) distance at the best shift.
        framewise_confidence: (n,) median less that.
    """

    offset: int
    confidence: float
    distance: float
    mean_distance: np.ndarray
    framewise_distance: np.ndarray
    framewise_confidence: np.ndarray

    @property
    def median(self) -> float:
        """Median of the mean distances."""
        return self.confidence + self.distance


def score_embeddings(lip: np.ndarray, audio: np.ndarray, vshift: int = VSHIFT, padding: str = "zero") -> SyncScore:
    """Compare lip and audio embeddings at every shift.

    Args:
        lip: (n, 1024) float32.
        audio: (n, 1024) float32.
        vshift: largest shift in frames.
        padding: `zero` as published: beyond the ends the audio embedding is the zero vector and takes part in the
            means; `valid` averages over real pairs only, which matters for clips of a few seconds and less.
    """
    count = len(lip)
    distance = _distances(lip, audio, vshift)
    if padding == "valid":
        # Window k meets sound k + shift, for shifts from -vshift to vshift along the second axis.
        position = np.arange(count)[:, None] + np.arange(2 * vshift + 1)[None] - vshift
        distance[(position < 0) | (position >= count)] = np.nan
    # With `valid` padding and a clip shorter than the shift some columns hold no pair at all; `nanmean` would warn.
    used = np.isfinite(distance).any(axis=0)
    means = np.full(2 * vshift + 1, np.nan)
    means[used] = np.nanmean(distance[:, used], axis=0)
    best = int(np.nanargmin(means))
    median = float(np.nanmedian(means))
    # The first column is the earliest sound: a best match there means a positive offset.
    framewise = distance[:, best]
    return SyncScore(vshift - best, median - means[best], float(means[best]), means, framewise, median - framewise)


def _distances(lip: np.ndarray, audio: np.ndarray, vshift: int) -> np.ndarray:
    """(n, 2 vshift + 1) float64 distance of every mouth from the sounds around it, zero vectors beyond the ends.

    Float64 copies are made of a block of windows at a time: they take eight times as much as the embeddings.
    """
    count = len(lip)
    distance = np.empty((count, 2 * vshift + 1))
    for first in range(0, count, BLOCK):
        mouths = lip[first : first + BLOCK].astype(np.float64)
        # The sounds that any mouth of this block may meet; what lies beyond the clip stays zero.
        sounds = np.zeros((len(mouths) + 2 * vshift, audio.shape[1]))
        begin, end = max(0, first - vshift), min(count, first + len(mouths) + vshift)
        sounds[begin - first + vshift : end - first + vshift] = audio[begin:end]
        for shift in range(2 * vshift + 1):
            # 1e-6 is the default eps of torch's pairwise_distance.
            difference = mouths - sounds[shift : shift + len(mouths)] + 1e-6
            distance[first : first + BLOCK, shift] = np.linalg.norm(difference, axis=1)
    return distance


def mean_curve(scores: Sequence[SyncScore]) -> list[float]:
    """Mean distance at offsets -vshift to vshift (positive: earlier audio), mean over several scores."""
    return np.mean([score.mean_distance[::-1] for score in scores], axis=0).tolist()


class LSE(Metric):
    """Lip-sync error of the public SyncNet."""

    name = "LSE"
    needs_sound = True
    figures: ClassVar[dict[str, Figure]] = {
        "lse_c": Figure("", True, "lip-sync confidence"),
        "lse_d": Figure("", False, "lip-sync distance"),
        "av_offset": Figure("frames", None, "shift of the best match; positive: earlier audio"),
    }
    _network: FoldedSyncNet | None = None
    _finder: lse_track.FaceFinder | None = None

    def __init__(
        self, settings: EvaluationConfig | None = None, weights_dir: str | Path = "checkpoints", device: str = "cpu"
    ) -> None:
        super().__init__(settings, weights_dir, device)
        self.tracked = self.settings.lse_protocol == "track"
        if self.tracked:
            self.figures = {**self.figures, "lse_tracks": Figure("", None, "face tracks behind the other figures")}
        self._weights: dict[str, Any] = {}
        self.batch = self.settings.batch or (64 if self.device.startswith("cuda") else 8)

    def prepare(self) -> None:
        """Load SyncNet, and for the tracks a face detector, once."""
        if self._network is not None:
            return
        weights = find_weights(WEIGHTS, self.weights_dir, self.settings.lse_checkpoint, "lse_checkpoint")
        try:
            network = SyncNetV2().load(weights.path)
            self._finder = self._make_finder()
        except TalkingFaceError as error:
            raise Unavailable(str(error)) from error
        self._weights = weights.definition
        # Folding computes in float64, which Apple's GPUs do not have.
        self._network = network.eval().fold().to(self.device)

    def _make_finder(self) -> lse_track.FaceFinder | None:
        settings = self.settings
        if not self.tracked:
            return None
        own = settings.track_weights
        return lse_track.make_finder(settings.track_detector, self.weights_dir, self.device, settings.batch, own)

    def definition(self) -> dict[str, Any]:
        """Protocol, padding, which weights, and which detector."""
        settings = self.settings
        precision = settings.precision if self.device.startswith("cuda") else "32"
        whole = {"protocol": settings.lse_protocol, "padding": settings.lse_padding, "vshift": VSHIFT, "fps": FPS}
        whole |= {"precision": precision, "weights": self._weights}
        variant = settings.lse_protocol + (", valid padding" if settings.lse_padding == "valid" else "")
        if self.tracked:
            whole |= lse_track.definition(self._finder, settings.track_smoothing)
            variant += f", {self._finder.describe()['name']}" if self._finder else ""
        return {**{key: {"variant": variant} for key in self.figures}, "lse": whole}

    def score(self, sample: EvalSample) -> dict[str, float]:
        """LSE-C, LSE-D and offset of the video with its driving audio (taken from the source, not the container).

        Leaves the curve of mean distances over offsets in `sample.curves`.

        Raises:
            DataError: too short, or with protocol `track` no face that can be followed.
        """
        self.prepare()
        rate = probe(sample.generated).fps
        if abs(rate - FPS) > 0.01:
            sample.notes.append(f"LSE: resampled from {rate:.2f} to {FPS:g} fps")
        # The network was trained on 16-bit samples as they stand in a wav file.
        pcm = pcm16(sample.driving_audio())
        scores = self._score_tracks(sample, pcm) if self.tracked else [self._score_clip(sample, pcm)]
        values = {
            "lse_c": float(np.mean([score.confidence for score in scores])),
            "lse_d": float(np.mean([score.distance for score in scores])),
            "av_offset": float(np.mean([score.offset for score in scores])),
        }
        sample.curves["lse"] = mean_curve(scores)
        for key in values:
            sample.count(key, sum(len(score.framewise_distance) for score in scores))
        return {**values, "lse_tracks": float(len(scores))} if self.tracked else values

    def _score_clip(self, sample: EvalSample, pcm: np.ndarray) -> SyncScore:
        frames = sample.generated_frames(FPS)
        lip, audio = embed(self._network, frames, pcm, self.device, self.batch, self.settings.precision)
        return score_embeddings(lip, audio, padding=self.settings.lse_padding)

    def _score_tracks(self, sample: EvalSample, pcm: np.ndarray) -> list[SyncScore]:
        """Each track with the sound between its first and last frame."""
        precision = self.settings.precision
        try:
            found = lse_track.find_tracks(sample.generated_frames(FPS), self._finder)
        except DataError as error:
            raise DataError(f"{sample.generated}: {error}; evaluation.lse_protocol=clip scores whole frames") from None
        tracks = [smooth(track, self.settings.track_smoothing) for track in found]
        every = lse_track.track_embeddings(
            sample.generated_frames(FPS),
            tracks,
            lambda: LipWindows(self._network, self.device, self.batch, precision),
        )
        scores = []
        for track, lips in zip(tracks, every, strict=True):
            # A track is scored as if it were a video of its own, so its sound starts with its first frame.
            part = pcm[SAMPLES_PER_FRAME * track.first : SAMPLES_PER_FRAME * (track.last + 1)]
            place = f"LSE: track in frames {track.first} to {track.last}"
            count = windows_scored(len(track.x), len(part))
            if count < 1:
                sample.notes.append(f"{place} left out: the sound ends before it")
                continue
            audio = audio_embeddings(self._network, part, count, self.device, precision=precision)
            scores.append(score := score_embeddings(lips[:count], audio, padding=self.settings.lse_padding))
            figures = f"LSE-C {score.confidence:.3f}, LSE-D {score.distance:.3f}, offset {score.offset}"
            sample.notes.append(f"{place}: {figures}")
        if not scores:
            raise DataError(f"{sample.generated}: {len(tracks)} face tracks, but the sound ends before all of them")
        return scores
