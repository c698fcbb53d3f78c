"""Settings that DINet and LawDNet share: how a face is cut out, and what is heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from talkingface.config.sections import DrawingPrecision, Section
from talkingface.faces.crop import cut_otherwise
from talkingface.faces.dubbing_crop import RATIO, block_matrices, crop_hw, frontal_matrices, upright_matrices
from talkingface.faces.smoothing import jumps, smooth_runs
from talkingface.faces.track import LandmarkTrack
from talkingface.lipsync.dubbing.sound import RATES
from talkingface.sound.choice import FrontEndConfig
from talkingface.sound.front_ends import front_end_kind, front_end_names

ARTEFACT = "aligned@"
"""What the names of such crops begin with."""

_WIDTH_STEP = 40  # what the smallest mouth needs: the crop of a larger mouth is a multiple of it


class DubbingCropConfig(Section):
    """How faces are cut out of frames; see `faces.dubbing_crop`.

    Attributes:
        kind: `frontal` turns and scales every face to one template (LawDNet), `upright` cuts a box around nose and
            mouth (DINet).
        width: of the stored crops in pixels; a mouth has 0.8 of it. Smaller mouths are read from the same crops.
        ratio: of `frontal`; see `RATIO`.
        scale: of the box of `upright`.
        smooth: deviation in frames of the Gaussian that keeps landmarks from trembling, between cuts; 0: as they were
            found.
        half_pixel: beside their places, as LawDNet's published crops; see `faces.affine.crop_by_matrix`.
        blocks: of `upright`, for training: as published, boxes of another size every 9 frames (`block_matrices`).
    """

    kind: Literal["frontal", "upright"] = "frontal"
    width: int = Field(360, ge=_WIDTH_STEP, multiple_of=_WIDTH_STEP, le=2000)
    ratio: float = Field(RATIO, gt=0)
    scale: float = Field(1.05, gt=0)
    smooth: float = Field(1.0, ge=0)
    half_pixel: bool = False
    blocks: bool = False

    @model_validator(mode="after")
    def _blocks_are_upright(self) -> DubbingCropConfig:
        if self.blocks and self.kind != "upright":
            raise ValueError("model.crop.blocks goes with model.crop.kind=upright")
        return self

    @property
    def artefact(self) -> str:
        """Name of the crops in a clip's folder, `aligned@360-frontal-1.6-1`: other settings, other files."""
        extent = self.ratio if self.kind == "frontal" else self.scale
        name = f"{ARTEFACT}{self.width}-{self.kind}-{extent:.12g}-{self.smooth:.12g}"
        return name + "-half_pixel" * self.half_pixel + "-blocks" * self.blocks

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the crops."""
        return crop_hw(self.width)

    @property
    def mouth(self) -> int:
        """Side of the mouth in pixels."""
        return self.width * 4 // 5

    def matrices(self, track: LandmarkTrack) -> np.ndarray:
        """From frame to crop, (F, 2, 3) float64; NaN where there is no face.

        Args:
            track: with the points of a face, not its box alone, and a face somewhere.
        """
        points = _points(track)
        points = smooth_runs(points, track.valid, self.smooth, jumps(points))
        if self.kind == "frontal":
            return frontal_matrices(points, self.width, self.ratio)
        if self.blocks:
            return block_matrices(points, self.width, track.size)
        return upright_matrices(points, self.width, self.scale)

    def smooths_over_cuts(self, track: LandmarkTrack) -> bool:
        """Whether landmarks smoothed without an eye to cuts would be others: the face jumps somewhere."""
        return bool(self.smooth and jumps(_points(track)).any())

    def steady(self) -> DubbingCropConfig:
        """The same with boxes of one size, for videos that are made: in these, mouths may not change size."""
        return self.model_copy(update={"blocks": False})

    def differs_from(self, recorded: Mapping[str, Any]) -> str | None:
        """Why crops made with the parameters `recorded` are not these, or None; unknown parameters do not count."""
        return cut_otherwise(self.model_dump(), recorded)


def _points(track: LandmarkTrack) -> np.ndarray:
    """(F, 68, 2) float64 pixels; NaN where there is no face."""
    return np.where(track.valid[:, None, None], track.ibug68().astype(np.float64), np.nan)


class DubbingAudioConfig(Section):
    """What generator and sync expert hear; a front end may be given by its name alone.

    Attributes:
        generator_features: the generator's front end.
        sync_features: the expert's; None: the same.
    """

    generator_features: FrontEndConfig = FrontEndConfig(name="logmel")
    sync_features: FrontEndConfig | None = None

    @field_validator("generator_features", "sync_features", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("generator_features", "sync_features")
    @classmethod
    def _at_the_rate_of_frames(cls, value: FrontEndConfig | None) -> FrontEndConfig | None:
        """Refuse another rate before anything is prepared; who has no such name is told where it is built."""
        if value is not None and value.name in front_end_names():
            rate = front_end_kind(value.name).rows_per_second
            if rate not in RATES:
                fitting = [name for name in front_end_names() if front_end_kind(name).rows_per_second in RATES]
                raise ValueError(
                    f"front end {value.name} gives {rate:g} rows per second, where {RATES[0]} are needed; choose one"
                    f" of {', '.join(fitting)}"
                )
        return value

    @property
    def sync(self) -> FrontEndConfig:
        """The expert's front end."""
        return self.sync_features or self.generator_features

    @property
    def artefacts(self) -> tuple[str, ...]:
        """Names of the rows that are read of a clip."""
        return tuple(dict.fromkeys([self.generator_features.artefact, self.sync.artefact]))


_Frame = Annotated[int, Field(ge=0)]

Pasting = Literal["warp", "scatter"]
"""Ways back into the frame, see `DubbingInference`."""


class DubbingInference(Section):
    """How videos are made.

    Attributes:
        references: frames that show the face: `spread` over the mouths from the most closed to the most open one,
            `random` (published), or five frame numbers of the source, or of the reference video where one is given.
        seed: of `random`.
        paste: how crops go back into their frames: `warp`, every pixel of the frame in the box of the mouth asks the
            crop; `scatter`, every pixel of the whole crop goes to one of the frame, with holes where the face is larger
            than the crop (published LawDNet; the box and its edge do not count); null: as the model says.
        paste_rounds: rounds in which the blur of cutting out and pasting back is undone; 0: none. `scatter` knows none.
        mask_scale: of the box of the mouth in which frames are replaced; outside it they stay as they are.
        feather: width of the soft edge inside that box, as a share of the mouth.
        colour: `keep` the colours that were drawn, or `match` them to the frame around the box.
        silence: in pauses of the sound mouths do what they do (`keep`), or are shut (`close`): the generator then hears
            silence there, and is shown the most closed mouths alone.
        silence_db: loudness below which a frame belongs to a pause, from the loudest one, as in metric SILENCE.
        batch: frames per pass; 0 chooses by device.
        precision: of the generator; `bf16-auto` is bf16 on devices with matrix units for it and 32 elsewhere.
        no_face: frames without a face `pass` through unchanged, or are an `error`.
        save_debug_video: also write `<output>_debug.mp4`: the crop without its mouth, as drawn, and true.
    """

    references: Literal["spread", "random"] | tuple[_Frame, _Frame, _Frame, _Frame, _Frame] = "spread"
    seed: int = Field(0, ge=0)
    paste: Pasting | None = None
    paste_rounds: int = Field(3, ge=0, le=10)
    mask_scale: float = Field(1.0, gt=0, le=1.2)
    feather: float = Field(0.1, gt=0, le=0.5)
    colour: Literal["keep", "match"] = "keep"
    silence: Literal["keep", "close"] = "keep"
    silence_db: float = Field(-35.0, lt=0)
    batch: int = Field(0, ge=0)
    precision: DrawingPrecision = "bf16-auto"
    no_face: Literal["pass", "error"] = "pass"
    save_debug_video: bool = False


class DubbingDataConfig(Section):
    """What the data sets need to know of a model.

    Attributes:
        crop: how faces are cut out.
        audio: what is heard.
    """

    crop: DubbingCropConfig = DubbingCropConfig()
    audio: DubbingAudioConfig = DubbingAudioConfig()

    @property
    def artefacts(self) -> tuple[str, ...]:
        """What preprocessing makes of every clip; sound and landmarks are for scoring."""
        return ("audio", "landmarks", self.crop.artefact, *self.audio.artefacts)

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """Parameters of the steps that make them: how crops are cut, and the front ends."""
        fronts = (self.audio.generator_features, self.audio.sync)
        return {self.crop.artefact: self.crop.model_dump(), **{front.artefact: front.choice for front in fronts}}


class DubbingConfig(DubbingDataConfig):
    """Settings of a model, as far as drawing needs them.

    Attributes:
        inference: how videos are made.
    """

    inference: DubbingInference = DubbingInference()

    @property
    def pasting(self) -> Pasting:
        """How crops go back into their frames."""
        return self.inference.paste or "warp"
