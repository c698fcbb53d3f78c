"""DINet's generator: reference faces, moved channel by channel to what is heard, fill in the mouth of a face.

Paper: Z. Zhang et al., "DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution
Video", AAAI 2023, arXiv:2303.03988. Keys equal those of the published `clip_training_DINet_256mouth.pth` (width 1,
`published`).
"""

from __future__ import annotations

from torch import Tensor, nn

from talkingface.models.dinet.networks.adaat import AdaAT
from talkingface.networks.dubbing.blocks import Norm
from talkingface.networks.dubbing.encoders import AUDIO_WIDTH, REFERENCES, Style, appearance_layers, decoder
from talkingface.networks.dubbing.generator import Compat, DubbingGenerator, check_compat


def is_blended(compat: Compat, blended: bool | None) -> bool:
    """Whether channels are mixed with their neighbours, see `AdaAT`; None: as `compat` says."""
    return compat == "published" if blended is None else blended


class DINetGenerator(DubbingGenerator):
    """See `DubbingGenerator`; the code is the means of faces and sound.

    Args:
        width: multiplier of all channels.
        compat: sets `blended` when that is None.
        norm: in every block.
        blended: see `AdaAT`.
        audio_width: numbers in a row of audio features.
        references: reference crops.
    """

    def __init__(
        self,
        width: float = 1.0,
        compat: Compat = "corrected",
        norm: Norm = "batch",
        blended: bool | None = None,
        audio_width: int = AUDIO_WIDTH,
        references: int = REFERENCES,
    ) -> None:
        check_compat(compat)
        style = Style(width, norm)
        super().__init__(style, audio_width, references)
        self.appearance_conv_list = nn.ModuleList(appearance_layers(4, style) for _ in range(2))
        rest = compat == "corrected"
        self.adaAT = AdaAT(2 * style.channels(128), style.channels(256), is_blended(compat, blended), rest)
        self.out_conv = decoder(style)

    def appearance(self, maps: Tensor) -> Tensor:
        """See `DubbingGenerator.appearance`."""
        return self.appearance_conv_list[0](maps)

    def move(self, appearance: Tensor, code: Tensor) -> Tensor:
        """See `DubbingGenerator.move`."""
        return self.appearance_conv_list[1](self.adaAT(appearance, code))
