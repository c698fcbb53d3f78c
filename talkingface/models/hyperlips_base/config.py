"""Settings of HyperLipsBase, `model:` in its YAML; docs/hyperlips.md has the deviations from what was published."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from talkingface.config.sections import Section
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.config import SyncExpertConfig
from talkingface.lipsync.expert.inputs import CROP
from talkingface.lipsync.half_face.config import HalfFaceInference
from talkingface.models.hyperlips_base.networks.generator import PUBLISHED_SIZE

STRIDE = 16  # the deepest map is that much smaller than the face


class GeneratorConfig(Section):
    """Sizes of generator and discriminator; the side of the face is `crop.size`, a multiple of 16.

    Attributes:
        width: multiplier of the generator's channels.
        least_channels: no layer of the generator gets fewer.
        discriminator_width: multiplier of the discriminator's channels.
        temporal: the recurrent decoder remembers the frames before, in training over the windows of a stage (the last
            one wants `data.frames` of 5 to 25) and in generation over the whole video. Published: off, and what the
            memory needs has no trained weights in published files.
    """

    width: float = Field(1.0, gt=0)
    least_channels: int = Field(8, ge=8)
    discriminator_width: float = Field(1.0, gt=0)
    temporal: bool = False


class ExpertConfig(SyncExpertConfig):
    """The sync expert.

    Attributes:
        side: side of the faces whose lower halves it sees; faces of another size are resized for it. Published: 128.
    """

    side: Literal[48, 96, 128] = 128


class LossConfig(Section):
    """Weights of the generator's objective. What sync and perceptual term leave of 1 is the weight of L1.

    A stage may have weights of its own, `options: {sync: 0, perceptual: 0}`.

    Attributes:
        sync: weight of the expert's opinion.
        perceptual: weight of the discriminator's opinion; at 0 the discriminator does not train.
        sync_start: the sync term is off until the mean sync loss of a validation was below this; null, as published:
            it is on from the start.
        mouth: weight of the pixels of the lower half of the face in L1, over that of the upper half. Published: 1.
        expert_batch_stats: the expert normalises by the batch instead of by what it learnt, as published by an
            oversight; the loss then depends on what else is in the batch. The expert itself does not change.
    """

    sync: float = Field(0.03, ge=0, lt=1)
    perceptual: float = Field(0.2, ge=0, lt=1)
    sync_start: float | None = Field(None, ge=0)
    mouth: float = Field(1.0, gt=0)
    expert_batch_stats: bool = False

    @model_validator(mode="after")
    def _leaves_some_l1(self) -> LossConfig:
        if self.sync + self.perceptual >= 1:
            raise ValueError(f"sync + perceptual must stay below 1, got {self.sync + self.perceptual:g}")
        return self


class BaseStageOptions(Section):
    """Settings of one stage of kind `base`.

    Attributes:
        sync: weight of the sync term in this stage; null: `loss.sync`.
        perceptual: the same for `loss.perceptual`.
    """

    sync: float | None = Field(None, ge=0, lt=1)
    perceptual: float | None = Field(None, ge=0, lt=1)


class InferenceConfig(HalfFaceInference):
    """How videos are made; see `HalfFaceInference`."""

    reference: Literal["same", "typical", "first"] = "typical"
    paste: Literal["auto", "parsing", "contour", "lower", "box"] = "auto"
    colour: Literal["keep", "match"] = "match"


class HyperLipsBaseConfig(Section):
    """All of HyperLipsBase.

    Attributes:
        crop: how faces are cut out; its `size` is the side of the generated face.
        generator: sizes of generator and discriminator.
        expert: the sync expert.
        loss: objective of the generator.
        inference: generation.
    """

    crop: CropConfig = CROP.model_copy(update={"size": PUBLISHED_SIZE})
    generator: GeneratorConfig = GeneratorConfig()
    expert: ExpertConfig = ExpertConfig()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()

    @field_validator("crop")
    @classmethod
    def _known_size(cls, crop: CropConfig) -> CropConfig:
        if crop.size % STRIDE or crop.size < 2 * STRIDE:
            raise ValueError(f"the face size must be a multiple of {STRIDE} from {2 * STRIDE} on, got {crop.size}")
        return crop

    @model_validator(mode="after")
    def _memory_has_time(self) -> HyperLipsBaseConfig:
        if self.generator.temporal and self.inference.fps != 25:
            raise ValueError("generator.temporal remembers frames of 25 per second: set inference.fps to 25")
        return self

    @property
    def expert_side(self) -> int:
        """Side of the faces whose lower halves the expert sees."""
        return self.expert.side
