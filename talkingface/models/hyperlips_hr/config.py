"""Settings of HyperLipsHR, `model:` in its YAML; docs/hyperlips.md has the deviations from what was published."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from talkingface.config.layers import to_plain
from talkingface.config.sections import Section
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.half_face.config import HalfFaceInference
from talkingface.plugin.registry import get_spec

LENDER = "HyperLipsBase"


class DecoderConfig(Section):
    """Sizes of the decoder and its discriminator.

    Attributes:
        scale: side of the drawn face over that of Base's. Published: 1, 2 and 4, to 128, 256 and 512 px.
        width: multiplier of the decoder's channels.
        discriminator_width: multiplier of the discriminator's channels.
    """

    scale: Literal[1, 2, 4] = 1
    width: float = Field(1.0, gt=0)
    discriminator_width: float = Field(1.0, gt=0)


class SketchConfig(Section):
    """How the features of Base's faces are drawn for the decoder, in training and in use.

    Attributes:
        style: `unified`, `upstream_train` or `upstream_infer`, see `faces.sketch.face_sketch`; or `none`: the decoder
            sees Base's face alone, and no features are looked for.
        smooth: landmarks are smoothed over time by the 1-euro filter, or not, as published (`none`).
        slowest: cut-off frequency of points at rest, in Hz.
        gain: its growth in Hz with the speed of a point, in widths of the crop per second.
    """

    style: Literal["unified", "upstream_train", "upstream_infer", "none"] = "unified"
    smooth: Literal["one_euro", "none"] = "one_euro"
    slowest: float = Field(2.0, gt=0)
    gain: float = Field(20.0, ge=0)


class HyperConfig(Section):
    """Base's faces of the training clips.

    Attributes:
        source: `raw` faces as the decoder meets them in use, or of a `video`, pasted into the frame and encoded, as
            published.
        neighbour: make them also for the sound of the next frame, for `data.degrade`.
    """

    source: Literal["raw", "video"] = "raw"
    neighbour: bool = False


class LookConfig(Section):
    """How a perceptual network sees faces. Published: BGR in [0, 1], though both learnt otherwise.

    Attributes:
        rgb: turn the colours into the order that it learnt.
        scaled: bring the values into the range that it learnt.
    """

    rgb: bool = False
    scaled: bool = False


class LossConfig(Section):
    """The decoder's objective, a weighted sum. Published: all weights 1.

    Attributes:
        reconstruction: `perceptual` with VGG19 and LPIPS, whose weights must be there, as published; `l1_gradient`
            compares pixels and their gradients, and needs none.
        adversarial: weight of the relativistic discriminator; at 0 it does not train.
        perceptual: weight of the distance of VGG19's features.
        content: weight of L1.
        gradient: weight of L1 of the picture's gradients, with `l1_gradient`.
        lip: weight of L1 inside the lip box.
        lip_lpips: weight of LPIPS inside the lip box.
        lpips_step: lip boxes grow to multiples of so many pixels for LPIPS; boxes of one size go through it together.
        logits: the discriminator's scores are logits; as published they went through a sigmoid before, so that the
            term hardly moves.
        vgg: how VGG19 sees faces.
        lpips: how LPIPS sees faces.
    """

    reconstruction: Literal["perceptual", "l1_gradient"] = "perceptual"
    adversarial: float = Field(1.0, ge=0)
    perceptual: float = Field(1.0, ge=0)
    content: float = Field(1.0, ge=0)
    gradient: float = Field(1.0, ge=0)
    lip: float = Field(1.0, ge=0)
    lip_lpips: float = Field(1.0, ge=0)
    lpips_step: int = Field(1, ge=1, le=64)
    logits: bool = False
    vgg: LookConfig = LookConfig()
    lpips: LookConfig = LookConfig()

    @model_validator(mode="after")
    def _compares_something(self) -> LossConfig:
        perceptual = self.reconstruction == "perceptual"
        own = (self.perceptual, self.lip_lpips) if perceptual else (self.gradient,)
        if not any((self.content, self.lip, *own)):
            raise ValueError("at least one weight beside adversarial must be above 0, or nothing compares faces")
        return self


class InferenceConfig(HalfFaceInference):
    """How videos are made; see `HalfFaceInference`. Sound offset and reference come along from Base."""

    reference: Literal["same", "typical", "first"] = "typical"
    paste: Literal["auto", "parsing", "contour", "lower", "box"] = "auto"
    colour: Literal["keep", "match"] = "match"


class HyperLipsHRConfig(Section):
    """All of HyperLipsHR.

    Attributes:
        base: settings of Base, as in its own `model:`; they come along with its weights.
        base_weights: hash of Base's weights; filled in when a run of it is found.
        decoder: sizes of the decoder and its discriminator.
        sketch: how features are drawn for it.
        hyper: Base's faces of the training clips.
        loss: objective of the decoder.
        inference: generation.
    """

    base: Any = Field(default_factory=dict, validate_default=True)
    base_weights: str = ""
    decoder: DecoderConfig = DecoderConfig()
    sketch: SketchConfig = SketchConfig()
    hyper: HyperConfig = HyperConfig()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()

    @field_validator("base", mode="before")
    @classmethod
    def _settings_of_base(cls, value: Any) -> Section:
        """Checked by the lender itself, which this model knows by name alone."""
        return get_spec(LENDER).model.Config.model_validate_json(json.dumps(to_plain(value)), strict=True)

    @model_validator(mode="after")
    def _memory_of_base_has_time(self) -> HyperLipsHRConfig:
        if self.base.generator.temporal and self.inference.fps != 25:
            raise ValueError("its Base remembers frames of 25 per second (generator.temporal): set inference.fps to 25")
        return self

    @property
    def crop(self) -> CropConfig:
        """How Base's faces are cut out."""
        return self.base.crop

    @property
    def hr_crop(self) -> CropConfig:
        """The same box at the size that the decoder draws."""
        return self.crop.model_copy(update={"size": self.crop.size * self.decoder.scale})

    @property
    def hyper_artefact(self) -> str:
        """Name of Base's faces in a clip's folder."""
        return f"hyper@{self.hyper.source}"
