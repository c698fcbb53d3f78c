"""Checks of the self-test that move or swap the sound: does a judge hear it, and is its offset right to the frame?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from talkingface.errors import Unavailable
from talkingface.evaluation.metric import Metric
from talkingface.evaluation.metrics.expert_sync import ExpertSync
from talkingface.evaluation.metrics.lse import LSE
from talkingface.evaluation.metrics.mouth import Mouth
from talkingface.evaluation.sample import EvalSample
from talkingface.evaluation.self_test.bench import Bench, Broken, score
from talkingface.faces.track import LandmarkTrack
from talkingface.lipsync.mouth_motion import MAX_LAG, log_energy
from talkingface.lipsync.public.windows import SAMPLES_PER_FRAME as FRAME
from talkingface.lipsync.public.windows import audio_embeddings, windows_scored
from talkingface.media import samples_of
from talkingface.sound.mfcc import pcm16

if TYPE_CHECKING:
    from talkingface.evaluation.folders import FileClip

SHIFTS = range(-10, 11)
ECHOED = 32
"""Frames of the clip whose sound is moved where the lips are made up: shorter is faster and as certain."""
CLEAR = 0.05
"""A clip has a clear offset where no other comes nearer to the best than this share of its lead over the median: what
wraps around when the sound is moved can then not decide between neighbours."""


def own_sound(bench: Bench, name: str, keys: Sequence[str] = ()) -> str:
    """Mean figures of the real clips with their own sound against those with another clip's."""
    metric = bench.metric(name)
    keys = keys or [key for key, figure in metric.figures.items() if figure.higher_is_better is not None]
    pairs = []
    for clip in bench.clips:
        sounds = [each.audio() for each in (clip, bench.donor(clip))]
        length = min(map(len, sounds))
        pairs.append(list(scores(bench, metric, clip, [sound[:length] for sound in sounds])))
    found = []
    for key in keys:
        sign = 1 if metric.figures[key].higher_is_better else -1
        own, other = (np.array([values[key] for values in side]) for side in zip(*pairs, strict=True))
        better = int((sign * own > sign * other).sum())
        found.append(f"{key} {own.mean():.3g} against {other.mean():.3g}, better in {better} of {len(own)} clips")
        # The mean decides: in a single clip a stranger's sound may fit better by chance.
        if not sign * own.mean() > sign * other.mean():
            # A judge that is known to judge badly says so itself.
            why = "; ".join(metric.remarks()) or "or do the clips not show who speaks?"
            raise Broken(f"{found[-1]}; {why}")
    return "; ".join(found)


def scores(bench: Bench, metric: Metric, clip: FileClip, sounds: Iterable[np.ndarray]) -> Iterator[dict[str, float]]:
    """Figures of one real video with several sounds of equal length; a judge looks at the lips only once."""
    recall: Recall | None = None
    before = dict(vars(metric))
    if isinstance(metric, LSE | ExpertSync):
        recall = Recall(_network(metric))
        _install(metric, recall)
    try:
        for sound in sounds:
            if recall is not None:
                recall.position = 0
            yield score(metric, bench.sample(clip, audio=lambda sound=sound: sound))
    finally:
        vars(metric).update(before)


def moved(audio: np.ndarray, frames: int) -> np.ndarray:
    """The sound this many frames earlier; what leaves at the beginning comes back at the end."""
    return np.roll(audio, -frames * FRAME)


def offsets(bench: Bench, name: str) -> str:
    """Offsets that a judge reports under moved sound, on a clip with a clear one."""
    metric = bench.metric(name)
    key = _offset_key(metric)
    clip, start = _first_clear(bench, metric, key)
    audio = clip.audio()
    moves = scores(bench, metric, clip, (moved(audio, shift) for shift in SHIFTS))
    for shift, values in zip(SHIFTS, moves, strict=True):
        if values[key] != start + shift:
            raise Broken(f"{clip.clip_id}: {key} {start:g}, with the sound {shift} frames earlier {values[key]:g}")
    return f"{key} {start:g} of {clip.clip_id} becomes {start - 10:g} to {start + 10:g}"


def _first_clear(bench: Bench, metric: Metric, key: str) -> tuple[FileClip, float]:
    """A clip with a clear offset, and that offset."""
    for clip in bench.clips:
        sample = bench.sample(clip)
        offset = score(metric, sample)[key]
        (curve,) = sample.curves.values()
        if clearness(np.array(curve), int(offset)) >= CLEAR:
            return clip, offset
    raise Unavailable(f"none of {len(bench.clips)} clips has a clear offset near 0")


def clearness(curve: np.ndarray, offset: int) -> float:
    """Lead of the best offset over the second best, as a share of its lead over the median.

    Args:
        curve: (2 n + 1,) agreement, or distance, at offsets -n to n.
        offset: the best one; too far from the middle to be moved by 10 frames, its clearness is 0.
    """
    reach = len(curve) // 2
    place = offset + reach
    if abs(offset) + max(SHIFTS) > reach:
        return 0.0
    good = curve if curve[place] >= np.nanmedian(curve) else -curve
    lead = good[place] - np.nanmedian(good)
    return float((good[place] - np.nanmax(np.delete(good, place))) / lead) if lead > 0 else 0.0


class StandIn(torch.nn.Module, ABC):
    """Takes the place of a judge's network, SyncNet or a trained expert, and answers to the names of both.

    Args:
        network: the judge's own.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.position = 0  # in the clip; whoever scores it again begins at 0

    @abstractmethod
    def see(self, look: Callable[[torch.Tensor], torch.Tensor], faces: torch.Tensor) -> torch.Tensor:
        """Embeddings of the next windows of lips, which `look` would find."""

    def hear(self, heard: torch.Tensor) -> torch.Tensor:
        """What becomes of the embeddings of sound."""
        return heard

    def forward_lip(self, faces: torch.Tensor) -> torch.Tensor:
        """Embeddings of lips, as SyncNet calls it."""
        return self.see(self.network.forward_lip, faces)

    def embed_faces(self, faces: torch.Tensor) -> torch.Tensor:
        """Embeddings of lips, as experts call it."""
        return self.see(self.network.embed_faces, faces)

    def forward_audio(self, sound: torch.Tensor) -> torch.Tensor:
        """Embeddings of sound, as SyncNet calls it."""
        return self.hear(self.network.forward_audio(sound))

    def embed_audio(self, sound: torch.Tensor) -> torch.Tensor:
        """Embeddings of sound, as experts call it."""
        return self.hear(self.network.embed_audio(sound))

    @property
    def cosine(self) -> bool:
        """Whether the scores are cosines, as experts say it."""
        return self.network.cosine

    def scores(self, mouths: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
        """Scores of all pairs, as experts call it."""
        return self.network.scores(mouths, sounds)


class Recall(StandIn):
    """Remembers what was said of the lips of a clip: they stay the same under every sound."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(network)
        self.said: list[torch.Tensor] = []

    def see(self, look: Callable[[torch.Tensor], torch.Tensor], faces: torch.Tensor) -> torch.Tensor:
        """The answer of the first time."""
        if self.position == len(self.said):
            self.said.append(look(faces))
        self.position += 1
        return self.said[self.position - 1]


class Echo(StandIn):
    """Its lips say what its ears say of the true sound, so the best match is known, whatever the weights.

    Args:
        network: whose ears are used.
        heard: (n, D) what they say of the windows of the true sound.
    """

    def __init__(self, network: torch.nn.Module, heard: np.ndarray) -> None:
        super().__init__(network)
        told = torch.from_numpy(heard).to(next(network.parameters()).device)
        self.mean, self.spread = told.mean(dim=0), told.std(dim=0) + 1e-6
        self.lips = self.hear(told)

    def hear(self, heard: torch.Tensor) -> torch.Tensor:
        """Random networks say nearly the same of everything: what is common is taken away."""
        return (heard - self.mean) / self.spread

    def see(self, look: Callable[[torch.Tensor], torch.Tensor], faces: torch.Tensor) -> torch.Tensor:
        """The echo of the next windows; beyond the end of the clip nothing."""
        start, self.position = self.position, self.position + len(faces)
        part = self.lips[start : self.position]
        return torch.cat([part, part.new_zeros(len(faces) - len(part), part.shape[1])])


def echo_offsets(bench: Bench, name: str) -> str:
    """The whole way from sound to offset, with lips that are an echo of the sound."""
    metric, clip = bench.random(name), bench.clips[0]
    audio = clip.audio()[: FRAME * ECHOED]
    echo = Echo(_network(metric), _heard(metric, bench.sample(clip, audio=lambda: audio)))
    _install(metric, echo)
    key = _offset_key(metric)
    for shift in SHIFTS:
        echo.position = 0
        found = score(metric, bench.sample(clip, audio=lambda shift=shift: moved(audio, shift)))[key]
        if found != shift:
            raise Broken(f"sound {shift} frames earlier: {key} {found:g}, expected {shift}")
    return f"-10 to 10 frames, {len(echo.lips)} windows"


def _heard(metric: LSE | ExpertSync, sample: EvalSample) -> np.ndarray:
    """(n, D) what the judge says of the sound of every window that it scores."""
    if isinstance(metric, LSE):
        pcm = pcm16(sample.driving_audio())
        return audio_embeddings(metric._network, pcm, windows_scored(len(pcm) // FRAME, len(pcm)), metric.device)
    track = sample.real_track()
    halves = metric._judge.lower_halves(sample.generated_frames(), track)
    return metric._judge.embed(halves, track.valid, sample.driving_audio(), sample.fps).sounds


def _network(metric: LSE | ExpertSync) -> torch.nn.Module:
    return metric._network if isinstance(metric, LSE) else metric._judge.network


def _install(metric: LSE | ExpertSync, network: StandIn) -> None:
    if isinstance(metric, LSE):
        metric._network = network
    else:
        metric._judge = replace(metric._judge, network=network)


def _offset_key(metric: Metric) -> str:
    return next(key for key, figure in metric.figures.items() if figure.unit == "frames")


def _reach(frames: int) -> int:
    """How far a series of this length can be moved so that its lag is still found."""
    reach = min(MAX_LAG, (frames - 10) // 3)
    if reach < 1:
        raise Unavailable("the clips are too short")
    return reach


def mouth_lags(bench: Bench) -> str:
    """The lag of a real mouth against itself, moved."""
    clip = bench.clips[0]
    track = clip.track()
    reach = _reach(len(track))
    stop = len(track) - reach
    for shift in range(-reach, reach + 1):
        late, truth = track.slice(reach, stop), track.slice(reach + shift, stop + shift)
        sample = bench.sample(clip, tracker=lambda path, frames, late=late: late, donor_track=lambda truth=truth: truth)
        found = score(Mouth(bench.settings), replace(sample, generated=Path("late")))["mouth_lag"]
        if found != shift:
            raise Broken(f"picture {shift} frames late: mouth_lag {found:g}")
    return f"-{reach} to {reach} frames, real landmarks"


def sound_lags(bench: Bench) -> str:
    """The lag of a mouth that opens with the loudness, against the moved sound."""
    clip = bench.clips[0]
    step = samples_of(1, clip.fps)
    audio = clip.audio()
    frames = len(audio) // step
    reach = _reach(frames)
    stop = frames - reach
    mouth = drawn_track(log_energy(audio, frames, clip.fps)[reach:stop])
    for shift in range(-reach, reach + 1):
        part = audio[(reach + shift) * step : (stop + shift) * step]
        sample = bench.sample(
            clip, Path("drawn"), audio=lambda part=part: part, tracker=lambda path, frames: mouth,
            reference_track=lambda: mouth,
        )  # fmt: skip
        found = score(Mouth(bench.settings), sample)["av_lag"]
        if found != shift:
            raise Broken(f"sound {shift} frames earlier: av_lag {found:g}")
    return f"-{reach} to {reach} frames, a mouth drawn after the loudness"


def drawn_track(opening: np.ndarray) -> LandmarkTrack:
    """Landmarks of a face of height 100 whose mouth opens with a series (F,)."""
    points = np.zeros((len(opening), 68, 2), np.float32)
    points[:, 8] = [0, 80]  # chin; brows at 0: 80 % of the height
    points[:, 66, 1] = opening - opening.min()
    found = np.ones(len(opening), bool)
    return LandmarkTrack(points, found, found.copy(), (100, 100), layout="ibug68", provider="drawn")
