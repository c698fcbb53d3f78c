"""Settings of IPLAP, `model:` in its YAML. The defaults are published values; docs/iplap.md has the deviations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from talkingface.config.sections import DrawingPrecision, Section
from talkingface.faces.crop import CropConfig


class LandmarkNetConfig(Section):
    """First stage's network.

    Attributes:
        window: T, frames per window.
        d_model: size of a token.
        layers: transformer layers.
        heads: attention heads.
        feedforward: hidden size of a transformer layer.
        dropout: of tokens and transformer.
        width: multiplier of the encoders' channels.
        start_at_mean: begin training with the output bias at the mean landmarks of the training clips, so that the
            first steps need not learn where a mouth is. Published: off.
    """

    window: int = Field(5, ge=1)
    d_model: int = Field(512, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(1024, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    width: float = Field(1.0, gt=0)
    start_at_mean: bool = False


class RendererConfig(Section):
    """Second stage's networks.

    Attributes:
        width: multiplier of the channels.
        spade_hidden: hidden channels of the SPADE modulations.
        output: `translation` as published; `warp_residual` adds a correction to the warped reference, which is sharper
            sooner and leaves the translation network nearly idle.
        discriminator_channels: channels after the discriminator's first layer.
    """

    width: float = Field(1.0, gt=0)
    spade_hidden: int = Field(256, ge=1)
    output: Literal["translation", "warp_residual"] = "translation"
    discriminator_channels: int = Field(64, ge=1)


class LossConfig(Section):
    """Weights and switches of the objectives of both stages.

    Attributes:
        velocity: weight of the motion term of the first stage.
        reconstruction: `perceptual` compares VGG19 features (needs weights), `l1_gradient` pixels and their gradients
            at scales 1, 2 and 4 with the mouth weighted up.
        perceptual_input: `published` feeds BGR squeezed to [0.5, 1], `rgb01` what VGG was trained on.
        perceptual_gain: the authors' 4 GPUs summed the perceptual terms while averaging the adversarial ones; 4
            reproduces that on any number of devices, 1 is what one GPU of theirs computes.
        w_warp: weight of the warped reference's reconstruction.
        w_gen: weight of the generated face's reconstruction.
        w_style: weight of the Gram term inside it.
        w_gan: weight of the generator's adversarial term; with `w_fm` 0 as well, there is no discriminator.
        w_fm: weight of feature matching.
        w_gradient: weight of the gradient term of `l1_gradient`.
        mouth: weight of pixels around the lips in `l1_gradient`.
        upper: weight of the upper third of the crop in `l1_gradient`.
        warmup_epochs: epochs that train the alignment alone.
        warmup_discriminator: also train the discriminator meanwhile, on the untrained translation, as published.
        legacy_disc_grad: add the gradient of the generator's adversarial terms to the discriminator's, as published
            by mistake.
    """

    velocity: float = Field(1.0, ge=0)
    reconstruction: Literal["perceptual", "l1_gradient"] = "perceptual"
    perceptual_input: Literal["published", "rgb01"] = "published"
    perceptual_gain: float = Field(4.0, gt=0)
    w_warp: float = Field(2.5, ge=0)
    w_gen: float = Field(4.0, ge=0)
    w_style: float = Field(250.0, ge=0)
    w_gan: float = Field(0.25, ge=0)
    w_fm: float = Field(2.5, ge=0)
    w_gradient: float = Field(1.0, ge=0)
    mouth: float = Field(4.0, gt=0)
    upper: float = Field(0.3, gt=0)
    warmup_epochs: int = Field(26, ge=0)
    warmup_discriminator: bool = False
    legacy_disc_grad: bool = False

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator takes part."""
        return self.w_gan > 0 or self.w_fm > 0


class InferenceConfig(Section):
    """How videos are made with the trained networks.

    Attributes:
        nl: reference landmark sets.
        ref_n: reference frames; may differ from the number in training (published: 3 there, 25 here).
        reference_policy: `all` frames of the reference video may serve; `other_half`: where source and reference are
            the same video, frames of one half are made from the other half, so that none is made from itself. The
            evaluation asks for this in any case.
        margin: margin around the face in the unit of `margin_mode`; null keeps the margin of the training. Published
            weights were trained with 5 px and are run with 25 px (see docs/iplap.md).
        margin_mode: unit of `margin`.
        batch: frames per pass; 0 chooses by device.
        mask: which part of the face is replaced: `facemesh` from jaw to brows, `fan68` the same by 68 points as
            published, `lower` from jaw to the bridge of the nose.
        blur: kernel side of the mask's Gaussian in pixels; 0 makes it as soft as the margin around the face allows.
        resize: interpolation from the generated face to the frame.
        smooth: smooth face boxes and predicted landmarks over time.
        smooth_window: frames of the smoothing filter, odd.
        silence: `close` draws the mouth towards its most closed reference while the audio is silent.
        silence_db: level below the audio's loud parts at which it counts as silent.
        precision: of the renderer: `32` (published), `bf16`, or `bf16-auto`, which is bf16 on devices with matrix
            units for it (GPUs from Ampere on, CPUs with AMX) and 32 elsewhere.
        no_face: frames without a face `pass` through unchanged, or are an `error`.
        fps: 25 converts the source to 25 frames per second, as in training; `keep` makes the video at the source's own
            rate, and every frame takes the landmarks and the sound nearest to its time.
        save_debug_video: also write `<output>_debug.mp4`: sketch, crop of the source and generated face.
    """

    nl: int = Field(15, ge=1)
    ref_n: int = Field(25, ge=1)
    reference_policy: Literal["all", "other_half"] = "all"
    margin: float | None = Field(None, ge=0)
    margin_mode: Literal["px", "relative"] = "px"
    batch: int = Field(0, ge=0)
    mask: Literal["facemesh", "fan68", "lower"] = "facemesh"
    blur: int = Field(0, ge=0)
    resize: Literal["linear", "cubic", "lanczos"] = "linear"
    smooth: Literal["none", "savgol"] = "none"
    smooth_window: int = Field(7, ge=5)
    silence: Literal["none", "close"] = "none"
    silence_db: float = Field(-35.0, lt=0)
    precision: DrawingPrecision = "bf16-auto"
    no_face: Literal["pass", "error"] = "pass"
    fps: Literal[25, "keep"] = 25
    save_debug_video: bool = False

    @model_validator(mode="after")
    def _odd(self) -> InferenceConfig:
        if self.smooth_window % 2 == 0:
            raise ValueError(f"smooth_window must be odd, got {self.smooth_window}")
        if self.blur and self.blur % 2 == 0:
            raise ValueError(f"blur must be 0 or odd, got {self.blur}")
        return self


class IPLAPConfig(Section):
    """All of IPLAP.

    Attributes:
        crop: how faces are cut out in training; its `size` is the side of the generated face.
        landmark: first stage's network.
        renderer: second stage's networks.
        loss: objectives.
        inference: generation.
    """

    crop: CropConfig = CropConfig(size=128, margin_mode="relative", margin=0.05)
    landmark: LandmarkNetConfig = LandmarkNetConfig()
    renderer: RendererConfig = RendererConfig()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _fits(self) -> IPLAPConfig:
        if self.crop.size % 4:
            raise ValueError(f"crop.size must be a multiple of 4, got {self.crop.size}")
        if self.crop.rule != "iplap":
            raise ValueError("crop.rule must be iplap: IPLAP's landmarks are relative to that box")
        if self.landmark.d_model % self.landmark.heads or self.landmark.d_model % 2:
            raise ValueError(
                f"landmark.d_model must be even and a multiple of landmark.heads ({self.landmark.heads}),"
                f" got {self.landmark.d_model}"
            )
        return self

    @property
    def inference_crop(self) -> CropConfig:
        """How faces are cut out in generation."""
        if self.inference.margin is None:
            return self.crop
        return self.crop.model_copy(update={"margin": self.inference.margin, "margin_mode": self.inference.margin_mode})
