"""IPLAP: audio and upper-face landmarks -> lip and jaw landmarks -> the talking face.

Paper: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors", CVPR 2023,
arXiv:2305.08293. Two stages trained one after the other; deviations and kept quirks are listed in docs/iplap.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.config.sections import Section
from talkingface.errors import CheckpointError
from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.iplap.data import LandmarkWindows, RenderWindows
from talkingface.models.iplap.generate import generate
from talkingface.models.iplap.graphs import graphs
from talkingface.models.iplap.networks.patch_discriminator import PatchDiscriminator
from talkingface.models.iplap.parts import IPLAPNetworks
from talkingface.models.iplap.preview import landmark_preview, render_preview
from talkingface.models.iplap.scores import landmark_scores
from talkingface.networks.losses import (
    PerceptualLoss,
    feature_matching,
    lip_weight_map,
    lsgan,
    lsgan_discriminator,
    split_maps,
    velocity_loss,
    weighted_pyramid_l1,
)
from talkingface.networks.vgg19 import VGG19Features
from talkingface.plugin.contract import Batch, Drawn, Official, Plan, StepContext, Update, frozen
from talkingface.plugin.registry import register

if TYPE_CHECKING:
    import numpy as np

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.source import Audio, Source
    from talkingface.plugin.graphs import Graph

log = logging.getLogger("talkingface")

PUBLISHED_SETTINGS = {
    "crop.size": 128,
    "crop.margin_mode": "px",
    "crop.margin": 5.0,
    "crop.box": "frame",
    # Published results use a wider box than the training did; the weights tolerate it. docs/iplap.md#margin
    "inference.margin": 25.0,
    "inference.margin_mode": "px",
    "inference.blur": 21,
    "inference.precision": "32",
}
SMALL_CORPUS = 100  # training clips; with fewer, people report lips that do not fit the face
POOR_L1 = 1e-2  # of the landmark stage on held-out clips; the published run ends at 6e-3


@register("IPLAP")
class IPLAP(IPLAPNetworks):
    """Landmark generator (stage `landmark`) and renderer with discriminator (stage `render`)."""

    Config = IPLAPConfig
    trains_without = ("audio",)
    evaluation_artefacts = ("audio", "mel", "landmarks")
    plans: ClassVar[dict[str, Plan]] = {
        "landmark": Plan(LandmarkWindows, trains=("landmark_generator",)),
        "render": Plan(
            RenderWindows,
            trains=("renderer", "discriminator"),
            frozen=("vgg19",),
            uses=("landmark_generator",),
        ),
    }
    official = (
        Official("landmarkgenerator_checkpoint.pth", "landmark_generator", settings=PUBLISHED_SETTINGS),
        Official("renderer_checkpoint.pth", "renderer", ignore=("perceptual.",), settings=PUBLISHED_SETTINGS),
    )

    def __init__(self, config: IPLAPConfig) -> None:
        super().__init__(config)
        self._has_vgg19 = False
        draw = config.renderer
        trains, experts = ["renderer"], []
        if config.loss.adversarial:
            self.discriminator = PatchDiscriminator(3, draw.discriminator_channels)
            trains.append("discriminator")
        if config.loss.reconstruction == "perceptual":
            self.vgg19 = PerceptualLoss(VGG19Features(), config.loss.perceptual_input, bgr=True)
            experts.append("vgg19")
        # What the chosen losses do not need is neither built, nor loaded, nor saved.
        render = replace(type(self).plans["render"], trains=tuple(trains), frozen=tuple(experts))
        self.plans = {**type(self).plans, "render": render}

    @classmethod
    def needed_to_speak(cls, config: Section) -> tuple[str, ...]:
        """Both generators; the discriminator has no part in it."""
        return ("landmark_generator", "renderer")

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Crops as these settings cut them, beside those of others."""
        return ("audio", "mel", "landmarks", config.crop.artefact)

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """Face crops as this model cuts them."""
        return {config.crop.artefact: config.crop.model_dump()}

    @classmethod
    def check_overrides(cls, trained: Section, asked: Section) -> None:
        """Warn when faces are cut out otherwise than in training, unless `inference.margin` says so on purpose."""
        before, now = trained.crop, asked.crop
        moved = (before.margin, before.margin_mode) != (now.margin, now.margin_mode) and asked.inference.margin is None
        if moved or before.box != now.box:
            log.warning(
                "the model was trained on face crops with margin %s %s and box %s, now they are cut with %s %s and %s:"
                " lips may not fit the face; leave model.crop as trained, or set model.inference.margin (and"
                " margin_mode) if another margin is what you want",
                before.margin,
                before.margin_mode,
                before.box,
                now.margin,
                now.margin_mode,
                now.box,
            )

    @property
    def keeps_frame_rate(self) -> bool:
        """Whether videos are made at the frame rate of their source (`inference.fps: keep`)."""
        return self.config.inference.fps == "keep"

    def expert_hint(self, name: str) -> str:
        """Other ways to VGG19, or around it."""
        return (
            "; the published renderer_checkpoint.pth will do as well, for it holds a copy, and"
            " --model.loss.reconstruction=l1_gradient trains without"
        )

    def load_expert(self, name: str, path: Path) -> None:
        """Load VGG19 from torchvision's file or from the published renderer, which holds a copy."""
        self.get_submodule(name).network.load(path)
        self._has_vgg19 = True

    # -- first stage ---------------------------------------------------------------------------------------------------

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """Put the landmark generator's output bias at the mean of the training data, where configured.

        Raises:
            CheckpointError: the perceptual loss is chosen and VGG19 was not loaded; random features train to nonsense.
        """
        if ctx.stage.kind == "render" and self.plans["render"].frozen and not self._has_vgg19:
            raise CheckpointError(f"no weights of 'vgg19' are loaded{self.expert_hint('vgg19')}")
        if ctx.stage.kind == "landmark" and len(dataset.clips) < SMALL_CORPUS:
            self._remark(
                "%d training clips are few: lips of people who are not among them may not fit their faces",
                len(dataset.clips),
            )
        if ctx.stage.kind == "landmark" and self.config.landmark.start_at_mean and not ctx.stage.init_from:
            self.landmark_generator.set_output_mean(torch.as_tensor(dataset.mean_content()))

    def stage_ended(self, ctx: StepContext) -> None:
        """Say when the landmarks have stayed further from the truth than good videos need."""
        error = ctx.best.get("val/l1", 0.0)
        if ctx.stage.kind == "landmark" and error > POOR_L1:
            self._remark(
                "stage %s ends with a landmark error (val/l1) of %.4f, above %.2f: lips may not fit the face; longer"
                " training or more clips may help (published: 0.006)",
                ctx.stage.name,
                error,
                POOR_L1,
            )

    def _remark(self, message: str, *values: object) -> None:
        """A warning for the published size; trial runs with a narrow network are told in passing."""
        log.log(logging.WARNING if self.config.landmark.width >= 1 else logging.INFO, message, *values)

    def under_way(self, dataset: ClipDataset, ctx: StepContext) -> StepContext:
        """Behind the epochs that train the alignment alone."""
        epoch = self.config.loss.warmup_epochs if ctx.stage.kind == "render" else ctx.epoch
        return replace(ctx, epoch=epoch, step=epoch * ctx.epoch_length)

    def landmark_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """L1 distance and velocity term of the predicted lips and jaws."""
        yield Update("landmark_generator", self._landmark_losses(self.predict(batch), batch))

    def _landmark_losses(self, predicted: Tensor, batch: Batch) -> dict[str, Tensor]:
        target = batch["content"].flatten(0, 1)
        velocity = velocity_loss(predicted, target, self.config.landmark.window)
        return {"l1": F.l1_loss(predicted, target), "velocity": self.config.loss.velocity * velocity}

    # -- second stage --------------------------------------------------------------------------------------------------

    def render_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Renderer, then discriminator; in the first epochs only the alignment (and as published the discriminator).

        The discriminator's losses are taken on the faces of this step and its weights before it, as published.
        """
        options = self.config.loss
        warming_up = ctx.epoch < options.warmup_epochs
        judged = options.adversarial and (not warming_up or options.warmup_discriminator)
        real, generated, warped = self.draw(batch, warp_only=warming_up and not judged)
        reconstruction = self._reconstruction(real, batch)
        gain = options.perceptual_gain if options.reconstruction == "perceptual" else 1.0
        losses = {"warp": gain * options.w_warp * reconstruction(warped, False)["content"]}
        if not warming_up:
            terms = reconstruction(generated, True)
            losses |= {"generation" if k == "content" else k: gain * options.w_gen * v for k, v in terms.items()}
            if judged:
                losses |= self._adversarial_terms(generated, real)
        yield Update("renderer", losses)
        if judged:
            yield Update("discriminator", self._discriminator_losses(generated.detach(), real, warming_up))

    def _reconstruction(self, real: Tensor, batch: Batch) -> Callable[[Tensor, bool], dict[str, Tensor]]:
        """Function from faces (and whether all terms are wanted) to terms of their distance to the real ones."""
        options = self.config.loss
        if options.reconstruction == "l1_gradient":
            weight = lip_weight_map(batch["lips"], real.shape[-1], options.mouth, options.upper)

            def by_pixels(faces: Tensor, _: bool) -> dict[str, Tensor]:
                pixels, gradients = weighted_pyramid_l1(faces, real, weight)
                return {"content": pixels + options.w_gradient * gradients}

            return by_pixels
        target = self.vgg19.target(real)

        def by_features(faces: Tensor, style: bool) -> dict[str, Tensor]:
            content, gram = self.vgg19(faces, target, style=style)
            return {"content": content} if gram is None else {"content": content, "style": options.w_style * gram}

        return by_features

    def _adversarial_terms(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        with frozen(self.discriminator):
            maps = self.discriminator(generated)
            with torch.no_grad():
                real_maps = self.discriminator(real)
        return self._weigh_adversarial(maps, real_maps)

    def _weigh_adversarial(self, fake_maps: list[list[Tensor]], real_maps: list[list[Tensor]]) -> dict[str, Tensor]:
        options = self.config.loss
        return {
            "adversarial": options.w_gan * lsgan(fake_maps, real=True),
            "feature_matching": options.w_fm * feature_matching(fake_maps, real_maps),
        }

    def _discriminator_losses(self, fake: Tensor, real: Tensor, warming_up: bool) -> dict[str, Tensor]:
        fake_maps, real_maps = split_maps(self.discriminator(torch.cat([fake, real])))
        losses = {"realness": lsgan_discriminator(fake_maps, real_maps)}
        if self.config.loss.legacy_disc_grad and not warming_up:
            # Published runs left the generator's gradients in the discriminator: its step also follows these terms,
            # which want fakes to pass for real. Only for reproducing them.
            losses["legacy"] = torch.stack(list(self._weigh_adversarial(fake_maps, real_maps).values())).sum()
        return losses

    # -- held-out values and pictures ----------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`l1` and `velocity`, or `warp`, `generation`, `psnr` and `mouth_psnr`; `loss` is what the stage lowers."""
        if ctx.stage.kind == "landmark":
            losses = self._landmark_losses(self.predict(batch), batch)
            return {**losses, "loss": torch.stack(list(losses.values())).sum()}
        options = self.config.loss
        real, generated, warped = self.draw(batch)
        reconstruction = self._reconstruction(real, batch)
        warp = reconstruction(warped, False)["content"]
        generation = torch.stack(list(reconstruction(generated, True).values())).sum()
        mouth = (lip_weight_map(batch["lips"], real.shape[-1], mouth=2.0, upper=1.0) > 1).float()
        return {
            "warp": warp,
            "generation": generation,
            "loss": options.w_warp * warp + options.w_gen * generation,
            "psnr": _psnr(generated, real),
            "mouth_psnr": _psnr(generated, real, mouth),
        }

    def preview(self, batch: Batch, ctx: StepContext, dataset: ClipDataset) -> dict[str, Tensor]:
        """Landmarks: true (green) and predicted (red) sketches of a window; faces: items, and a second of one clip."""
        if ctx.stage.kind == "render":
            return render_preview(self, batch, dataset)
        predicted = self.predict(batch)[: self.config.landmark.window].cpu()
        return {"landmarks": landmark_preview(batch, predicted, self.config.crop.size)}

    # -- generation ----------------------------------------------------------------------------------------------------

    def graphs(self) -> tuple[Graph, ...]:
        """Landmark generator and renderer, in the parts that `generate` calls."""
        return graphs(self)

    def generate(self, source: Source, audio: Audio) -> Iterator[np.ndarray | Drawn]:
        """Yield full frames; see `generate.generate`."""
        return generate(self, source, audio)

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Mouth-opening correlation and L1 of the predicted landmarks, beside those for the donors' audio."""
        return landmark_scores(self, clips, donors)


def _psnr(generated: Tensor, real: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the batch of the PSNR in dB, inside `mask` (B, 1, S, S) where given."""
    error = (generated.float().clamp(0, 1) - real).square().mean(1, keepdim=True)
    mask = torch.ones_like(error) if mask is None else mask
    mse = (error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)
    return -10 * torch.log10(mse.clamp(min=1e-10)).mean()
