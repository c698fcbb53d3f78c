"""What is measured between the steps of a stage: losses on held-out items, the model's own figures, scored videos."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from talkingface.config.sections import StageConfig
from talkingface.errors import DataError, MediaError, NoFaceError, TalkingFaceError
from talkingface.plugin.contract import Batch, StepContext, TalkingFaceModel
from talkingface.training.data import StageData
from talkingface.training.monitors import told_figures
from talkingface.training.processes import gather
from talkingface.training.rng import isolated_rng
from talkingface.training.run_log import RunLog

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("talkingface")
Evaluate = Callable[[TalkingFaceModel, StageConfig, Path], Mapping[str, float]]


@dataclass(frozen=True)
class Validation:
    """Measures a model that is being trained, without a trace in weights, modes or random numbers.

    Attributes:
        model: the model.
        networks: what takes the place of each trained network meanwhile: its average where there is one, else the
            network without Fabric's wrapper, so that every method can be called.
        data: the stage's data.
        fabric: processes and precision.
        log: gets the pictures.
        folder: of the stage, for plots and videos.
        seed: of the random numbers drawn meanwhile: how often one validates does not change the training.
        evaluate: scores generated videos: (model, stage, output folder) -> metric values; None: nothing does.
    """

    model: TalkingFaceModel
    networks: Mapping[str, nn.Module]
    data: StageData
    fabric: Fabric
    log: RunLog
    folder: Path
    seed: int
    evaluate: Evaluate | None = None

    def measure(self, ctx: StepContext, videos: bool) -> dict[str, float]:
        """Values by name, `val/...` and `eval/...`, the same in every process.

        Args:
            ctx: where training stands.
            videos: also generate videos and score them.
        """
        with isolated_rng(self.seed), self._statistics_of_the_first(), self._evaluating():
            values = self._losses(ctx)
            values |= self._own_figures(values, ctx)
            if videos and self.evaluate is not None:
                values |= self._video_scores(ctx)
        return values

    def figures(self, ctx: StepContext) -> set[str] | None:
        """Names of the `val/` values, see `told_figures`; None where nothing is held out, or nobody can tell."""
        if self.data.held_out is None:
            return None
        with isolated_rng(self.seed), self._evaluating(), self.fabric.autocast():
            return told_figures(self.model, self.data.held_out, self.fabric, ctx)

    @torch.no_grad()
    def ask_model(self, ctx: StepContext) -> None:
        """Let the model refuse a stage that has not begun; see `TalkingFaceModel.before_training`.

        Raises:
            TalkingFaceError: it does, in the first process, which alone is asked; all end with it.
        """
        refusal: TalkingFaceError | None = None
        if self.fabric.is_global_zero:
            try:
                with isolated_rng(self.seed), self._evaluating():
                    self.model.before_training(self.data.train, self.data.held_out, ctx)
            except TalkingFaceError as error:
                refusal = error
        refusal = gather(self.fabric, refusal)[0]
        if refusal is not None:
            raise refusal

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Within: eval mode, and the networks to measure in the place of the wrapped ones."""
        wrapped = {name: getattr(self.model, name) for name in self.networks}
        modes = {name: module.training for name, module in self.model.named_modules()}
        for name, network in self.networks.items():
            setattr(self.model, name, network)
        self.model.eval()
        try:
            yield
        finally:
            for name, network in wrapped.items():
                setattr(self.model, name, network)
            for name, module in self.model.named_modules():
                module.training = modes.get(name, module.training)

    @contextmanager
    def _statistics_of_the_first(self) -> Iterator[None]:
        """Within: every process has the running statistics of the first one, whose networks are saved.

        In training each keeps those of its own batches.
        """
        several = self.fabric.world_size > 1
        buffers = [buffer for network in self.networks.values() for buffer in network.buffers()] if several else []
        own = [buffer.clone() for buffer in buffers]
        for buffer in buffers:
            torch.distributed.broadcast(buffer, 0)
        try:
            yield
        finally:
            for buffer, value in zip(buffers, own, strict=True):
                buffer.copy_(value)

    @torch.no_grad()
    def _losses(self, ctx: StepContext) -> dict[str, float]:
        """Mean of every validation value over all held-out items: does not depend on batch size or processes."""
        if self.data.held_out_loader is None:
            return {}
        sums: dict[str, Tensor] = {}
        items = 0
        first: Batch | None = None
        with self.fabric.autocast():
            for batch in self.data.held_out_loader:
                first = first or batch
                size = len(next(iter(batch.values())))
                for name, value in self.model.validation_step(batch, ctx).items():
                    sums[name] = sums.get(name, 0.0) + value.float() * size
                items += size
            if first is not None and self.fabric.is_global_zero:
                pictures = self.model.preview(first, ctx, self.data.held_out)
                self.log.pictures(ctx.stage.name, ctx.step, pictures)
        return self._mean({name: float(value) for name, value in sums.items()}, items)

    def _mean(self, sums: Mapping[str, float], items: int) -> dict[str, float]:
        """Means over the items of all processes; one of them may have had no item at all."""
        parts = gather(self.fabric, (sums, items))
        total = sum(count for _, count in parts)
        names = sorted({name for values, _ in parts for name in values})
        return {f"val/{name}": sum(values.get(name, 0.0) for values, _ in parts) / total for name in names}

    @torch.no_grad()
    def _own_figures(self, values: Mapping[str, float], ctx: StepContext) -> dict[str, float]:
        """The model's own figures of this validation, found in the first process."""
        more: dict[str, float] = {}
        if self.data.held_out is not None and self.fabric.is_global_zero:
            with self.fabric.autocast():
                own = self.model.after_validation(values, ctx, self.data.train, self.data.held_out, self.folder)
            more = {f"val/{name}": float(value) for name, value in own.items()}
        return self.fabric.broadcast(more) if self.fabric.world_size > 1 else more

    def _video_scores(self, ctx: StepContext) -> dict[str, float]:
        """Metric values of generated validation videos; every process may have made a share of them."""
        values: dict[str, float] = {}
        out = self.folder / "eval" / f"step_{ctx.step:07d}"
        try:
            values = dict(self.evaluate(self.model, ctx.stage, out))
        except (DataError, NoFaceError, MediaError) as error:
            log.warning("stage %s: no video could be scored at step %d: %s", ctx.stage.name, ctx.step, error)
        if self.fabric.is_global_zero:
            for older in sorted(out.parent.glob("step_*/videos"))[:-1]:
                shutil.rmtree(older, ignore_errors=True)  # the figures stay, in metrics.json
        values = self.fabric.broadcast(values)
        return {f"eval/{name}": value for name, value in values.items() if value is not None and math.isfinite(value)}
