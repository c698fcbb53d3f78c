"""The lip-sync expert of DINet: no cosine of two vectors, but a map of scores of a mouth that hears a sound.

Paper: DINet, arXiv:2303.03988, section 3.3. Keys equal those of the published `syncnet_256mouth.pth` (256 px, width 1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import full_precision, scaled
from talkingface.networks.dubbing.blocks import Down, Norm, Residual, Same, norm_layer
from talkingface.networks.dubbing.encoders import AUDIO_WIDTH, row_linear

FRAMES, ROWS = 5, 9
"""Mouths in a window, and rows of audio features: all that the generator heard for these frames."""

SIDE = 256
"""Side of the mouths that the published expert was trained on."""

SHRINK = 32
"""Pixels of a mouth per pixel of the score map."""


class _Halving(nn.Module):
    """Convolution, norm, ReLU, mean of 2x2. Keys: `conv`, `norm`."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = norm_layer(norm, 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        return F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)


class _FaceEncoder(nn.Module):
    """Key: `face_conv`."""

    def __init__(self, inputs: int, inner: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        layers = [Same(2, inputs, inner, 7, norm), Residual(2, inner, norm), _Halving(inner, norm)]
        layers.append(Same(2, inner, outputs, 3, norm))
        for level in range(4):
            last = Same(2, outputs, outputs, 1 if level == 3 else 3, norm)
            layers += [Residual(2, outputs, norm), _Halving(outputs, norm), last]
        self.face_conv = nn.Sequential(*layers)

    def forward(self, mouths: Tensor) -> Tensor:
        """(B, 15, S, S) -> (B, C, S/32, S/32)."""
        return self.face_conv(mouths)


class _AudioEncoder(nn.Module):
    """Key: `audio_conv`."""

    def __init__(self, outputs: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = [Same(1, AUDIO_WIDTH, outputs, 7, norm)]
        for _ in range(3):
            layers += [Residual(1, outputs, norm), Down(1, outputs, outputs, 3, norm)]
        self.audio_conv = nn.Sequential(*layers, Same(1, outputs, outputs, 3, norm))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, 29, 9) -> (B, C)."""
        return self.audio_conv(rows).mean(-1)


class MouthSyncExpert(nn.Module):
    """Does a window of five mouths belong to a sound? The target is 1 in sync and 0 off.

    Args:
        width: multiplier of all channels; 1 is published.
        audio_width: numbers in a row of audio features; others than 29 go through a linear layer.
        frames: mouths in a window.
        norm: in every block of both encoders; published: none.
        agreement: see the attribute.

    Attributes:
        agreement: weight, in training, of the cosines between the pooled features of mouths and sounds. What compares
            them is a small network, which finds nothing to compare for long when the features have nothing in common.
        cosine: see `SyncExpert`, also for the others.
    """

    cosine = False
    bgr = False
    hears = "rows"

    def __init__(
        self,
        width: float = 1.0,
        audio_width: int = AUDIO_WIDTH,
        frames: int = FRAMES,
        norm: Norm = "none",
        agreement: float = 0.0,
    ) -> None:
        super().__init__()
        self.agreement = agreement
        inner, outputs = scaled(64, width), scaled(128, width)
        self.frames = frames
        self.face_encoder = _FaceEncoder(3 * frames, inner, outputs, norm)
        self.audio_linear = row_linear(audio_width)
        self.audio_encoder = _AudioEncoder(outputs, norm)
        self.merge_encoder = nn.Sequential(
            nn.Conv2d(2 * outputs, outputs, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(outputs, 1, 3, padding=1)
        )

    def embed_faces(self, mouths: Tensor) -> Tensor:
        """(B, 15, S, S), RGB in [0, 1], frame after frame on the channels -> features (B, C, S/32, S/32).

        Raises:
            ValueError: the side is no multiple of 32.
        """
        if mouths.shape[-1] % SHRINK or mouths.shape[-2] % SHRINK:
            size = f"{mouths.shape[-1]}x{mouths.shape[-2]}"
            raise ValueError(f"the expert's mouths must have a side that is a multiple of {SHRINK} pixels, got {size}")
        return self.face_encoder(mouths)

    def embed_audio(self, rows: Tensor) -> Tensor:
        """(B, width, 9) rows of audio features -> features (B, C)."""
        return self.audio_encoder(self.audio_linear(rows))

    def forward(self, mouths: Tensor, rows: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Score maps (B, 1, S/32, S/32) of mouths and sounds, pair by pair; about 0 to 1, but not bounded.

        Given K windows of each clip, mouths (B, K, 15, S, S) and rows (B, K, width, 9): the means of the maps of all
        pairs, (B, K, K), mouths in rows, and likewise the cosines of their pooled features, in [0, 1].
        """
        if mouths.dim() == 5:
            faces, sounds = self.embed_faces(mouths.flatten(0, 1)), self.embed_audio(rows.flatten(0, 1))
            faces, sounds = (each.float().unflatten(0, mouths.shape[:2]) for each in (faces, sounds))
            with full_precision(faces):
                return torch.stack([self._pairs(*clip) for clip in zip(faces, sounds)]), _cosines(faces, sounds)
        faces, sounds = self.embed_faces(mouths), self.embed_audio(rows)
        heard = sounds[..., None, None].expand(-1, -1, *faces.shape[-2:])
        return self.merge_encoder(torch.cat([faces, heard], dim=1))

    def scores(self, mouths: Tensor, sounds: Tensor) -> Tensor:
        """(n, C, h, w) of `embed_faces` and (m, C) of `embed_audio` -> (n, m) means of the score maps, in [0, 1]."""
        return self._pairs(mouths, sounds).clamp(0.0, 1.0)

    def _pairs(self, mouths: Tensor, sounds: Tensor) -> Tensor:
        """Means of the score maps of all pairs, not bounded.

        The first convolution is taken of mouths and sounds apart and its results are added pair by pair: n + m
        convolutions of it instead of n * m.
        """
        first, _, last = self.merge_encoder
        of_faces, of_sounds = first.weight.chunk(2, dim=1)
        heard = sounds[..., None, None].expand(-1, -1, *mouths.shape[-2:])
        seen = F.conv2d(mouths, of_faces, first.bias, padding=1)
        heard = F.conv2d(heard, of_sounds, padding=1)
        rows = [last(F.leaky_relu(each + heard, 0.2)).mean((1, 2, 3)) for each in seen]
        return torch.stack(rows)


def _cosines(faces: Tensor, sounds: Tensor) -> Tensor:
    """(B, K, C, h, w) and (B, K, C) -> (B, K, K)."""
    return F.normalize(faces.mean((-2, -1)), dim=-1) @ F.normalize(sounds, dim=-1).mT


def sync_error(score: Tensor, target: float = 1.0, clipped: bool = False) -> Tensor:
    """Mean squared distance of score maps to `target`, in float32.

    Args:
        score: (B, 1, h, w) of `MouthSyncExpert`.
        target: 1 in sync, 0 off.
        clipped: take scores beyond [0, 1] as 0 or 1, while their gradient passes as if nothing had been cut: a score
            beyond its target is not pulled back, one on the far side is not lost. Published: no.
    """
    with full_precision(score):
        score = score.float()
        return ((clipped_score(score) if clipped else score) - target).square().mean()


def clipped_score(score: Tensor) -> Tensor:
    """Scores inside [0, 1] whose gradient is that of the scores themselves."""
    return score + (score.clamp(0.0, 1.0) - score).detach()
