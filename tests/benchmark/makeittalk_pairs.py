"""MakeItTalk beside its published form, in pairs in one process: the table of docs/benchmarks.md.

PYTHONPATH=.:tests python tests/benchmark/makeittalk_pairs.py [PART ...]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from helpers.canonical_faces import CanonicalSource
from helpers.pairs import tell
from helpers.published_makeittalk import Detector, per_window, rendered, stacked_windows, warped_by_skimage
from talkingface.benchmark.timing import Pair, paired
from talkingface.clips.source import Audio
from talkingface.faces.warp import TriangleWarp
from talkingface.media import VideoWriter
from talkingface.models.makeittalk.config import MakeItTalkConfig
from talkingface.models.makeittalk.drawing import draw_landmarks
from talkingface.models.makeittalk.losses import TranslationLoss
from talkingface.models.makeittalk.model import MakeItTalk
from talkingface.models.makeittalk.networks.content import ContentBranch
from talkingface.models.makeittalk.networks.pieces import windows_of
from talkingface.models.makeittalk.networks.translation import TranslationUNet, picture
from talkingface.networks.vgg19 import VGG19Features

ROWS = 6000  # 96 s of sound
SECONDS = 4.0  # for each pair


def windows() -> Pair:
    """Windows of sound and the face of their first row, of a clip of 96 s."""
    rng = np.random.default_rng(0)
    rows, faces = rng.random((ROWS, 80), np.float32), rng.random((ROWS, 204), np.float32)
    return paired(
        lambda: stacked_windows(rows, faces),
        lambda: (windows_of(torch.from_numpy(rows)), torch.from_numpy(faces)[: ROWS - 17]),
        SECONDS,
    )


def content() -> Pair:
    """The content branch on 8 s of sound, what is one per row computed 18 times and once."""
    network, rows, face = ContentBranch().eval(), torch.rand(512, 80), torch.rand(1, 204)
    slow, fast = (torch.no_grad()(way) for way in (per_window, lambda n, r, f: n.follow(r, f)))
    print("  largest relative difference", _difference(slow(network, rows, face), fast(network, rows, face)))
    return paired(lambda: slow(network, rows, face), lambda: fast(network, rows, face), SECONDS)


def prior() -> Pair:
    """That part of it alone."""
    network, rows = ContentBranch().eval(), torch.rand(512 + 17, 80)
    every = windows_of(rows).flatten(0, 1).contiguous()
    with torch.no_grad():
        return paired(lambda: network.fc_prior(every), lambda: windows_of(network.fc_prior(rows)), SECONDS)


def warp() -> Pair:
    """A picture of 512 px moved by a mesh of 76 points."""
    from scipy.spatial import Delaunay

    rng = np.random.default_rng(0)
    border = np.array([(x, y) for x in (0, 255, 511) for y in (0, 255, 511) if (x, y) != (255, 255)], float)
    source = np.concatenate([rng.uniform(100, 410, (68, 2)), border])
    moved = source + np.concatenate([rng.normal(0, 1.5, (68, 2)), np.zeros((8, 2))])
    photo = cv2.GaussianBlur(rng.integers(0, 256, (512, 512, 3)).astype(np.uint8), (0, 0), 3)
    ours = TriangleWarp(source, Delaunay(source).simplices[:, ::-1], (512, 512), both_sides=True)
    off = np.abs(warped_by_skimage(photo, source, moved) - ours(photo, moved))
    print(f"  mean difference {off.mean():.2f} of 255")
    return paired(lambda: warped_by_skimage(photo, source, moved), lambda: ours(photo, moved), SECONDS)


def gram() -> Pair:
    """Style term of 8 pictures, features of VGG19's third level, forward and backward."""
    features = torch.rand(8, 256, 64, 64, requires_grad=True)
    target = torch.rand(8, 256, 64, 64)
    ways = [TranslationLoss(torch.nn.Identity(), kind).gram for kind in ("batch", "sample")]

    def work(way: Callable[[torch.Tensor], torch.Tensor]) -> None:
        torch.nn.functional.mse_loss(way(features), way(target)).backward()

    return paired(lambda: work(ways[0]), lambda: work(ways[1]), SECONDS)


def step(batch: int = 4) -> Pair:
    """A whole training step of the translation: landmarks found in the step, Gram of the batch, against neither."""
    network, detector = TranslationUNet(), Detector().eval()
    losses = {kind: TranslationLoss(VGG19Features(), kind) for kind in ("batch", "sample")}
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, (0.5, 0.999))
    pictures, portraits = torch.rand(2, batch, 3, 256, 256)
    points = np.random.default_rng(0).uniform(60, 200, (batch, 68, 2))

    def train(kind: str, faces: np.ndarray) -> None:
        drawn = np.stack([draw_landmarks(face) for face in faces])
        drawings = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
        found = losses[kind](picture(network(torch.cat([drawings, portraits], 1))), pictures)
        optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        optimizer.step()

    def published() -> None:
        with torch.no_grad():
            train_on = detector(pictures)[:, :68].numpy()
        train("batch", train_on)

    return paired(published, lambda: train("sample", points), 0, warm=False)


def end_to_end(seconds: float = 0.48) -> Pair:
    """A picture and a sound to a video, published size, random weights."""
    inference = {"blinks": 0.0, "batch": 4, "head": "none"}
    config = MakeItTalkConfig(
        translate={"input": "portrait"}, inference=inference, loss={"reconstruction": "l1_gradient"}
    )
    model = MakeItTalk(config).eval()
    model.bind("checkpoints", "cpu")
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    audio, source = Audio(noise), CanonicalSource(1)
    portrait, face = np.zeros((256, 256, 3), np.uint8), model.canonical()

    def published(path: Path) -> None:
        assert model.front_end is not None
        rows = torch.from_numpy(np.concatenate([model.front_end.extract(noise)] + [np.zeros((17, 80), np.float32)]))
        moved = per_window(model.content_branch.network, rows, torch.from_numpy(face.reshape(1, -1)).float())
        faces = moved.numpy().reshape(-1, 68, 3)[..., :2] * 100 + face[None, :, :2] * 100 + 128
        with VideoWriter(path, fps=62.5, audio=noise) as writer:
            for frame in rendered(model, portrait, faces):
                writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def ours(path: Path) -> None:
        with VideoWriter(path, fps=25, audio=noise) as writer:
            for frame in model.generate(source, audio):
                writer.write(frame)

    with tempfile.TemporaryDirectory() as name:
        return paired(lambda: published(Path(name) / "a.mp4"), lambda: ours(Path(name) / "b.mp4"), 0, warm=False)


def _difference(one: torch.Tensor, other: torch.Tensor) -> str:
    return f"{float((one - other).abs().max() / one.abs().max()):.1e}"


PARTS = {part.__name__: part for part in (windows, prior, content, warp, gram, step, end_to_end)}

if __name__ == "__main__":
    tell(PARTS)
