"""Settings of DINet, `model:` in its YAML; docs/dinet.md has the deviations from what was published."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from talkingface.config.sections import Section
from talkingface.lipsync.dubbing.config import DubbingCropConfig
from talkingface.lipsync.dubbing.settings import TrainedDubbingConfig
from talkingface.models.dinet.networks.generator import is_blended
from talkingface.networks.dubbing.blocks import Norm

CROP = DubbingCropConfig(kind="upright", width=320)


class GeneratorConfig(Section):
    """The generator.

    Attributes:
        width: multiplier of all channels.
        norm: in every block. Published: batch.
        blended: channels are mixed with their neighbours when they are moved; null: as `compat` says. Published: yes.
    """

    width: float = Field(1.0, gt=0)
    norm: Norm = "batch"
    blended: bool | None = None


class DINetConfig(TrainedDubbingConfig):
    """All of DINet.

    Attributes:
        generator: see `GeneratorConfig`.
    """

    crop: DubbingCropConfig = CROP
    generator: GeneratorConfig = GeneratorConfig()

    @property
    def trained_for(self) -> dict[str, Any]:
        """See `TrainedDubbingConfig.trained_for`."""
        return super().trained_for | {"generator.blended": is_blended(self.compat, self.generator.blended)}
