"""The lip-sync expert of Wav2Lip and HyperLips: do a mouth and a sound belong together?

Paper: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild", ACM MM 2020,
section 3.1. Keys equal those of the published `lipsync_expert.pth` (48x96) and `pretrain_sync_expert.pth` (64x128).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import conv_stack, full_precision, scaled

FRAMES = 5  # frames in a window, 0.2 s of video; 16 mel columns

# Per size of the lower half (height, width), behind the first two layers: (channels, kernel, stride, padding, residual
# blocks). 48x96 and 64x128 are published; 24x48 is 48x96 with one halving less, for small experiments.
_FACE_ROWS: dict[tuple[int, int], list[tuple[int, int, int, int, int]]] = {
    (24, 48): [(128, 3, 2, 1, 3), (256, 3, 2, 1, 2), (512, 3, 2, 1, 2), (512, 3, 1, 0, 0), (512, 1, 1, 0, 0)],
    (48, 96): [
        *[(128, 3, 2, 1, 3), (256, 3, 2, 1, 2), (512, 3, 2, 1, 2)],
        *[(512, 3, 2, 1, 0), (512, 3, 1, 0, 0), (512, 1, 1, 0, 0)],
    ],
    (64, 128): [
        *[(128, 3, 2, 1, 3), (256, 3, 2, 1, 2), (512, 3, 2, 1, 2)],
        *[(512, 3, 2, 1, 2), (512, 4, 1, 0, 0), (512, 1, 1, 0, 0)],
    ],
}
SIZES = tuple(_FACE_ROWS)
_AUDIO_ROWS = [(32, 3, 1, 1, 2), (64, 3, (3, 1), 1, 2), (128, 3, 3, 1, 2), (256, 3, (3, 2), 1, 2)]


class SyncExpert(nn.Module):
    """Embeds 5 lower half faces and 0.2 s of mel into one space; in sync, the two are close.

    Both towers end in a ReLU, so embeddings are not negative and their cosine lies in [0, 1].

    Args:
        size: height and width of the lower half of the face crop: one of `SIZES`.
        width: multiplier of all channels but the embedding's input; 1 is published.
        frames: video frames in a window.

    Attributes:
        cosine: an expert whose features are unit vectors, and whose scores are their cosines. Others say their own
            mind of all pairs in `scores`.
        bgr: it learns from pictures whose colours stand in this order.
        hears: what it is given of the sound: windows of `mel`, or of the `rows` of a front end.
    """

    cosine = True
    bgr = True
    hears = "mel"

    def __init__(self, size: tuple[int, int] = (48, 96), width: float = 1.0, frames: int = FRAMES) -> None:
        super().__init__()
        if tuple(size) not in _FACE_ROWS:
            raise ValueError(f"the expert's size must be one of {', '.join(map(str, SIZES))}, got {tuple(size)}")
        self.size, self.frames = tuple(size), frames
        # Kept: a 5x5 kernel with padding 1, so 48x96 becomes 46x47; the published weights need it.
        first = [(32, 7, 1, 3, 0), (64, 5, (1, 2), 1, 2)]
        self.face_encoder = conv_stack(2, 3 * frames, _widened([*first, *_FACE_ROWS[self.size]], width))
        audio = [*_AUDIO_ROWS, (512, 3, 1, 0, 0), (512, 1, 1, 0, 0)]
        self.audio_encoder = conv_stack(2, 1, _widened(audio, width))

    def embed_audio(self, mel: Tensor) -> Tensor:
        """(B, 1, 80, 16) mel in [-4, 4] -> (B, D), of length 1."""
        return _unit(self.audio_encoder(mel).flatten(1))

    def embed_faces(self, faces: Tensor) -> Tensor:
        """(B, 15, H, W) -> (B, D), of length 1. Lower halves, BGR in [0, 1], frame after frame on the channels.

        Halves of another size are resized.
        """
        if faces.shape[-2:] != self.size:
            faces = F.interpolate(faces, size=self.size, mode="bilinear", align_corners=False)
        return _unit(self.face_encoder(faces).flatten(1))

    def scores(self, mouths: Tensor, sounds: Tensor) -> Tensor:
        """(n, D) of `embed_faces` and (m, D) of `embed_audio` -> (n, m) scores in [0, 1], here cosines."""
        with full_precision(mouths):
            return mouths.float() @ sounds.float().T

    def forward(self, mel: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of sound and faces, each (B, D); see `embed_audio` and `embed_faces`."""
        return self.embed_audio(mel), self.embed_faces(faces)

    def window(self, frames: Tensor) -> Tensor:
        """Whole face crops (B, 3, T, S, S), RGB in [0, 1] -> what `embed_faces` takes, (B, 15, S/2, S).

        Takes the lower half of each frame, and turns RGB into BGR.
        """
        # Channels are flipped before they are stacked: afterwards 15 of them lie on one axis.
        lower = frames[..., frames.shape[-2] // 2 :, :].flip(1)
        return lower.transpose(1, 2).flatten(1, 2)


def sync_loss(cosine: Tensor, target: Tensor | float, weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy of a cosine taken as a probability; mean, or weighted mean.

    In float32 whatever the precision around it. Logarithms stop at -100, as torch's own do; the cosine is kept inside
    [0, 1], which rounding may leave by 1e-7.
    """
    with full_precision(cosine):
        probability = cosine.float().clamp(0.0, 1.0)
        if not isinstance(target, Tensor):
            target = torch.full_like(probability, target)
        terms = F.binary_cross_entropy(probability, target.float(), reduction="none")
        return terms.mean() if weight is None else (terms * weight).sum() / weight.sum()


def _widened(rows: list[tuple], width: float) -> list[tuple]:
    return [(scaled(channels, width), *rest) for channels, *rest in rows]


def _unit(features: Tensor) -> Tensor:
    with full_precision(features):
        return F.normalize(features.float(), p=2, dim=1)
