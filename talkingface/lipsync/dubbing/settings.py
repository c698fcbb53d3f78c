"""Settings of training that DINet and LawDNet share; see `config` for crops, sound and generation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from talkingface.config.sections import Section
from talkingface.lipsync.dubbing.config import DubbingConfig, DubbingCropConfig, DubbingDataConfig
from talkingface.lipsync.expert.config import SyncExpertConfig
from talkingface.networks.dubbing.blocks import Norm
from talkingface.networks.dubbing.generator import Compat
from talkingface.networks.dubbing.geometry import STEP

LEAST_TOLD_APART = 0.65
"""Two-alternative accuracy on real clips from which on an expert's opinion is worth something."""

LEAST_RESPONSE = 0.1
"""Share of the true motion of mouths; a generator that moves less with the sound is deaf."""


class MouthExpertConfig(SyncExpertConfig):
    """The sync expert.

    Attributes:
        norm: in every block. Published: none, with which it stays at chance for long.
        agreement: weight, in its training, of the cosines between pooled features of mouths and sounds; at 0 it stays
            at chance for thousands of steps.
        side: of the mouths that it is asked about, in pixels; drawn mouths of another size are resized. What it
            learnt on, that is `data.mouth` of its last stage.
        least: two-alternative accuracy that it must have on real clips before a stage is trained against it; null:
            whatever it has will do.
    """

    norm: Norm = "batch"
    agreement: float = Field(1.0, ge=0)
    side: int = Field(256, ge=STEP, multiple_of=STEP)
    least: float | None = Field(LEAST_TOLD_APART, ge=0, le=1)


class LentExpertConfig(MouthExpertConfig):
    """The sync expert of a model.

    Attributes:
        crop: how mouths were cut where it learnt; None: as the model cuts them. Noted where an expert is imported; no
            setting of a training.
    """

    crop: DubbingCropConfig | None = None


class MouthSyncConfig(DubbingDataConfig):
    """All of an expert that is trained by itself.

    Attributes:
        expert: the network, and what is watched in training.
    """

    expert: MouthExpertConfig = MouthExpertConfig()


class DiscriminatorConfig(Section):
    """Sizes of both discriminators, of frames and of clips.

    Attributes:
        blocks: 4 need crops of 53 pixels, mouths of 64; 3 serve smaller ones.
        width: multiplier of their channels.
    """

    blocks: Literal[3, 4] = 4
    width: float = Field(1.0, gt=0)


class DubbingLossConfig(Section):
    """The generator's objective. Weights are the published ones.

    Attributes:
        reconstruction: `perceptual` compares maps of VGG19, whose weights must be there; `l1_gradient` pixels and
            their gradients, and needs none.
        perception: weight of either.
        mouth: with `l1_gradient`, weight of the pixels of the hole over that of the others.
        image: weight of the mean squared error of pixels; LawDNet: 1.
        frame: weight of the frame discriminator's opinion; at 0 it does not train.
        clip: the same for the clip discriminator, in stages of kind `clip`.
        sync: weight of the expert's opinion, likewise.
        sync_ramp: epochs over which the weight of `sync` grows from 0. Published: 0.
        clipped: scores of the expert beyond [0, 1] count as 0 or 1, and keep their gradient. Published: no; null: as
            `compat` says.
    """

    reconstruction: Literal["perceptual", "l1_gradient"] = "perceptual"
    perception: float = Field(10.0, gt=0)
    mouth: float = Field(1.0, gt=0)
    image: float = Field(0.0, ge=0)
    frame: float = Field(1.0, ge=0)
    clip: float = Field(1.0, ge=0)
    sync: float = Field(0.1, ge=0)
    sync_ramp: float = Field(1.0, ge=0)
    clipped: bool | None = None


class DubbingStageOptions(Section):
    """What is peculiar to one stage.

    Attributes:
        frame: weight of the frame discriminator's opinion; null: that of `loss`.
        clip: likewise of the clip discriminator's.
        sync: likewise of the expert's.
        norms: statistics of the generator's batch norms in training: of the `batch`, or the `running` ones of the stage
            before, which then stay as they are. The frames of a few clips are no sample of all faces and sounds.
    """

    norms: Literal["batch", "running"] = "batch"
    frame: float | None = Field(None, ge=0)
    clip: float | None = Field(None, ge=0)
    sync: float | None = Field(None, ge=0)


class TrainedDubbingConfig(DubbingConfig):
    """Settings of a model.

    Attributes:
        compat: `published` as published weights need it, `corrected` for new training; quirks have switches of their
            own, which win.
        discriminator: sizes of the discriminators.
        expert: the sync expert.
        loss: the generator's objective.
        least_response: `val/audio_response` with which a stage of kind `frame` must end; null: any.
    """

    compat: Compat = "corrected"
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    expert: LentExpertConfig = LentExpertConfig()
    loss: DubbingLossConfig = DubbingLossConfig()
    least_response: float | None = Field(LEAST_RESPONSE, ge=0)

    @property
    def trained_for(self) -> dict[str, Any]:
        """What the generator's weights were made for and their names and shapes do not tell, by dotted key.

        What `compat` decides stands here as it was decided.
        """
        return {"crop.kind": self.crop.kind, "crop.half_pixel": self.crop.half_pixel}

    def lacks_for(self, trained: TrainedDubbingConfig) -> dict[str, Any]:
        """What must be set, by dotted key, for weights that were trained with other settings; empty: nothing."""
        if self.trained_for == trained.trained_for:
            return {}
        asked = {} if self.compat == trained.compat else {"compat": trained.compat}
        here = self.model_copy(update=asked).trained_for
        return asked | {key: value for key, value in trained.trained_for.items() if here[key] != value}

    @model_validator(mode="after")
    def _expert_sees_no_more_than_there_is(self) -> TrainedDubbingConfig:
        if self.crop.mouth % STEP:
            raise ValueError(
                f"crop.width {self.crop.width} makes mouths of {self.crop.mouth} pixels, but their side must be a"
                f" multiple of {STEP}: 40, 80, 120 ... 320, 360"
            )
        return self
