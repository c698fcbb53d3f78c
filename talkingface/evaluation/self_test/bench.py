"""What the self-test works on: a few short clips of real people, or the demo's; metrics; networks without training.

A metric whose weights are missing cannot be tried, but its machinery can, with a network of random weights. Those are
written to temporary files and given through the configuration, the one way on which metrics take unpublished weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import TalkingFaceError
from talkingface.evaluation.folders import FileClip
from talkingface.evaluation.metric import Metric, MetricContext, make_metric
from talkingface.evaluation.rows import Reference, write_still
from talkingface.evaluation.sample import EvalSample
from talkingface.media import VideoReader, VideoWriter, samples_of, write_wav
from talkingface.networks.iresnet import IResNet
from talkingface.networks.lpips import LPIPS
from talkingface.networks.sync_expert import SyncExpert
from talkingface.networks.syncnet_v2 import SyncNetV2

if TYPE_CHECKING:
    import torch

    from talkingface.evaluation.tracking import TrackCache

PIECE, BIT = 25, 10
"""Frames of the pieces on which pictures are compared, and of those for networks that take their time."""


class Broken(TalkingFaceError):
    """A check failed; the message says what was found instead."""


def score(metric: Metric, sample: EvalSample) -> dict[str, float]:
    """A clip's figures, which the metric then forgets."""
    return {key: float(value) for key, value in metric.score(sample).items()}


def _syncnet(settings: EvaluationConfig) -> nn.Module:
    return SyncNetV2()


def _inception(settings: EvaluationConfig) -> nn.Module:
    from talkingface.networks.inception import FIDInception

    return FIDInception()


def _lpips(settings: EvaluationConfig) -> nn.Module:
    return LPIPS(settings.lpips_net)


def _iresnet(settings: EvaluationConfig) -> nn.Module:
    return IResNet(settings.csim_network)


def _expert(settings: EvaluationConfig) -> nn.Module:
    return SyncExpert((24, 48), width=0.25)


RANDOM: dict[str, tuple[str, Callable[[EvaluationConfig], nn.Module]]] = {
    "LSE": ("lse_checkpoint", _syncnet),
    "EXPERT": ("judge", _expert),
    "FID": ("fid_weights_path", _inception),
    "LPIPS": ("lpips_trunk", _lpips),
    "CSIM": ("csim_checkpoint", _iresnet),
}
"""Metric -> key of the evaluation section that takes a weight file, and the network for which one is made."""


def random_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights drawn so that activations keep their size from layer to layer: a network that tells pictures apart."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    weights = network.state_dict()
    # The linear layers of LPIPS come from their own file.
    return {key: value for key, value in weights.items() if not key.startswith("lin")}


@dataclass
class Bench:
    """Clips and tools of one self-test.

    Attributes:
        clips: real clips with face and sound, at least two.
        settings: the configuration's evaluation section.
        weights_dir: folder of weight files.
        device: where networks run.
        find: finds landmarks, once for every file.
        folder: temporary.
        context: data set and folder of runs, for metrics that look for a trained expert.
    """

    clips: Sequence[FileClip]
    settings: EvaluationConfig
    weights_dir: str
    device: str
    find: TrackCache
    folder: Path
    context: MetricContext = MetricContext()
    _random: dict[str, Path] = field(default_factory=dict, init=False)

    def donor(self, clip: FileClip) -> FileClip:
        """Another clip, to lend its sound."""
        return self.clips[(self.clips.index(clip) + 1) % len(self.clips)]

    def sample(self, clip: FileClip, video: Path | None = None, **changes: Any) -> EvalSample:
        """A clip to score: its real video, or another one in its place."""
        parts: dict[str, Any] = {"audio": clip.audio, "tracker": self.find, "reference_track": clip.track}
        parts |= {"fps": clip.fps, **changes}
        row = "real" if video is None else "generated"
        return EvalSample(clip.clip_id, row, video or clip.video, clip.video, **parts)

    def metric(self, name: str, **settings: Any) -> Metric:
        """A metric, ready to score.

        Raises:
            Unavailable: weights or landmarks are missing.
        """
        settings = self.settings.model_copy(update=settings)
        metric = make_metric(name, settings, self.weights_dir, self.device, self.context)
        metric.prepare()
        return metric

    def random(self, name: str, **settings: Any) -> Metric:
        """A metric whose network has random weights, the same every time."""
        key, build = RANDOM[name]
        if name not in self._random:
            self._random[name] = self.folder / f"random_{name}.pth"
            torch.save(random_weights(build(self.settings)), self._random[name])
        return self.metric(name, **{key: str(self._random[name])}, **settings)

    @cached_property
    def pieces(self) -> list[FileClip]:
        """The first `PIECE` frames of every clip, as files of their own."""
        return [shortened(clip, self.folder / f"piece{index}.mp4", PIECE) for index, clip in enumerate(self.clips)]

    @cached_property
    def bits(self) -> list[FileClip]:
        """The first `BIT` frames of two clips."""
        return [shortened(clip, self.folder / f"bit{index}.mp4", BIT) for index, clip in enumerate(self.clips[:2])]

    def copy(self, clip: FileClip) -> Path:
        """The same video under another name: metrics know a video that is compared with itself, but not this one."""
        output = clip.video.with_name(f"{clip.video.stem}_copy{clip.video.suffix}")
        output = self.folder / output.name
        if not output.exists():
            shutil.copyfile(clip.video, output)
        return output

    def still(self, clip: FileClip) -> Path:
        """The clip with an unmoving face in it: a video that differs from the real one."""
        output = self.folder / f"{clip.video.stem}_still.mp4"
        if not output.exists():
            write_still(clip, Reference(clip).clip, output)
        return output

    def frozen(self, clip: FileClip, frames: int) -> Path:
        """The clip's first frame, `frames` times: encoded without loss, so that every decoded frame is the same."""
        output = self.folder / f"{clip.video.stem}_frozen.mp4"
        if not output.exists():
            first = next(islice(iter(VideoReader(clip.video, fps=clip.fps)), 1))
            with VideoWriter(output, fps=clip.fps, crf=0) as writer:
                for _ in range(frames):
                    writer.write(first)
        return output


def shortened(clip: FileClip, output: Path, frames: int) -> FileClip:
    """The first frames of a clip as a file of its own, with their sound beside it."""
    sound = output.with_suffix(".wav")
    write_wav(sound, clip.audio()[: samples_of(frames, clip.fps)])
    with VideoWriter(output, fps=clip.fps) as writer:
        for frame in VideoReader(clip.video, fps=clip.fps, stop=frames):
            writer.write(frame)
    return FileClip(output, ClipItem(clip.clip_id, output, audio=sound), clip.find)
