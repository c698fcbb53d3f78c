"""MakeItTalk: a voice moves the landmarks of a portrait, and these move the picture.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, SIGGRAPH Asia 2020,
arXiv:2004.12992. Three stages; deviations and kept quirks are listed in docs/makeittalk.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from talkingface.config.sections import Section
from talkingface.errors import CheckpointError, ConfigError, NothingLearnt
from talkingface.models.makeittalk.assets import MEL_FILE, NON_COMMERCIAL, read_mel_scale
from talkingface.models.makeittalk.clip_faces import FOLDER
from talkingface.models.makeittalk.config import CANONICALS, MakeItTalkConfig, faces_artefact
from talkingface.models.makeittalk.data import ContentWindows, MotionDataset, SpeakerSequences
from talkingface.models.makeittalk.dumps import converter, export
from talkingface.models.makeittalk.front_end import ConvertedMel  # registers the front end
from talkingface.models.makeittalk.generate import generate, head_of
from talkingface.models.makeittalk.graphs import graphs
from talkingface.models.makeittalk.losses import (
    MOVED,
    TranslationLoss,
    landmark_l1,
    laplacian,
    laplacian_l1,
    least_squares,
    motion_l1,
)
from talkingface.models.makeittalk.networks.pieces import windows_of
from talkingface.models.makeittalk.networks.speaker import STRESS, UNUSED
from talkingface.models.makeittalk.pairs import TranslatePairs
from talkingface.models.makeittalk.parts import MakeItTalkNetworks, branches
from talkingface.models.makeittalk.puppet.new import write_examples
from talkingface.models.makeittalk.puppet.speak import PuppetSource  # registers puppets as sources
from talkingface.models.makeittalk.samples import write_samples
from talkingface.models.makeittalk.scores import MOTIONS, audio_response, content_scores, head_spread
from talkingface.models.makeittalk.translation import as_bgr, as_pictures, pixel_loss, translated
from talkingface.networks.vgg19 import VGG19Features
from talkingface.plugin.contract import Batch, Drawn, Official, Plan, StepContext, Update, frozen
from talkingface.plugin.registry import register

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.source import Audio, Source
    from talkingface.config.sections import StageConfig
    from talkingface.plugin.graphs import Graph

PUBLISHED_LANDMARKS = {
    "sound.name": ConvertedMel.name,
    "sound.speaker": "resemblyzer",
    "scale": "published",
    "canonical": "published",
    "content.resting": 1,
    "inference.depth": 0.1,
    "inference.calibrate": True,
    "inference.amp_lip_x": 2.0,
    "inference.amp_lip_y": 2.0,
    "inference.amp_pos": 0.5,
    "inference.align": "published",
}
"""What the published landmark networks need."""

BRINGS = (converter, export)
"""What `convert-data --kind=makeittalk` needs; they register themselves."""

PUBLISHED_PICTURES = {
    "translate.size": 256,
    "translate.num_downs": 6,
    "translate.width": 64,
    "translate.input": "portrait",
}


@register("MakeItTalk")
class MakeItTalk(MakeItTalkNetworks):
    """Content branch (`content`), speaker-aware branch (`speaker`), image translation (`translate`)."""

    hears = "sound"
    deaf = ("translator",)
    accepts = ("video", "picture", "puppet")
    draws_opacity = True
    # Landmarks and head crops: only the stage of pictures reads them.
    trains_without = ("audio", "landmarks", "heads")
    scores_without_videos = True
    own_figures = ("audio_response", "head_std", *(f"head_std_{name}" for name in MOTIONS), "head_distance")
    plans: ClassVar[dict[str, Plan]] = {
        "content": Plan(ContentWindows, trains=("content_branch",)),
        "speaker": Plan(
            SpeakerSequences,
            trains=("speaker_branch", "temporal_discriminator", "frame_discriminator"),
            uses=("content_branch",),
        ),
        "translate": Plan(
            TranslatePairs, trains=("translator",), frozen=("vgg19",), uses=("content_branch", "speaker_branch")
        ),
    }
    # The published files hold the networks alone; the scale of the sound comes from the constants beside them.
    official = (
        Official(
            "ckpt_content_branch.pth",
            "content_branch",
            key=("model_g_face_id",),
            rename=(("", "network."),),
            lacks=("sound_mean", "sound_deviation"),
            settings=PUBLISHED_LANDMARKS,
        ),
        Official(
            "ckpt_speaker_branch.pth",
            "speaker_branch",
            key=("G",),
            ignore=UNUSED,
            rename=(("", "network."),),
            lacks=("sound_mean", "sound_deviation"),
            settings=PUBLISHED_LANDMARKS,
        ),
        Official("ckpt_116_i2i_comb.pth", "translator", key=("G",), settings=PUBLISHED_PICTURES, objects=True),
    )

    def __init__(self, config: MakeItTalkConfig) -> None:
        super().__init__(config)
        self._has_vgg19 = False
        plans = dict(type(self).plans)
        judges = ("temporal_discriminator",) if config.loss.adversarial else ()
        if judges and config.speaker.frame_discriminator:
            judges = (*judges, "frame_discriminator")
        plans["speaker"] = replace(plans["speaker"], trains=("speaker_branch", *judges))
        if config.loss.reconstruction == "perceptual":
            self.vgg19 = TranslationLoss(VGG19Features(), config.loss.gram)
        else:
            plans["translate"] = replace(plans["translate"], frozen=())
        self.plans = plans

    # -- what belongs to it --------------------------------------------------------------------------------------------

    @classmethod
    def needed_to_speak(cls, config: Section) -> tuple[str, ...]:
        """The content branch; the speaker branch where it moves the head, the translation where it draws."""
        names = ["content_branch"]
        if config.inference.head in ("auto", "predicted"):
            names.append("speaker_branch")
        if config.inference.render == "translate":
            names.append("translator")
        return tuple(names)

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Rows of its front end, registered faces, head crops."""
        return ("audio", "landmarks", config.sound.artefact, config.faces_artefact, config.heads_artefact)

    @classmethod
    def settings_without_videos(cls, clip: ClipFolder, kinds: Collection[str]) -> dict[str, Any]:
        """The canonical face of the clips; without a translation the picture is moved, without speaker it rests."""
        registered = next((kind for kind in CANONICALS if clip.has(faces_artefact(kind))), None)
        settings: dict[str, Any] = {"canonical": registered} if registered else {}
        settings |= {"inference.render": "warp"} if "translate" not in kinds else {}
        return settings | ({"inference.head": "none"} if "speaker" not in kinds else {})

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """The front end, the canonical face, the size of the crops."""
        return {
            config.sound.artefact: config.sound.choice,
            config.faces_artefact: {"canonical": config.canonical},
            config.heads_artefact: {"size": config.translate.size},
        }

    @classmethod
    def trained_otherwise(
        cls, kind: str, networks: Collection[str], trained: Mapping[str, Any], here: Section
    ) -> str | None:
        """What the translation gives: a whole picture, or the correction of one."""
        before = cls.Config.model_validate(trained).translate.input
        if "translator" not in networks or before == here.translate.input:
            return None
        return f"its translation was trained for another input; give --model.translate.input={before}"

    def output_rate(self, source: Any) -> float:
        """25 frames per second for videos, `inference.fps` for pictures."""
        return self.config.inference.fps if source.is_image else super().output_rate(source)

    def output_size(self, source: Source) -> tuple[int, int]:
        """That of the source; with `paste: crop` pictures become the square of the head."""
        whole = self.config.inference.paste != "crop" or isinstance(source, PuppetSource)
        if whole or self.head_follows(source.is_image) == "source":
            return super().output_size(source)
        return self.config.translate.size, self.config.translate.size

    def head_follows(self, picture: bool) -> str:
        """See `InferenceConfig.head`."""
        return head_of(self.config.inference.head, picture)

    def needs_whole_sound(self, picture: bool) -> tuple[str, str] | None:
        """A head that is predicted, and the bias of the displacements, which is a mean over all of them."""
        if (needed := super().needs_whole_sound(picture)) or not self.config.inference.calibrate:
            return needed
        what = "takes a mean over the whole sound off its displacements"
        return what, "--model.inference.calibrate=false leaves them as they are"

    @property
    def licence(self) -> str:
        """That of the imported constants, where they take part."""
        imported = (
            "published" in (self.config.scale, self.config.canonical) or self.config.sound.name == ConvertedMel.name
        )
        return NON_COMMERCIAL if imported else ""

    @property
    def replaced_by_bind(self) -> tuple[str, ...]:
        """Mean and deviation of the sound, where the settings want the imported ones."""
        if self.config.scale != "published":
            return ()
        networks = ("content_branch", "speaker_branch")
        return tuple(f"{network}.{part}" for network in networks for part in ("sound_mean", "sound_deviation"))

    def bind(self, weights_dir: str | Path, device: str) -> None:
        """Build the front end, and take the imported scale of the sound where the weights are published ones."""
        super().bind(weights_dir, device)
        self._take_published_scale()

    def _take_published_scale(self) -> None:
        """Mean and deviation of the imported constants, where the settings want these; weights do not bring them.

        Raises:
            DataError: the file is missing, or something else.
        """
        if self.config.scale == "published":
            scale = read_mel_scale(self.weights_dir / FOLDER / MEL_FILE)
            for branch in (self.content_branch, self.speaker_branch):
                branch.set_scale(*(torch.from_numpy(np.asarray(part, np.float32)) for part in scale))

    def expert_hint(self, name: str) -> str:
        """How to do without VGG19."""
        return "; --model.loss.reconstruction=l1_gradient trains without" if name == "vgg19" else ""

    def load_expert(self, name: str, path: Path) -> None:
        """Load VGG19 from torchvision's file, other networks from runs of ours."""
        if name != "vgg19":
            super().load_expert(name, path)
            return
        self.vgg19.network.load(path)
        self._has_vgg19 = True

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """Take the scale of the sound from the imported constants, or where no weights brought one from the data.

        Raises:
            ConfigError: the motion term is asked for, and the rows of an item do not follow each other; or they are as
                many as each clip has, and a batch has several.
            CheckpointError: the perceptual loss is chosen, and VGG19 was not loaded.
        """
        if isinstance(dataset, ContentWindows):
            self._check_sampling(dataset.options.sampling, ctx.stage)
        # Imported weights, which a stage or `experts:` may bring, hold none, and have replaced what `bind` took.
        self._take_published_scale()
        if isinstance(dataset, MotionDataset) and self.config.scale == "own":
            unscaled = [branch for branch in (self.content_branch, self.speaker_branch) if not branch.has_scale]
            scale = [torch.from_numpy(part) for part in dataset.scale()] if unscaled else []
            for branch in unscaled:
                branch.set_scale(*scale)
        if ctx.stage.kind == "speaker" and self.config.scale == "own":
            # What content hears is what this branch hears.
            self.speaker_branch.set_scale(self.content_branch.sound_mean, self.content_branch.sound_deviation)
        if ctx.stage.kind == "translate":
            self._check_vgg19()

    def _check_sampling(self, sampling: str, stage: StageConfig) -> None:
        if sampling == "mixed":
            if self.config.loss.motion:
                raise ConfigError(f"stage '{stage.name}': model.loss.motion needs data.sampling published")
            return
        processes = dist.get_world_size() if dist.is_initialized() else 1
        if stage.batch_size != processes:
            raise ConfigError(
                f"stage '{stage.name}': data.sampling published takes one clip of any length at a time; set batch_size"
                f" to {processes}, 1 for each process, instead of {stage.batch_size}"
            )

    def _check_vgg19(self) -> None:
        if self.plans["translate"].frozen and not self._has_vgg19:
            raise CheckpointError(f"no weights of 'vgg19' are loaded{self.expert_hint('vgg19')}")

    def under_way(self, dataset: ClipDataset, ctx: StepContext) -> StepContext:
        """Behind the steps of stage `speaker` without judges."""
        step = self.config.loss.gan_start if ctx.stage.kind == "speaker" else ctx.step
        return replace(ctx, epoch=step // ctx.epoch_length, step=step)

    # -- content -------------------------------------------------------------------------------------------------------

    def content_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Lip-weighted L1 and the shape term, in the published weights; optionally the motion term."""
        yield Update("content_branch", self._content_losses(batch))

    def _content_losses(self, batch: Batch) -> dict[str, Tensor]:
        options, target = self.config.loss, batch["target"]
        predicted = branches(self, batch["windows"], batch["face"]) + batch["face"][:, None]
        losses = {"l1": landmark_l1(predicted, target, options.lips)}
        if options.laplacian:
            losses["laplacian"] = options.laplacian * laplacian_l1(predicted, target)
        if options.motion:
            losses["motion"] = options.motion * motion_l1(predicted, target)
        return losses

    # -- speaker -------------------------------------------------------------------------------------------------------

    def speaker_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Judges first, then the branch against them; before `loss.gan_start` the regression alone."""
        predicted, code = self._moved(batch, self.config.loss.code_noise)
        target, mask = batch["target"], batch["mask"]
        judged = self.config.loss.adversarial > 0 and ctx.step >= self.config.loss.gan_start
        if judged:
            yield from self._judge(*self._judged(batch["face"], predicted.detach(), target), code.detach(), mask)
        losses = self._moved_losses(predicted, target, mask)
        if judged:
            losses |= self._opinions(*self._judged(batch["face"], predicted), code.detach(), mask)
        yield Update("speaker_branch", losses)

    def _moved(self, batch: Batch, noise: float) -> tuple[Tensor, Tensor]:
        """Faces (B, L, 204) that both branches give together, and the speakers' codes (B, code)."""
        windows = windows_of(batch["rows"])
        with torch.no_grad():
            said = branches(self, windows, batch["face"])
        motion = self.speaker_branch(windows, STRESS * batch["speaker"], code_noise=noise, mask=batch["mask"])
        return said + motion.displacement + batch["face"][:, None], motion.code

    def _moved_losses(self, predicted: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        difference = (predicted - target).float()
        losses = {"l1": _mean_of_rows(difference.abs(), mask)}
        if weight := self.config.loss.laplacian:
            shape = laplacian(difference.unflatten(-1, (-1, 3))).flatten(-2)
            losses["laplacian"] = weight * _mean_of_rows(shape.abs(), mask)
        return losses

    def _judged(self, rest: Tensor, *faces: Tensor) -> list[Tensor]:
        """Faces (B, L, 204) as the judges see them, beside those at rest (B, 204)."""
        if self.config.loss.judged == "faces":
            return list(faces)
        return [(rows - rest[:, None]) / MOVED for rows in faces]

    def _judge(self, made: Tensor, target: Tensor, code: Tensor, mask: Tensor) -> Iterator[Update]:
        """Each judge learns to tell what is made from what is real, by least squares."""
        wholly = self._unwrapped_judge().judged(mask).to(made.device)
        scores = [self.temporal_discriminator(rows, code) for rows in (target, made)]
        yield Update("temporal_discriminator", _told_apart(*scores, wholly))
        if "frame_discriminator" in self.plans["speaker"].trains:
            scores = [self.frame_discriminator(rows) for rows in (target, made)]
            yield Update("frame_discriminator", _told_apart(*scores, mask))

    def _opinions(self, predicted: Tensor, code: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What the judges, their weights held, think of the predicted faces."""
        weight, found = self.config.loss.adversarial, {}
        with frozen(self.temporal_discriminator):
            wholly = self._unwrapped_judge().judged(mask).to(predicted.device)
            scores = self.temporal_discriminator(predicted, code)
            found["adversarial"] = weight * least_squares(scores, True, wholly)
        if "frame_discriminator" in self.plans["speaker"].trains:
            with frozen(self.frame_discriminator):
                scores = self.frame_discriminator(predicted)
                found["adversarial_frame"] = weight * least_squares(scores, True, mask)
        return found

    def _unwrapped_judge(self) -> Any:
        """The judge itself; the trainer wraps its forward pass alone."""
        return getattr(self.temporal_discriminator, "module", self.temporal_discriminator)

    # -- translate -----------------------------------------------------------------------------------------------------

    def translate_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """L1, VGG19 and style terms as published, or pixels and gradients."""
        yield Update("translator", self._picture_losses(self._drawn(batch), batch["target"], batch["inside"]))

    def _drawn(self, batch: Batch) -> Tensor:
        return translated(self.translator, batch, self.config.translate.input)

    def _picture_losses(self, drawn: Tensor, target: Tensor, inside: Tensor) -> dict[str, Tensor]:
        target = as_bgr(target)
        if self.config.loss.reconstruction == "perceptual":
            return self.vgg19(drawn, target)
        return pixel_loss(drawn, target, inside, self.config.loss.mouth)

    # -- held-out values and pictures ----------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """The terms of the stage without the judges, and `loss`, their sum; `psnr` of the translation.

        Every item counts the same, whatever batch it is in: means over a batch weigh rows and pixels instead, which is
        another value with other batches.
        """
        if ctx.stage.kind == "content":
            losses = self._content_losses(batch)
        elif ctx.stage.kind == "speaker":
            predicted, _ = self._moved(batch, 0.0)
            losses = _over_items(self._moved_losses, predicted, batch["target"], batch["mask"])
        else:
            drawn = self._drawn(batch)
            losses = _over_items(self._picture_losses, drawn, batch["target"], batch["inside"])
            error = (drawn.float() - as_bgr(batch["target"])).square().mean((1, 2, 3))
            return {**losses, "loss": _sum(losses), "psnr": (-10 * error.clamp(min=1e-10).log10()).mean()}
        return {**losses, "loss": _sum(losses)}

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: ClipDataset, held_out: ClipDataset, folder: Path
    ) -> dict[str, float]:
        """`audio_response` of the content branch, `head_std` and `head_distance` of the speaker branch."""
        if not isinstance(held_out, MotionDataset):
            return {}
        if ctx.stage.kind == "speaker":
            return head_spread(self, held_out)
        response = audio_response(self, held_out)
        return {"audio_response": response} if np.isfinite(response) else {}

    def stage_ended(self, ctx: StepContext) -> None:
        """Refuse to go on with a content branch that does not hear.

        Raises:
            NothingLearnt: the lips hardly change with the sound.
        """
        least, found = self.config.content.least_response, ctx.best.get("last/audio_response")
        if ctx.stage.kind == "content" and least is not None and found is not None and found < least:
            raise NothingLearnt(
                f"stage '{ctx.stage.name}' ends with val/audio_response {found:.3f}, below {least:g}: lips hardly"
                f" change with the sound. Train it longer (--stages.{ctx.stage.name}.max_steps), from"
                " model.content.start=zero; model.content.least_response=null goes on without being asked"
            )

    def preview(self, batch: Batch, ctx: StepContext, dataset: ClipDataset) -> dict[str, Tensor]:
        """Portrait, drawing, generated and wanted picture of the first items."""
        if ctx.stage.kind != "translate":
            return {}
        count = min(4, len(batch["portrait"]))
        part = {name: value[:count] for name, value in batch.items()}
        drawn = as_pictures(self._drawn(part)).cpu()
        columns = [part["portrait"].cpu(), part["drawing"].flip(-1).cpu(), drawn, part["target"].cpu()]
        sheet = torch.cat([torch.cat(list(column), dim=0) for column in columns], dim=1)
        return {"pictures": sheet.permute(2, 0, 1).float() / 255}

    def graphs(self) -> tuple[Graph, ...]:
        """Both branches and the image translation."""
        return tuple(graphs(self))

    # -- generation ----------------------------------------------------------------------------------------------------

    def generate(self, source: Source, audio: Audio) -> Iterator[Drawn]:
        """Yield full frames; see `generate.generate`."""
        return generate(self, source, audio)

    def examples(self, clips: Sequence[ClipFolder], folder: Path) -> Sequence[Path]:
        """A picture of a person of the test clips, and a puppet."""
        return write_examples(clips[-1], folder)

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Lip error and opening of the content branch, beside the mean mouth and the donors' sound."""
        return content_scores(self, clips, donors)

    def sample_videos(self, clips: Sequence[ClipFolder], folder: Path) -> None:
        """The clips spoken by a portrait; what they hear is there, so no front end is asked."""
        write_samples(self, clips, folder)


def _told_apart(real: Tensor, made: Tensor, judged: Tensor) -> dict[str, Tensor]:
    return {"real": least_squares(real, True, judged), "made": least_squares(made, False, judged)}


def _mean_of_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the rows (B, L, n) that are there, mask (B, L); to pick them a GPU would tell their number first."""
    return (values * mask[..., None]).sum() / (mask.sum() * values.shape[-1])


def _over_items(losses: Callable[..., dict[str, Tensor]], *parts: Tensor) -> dict[str, Tensor]:
    """Mean over the items of a batch of the terms of each; `parts` (B, ...) are what `losses` takes."""
    found = [losses(*(part[k : k + 1] for part in parts)) for k in range(len(parts[0]))]
    return {name: torch.stack([each[name].float() for each in found]).mean() for name in found[0]}


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([value.float() for value in losses.values()]).sum()
