"""Settings of LawDNet, `model:` in its YAML; docs/lawdnet.md has the deviations from what was published."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from talkingface.config.sections import Section
from talkingface.lipsync.dubbing.config import Pasting
from talkingface.lipsync.dubbing.settings import DubbingLossConfig, TrainedDubbingConfig
from talkingface.models.lawdnet.networks.generator import NORMS, Condition
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.models.lawdnet.networks.warp import GRID
from talkingface.networks.dubbing.blocks import Norm


class QuirksConfig(Section):
    """Quirks of the published generator, see `networks.quirks.Quirks`; null: as `compat` says."""

    scrambled_field: bool | None = None
    clamped_field: bool | None = None
    whole_grid: bool | None = None
    dead_layers: bool | None = None


class GeneratorConfig(Section):
    """The generator.

    Attributes:
        width: multiplier of all channels.
        norm: in every block; null: none with `compat: published`, else batch.
        condition: how faces and sound become one code: `attention`, or their means side by side (`pooled`).
        warps: rounds of appearance layers and warp.
        keypoints: per channel and warp.
        grid: points per axis of a warp's field.
        recompute: fields are computed anew in the backward pass: a third more time for less than half of the memory.
        quirks: see `QuirksConfig`.
    """

    width: float = Field(1.0, gt=0)
    norm: Norm | None = None
    condition: Condition = "attention"
    warps: int = Field(2, ge=1)
    keypoints: int = Field(5, ge=1)
    grid: int = Field(GRID, ge=4)
    recompute: bool = False
    quirks: QuirksConfig = QuirksConfig()


class LawDNetConfig(TrainedDubbingConfig):
    """All of LawDNet.

    Attributes:
        generator: see `GeneratorConfig`.
    """

    generator: GeneratorConfig = GeneratorConfig()
    loss: DubbingLossConfig = DubbingLossConfig(image=1.0)

    @property
    def pasting(self) -> Pasting:
        """See `DubbingConfig.pasting`; `compat: published` scatters, as its code does."""
        return self.inference.paste or ("scatter" if self.compat == "published" else "warp")

    @property
    def trained_for(self) -> dict[str, Any]:
        """See `TrainedDubbingConfig.trained_for`."""
        quirks = Quirks.of(self.compat, **self.generator.quirks.model_dump())._asdict()
        decided = {f"generator.quirks.{name}": kept for name, kept in quirks.items()}
        return super().trained_for | {"generator.norm": self.generator.norm or NORMS[self.compat]} | decided
