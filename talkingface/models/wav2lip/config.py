"""Settings of Wav2Lip, `model:` in its YAML. The defaults are published values; docs/wav2lip.md has the deviations."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from talkingface.config.sections import Section
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.config import SyncExpertConfig
from talkingface.lipsync.expert.inputs import CROP
from talkingface.lipsync.half_face.config import HalfFaceInference
from talkingface.models.wav2lip.networks import resolutions
from talkingface.networks.sync_expert import SIZES as EXPERT_SIZES

EXPERT_SIDES = tuple(side for _, side in EXPERT_SIZES)


class GeneratorConfig(Section):
    """Sizes of generator and discriminator; the side of the face is `crop.size`.

    Attributes:
        width: multiplier of the generator's channels.
        least_channels: no layer of the generator gets fewer. The published layers have 16 and more; a narrow generator
            with less than that at full size cannot carry the picture's details from its input to its output.
        discriminator_width: multiplier of the discriminator's channels.
    """

    width: float = Field(1.0, gt=0)
    least_channels: int = Field(4, ge=4)
    discriminator_width: float = Field(1.0, gt=0)


class LossConfig(Section):
    """Weights of the generator's objective. What the sync and the perceptual term leave of 1 is the weight of L1.

    Attributes:
        sync: weight of the sync term in stages of kind `generator`, once it is on.
        gan_sync: the same in stages of kind `gan`.
        sync_start: the sync term is off until the mean sync loss of a validation was below this.
        perceptual: weight of the discriminator's opinion in stages of kind `gan`.
        mouth: weight of the pixels of the lower half of the face in L1, over that of the upper half. Published: 1.
        expert_batch_stats: the expert normalises by the batch instead of by what it learnt, as published by an
            oversight; the loss then depends on what else is in the batch, and a last batch of one window in validation
            is judged by what the expert learnt. The expert itself does not change.
    """

    sync: float = Field(0.01, ge=0, lt=1)
    gan_sync: float = Field(0.03, ge=0, lt=1)
    sync_start: float = Field(0.75, ge=0)
    perceptual: float = Field(0.07, ge=0, lt=1)
    mouth: float = Field(1.0, gt=0)
    expert_batch_stats: bool = False

    @model_validator(mode="after")
    def _leaves_some_l1(self) -> LossConfig:
        if self.gan_sync + self.perceptual >= 1:
            raise ValueError(f"gan_sync + perceptual must stay below 1, got {self.gan_sync + self.perceptual:g}")
        return self


class Wav2LipConfig(Section):
    """All of Wav2Lip.

    Attributes:
        crop: how faces are cut out; its `size` is the side of the generated face.
        generator: sizes of generator and discriminator.
        expert: the sync expert. It sees lower halves of `crop.size` 48 or 96; generated faces of another size are
            resized to 96 for it.
        loss: objective of the generator.
        inference: generation; its defaults are those of `HalfFaceInference`.
    """

    crop: CropConfig = CROP
    generator: GeneratorConfig = GeneratorConfig()
    expert: SyncExpertConfig = SyncExpertConfig()
    loss: LossConfig = LossConfig()
    inference: HalfFaceInference = HalfFaceInference()

    @field_validator("crop")
    @classmethod
    def _known_size(cls, crop: CropConfig) -> CropConfig:
        resolutions(crop.size)
        return crop

    @property
    def expert_side(self) -> int:
        """Side of the faces whose lower halves the expert sees."""
        return self.crop.size if self.crop.size in EXPERT_SIDES else 96
