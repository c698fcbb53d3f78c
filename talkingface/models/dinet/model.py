"""DINet: reference faces, moved channel by channel to what is heard, fill in the mouth of a face.

Paper: Z. Zhang et al., "DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution
Video", AAAI 2023, arXiv:2303.03988. Deviations and kept quirks are listed in docs/dinet.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from talkingface.lipsync.dubbing.expert import PUBLISHED
from talkingface.lipsync.dubbing.model import DubbingModel
from talkingface.models.dinet.config import DINetConfig
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.networks.dubbing.geometry import hard_hole
from talkingface.plugin.contract import Official
from talkingface.plugin.registry import register
from talkingface.sound.front_ends import front_end_kind

if TYPE_CHECKING:
    from torch import Tensor

    from talkingface.networks.dubbing.geometry import MouthCrop


def _published_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What published weights, or those of a user of the published code, need."""
    return {
        "compat": "published",
        "generator.width": state["source_in_conv.0.conv.weight"].shape[0] / 64,
        "generator.norm": "batch",
        "crop.kind": "upright",
        "crop.width": 320,
        "inference.precision": "32",
    }


@register("DINet")
class DINet(DubbingModel):
    """See `DubbingModel`; the box of the mouth is hidden with a hard edge."""

    Config = DINetConfig
    config: DINetConfig
    official = (
        Official(
            "clip_training_DINet_256mouth.pth",
            "generator",
            key=("state_dict", "net_g"),
            settings=_published_settings,
            asks=("audio.generator_features",),
            asks_of_others=("crop.width",),  # of any stage, and the entries of all stages are the same
        ),
        PUBLISHED,
    )

    def build_generator(self) -> DINetGenerator:
        """See `DubbingModel.build_generator`."""
        sizes, audio = self.config.generator, self.config.audio.generator_features
        width = front_end_kind(audio.name).width
        return DINetGenerator(sizes.width, self.config.compat, sizes.norm, sizes.blended, width)

    def hole(self, crop: MouthCrop) -> Tensor:
        """See `DubbingNetworks.hole`."""
        return hard_hole(crop)
