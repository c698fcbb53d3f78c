"""Whether the validations of a stage will give the value that its `monitor` names, told before any training."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from talkingface.config.sections import Config, StageConfig
from talkingface.errors import ConfigError, TalkingFaceError, closest
from talkingface.plugin.contract import StepContext, TalkingFaceModel
from talkingface.training.rng import isolated_rng

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder

log = logging.getLogger("talkingface")


def check_monitor(stage: StageConfig, known: Collection[str] | None) -> None:
    """Refuse a `monitor` of held-out figures that is not among those that there are.

    Args:
        stage: the stage.
        known: names of its `val/` values; None: nobody can tell.

    Raises:
        ConfigError: with the figures that there are.
    """
    if not stage.monitor.startswith("val/") or known is None or stage.monitor in known:
        return
    raise ConfigError(
        f"stage '{stage.name}': monitor '{stage.monitor}' is not among the figures of its validation:"
        f" {', '.join(sorted(known))}{closest(stage.monitor, known)}"
    )


def check_later_monitors(
    stages: Iterable[StageConfig],
    config: Config,
    model: TalkingFaceModel,
    clips: Mapping[str, Sequence[ClipFolder]],
    fabric: Fabric,
) -> None:
    """Refuse a wrong `monitor` of stages still to come: days may pass until they begin.

    Leaves no trace in the model and the random numbers.

    Args:
        stages: the stages.
        config: the configuration.
        model: the model, before its first stage.
        clips: prepared clips by split; without `val` there is nothing to tell.
        fabric: device and precision.

    Raises:
        ConfigError: a monitor is not among the figures of its stage.
        DataError: no held-out clip serves a stage.
    """
    for stage in stages:
        if not stage.monitor.startswith("val/") or not clips.get("val") or not _announces_all(model):
            continue
        with isolated_rng(config.seed), _as_in_stage(model, stage, fabric.device), fabric.autocast():
            dataset = model.plans[stage.kind].dataset
            held_out = dataset(clips["val"], "val", stage.data, config.model, config.seed)
            try:
                known = told_figures(model, held_out, fabric, StepContext(stage, 0, 0, {}))
            except TalkingFaceError:
                raise
            except Exception as error:  # a model may need what only its stages make: then the stage tells
                log.debug("stage %s: figures not known yet: %s", stage.name, error)
                continue
        check_monitor(stage, known)


@torch.no_grad()
def told_figures(model: TalkingFaceModel, held_out: ClipDataset, fabric: Fabric, ctx: StepContext) -> set[str] | None:
    """Names of the `val/` values, told from one held-out batch; None where nobody can tell.

    The model's own figures are those that it announces in `own_figures`.
    """
    if not _announces_all(model):
        return None
    batch = held_out.collate([held_out[index] for index in range(min(len(held_out), ctx.stage.batch_size))])
    names = {*model.validation_step(fabric.to_device(batch), ctx), *(model.own_figures or ())}
    return {f"val/{name}" for name in names}


def _announces_all(model: TalkingFaceModel) -> bool:
    """Whether all figures can be known: those of `after_validation` only where they are announced."""
    return type(model).after_validation is TalkingFaceModel.after_validation or model.own_figures is not None


@contextmanager
def _as_in_stage(model: TalkingFaceModel, stage: StageConfig, device: torch.device) -> Iterator[None]:
    """Within: the model in a stage, in eval mode, on a device; afterwards where and how it was."""
    before, place = model.stage, next((tensor.device for tensor in model.parameters()), device)
    modes = {module: module.training for module in model.modules()}
    model.stage = stage
    try:
        model.eval().to(device)
        yield
    finally:
        model.to(place)
        model.stage = before
        for module, training in modes.items():
            module.training = training
