"""Settings of Wav2Lip, `model:` in its YAML. The defaults are published values; docs/wav2lip.md has the deviations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from talkingface.config.sections import DrawingPrecision, Section
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.config import SyncExpertConfig
from talkingface.lipsync.expert.inputs import CROP
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


class InferenceConfig(Section):
    """How videos are made with the trained generator.

    Attributes:
        pads: pixels added to the face box at its top, bottom, left and right. Published: 0, 10, 0, 0 in use, none in
            training.
        smooth: mean of the face boxes over five frames: `published` looks ahead and counts whole pixels, `centred`
            looks both ways.
        box: the face box (top, bottom, left, right) in pixels for all frames; null finds the face.
        static: use the first frame of a video alone.
        reference: the face that shows the generator what is hidden: `same`, the frame that is redrawn, as published;
            `typical`, the frame with the median mouth opening of the video, or of the reference video where one is
            given; `first`, its first frame. Where a frame must not serve itself (evaluation) or a reference video is
            given, `same` is `typical`.
        mel_offset: frames of 40 ms by which the sound of a frame begins later than the frame. Published: 0 in use, -1
            in training.
        paste: what is replaced: the whole face `box` as published, or its `lower` half.
        feather: width of the soft edge, as a share of the box; 0 is the published hard edge.
        resize: interpolation from the generated face to the frame. Published: `linear`.
        batch: frames per pass; 0 chooses by device (published: 128).
        precision: of the generator: `32` (published), `bf16`, or `bf16-auto`, which is bf16 on devices with matrix
            units for it (GPUs from Ampere on, CPUs with AMX) and 32 elsewhere.
        no_face: frames without a face `pass` through unchanged, or are an `error` (published).
        fps: `keep` makes the video at the source's own rate, as published; 25 converts it.
    """

    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    smooth: Literal["published", "centred", "none"] = "centred"
    box: tuple[int, int, int, int] | None = None
    static: bool = False
    reference: Literal["same", "typical", "first"] = "same"
    mel_offset: int = -1
    paste: Literal["box", "lower"] = "lower"
    feather: float = Field(0.08, ge=0, le=0.5)
    resize: Literal["linear", "cubic", "lanczos"] = "lanczos"
    batch: int = Field(0, ge=0)
    precision: DrawingPrecision = "bf16-auto"
    no_face: Literal["pass", "error"] = "pass"
    fps: Literal[25, "keep"] = "keep"


class Wav2LipConfig(Section):
    """All of Wav2Lip.

    Attributes:
        crop: how faces are cut out; its `size` is the side of the generated face.
        generator: sizes of generator and discriminator.
        expert: the sync expert. It sees lower halves of `crop.size` 48 or 96; generated faces of another size are
            resized to 96 for it.
        loss: objective of the generator.
        inference: generation.
    """

    crop: CropConfig = CROP
    generator: GeneratorConfig = GeneratorConfig()
    expert: SyncExpertConfig = SyncExpertConfig()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()

    @field_validator("crop")
    @classmethod
    def _known_size(cls, crop: CropConfig) -> CropConfig:
        resolutions(crop.size)
        return crop

    @property
    def expert_side(self) -> int:
        """Side of the faces whose lower halves the expert sees."""
        return self.crop.size if self.crop.size in EXPERT_SIDES else 96
