"""Settings of MakeItTalk, `model:` in its YAML; docs/makeittalk.md has the deviations from what was published."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from talkingface.config.sections import Section
from talkingface.models.makeittalk.segments import Segmenting
from talkingface.sound.choice import FrontEndConfig

CANONICALS: tuple[Literal["own", "published"], ...] = ("own", "published")

Anchor = Literal["far", "border"]
"""`far`, as published: the border is thought to lie 5000 pixels out, so what surrounds the face follows it nearly as a
whole. `border`: it stays where it is, and what surrounds the face is stretched."""

Interior = Literal["auto", "drawn", "dark"]
"""What is seen in a mouth that opens: what is drawn there, as published; or dark, more and more. `auto`: dark where the
drawing's mouth is closed."""


class ContentConfig(Section):
    """Content branch: what is said moves lips and jaw.

    Attributes:
        hidden: size of its layers.
        prior: size of what its LSTM reads.
        depth: layers of the LSTM.
        dropout: between them, in training.
        start: `zero` begins with a face at rest; `published` with random displacements, which stay deaf for hundreds of
            steps.
        resting: of how many faces with closed lips the one at rest of a clip or video is the mean. Published: 1.
        least_response: `val/audio_response` with which a stage of kind `content` must end; null: any.
    """

    hidden: int = Field(256, ge=4)
    prior: int = Field(161, ge=4)
    depth: int = Field(3, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    start: Literal["zero", "published"] = "zero"
    resting: int = Field(1, ge=1)
    least_response: float | None = Field(0.1, ge=0)


class SpeakerConfig(Section):
    """Speaker-aware branch, who speaks moves head and face, and its judges.

    Attributes:
        hidden: size of its LSTM.
        depth: layers of the LSTM.
        dropout: between them, in training.
        code: size of the speaker's code.
        width: of the transformers, per head.
        heads: attention heads.
        layers: of the transformers.
        transformer_dropout: inside them.
        window: rows that the temporal discriminator judges together.
        stride: rows from one window's start to the next one's. Published: 1.
        inside_step: of a window every so many rows are looked at.
        frame_discriminator: also judge single faces.
    """

    hidden: int = Field(256, ge=4)
    depth: int = Field(3, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    code: int = Field(128, ge=2)
    width: int = Field(32, ge=2)
    heads: int = Field(2, ge=1)
    layers: int = Field(2, ge=1)
    transformer_dropout: float = Field(0.1, ge=0, lt=1)
    window: int = Field(64, ge=2)
    stride: int = Field(16, ge=1)
    inside_step: int = Field(1, ge=1)
    frame_discriminator: bool = False


class TranslateConfig(Section):
    """Image translation: a drawing of landmarks and a portrait become a picture.

    Attributes:
        size: side of the head crop in pixels, a multiple of 2 ** num_downs.
        num_downs: times that it is halved.
        width: channels of the first level.
        input: `portrait`, as published, shows the portrait as it is; `warped` moves it onto the landmarks first: the
            network adds a correction, and draws what is between the inner lips by itself.
    """

    size: int = Field(256, ge=16, le=256)
    num_downs: int = Field(6, ge=2)
    width: int = Field(64, ge=2)
    input: Literal["portrait", "warped"] = "warped"

    @model_validator(mode="after")
    def _divisible(self) -> TranslateConfig:
        if self.size % 2**self.num_downs:
            raise ValueError(f"size must be a multiple of 2 ** num_downs = {2**self.num_downs}, got {self.size}")
        return self


class LossConfig(Section):
    """Weights and switches of the objectives.

    Attributes:
        lips: weigh lips the more the less they are open (stage `content`).
        laplacian: weight of the shape term of both landmark stages.
        motion: weight of the term of steps from row to row; needs `sampling: published`. Published: 0.
        adversarial: weight of the judges' opinion; at 0 there are none.
        gan_start: steps of stage `speaker` before the judges take part.
        judged: what the judges of stage `speaker` see: `motion`, how far points are from the face at rest, as large as
            heads move; `faces`, as published, in which that is a tenth of what tells people apart.
        code_noise: deviation of the noise on the speaker's code.
        reconstruction: `perceptual`, as published, compares VGG19's features; `l1_gradient` pixels and their gradients,
            without any file.
        gram: Gram matrices of each `sample`, or of the whole `batch` as published.
        mouth: weight of the pixels between the inner lips in `l1_gradient`.
    """

    lips: bool = True
    laplacian: float = Field(1.0, ge=0)
    motion: float = Field(0.0, ge=0)
    adversarial: float = Field(1e-3, ge=0)
    gan_start: int = Field(0, ge=0)
    judged: Literal["motion", "faces"] = "faces"
    code_noise: float = Field(0.01, ge=0)
    reconstruction: Literal["perceptual", "l1_gradient"] = "perceptual"
    gram: Literal["sample", "batch"] = "sample"
    mouth: float = Field(4.0, gt=0)


class PuppetConfig(Section):
    """How puppets are drawn; the lip kind and the border follow from their files.

    Attributes:
        anchor: `far`: what surrounds the face follows it nearly as a whole; `border`: it is stretched.
        interior: what is seen in a mouth that opens, what is `drawn` there as published, or `dark`; `auto`: dark where
            the drawing's mouth is closed.
        blinks: as for portraits; published: none.
    """

    anchor: Anchor = "far"
    interior: Interior = "auto"
    blinks: float = Field(0.0, ge=0)


class InferenceConfig(Section):
    """How videos are made. Lengths are shares of the height of the face.

    Attributes:
        render: `translate` draws with the network; `warp` moves the picture by triangles, and needs none.
        head: `predicted` by the speaker branch, `none`: it rests, `source`: as in the video; `auto` is `source` for
            videos and `predicted` for pictures.
        interior: what is seen between lips that open wider than the portrait's, with `render: warp`: `dark`, or the
            stretched lips themselves (`warp`).
        style: whose head motion it is: `own`, that of the voice, a file with another one's voice, or a speaker of the
            imported `emb.pickle`.
        paste: `field` carries the whole picture with the head, `soft` puts the drawn head over the picture as it is,
            `crop` shows the square of the head alone, as published.
        silence: lips go where the voice sends them (`free`), or are closed while there is none (`close`).
        align: `roll` takes the tilt and turn of a portrait out, `published` looks at the jaw ends alone.
        depth: share of the canonical face's depth that a portrait gets. Published weights: 0.1.
        segmenting: of sound longer than 8 s: `overlap` shows no seam, `published` drops and jumps.
        calibrate: take the bias of published weights off; others get worse by it.
        amp_lip_x: lips are moved so many times as far across. Published weights: 2.
        amp_lip_y: and up and down. Published weights: 2.
        amp_pos: all motion of the speaker branch. Published weights: 0.5.
        lip_thickness: upper and lower, by which the outer lips are made thinner.
        lip_width: width of the lips, in shares of what it was.
        eyes: by which each lid is opened.
        close_input_mouth: close the open mouth of a portrait before it speaks.
        blinks: blinks in the time that the published rule takes for one; 0: none.
        blink_seed: when they are.
        fps: of videos made from pictures; those of videos have 25.
        batch: frames per pass; 0 chooses by device.
        no_face: frames without a face `pass` through unchanged, or are an `error`.
        save_debug_video: also write `<output>_debug.mp4`: the drawing of the landmarks, and the square of the head.
        puppet: drawing of puppets.
    """

    render: Literal["translate", "warp"] = "translate"
    head: Literal["auto", "predicted", "none", "source"] = "auto"
    interior: Literal["dark", "warp"] = "dark"
    style: str = "own"
    paste: Literal["field", "soft", "crop"] = "field"
    silence: Literal["free", "close"] = "free"
    align: Literal["roll", "published"] = "roll"
    depth: float = Field(1.0, ge=0)
    segmenting: Segmenting = "overlap"
    calibrate: bool = False
    amp_lip_x: float = Field(1.0, ge=0)
    amp_lip_y: float = Field(1.0, ge=0)
    amp_pos: float = Field(1.0, ge=0)
    lip_thickness: tuple[float, float] = (0.0, 0.0)
    lip_width: float = Field(1.0, gt=0)
    eyes: float = 0.0
    close_input_mouth: bool = False
    blinks: float = Field(1.0, ge=0)
    blink_seed: int = Field(0, ge=0)
    fps: float = Field(25.0, gt=0, le=62.5)
    batch: int = Field(0, ge=0)
    no_face: Literal["pass", "error"] = "pass"
    save_debug_video: bool = False
    puppet: PuppetConfig = PuppetConfig()

    @field_validator("style", mode="before")
    @classmethod
    def _one_style(cls, given: Any) -> Any:
        """The published script takes a list of names, of which one makes a video; an empty one is the voice's own."""
        if isinstance(given, list) and len(given) < 2:
            return given[0] if given else "own"
        return given


class MakeItTalkConfig(Section):
    """All of MakeItTalk.

    Attributes:
        sound: the front end, and what tells who speaks.
        scale: mean and deviation of the sound: `own` of the training data, `published` of the imported constants.
        canonical: the face that all are registered to: `own`, or `published` of the imported constants.
        content: content branch.
        speaker: speaker-aware branch.
        translate: image translation.
        loss: objectives.
        inference: generation.
    """

    sound: FrontEndConfig = FrontEndConfig(name="vc_mel", speaker="statistics")
    scale: Literal["own", "published"] = "own"
    canonical: Literal["own", "published"] = "own"
    content: ContentConfig = ContentConfig()
    speaker: SpeakerConfig = SpeakerConfig()
    translate: TranslateConfig = TranslateConfig()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()

    @property
    def heads_artefact(self) -> str:
        """Name of the head crops."""
        return f"heads@{self.translate.size}"

    @property
    def faces_artefact(self) -> str:
        """Name of the registered landmarks."""
        return faces_artefact(self.canonical)


def faces_artefact(canonical: str) -> str:
    """Name of landmarks that are registered to a canonical face, `own` or `published`."""
    return "faces68" if canonical == "own" else "faces68@published"
