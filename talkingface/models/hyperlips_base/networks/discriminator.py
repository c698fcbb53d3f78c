"""HyperLips' Base discriminator: is the lower half of a face a real picture?

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720. Keys equal those that published training writes.
"""

from __future__ import annotations

from torch import Tensor, nn

from talkingface.networks.blocks import full_precision, plain_stack, scaled


class HalfFaceDiscriminator(nn.Module):
    """Probability that the lower half of a face is a real picture.

    Args:
        size: side of the face in pixels; published: 128. Halvings that would leave less than 3 px are left out.
        width: multiplier of all channels.
    """

    def __init__(self, size: int = 128, width: float = 1.0) -> None:
        super().__init__()
        c = [scaled(channels, width) for channels in (32, 64, 128, 256, 512)]
        blocks = [plain_stack(3, [(c[0], 7, 1, 3)]), plain_stack(c[0], [(c[1], 5, (1, 2), 2), (c[1], 5, 1, 2)])]
        # The lower half is S/2 x S and square behind the first stride; published: 64 px become 4 in four halvings.
        halvings = [(c[2], 5, 2), (c[3], 5, 2), (c[4], 3, 1), (c[4], 3, 1)]
        inputs, side = c[1], size // 2
        for channels, kernel, padding in halvings:
            if side < 6:
                break
            blocks.append(plain_stack(inputs, [(channels, kernel, 2, padding), (channels, kernel, 1, padding)]))
            inputs, side = channels, (side + 1) // 2
        blocks.append(plain_stack(inputs, [(c[4], 3, 1, 0), (c[4], 1, 1, 0)]))
        blocks.append(nn.AdaptiveAvgPool2d(1))
        self.face_encoder_blocks = nn.ModuleList(blocks)
        self.binary_pred = nn.Sequential(nn.Conv2d(c[4], 1, 1), nn.Sigmoid())

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, T, S, S), BGR in [0, 1] -> probabilities (T*B, 1) in float32, all of frame 0 first."""
        x = faces.permute(2, 0, 1, 3, 4).flatten(0, 1)
        x = x[..., x.shape[-2] // 2 :, :]
        for block in self.face_encoder_blocks:
            x = block(x)
        # In bf16 a probability above 0.998 is 1, from where no gradient leads back.
        with full_precision(x):
            return self.binary_pred(x.float()).flatten(1)
