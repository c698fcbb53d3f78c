"""HyperLips' HR networks: the decoder that gives a face detail, and its discriminator.

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720, section 3.3. Keys equal those of the published `hyperlipshr_*.pth` (width 1).
"""

from __future__ import annotations

from torch import Tensor, nn

from talkingface.networks.blocks import ConvBlock, UpBlock, full_precision, plain_stack, scaled

SCALES = (1, 2, 4)


class HRDecoder(nn.Module):
    """Generated face and sketch of its features -> the same face, larger and sharper.

    Args:
        scale: side of the output over that of the input: 1, 2 or 4. Published: 128 px become 128, 256 or 512.
        width: multiplier of all channels.
    """

    def __init__(self, scale: int = 1, width: float = 1.0) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"the scale must be one of {', '.join(map(str, SCALES))}, got {scale}")
        inner, hidden = scaled(64, width), scaled(32, width)
        residual = [ConvBlock(2, inner, inner, 3, 1, 1, residual=True) for _ in range(1 + 2 * max(1, scale // 2))]
        self.conv_base = nn.Sequential(ConvBlock(2, 6, inner, 3, 1, 1), residual.pop())
        if scale == 1:
            blocks: list[nn.Module] = residual
        else:
            blocks = []
            for _ in range(scale // 2):
                blocks += [UpBlock(inner, inner, 2, 1, 1), residual.pop(), residual.pop()]
        self.up_conv = nn.Sequential(*blocks)
        self.output_block = nn.Sequential(ConvBlock(2, inner, hidden, 3, 1, 1), nn.Conv2d(hidden, 3, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, S, S): BGR face in [0, 1], then the sketch three times, 0 or 1 -> (N, 3, scale S, scale S), BGR."""
        return self.output_block(self.up_conv(self.conv_base(x)))


class FaceDiscriminator(nn.Module):
    """Score of a whole face of any size: how real it looks.

    Args:
        width: multiplier of all channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c = [scaled(channels, width) for channels in (32, 64, 128)]
        blocks = [plain_stack(3, [(c[0], 7, 1, 3)])]
        inputs = c[0]
        for channels, kernel in ((c[1], 5), (c[2], 5), (c[2], 5), (c[2], 3)):
            padding = kernel // 2
            blocks.append(plain_stack(inputs, [(channels, kernel, 2, padding), (channels, kernel, 1, padding)]))
            inputs = channels
        self.face_encoder_blocks = nn.ModuleList([*blocks, nn.AdaptiveAvgPool2d(1)])
        self.binary_pred = nn.Sequential(nn.Conv2d(inputs, 1, 1), nn.Sigmoid())

    def logits(self, faces: Tensor) -> Tensor:
        """(N, 3, S, S), BGR in [0, 1] -> (N, 1) before the sigmoid, in float32."""
        x = faces
        for block in self.face_encoder_blocks:
            x = block(x)
        with full_precision(x):
            return self.binary_pred[0](x.float()).flatten(1)

    def forward(self, faces: Tensor) -> Tensor:
        """(N, 3, S, S), BGR in [0, 1] -> probabilities (N, 1) in float32."""
        return self.logits(faces).sigmoid()
