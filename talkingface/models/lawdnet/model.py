"""LawDNet: reference faces, warped around key points that the sound moves, fill in the mouth of a face.

Paper: LawDNet, arXiv:2409.09326. Deviations and kept quirks are listed in docs/lawdnet.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from talkingface.lipsync.dubbing.expert import PUBLISHED
from talkingface.lipsync.dubbing.model import DubbingModel
from talkingface.models.lawdnet.config import LawDNetConfig
from talkingface.models.lawdnet.networks.generator import LawDNetGenerator
from talkingface.networks.dubbing.geometry import soft_hole
from talkingface.plugin.contract import Official
from talkingface.plugin.registry import register
from talkingface.sound.front_ends import front_end_kind

if TYPE_CHECKING:
    from torch import Tensor

    from talkingface.networks.dubbing.geometry import MouthCrop


def _published_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What published weights, or those of a user of the published code, need: told from their entries."""
    channels = state["appearance_conv_list.0.0.conv1.weight"].shape[0]
    return {
        "compat": "published",
        "generator.width": state["source_in_conv.0.conv.weight"].shape[0] / 64,
        "generator.norm": "none",
        "generator.condition": "attention" if any(key.startswith("cross_attention.") for key in state) else "pooled",
        "generator.warps": len({key.split(".")[1] for key in state if key.startswith("lawLayer_list.")}),
        "generator.keypoints": state["lawLayer_list.0.radius_layer.0.weight"].shape[0] // channels,
        "crop.kind": "frontal",
        "crop.width": 360,
        "crop.half_pixel": True,
        "inference.precision": "32",
        "inference.paste": "warp",  # weights know nothing of it
    }


@register("LawDNet")
class LawDNet(DubbingModel):
    """See `DubbingModel`; the mouth is hidden with a soft edge."""

    Config = LawDNetConfig
    config: LawDNetConfig
    official = (
        # One name, two files: driven by DeepSpeech 0.1, or by DeepSpeech 2. Nothing inside says which.
        Official(
            "checkpoint_epoch_170.pth",
            "generator",
            key=("state_dict", "net_g"),
            settings=_published_settings,
            asks=("audio.generator_features",),
            asks_of_others=("crop.width",),  # of any stage, and the entries of all stages are the same
        ),
        PUBLISHED,
    )

    def build_generator(self) -> LawDNetGenerator:
        """See `DubbingModel.build_generator`."""
        sizes, audio = self.config.generator, self.config.audio.generator_features
        return LawDNetGenerator(
            sizes.width,
            self.config.compat,
            sizes.norm,
            sizes.condition,
            sizes.warps,
            sizes.keypoints,
            sizes.grid,
            front_end_kind(audio.name).width,
            recompute=sizes.recompute,
            **sizes.quirks.model_dump(),
        )

    def hole(self, crop: MouthCrop) -> Tensor:
        """See `DubbingNetworks.hole`."""
        return soft_hole(crop.height, crop.width)
