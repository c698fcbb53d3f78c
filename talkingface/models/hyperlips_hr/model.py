"""HyperLipsHR: gives the faces that HyperLipsBase draws more detail, led by a sketch of their features.

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720. Deviations and kept quirks are listed in docs/hyperlips.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.config.layers import to_plain
from talkingface.config.sections import Section
from talkingface.errors import CheckpointError, ConfigError
from talkingface.evaluation.metrics.image import ssim
from talkingface.lipsync.expert.inputs import PUBLISHED_SETTINGS as CROP_SETTINGS
from talkingface.lipsync.expert.inputs import expert_artefacts, expert_steps
from talkingface.lipsync.half_face.pixels import faces_of, network_faces
from talkingface.lipsync.half_face.scores import face_scores
from talkingface.models.hyperlips_hr.config import LENDER, HyperLipsHRConfig
from talkingface.models.hyperlips_hr.data import BOXES, HRFrames
from talkingface.models.hyperlips_hr.draw import EnlargedDrawer, HyperLipsHRNetworks
from talkingface.models.hyperlips_hr.losses import VGG_LAYER, Look, lip_l1, lip_lpips, relativistic, vgg_distance
from talkingface.networks.losses import weighted_pyramid_l1
from talkingface.networks.lpips import LPIPS, bundled_heads
from talkingface.networks.vgg19 import VGG19Features
from talkingface.plugin.contract import Batch, Borrowed, Official, Plan, StepContext, Update, frozen
from talkingface.plugin.registry import get_spec, register

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import StageConfig

log = logging.getLogger("talkingface")

BASE_SETTINGS = {
    "base.crop.size": 128,
    **{f"base.{key}": value for key, value in CROP_SETTINGS.items()},
    "base.inference.mel_offset": 0,
    "base.inference.reference": "first",
    "inference.pads": [0, 10, 0, 0],
    "inference.smooth": "published",
    "inference.reference": "first",
    "inference.colour": "keep",
    "inference.mel_offset": 0,
    "inference.precision": "32",
    "sketch.style": "upstream_infer",
    "sketch.smooth": "none",
}
DRAWN_BY = ("mel_offset", "reference", "fps")
"""What Base's faces depend on, of its settings of generation."""

PASTED_BY = ("pads", "smooth", "paste", "parse", "feather", "colour", "resize")
"""What a video of them depends on, too."""

WATCHED = 16  # items of each split whose lower halves tell how good Base is there


def _hr_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The scale of a published decoder, by its layers."""
    scale = 4 if "up_conv.5.conv_block.0.weight" in state else 2 if "up_conv.2.conv_block.0.weight" in state else 1
    return {**BASE_SETTINGS, "decoder.scale": scale}


@register("HyperLipsHR")
class HyperLipsHR(HyperLipsHRNetworks):
    """The decoder against its discriminator (stage kind `hr`), on faces that a trained Base has drawn."""

    Config = HyperLipsHRConfig
    plans: ClassVar[dict[str, Plan]] = {
        "hr": Plan(HRFrames, trains=("hr_decoder", "hr_discriminator"), frozen=("vgg19", "lpips"), uses=("generator",)),
    }
    borrows: ClassVar[dict[str, Borrowed]] = {
        "generator": Borrowed(
            LENDER,
            settings={"base": "", **{f"inference.{name}": f"inference.{name}" for name in ("mel_offset", "reference")}},
            weights_key="base_weights",
        )
    }
    own_figures = ("base_l1_train", "base_l1")
    # Several files for one network: the first that is in the folder counts.
    official = (
        *(
            Official(f"hyperlipshr_{data}_{side}.pth", "hr_decoder", settings=_hr_settings)
            for data in ("mead", "lrs2")
            for side in (256, 512, 128)
        ),
        Official("hyperlipsbase_mead.pth", "generator", settings=BASE_SETTINGS),
        Official("hyperlipsbase_lrs2.pth", "generator", settings=BASE_SETTINGS),
        Official("hyperlipsbase_multi.pth", "generator", settings=BASE_SETTINGS),
    )

    def __init__(self, config: HyperLipsHRConfig) -> None:
        super().__init__(config)
        self._loaded: set[str] = set()
        experts: tuple[str, ...] = ()
        if config.loss.reconstruction == "perceptual":
            self.vgg19, self.lpips = VGG19Features((VGG_LAYER,)), LPIPS("vgg")
            experts = ("vgg19", "lpips")
        # What the chosen losses do not need is neither built, nor loaded, nor saved.
        self.plans = {"hr": replace(type(self).plans["hr"], frozen=experts)}

    @classmethod
    def needed_to_speak(cls, config: Section) -> tuple[str, ...]:
        """Base and decoder; the rest only judges."""
        return ("generator", "hr_decoder")

    @classmethod
    def check_overrides(cls, trained: Section, asked: Section) -> None:
        """What Base refuses of its own settings; a warning where it is shown another reference than in training."""
        get_spec(LENDER).model.check_overrides(trained.base, asked.base)
        shown, learnt = asked.inference.reference, asked.base.inference.reference
        if shown != learnt:
            log.warning("model.inference.reference is %s; faces to learn from were drawn with %s", shown, learnt)

    @classmethod
    def check_stages(cls, config: Section, stages: Sequence[StageConfig]) -> None:
        """Refuse faces for the sound of the next frame that are not made.

        Raises:
            ConfigError: a stage asks for them.
        """
        for stage in stages:
            if stage.data.degrade.neighbour and not config.hyper.neighbour:
                raise ConfigError(
                    f"stages.{stage.name}.data.degrade.neighbour takes Base's faces for the sound of the next frame,"
                    " which are not made; add --model.hyper.neighbour=True"
                )

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Base's crops, the true faces at the size that is drawn, Base's faces, their mesh, and the lips."""
        hyper = config.hyper_artefact
        variants = [hyper, f"{hyper}+1"] if config.hyper.neighbour else [hyper]
        sketched = variants if config.sketch.style != "none" else ()
        meshes = [name.replace("hyper@", "hyper_mesh@") for name in sketched]
        return (*expert_artefacts(config.crop), config.hr_crop.artefact, *variants, *meshes, BOXES)

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """Crops as Base cuts them, at both sizes; Base and its weights; the crops that lips are looked for on."""
        matters = DRAWN_BY + PASTED_BY if config.hyper.source == "video" else DRAWN_BY
        base = {
            "crop": config.crop.model_dump(),
            "generator": config.base.generator.model_dump(),
            "inference": {name: getattr(config.base.inference, name) for name in matters},
        }
        hyper = {"base": to_plain(base), "weights": config.base_weights}
        return {
            **expert_steps(config.crop),
            config.hr_crop.artefact: config.hr_crop.model_dump(),
            config.hyper_artefact: hyper,
            f"{config.hyper_artefact}+1": hyper,
            BOXES: {"faces": config.hr_crop.artefact},
        }

    def expert_hint(self, name: str) -> str:
        """A way around the perceptual networks."""
        return "; --model.loss.reconstruction=l1_gradient trains without" if name in ("vgg19", "lpips") else ""

    def load_expert(self, name: str, path: Path) -> None:
        """Load VGG19 and the trunk of LPIPS from torchvision's files, Base from its run."""
        if name == "vgg19":
            self.vgg19.load(path)
        elif name == "lpips":
            self.lpips.load(path, bundled_heads("vgg"))
        else:
            super().load_expert(name, path)
        self._loaded.add(name)

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """See that what judges has learnt to.

        Raises:
            CheckpointError: a perceptual network has random weights.
        """
        lacking = [name for name in self.plans["hr"].frozen if name not in self._loaded]
        if lacking:
            raise CheckpointError(f"no weights of {', '.join(lacking)} are loaded{self.expert_hint(lacking[0])}")

    # -- steps ---------------------------------------------------------------------------------------------------------

    def hr_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Decoder, then discriminator on the same faces, as published."""
        drawn, target = self.decode(batch)
        losses, weight = self._reconstruction(drawn, target, batch), self.config.loss.adversarial
        if weight:
            with frozen(self.hr_discriminator):
                with torch.no_grad():
                    real = self._scores(target)
                losses["adversarial"] = weight * relativistic(self._scores(drawn), real)
        yield Update("hr_decoder", losses)
        if weight:
            real, fake = self._scores(torch.cat([target, drawn.detach()])).chunk(2)
            yield Update("hr_discriminator", {"adversarial": relativistic(real, fake)})

    def _scores(self, faces: Tensor) -> Tensor:
        """(N, 1): probabilities as published, or logits."""
        probabilities = self.hr_discriminator(faces)
        return torch.logit(probabilities, eps=1e-6) if self.config.loss.logits else probabilities

    def _reconstruction(self, drawn: Tensor, target: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Weighted distances of drawn from true faces; of weight 0, none."""
        loss, boxes = self.config.loss, batch["boxes"].value
        terms = {"lip": (loss.lip, lambda: lip_l1(drawn, target, boxes))}
        if loss.reconstruction == "l1_gradient":
            even = drawn.new_ones(len(drawn), 1, *drawn.shape[-2:])
            pixels, gradients = weighted_pyramid_l1(drawn, target, even)
            terms |= {"content": (loss.content, lambda: pixels), "gradient": (loss.gradient, lambda: gradients)}
        else:
            look, near = Look(**loss.vgg.model_dump()), Look(**loss.lpips.model_dump())
            terms |= {
                "content": (loss.content, lambda: F.l1_loss(drawn, target)),
                "perceptual": (loss.perceptual, lambda: vgg_distance(self.vgg19, drawn, target, look)),
                "lip_lpips": (
                    loss.lip_lpips,
                    lambda: lip_lpips(self.lpips, drawn, target, boxes, near, loss.lpips_step).mean(),
                ),
            }
        return {name: weight * make() for name, (weight, make) in terms.items() if weight}

    # -- held-out values and pictures ----------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`l1`, `lip_l1`, `ssim`, `lpips` where its weights are there, and `loss`: all that the decoder lowers."""
        drawn, target = self.decode(batch)
        loss = torch.stack(list(self._reconstruction(drawn, target, batch).values())).sum()
        values = {
            "l1": F.l1_loss(drawn, target),
            "lip_l1": lip_l1(drawn, target, batch["boxes"].value),
            "ssim": _mean_ssim(drawn, target),
        }
        if "lpips" in self._loaded:
            whole = torch.tensor([[0, drawn.shape[-2], 0, drawn.shape[-1]]]).expand(len(drawn), 4)
            values["lpips"] = lip_lpips(self.lpips, drawn, target, whole, Look(rgb=True, scaled=True)).mean()
        return {**values, "loss": loss}

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: HRFrames, held_out: HRFrames, folder: Path
    ) -> dict[str, float]:
        """L1 of the lower halves of Base's faces as they were drawn, on clips of the training and on held-out ones.

        Base draws clips that it was trained on better than others; a large gap says that `data.degrade` may help.
        """
        return {"base_l1_train": _base_l1(train), "base_l1": _base_l1(held_out)}

    def preview(self, batch: Batch, ctx: StepContext, dataset: ClipDataset) -> dict[str, Tensor]:
        """Base's face, sketch, drawn and true face of four items."""
        few = {name: values[:4] for name, values in batch.items() if isinstance(values, Tensor)}
        drawn, target = self.decode(few)
        side = drawn.shape[-1]
        base = F.interpolate(network_faces(few["hyper"][:, None])[:, :, 0], (side, side))
        lines = F.interpolate((few["sketch"][:, None].float() / 255).expand(-1, 3, -1, -1), (side, side))
        rows = torch.cat([base, lines, drawn, target], dim=-1).flip(1)
        return {"faces": rows.transpose(0, 1).flatten(1, 2).float().cpu()}

    # -- figures -------------------------------------------------------------------------------------------------------

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Distance of the drawn face crops from the true ones, and the same of Base's, enlarged (`base_...`)."""
        own = face_scores(self, clips, donors)
        base = face_scores(self, clips, donors, lambda: EnlargedDrawer(self))
        return {**own, **{f"base_{name}": value for name, value in base.items()}}


def _base_l1(data: HRFrames) -> float:
    """Mean absolute error, 0 to 1, of the lower halves of Base's faces against the true ones, enlarged."""
    errors = []
    for key in range(min(WATCHED, len(data))):
        item = data.undamaged(key)
        side = item["target"].shape[0]
        base = F.interpolate(torch.from_numpy(item["hyper"]).movedim(-1, 0)[None].float(), (side, side), mode="bicubic")
        error = (base[0].movedim(0, -1).clamp(0, 255) - torch.from_numpy(item["target"])).abs()
        errors.append(error[side // 2 :].mean().item() / 255)
    return float(np.mean(errors))


def _mean_ssim(drawn: Tensor, target: Tensor) -> Tensor:
    """SSIM of faces (N, 3, R, R), BGR in [0, 1], as evaluations measure it."""
    pairs = zip(faces_of(drawn).cpu().numpy(), faces_of(target).cpu().numpy(), strict=True)
    return drawn.new_tensor(float(np.mean([ssim(*pair) for pair in pairs])))
