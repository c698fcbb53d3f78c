"""HyperLips' Base generator: the sound steers the features of a face through kernels of its own.

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720, section 3.2. Keys equal those of the published `hyperlipsbase_*.pth` (128 px, width 1).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from talkingface.models.hyperlips_base.networks.decoder import MARGIN, FaceDecoder, State
from talkingface.models.hyperlips_base.networks.hyper import HyperControlNet
from talkingface.models.hyperlips_base.networks.mobilenet import LRASPP, MobileNetV3
from talkingface.networks.blocks import ConvBlock, scaled

PUBLISHED_SIZE = 128


class Drawing(NamedTuple):
    """Faces of consecutive frames, and what the next call needs to go on."""

    faces: Tensor  # (B, 3, T, S, S), BGR in [0, 1]
    state: State


class HyperLipsGenerator(nn.Module):
    """Face with its lower half hidden, a reference face and a sound -> the whole face.

    Works for faces of any side that is a multiple of 16; 128 is published.

    Args:
        width: multiplier of all channels.
        least: no layer gets fewer channels than this (or than its published number, if that is smaller).
        temporal: `forward` lets the frames of a window remember those before them. Published: no.
    """

    def __init__(self, width: float = 1.0, least: int = 8, temporal: bool = False) -> None:
        super().__init__()
        self.temporal = temporal
        tail = _even(64, width, least)
        hidden = scaled(32, width, least)
        self.up_conv = nn.Sequential(*(ConvBlock(2, tail, tail, 3, 1, 1, residual=True) for _ in range(2)))
        self.output_block = nn.Sequential(ConvBlock(2, tail, hidden, 3, 1, 1), nn.Conv2d(hidden, 3, 1), nn.Sigmoid())
        self.face_encoder = MobileNetV3(6, width, least)
        head = _even(128, width, least)
        self.aspp = LRASPP(self.face_encoder.channels[-1], head)
        levels = [*self.face_encoder.channels[:-1], head]
        self.hyper_control_net = HyperControlNet(levels, width, least)
        self.decoder = FaceDecoder(levels, [*(_even(c, width, least) for c in (80, 40, 32)), tail])

    def forward(self, mel: Tensor, faces: Tensor) -> Tensor:
        """Redraw faces, every frame by itself unless the generator is `temporal` and the frames are those of windows.

        Args:
            mel: (B, 1, 80, 16) or (B, T, 1, 80, 16) in [-4, 4].
            faces: (B, 6, S, S) or (B, 6, T, S, S), BGR in [0, 1]: masked target, then reference.

        Returns:
            (B, 3, S, S) or (B, 3, T, S, S), BGR in [0, 1].
        """
        if faces.dim() == 5 and self.temporal:
            return self.follow(mel, faces).faces
        if faces.dim() == 5:
            # Kept: time-major, as published. Batch norm does not care, parity of intermediate values does.
            drawn = self(mel.transpose(0, 1).flatten(0, 1), _time_major(faces))
            return _batch_major(drawn, faces.shape[0])
        return self._drawn(self._features(mel, faces)[0])

    def lower_half(self, mel: Tensor, faces: Tensor, above: int = 0) -> Tensor:
        """Lower half of `forward`'s faces, in eval mode. The same values but for rounding.

        The last layers have most of the work; they skip what is not pasted.

        Args:
            mel: (B, 1, 80, 16).
            faces: (B, 6, S, S).
            above: rows above the middle that are wanted, too.

        Returns:
            (B, 3, S/2 + above, S).
        """
        start = faces.shape[-2] // 2 - above
        top = max(0, start - MARGIN) // 2 * 2  # maps of half the size are cut as well
        features, _ = self._features(mel, faces, top=top)
        return self._drawn(features)[:, :, start - top :]

    def follow(self, mel: Tensor, faces: Tensor, state: State | None = None) -> Drawing:
        """Redraw consecutive frames, remembering those before.

        Args:
            mel: (B, T, 1, 80, 16) in [-4, 4].
            faces: (B, 6, T, S, S), BGR in [0, 1].
            state: what the call for the frames before gave; None at the start and after a cut.
        """
        mels = mel.transpose(0, 1).flatten(0, 1)
        features, after = self._features(mels, _time_major(faces), faces.shape[2], state)
        return Drawing(_batch_major(self._drawn(features), faces.shape[0]), after)

    def _features(
        self, mel: Tensor, faces: Tensor, frames: int = 0, state: State | None = None, top: int = 0
    ) -> tuple[Tensor, State | None]:
        *maps, deepest = self.face_encoder(faces)
        maps.append(self.aspp(deepest))
        return self.decoder(faces, self.hyper_control_net(mel, maps), frames, state, top)

    def _drawn(self, features: Tensor) -> Tensor:
        return self.output_block(self.up_conv(features))


def _time_major(faces: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (T*B, C, H, W), all of frame 0 first."""
    return faces.permute(2, 0, 1, 3, 4).flatten(0, 1)


def _batch_major(faces: Tensor, batch: int) -> Tensor:
    """(T*B, C, H, W) -> (B, C, T, H, W)."""
    return faces.unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)


def _even(channels: int, width: float, least: int) -> int:
    """Half of these channels go through memory."""
    return 2 * scaled(channels // 2, width, max(1, least // 2))
