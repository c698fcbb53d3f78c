"""Settings that models of this kind share."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from talkingface.config.sections import DrawingPrecision, Section
from talkingface.faces.crop import CropConfig

Pad = int | float


class HalfFaceInference(Section):
    """How videos are made with the trained generator.

    Attributes:
        pads: pixels added to the face box at its top, bottom, left and right; of numbers below 1 all four are shares
            of the box's height and width. Published: 0, 10, 0, 0 in use, none in training.
        smooth: mean of the face boxes over five frames: `published` looks ahead and counts whole pixels, `centred`
            looks both ways.
        box: the face box (top, bottom, left, right) in pixels for all frames; null finds the face.
        static: use the first frame of a video alone.
        reference: the face that shows the generator what is hidden: `same`, the frame that is redrawn, as Wav2Lip
            published; `typical`, the frame with the median mouth opening of the video, or of the reference video where
            one is given; `first`, its first frame. Where a frame must not serve itself (evaluation) or a reference
            video is given, `same` is `typical`.
        mel_offset: frames of 40 ms by which the sound of a frame begins later than the frame. Published: 0 in use, -1
            in training.
        paste: what is replaced: the whole face `box` as Wav2Lip published; its `lower` half; of the lower half what
            lies inside the `contour` of the landmarks; or skin, mouth and lips that face `parsing` finds there, as
            HyperLips published. `auto`: parsing where its weights are, else contour where landmarks are known, else
            lower.
        parse: the face that is parsed: the `original` one as published, which cuts off a jaw that opens further; the
            `generated` one, or the `union` of both.
        feather: width of the soft edge, as a share of the box; 0 is the published hard edge.
        colour: `keep` the colours that were drawn, as published, or `match` them to the frame along the soft edge: a
            model that has seen few people or lights draws others in the wrong tone.
        resize: interpolation from the generated face to the frame. Published: `linear`.
        batch: frames per pass; 0 chooses by device (published: 128).
        precision: of the generator: `32` (published), `bf16`, or `bf16-auto`, which is bf16 on devices with matrix
            units for it (GPUs from Ampere on, CPUs with AMX) and 32 elsewhere.
        no_face: frames without a face `pass` through unchanged, or are an `error` (published).
        fps: `keep` makes the video at the source's own rate, as published; 25 converts it.
    """

    pads: tuple[Pad, Pad, Pad, Pad] = (0, 0, 0, 0)
    smooth: Literal["published", "centred", "none"] = "centred"
    box: tuple[int, int, int, int] | None = None
    static: bool = False
    reference: Literal["same", "typical", "first"] = "same"
    mel_offset: int = -1
    paste: Literal["auto", "parsing", "contour", "lower", "box"] = "lower"
    parse: Literal["original", "generated", "union"] = "original"
    feather: float = Field(0.08, ge=0, le=0.5)
    colour: Literal["keep", "match"] = "keep"
    resize: Literal["linear", "cubic", "lanczos"] = "lanczos"
    batch: int = Field(0, ge=0)
    precision: DrawingPrecision = "bf16-auto"
    no_face: Literal["pass", "error"] = "pass"
    fps: Literal[25, "keep"] = "keep"


class HalfFaceConfig(Protocol):
    """What generation reads of a model's settings."""

    crop: CropConfig
    inference: HalfFaceInference


class JudgedLoss(Protocol):
    """What the sync term reads of a model's `loss:`."""

    expert_batch_stats: bool
    sync_start: float | None


class JudgedConfig(HalfFaceConfig, Protocol):
    """What training against a sync expert reads of a model's settings, too."""

    loss: JudgedLoss
