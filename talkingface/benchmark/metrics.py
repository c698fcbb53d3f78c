"""Speed of the lip-sync metric and its parts, for the `benchmark` command; weights are random.

The published route, for comparison: every frame written to a JPEG file and read back by OpenCV, the whole clip made
float64 and then float32, windows of five frames through the 3-D network in batches of 20 while gradients are recorded
(the script never switches that off). It is spared the start of FFmpeg.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from talkingface.benchmark.timing import best, rate
from talkingface.clips.source import Source
from talkingface.evaluation.metrics.lse import SyncScore, score_embeddings
from talkingface.faces.s3fd import S3FDDetector
from talkingface.lipsync.public.windows import WINDOW, LipWindows, embed, lip_input, windows_scored
from talkingface.media import FPS, SAMPLE_RATE, VideoReader, VideoWriter
from talkingface.networks.precision import judging
from talkingface.networks.s3fd import S3FD
from talkingface.networks.syncnet_v2 import FoldedSyncNet, SyncNetV2
from talkingface.sound.mfcc import mfcc, pcm16

PUBLISHED_BATCH, OUR_BATCH = 20, 8
SIZES = ((256, 256), (720, 1280))  # a face crop, a video
REDUCED = (180, 320)  # what the detector sees of a video of 1280x720


TOWER = "LSE lip tower, CPU ms per window"
"""Title of the first group of figures."""


def metric_speed(source: Path, seconds: float, device: torch.device) -> dict[str, Any]:
    """Groups of figures by title; a shorter clip and fewer of them for less than a second.

    Args:
        source: a video whose frames are shown, to and fro and scaled.
        seconds: time spent on each figure of a loop.
        device: where networks run in training; with a GPU, batches and bf16 are measured there too.
    """
    torch.manual_seed(0)
    network = SyncNetV2().eval()
    whole = seconds >= 1
    length = 4.0 if whole else 1.0
    tower = lip_tower(network, windows=40 if whole else 8, seconds=seconds)
    groups: dict[str, Any] = {TOWER: tower}
    for height, width in SIZES if whole else SIZES[:1]:
        title = f"LSE of a clip of {length:g} s, {width}x{height}"
        groups[title] = routes(network, source, (height, width), length, seconds)
    batches = (1, 4, 8) if whole else (1, 2)
    groups["S3FD on the CPU, frames/s at 320x180"] = detector_speed(batches, seconds)
    groups["MFCC, times real time"] = {"60 s": round(mfcc_speed(seconds), 1)}
    if device.type == "cuda":
        groups["LSE lip tower on the GPU, windows/s"] = gpu_speed(network, device, seconds)
    return groups


def lip_tower(network: SyncNetV2, windows: int = 40, seconds: float = 5.0) -> dict[str, float]:
    """CPU time per window, from frames to embeddings: 3-D windows in batches of 20 and the folded 2-D form.

    The best of what fits into `seconds`, both by turns, on one thread: threads that wait for each other count as busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _lip_tower(network, windows, seconds)
    finally:
        torch.set_num_threads(threads)


def _lip_tower(network: SyncNetV2, windows: int, seconds: float) -> dict[str, float]:
    folded = network.fold()
    frames = np.random.default_rng(0).integers(0, 256, (windows + WINDOW - 1, 224, 224, 3), dtype=np.uint8)
    times: list[tuple[float, float]] = []

    def turn() -> None:
        started = time.process_time()
        _lips_in_3d(network, frames)
        between = time.process_time()
        _lips_folded(folded, frames)
        times.append((between - started, time.process_time() - between))

    best(turn, seconds)
    slow, fast = (min(side) for side in zip(*times[1:], strict=True))  # the first turn warms up
    return {
        "3-D, batches of 20": round(1000 * slow / windows, 2),
        "folded 2-D, batches of 8": round(1000 * fast / windows, 2),
        "times faster": round(slow / fast, 2),
    }


@torch.inference_mode()
def _lips_in_3d(network: SyncNetV2, frames: np.ndarray) -> torch.Tensor:
    """(n, 1024) embeddings of frames (T, 224, 224, 3), window by window as they lie in the clip."""
    video = torch.from_numpy(frames).permute(3, 0, 1, 2).float().contiguous()
    windows = video.unfold(1, WINDOW, 1).permute(1, 0, 4, 2, 3)
    return torch.cat([network.forward_lip(part.contiguous()) for part in windows.split(PUBLISHED_BATCH)])


def _lips_folded(network: FoldedSyncNet, frames: np.ndarray) -> torch.Tensor:
    """The same as the metric makes them."""
    lips = LipWindows(network, batch=OUR_BATCH)
    for frame in frames:
        lips.add(frame)
    return torch.from_numpy(lips.finish())


def routes(
    network: SyncNetV2, source: Path, size: tuple[int, int], length: float, seconds: float = 5.0
) -> dict[str, float]:
    """Wall time from a video file to the score, published route against ours, and what the JPEG files do to it.

    Args:
        network: SyncNet in eval mode.
        source: where the pictures come from.
        size: height and width of the clip that is scored.
        length: its seconds.
        seconds: for so long each route is repeated; the fastest counts.
    """
    folded = network.fold()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, sound = _make_clip(source, folder, size, length)
        theirs, slow = best(lambda: published_route(network, video, sound, folder), seconds)
        ours, fast = best(lambda: our_route(folded, video, sound), seconds)
        plain = score_embeddings(*embed_in_3d(network, _decoded(video), sound))
    return {
        "published route s": round(slow.wall, 2),
        "in memory s": round(fast.wall, 2),
        "times faster": round(slow.wall / fast.wall, 2),
        "times faster in CPU time": round(slow.cpu / fast.cpu, 2),
        "largest relative difference of a distance": _difference(ours, plain),
        "the same through JPEG files": _difference(theirs, plain),
    }


def our_route(network: FoldedSyncNet, video: Path, sound: np.ndarray) -> SyncScore:
    """Frames go to the folded network while further ones are decoded."""
    return score_embeddings(*embed(network, VideoReader(video, fps=FPS), pcm16(sound), batch=OUR_BATCH))


def published_route(network: SyncNetV2, video: Path, sound: np.ndarray, folder: Path) -> SyncScore:
    """Every frame through a JPEG file of OpenCV's default quality, then 3-D windows in batches of 20."""
    files = []
    for index, frame in enumerate(_decoded(video)):
        files.append(str(folder / f"{index:06d}.jpg"))
        cv2.imwrite(files[-1], frame[..., ::-1])
    return score_embeddings(*embed_in_3d(network, [cv2.imread(file)[..., ::-1] for file in files], sound))


def embed_in_3d(network: SyncNetV2, frames: Sequence[np.ndarray], sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lip and audio embeddings as the published script makes them."""
    pcm = pcm16(sound)
    count = windows_scored(len(frames), len(pcm))
    pictures = np.stack([lip_input(np.ascontiguousarray(frame)) for frame in frames])
    video = torch.from_numpy(pictures.transpose(3, 0, 1, 2).astype(np.float64)).float()  # (3, T, 224, 224)
    features = torch.from_numpy(mfcc(pcm).T.astype(np.float32))
    lips, sounds = [], []
    for first in range(0, count, PUBLISHED_BATCH):
        starts = range(first, min(count, first + PUBLISHED_BATCH))
        lips.append(network.forward_lip(torch.stack([video[:, k : k + WINDOW] for k in starts])).detach())
        windows = torch.stack([features[None, :, 4 * k : 4 * (k + WINDOW)] for k in starts])
        sounds.append(network.forward_audio(windows).detach())
    return torch.cat(lips).numpy(), torch.cat(sounds).numpy()


def _decoded(video: Path) -> list[np.ndarray]:
    return list(VideoReader(video, fps=FPS))


def _difference(one: SyncScore, other: SyncScore) -> float:
    value = float(np.abs(one.mean_distance - other.mean_distance).max() / other.mean_distance.max())
    return float(f"{value:.1e}")


def _make_clip(source: Path, folder: Path, size: tuple[int, int], seconds: float) -> tuple[Path, np.ndarray]:
    """Frames of `source` to and fro at another size, with noise as sound."""
    sound = np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
    frames = Source.from_path(source)
    with VideoWriter(folder / "clip.mp4", fps=FPS, audio=sound) as writer:
        for frame in frames.frames(frames.order(round(seconds * FPS))):
            writer.write(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC))
    return folder / "clip.mp4", sound


def detector_speed(batches: Sequence[int], seconds: float) -> dict[str, float]:
    """Frames per second of S3FD at several batch sizes."""
    network = S3FD()
    pictures = list(np.random.default_rng(0).integers(0, 256, (max(batches), *REDUCED, 3), dtype=np.uint8))
    speeds = {}
    for batch in batches:
        detector = S3FDDetector(network, batch=batch)
        speeds[f"batch {batch}"] = round(rate(lambda d=detector, b=batch: len(d.detect(pictures[:b])), seconds), 2)
    return speeds


def mfcc_speed(seconds: float) -> float:
    """Seconds of sound per second."""
    pcm = np.random.default_rng(0).integers(-3000, 3000, 60 * SAMPLE_RATE).astype(np.int16)
    return 60 * rate(lambda: len(mfcc(pcm)) > 0, seconds)


def gpu_speed(network: SyncNetV2, device: torch.device, seconds: float) -> dict[str, float]:
    """Windows per second by batch size and precision, and how far bf16 is off."""
    folded = network.fold().to(device)
    figures: dict[str, float] = {}
    outputs = {}
    for precision in ("32", "bf16"):
        for batch in (8, 64, 256):
            faces = torch.rand((batch, 3, WINDOW, 224, 224), generator=torch.Generator().manual_seed(0)) * 255
            faces = faces.to(device)

            def work(faces: torch.Tensor = faces, precision: str = precision) -> int:
                with judging(precision, str(device)):
                    outputs[precision] = folded.forward_lip(faces).float()
                return len(faces)

            speed = rate(work, seconds, after=torch.cuda.synchronize)
            figures[f"precision {precision}, batch {batch}"] = round(speed, 1)
    error = (outputs["bf16"] - outputs["32"]).abs().max() / outputs["32"].abs().max()
    return {**figures, "bf16, largest relative difference": float(f"{error.item():.1e}")}
