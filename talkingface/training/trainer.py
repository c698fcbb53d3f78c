"""The shared training loop: every stage of every model runs here.

This file holds the only zero_grad / backward / clip / step of the project. Models yield `Update`s (`plugin.contract`).
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from talkingface.config.layers import to_plain
from talkingface.config.sections import Config, StageConfig
from talkingface.devices import resolve_device, resolve_precision
from talkingface.errors import CheckpointError, ConfigError, DataError, MediaError, NoFaceError, TrainingDiverged
from talkingface.plugin.contract import Batch, Plan, StepContext, TalkingFaceModel
from talkingface.training.batches import HeldOutBatches, TrainBatches
from talkingface.training.means import RunningMeans
from talkingface.training.optimizers import AveragedWeights, lr_factor, make_optimizer
from talkingface.training.processes import explained_errors, gather, make_fabric
from talkingface.training.rng import isolated_rng, restore_rng, rng_state
from talkingface.training.run_log import RunLog
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.runs import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder

log = logging.getLogger("talkingface")
Evaluate = Callable[[TalkingFaceModel, StageConfig, Path], Mapping[str, float]]


class Trainer:
    """Trains the stages of one model, one after the other, in one run folder.

    Args:
        config: the resolved configuration.
        model: the model, on the CPU; trained in place.
        clips: preprocessed clips by split: `train`, and `val` where there is one.
        run: folder for logs and checkpoints.
        fabric: device and processes; None makes the one the configuration asks for.
        evaluate: scores the model on generated validation videos: (model, stage, output folder) -> metric values.
    """

    def __init__(
        self,
        config: Config,
        model: TalkingFaceModel,
        clips: Mapping[str, Sequence[ClipFolder]],
        run: RunFolder,
        fabric: Fabric | None = None,
        evaluate: Evaluate | None = None,
    ) -> None:
        self.config, self.model, self.clips, self.run = config, model, clips, run
        self.fabric = fabric or make_fabric(config)
        self.evaluate = evaluate
        self.log = RunLog(run, config, active=self.fabric.is_global_zero)

    def fit(self) -> None:
        """Train every stage (or the one `config.stage` names) that this run has not finished yet."""
        chosen = [s for s in self.config.stages if self.config.stage in (None, s.name)]
        for stage in chosen:
            if self.is_given(stage):
                names = ", ".join(self.model.plans[stage.kind].trains)
                log.info("stage %s: not trained, `experts:` names the weights of %s", stage.name, names)
                continue
            last = self.run.stage(stage.name) / "last.pt"
            state = checkpoint.load(last, self.config.model_name) if last.is_file() else None
            if state is not None and state.finished:
                log.info("stage %s: already finished in %s", stage.name, self.run.path)
                continue
            StageLoop(self, stage, state).run_to_end()
        for stage in reversed(chosen):
            path = self.run.stage(stage.name) / "best.pt"
            if path.is_file():
                checkpoint.load_networks(self.model, checkpoint.load(path).networks, path)
                break

    def is_given(self, stage: StageConfig) -> bool:
        """Whether `experts:` names weights of all that a stage would train, and later stages only use them."""
        trains = self.model.plans[stage.kind].trains
        used = {name for plan in self.model.plans.values() for name in plan.uses}
        return self.config.stage != stage.name and all(n in used and self.config.experts.get(n) for n in trains)


class StageLoop:
    """One stage: its optimisers, data and position. Made, run to its end, dropped."""

    def __init__(self, trainer: Trainer, stage: StageConfig, state: CheckpointContent | None) -> None:
        self.trainer, self.stage = trainer, stage
        self.config, self.model, self.log = trainer.config, trainer.model, trainer.log
        self.plan: Plan = self.model.plans[stage.kind]
        self.folder = trainer.run.stage(stage.name)
        self.epoch, self.step, self.batch_in_epoch = 0, 0, 0
        self.best: dict[str, float] = {}
        self.waited = 0
        self.finished = False
        self.accumulated: set[str] = set()
        self.ready: set[str] = set()
        self.means = RunningMeans()
        self.fabric = self._stage_fabric()
        self._prepare_data()
        self._prepare_networks(state)

    # -- set-up --------------------------------------------------------------------------------------------------------

    def _stage_fabric(self) -> Fabric:
        """The run's Fabric, or one of another precision when the stage asks for it."""
        fabric, wanted = self.trainer.fabric, self.stage.precision
        device = resolve_device(self.config.device)
        if wanted is None or resolve_precision(wanted, device) == resolve_precision(self.config.precision, device):
            return fabric
        if fabric.world_size > 1:
            raise ConfigError(
                f"stage '{self.stage.name}': precision {wanted} differs from the run's {self.config.precision}; with"
                " several processes all stages share one: set --precision, or train one --stage at a time"
            )
        return make_fabric(self.config, wanted)

    def _dataset(self, split: str) -> ClipDataset | None:
        clips = self.trainer.clips.get(split) or []
        if not clips:
            return None
        return self.plan.dataset(clips, split, self.stage.data, self.config.model, self.config.seed)

    def _prepare_data(self) -> None:
        rank, world = self.fabric.global_rank, self.fabric.world_size
        size = self.stage.batch_size
        if size % world:
            raise ConfigError(
                f"stage '{self.stage.name}': batch_size {size} counts over all processes and must be a"
                f" multiple of {world}"
            )
        dataset = self._dataset("train")
        if dataset is None:
            raise ConfigError(f"stage '{self.stage.name}': the training list is empty")
        self.dataset = dataset
        self.batches = TrainBatches(len(dataset), size, self.config.seed, self.stage.name, rank, world)
        self.loader = self._loader(dataset, self.batches)
        held_out = self.held_out = self._dataset("val")
        self.held_out_loader = None
        if held_out is None:
            log.warning("stage %s: no validation clips, the last weights count as the best", self.stage.name)
        else:
            limited = HeldOutBatches(len(held_out), size, self.stage.val_batches, rank, world)
            self.held_out_loader = self._loader(held_out, limited)
        by_epochs = self.stage.epochs * len(self.batches) if self.stage.epochs else math.inf
        self.total_steps = int(min(by_epochs, self.stage.max_steps or math.inf))

    def _loader(self, dataset: ClipDataset, batches: Any) -> DataLoader:
        cuda = self.fabric.device.type == "cuda"
        workers = self.config.num_workers
        if workers is None:
            workers = min(8, torch.get_num_threads()) if cuda else 0
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            pin_memory=cuda,
            persistent_workers=workers > 0,
            # Its own generator: starting an epoch must not draw from the global one, or a resumed epoch would differ.
            generator=torch.Generator().manual_seed(self.config.seed),
        )
        return self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    def _prepare_networks(self, state: CheckpointContent | None) -> None:
        """Load what the stage starts from, make optimisers, hand both to Fabric, restore a killed run."""
        if state is None:
            # On resume the state knows, and its weights replace those of an expert that was not given before.
            self.ready |= {name for name in self.plan.uses if self.config.experts.get(name)}
            given = [stage.name for stage in self.config.stages if self.trainer.is_given(stage)]
            for source in self.stage.init_from:
                if source not in given:
                    self._init_from(source)
            self.model.initialise(self.dataset, self._context())
        else:
            checkpoint.load_networks(self.model, state.networks, self.folder / "last.pt")
            checkpoint.load_networks(self.model, state.training_networks, self.folder / "last.pt")
        self.ready |= set(self.plan.trains)
        for name in (*self.plan.frozen, *self.plan.uses):
            getattr(self.model, name).requires_grad_(False).eval().to(self.fabric.device)
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Any] = {}
        self.averages: dict[str, AveragedWeights] = {}
        for name in self.plan.trains:
            network = getattr(self.model, name).requires_grad_(True).train()
            self.networks[name] = network
            wrapped, optimizer = self.fabric.setup(network, make_optimizer(network, self.stage.optim[name]))
            self.optimizers[name] = optimizer
            setattr(self.model, name, wrapped)
            if self.stage.optim[name].ema:
                self.averages[name] = AveragedWeights(network, self.stage.optim[name].ema)
        self.model.to(self.fabric.device)
        if state is not None:
            self._restore(state)

    def _init_from(self, source: str) -> None:
        own = self.trainer.run.stage(source) / "best.pt"
        own = own if own.is_file() else own.with_name("last.pt")
        path = own if own.is_file() else Path(source)
        if not path.is_file():
            raise CheckpointError(
                f"stage '{self.stage.name}' starts from stage '{source}', but {own} is not there; train it first, or"
                f" name its run with --resume=RUN, or a file with --stages.{self.stage.name}.init_from=FILE"
            )
        content = checkpoint.load(path, self.config.model_name)
        # Also what that stage only used, which a resumed process does not have in memory, unless `experts:` or an
        # earlier source has brought it.
        names = {*content.trained, *(set(content.ready) - self.ready)}
        self.ready |= names
        checkpoint.load_networks(self.model, {n: content.networks[n] for n in sorted(names)}, path)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run_to_end(self) -> None:
        """Train until the stage's length, early stopping or an error; afterwards the model is unwrapped again."""
        self.log.start_stage(self.stage.name, self.step)
        bar = tqdm(
            total=self.total_steps,
            initial=self.step,
            desc=self.stage.name,
            unit="step",
            disable=not (self.config.show_progress and self.fabric.is_global_zero),
        )
        try:
            with bar:
                if not self.finished and self.step < self.total_steps:
                    self._train(bar)
                    self.model.stage_ended(self._context())
        finally:
            for name, network in self.networks.items():
                setattr(self.model, name, network)
            self.log.close()
        self.fabric.barrier()

    def _train(self, bar: tqdm) -> None:
        self.batches.set_position(self.epoch, self.batch_in_epoch)
        for batch in self.loader:
            self._set_learning_rate()
            with explained_errors(self.stage):
                values = self._train_batch(batch, self._context())
            self.means.add(values)
            self.step += 1
            self.batch_in_epoch += 1
            bar.update()
            if self.batch_in_epoch == len(self.batches):
                self.epoch, self.batch_in_epoch = self.epoch + 1, 0
            if self.step % self.config.log_every == 0:
                self._flush_logs(bar)
            self._validate_or_save(bar)
            if self.finished or self.step >= self.total_steps:
                return

    def time_step(self, batch: Batch) -> int:
        """Train on one batch without logging or saving, for the benchmark; returns 1."""
        self._train_batch(batch, self._context())
        self.step += 1
        return 1

    def _train_batch(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """Apply the updates of one batch; the returned values stay on the device."""
        logs: dict[str, Tensor] = {}
        k = self.stage.accumulate
        last = self.step % k == k - 1
        if self.step % k == 0:
            self.accumulated.clear()
        with ExitStack() as unsynchronised:
            for name in self.networks if not last else ():
                unsynchronised.enter_context(self.fabric.no_backward_sync(getattr(self.model, name)))
            for update in self.model.training_step(batch, ctx):
                total = torch.stack([value.float() for value in update.losses.values()]).sum()
                if update.network not in self.accumulated:
                    self.optimizers[update.network].zero_grad()
                    self.accumulated.add(update.network)
                self.fabric.backward(total / k if k > 1 else total)
                if last:
                    self._optimizer_step(update.network, logs)
                logs |= {f"{update.network}/{name}": value.detach() for name, value in update.losses.items()}
        return logs

    def _optimizer_step(self, name: str, logs: dict[str, Tensor]) -> None:
        optimizer, options = self.optimizers[name], self.stage.optim[name]
        if options.clip_norm:
            network = getattr(self.model, name)
            norm = self.fabric.clip_gradients(network, optimizer, max_norm=options.clip_norm, error_if_nonfinite=False)
            logs[f"{name}/grad_norm"] = norm.detach()
        optimizer.step()
        if name in self.averages:
            self.averages[name].update(self.networks[name])

    def _set_learning_rate(self) -> None:
        factor = lr_factor(self.step, self.total_steps, self.stage.scheduler)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.stage.optim[name].lr * factor

    def _context(self) -> StepContext:
        return StepContext(self.stage, self.epoch, self.step, self.best)

    # -- logging -------------------------------------------------------------------------------------------------------

    def _flush_logs(self, bar: tqdm) -> None:
        """Read the averages since the last time, in one transfer; stop when one of them is not finite."""
        values = self.means.read(self.fabric)
        if not values:
            return
        bad = [name for name, value in values.items() if not math.isfinite(value) and not name.endswith("grad_norm")]
        if bad:
            listing = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
            kept = self.folder / "last.pt"
            raise TrainingDiverged(
                f"stage '{self.stage.name}' diverged near step {self.step} (epoch {self.epoch}): {', '.join(bad)} not"
                f" finite; all terms: {listing}. {f'{kept} is the last good state; ' if kept.is_file() else ''}try a"
                " lower learning rate, clip_norm, or precision=32"
            )
        rates = {f"lr/{n}": self.stage.optim[n].lr * self._factor() for n in self.optimizers}
        train = {f"train/{name}": value for name, value in values.items()}
        self.log.record(self.stage.name, self.epoch, self.step, {**train, **rates})
        bar.set_postfix({name.split("/", 1)[-1]: f"{value:.4g}" for name, value in list(values.items())[:4]})

    def _factor(self) -> float:
        return lr_factor(max(0, self.step - 1), self.total_steps, self.stage.scheduler)

    # -- validation ----------------------------------------------------------------------------------------------------

    def _validate_or_save(self, bar: tqdm) -> None:
        """Validate, evaluate, save, as the intervals ask; decide about early stopping."""
        every = self.stage.validate_every
        epoch_ended = self.batch_in_epoch == 0
        at_end = self.step >= self.total_steps
        due = self.step % every.steps == 0 if every.steps else epoch_ended and self.epoch % every.epochs == 0
        eval_step = self.config.eval_step if self.stage.eval_step is None else self.stage.eval_step
        score = bool(eval_step) and epoch_ended and self.epoch % eval_step == 0 and self.plan.generates
        if due or at_end or score:
            self._flush_logs(bar)
            with isolated_rng(self.config.seed):  # how often one validates does not change the training
                values = self._validate()
                values |= self._more_figures(values)
                if score and self.trainer.evaluate is not None:
                    values |= self._score_videos()
            self.log.record(self.stage.name, self.epoch, self.step, values)
            improved = self._note_best(values)
            self.finished = at_end or self._out_of_patience()
            # Best first: whoever finds a finished `last` can rely on a `best` beside it.
            if improved or (self.finished and not (self.folder / "best.pt").is_file()):
                self._save("best")
            self._save("last")
        elif self.config.save_every_steps and self.step % self.config.save_every_steps == 0:
            self._flush_logs(bar)
            self._save("last")

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Mean of every validation value over all held-out items: does not depend on batch size or processes."""
        if self.held_out_loader is None:
            return {}
        sums: dict[str, Tensor] = {}
        items = 0
        first: Batch | None = None
        with self._evaluating(), self.fabric.autocast():
            for batch in self.held_out_loader:
                first = first or batch
                size = len(next(iter(batch.values())))
                for name, value in self.model.validation_step(batch, self._context()).items():
                    sums[name] = sums.get(name, 0.0) + value.float() * size
                items += size
            if first is not None and self.fabric.is_global_zero:
                self.log.pictures(self.stage.name, self.step, self.model.preview(first, self._context(), self.held_out))
        # One of the processes may have had no held-out item at all.
        parts = gather(self.fabric, ({name: float(value) for name, value in sums.items()}, items))
        total = sum(count for _, count in parts)
        names = sorted({name for values, _ in parts for name in values})
        return {f"val/{name}": sum(values.get(name, 0.0) for values, _ in parts) / total for name in names}

    @torch.no_grad()
    def _more_figures(self, values: Mapping[str, float]) -> dict[str, float]:
        """The model's own figures of this validation, found in the first process."""
        more: dict[str, float] = {}
        if self.held_out is not None and self.fabric.is_global_zero:
            with self._evaluating(), self.fabric.autocast():
                own = self.model.after_validation(values, self._context(), self.dataset, self.held_out, self.folder)
            more = {f"val/{name}": float(value) for name, value in own.items()}
        return self.fabric.broadcast(more) if self.fabric.world_size > 1 else more

    def _score_videos(self) -> dict[str, float]:
        values: dict[str, float] = {}
        if self.fabric.is_global_zero:
            with self._evaluating():
                out = self.folder / "eval" / f"step_{self.step:07d}"
                try:
                    values = dict(self.trainer.evaluate(self.model, self.stage, out))
                except (DataError, NoFaceError, MediaError) as error:
                    log.warning("stage %s: no video could be scored at step %d: %s", self.stage.name, self.step, error)
                for older in sorted(out.parent.glob("step_*/videos"))[:-1]:
                    shutil.rmtree(older, ignore_errors=True)  # the figures stay, in metrics.json
        values = self.fabric.broadcast(values)
        return {f"eval/{name}": value for name, value in values.items() if value is not None and math.isfinite(value)}

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Within: eval mode, averaged weights where there are any, plain networks whose every method can be called."""
        wrapped = {name: getattr(self.model, name) for name in self.networks}
        modes = {name: module.training for name, module in self.model.named_modules()}
        for name, network in self.networks.items():
            setattr(self.model, name, self.averages[name].network if name in self.averages else network)
        self.model.eval()
        try:
            yield
        finally:
            for name, network in wrapped.items():
                setattr(self.model, name, network)
            for name, module in self.model.named_modules():
                module.training = modes.get(name, module.training)

    def _note_best(self, values: Mapping[str, float]) -> bool:
        """Update the best values; True when the monitored one improved."""
        for name, value in values.items():
            if name.startswith("val/") and name != self.stage.monitor and math.isfinite(value):
                self.best[name] = min(value, self.best.get(name, math.inf))
        monitor = self.stage.monitor
        if monitor not in values:
            kind = monitor.split("/")[0] + "/"
            if any(name.startswith(kind) for name in values):
                raise ConfigError(
                    f"stage '{self.stage.name}': monitor '{monitor}' is not among the values: {', '.join(values)}"
                )
            return False
        sign = 1 if self.stage.mode == "min" else -1
        better = monitor not in self.best or sign * values[monitor] < sign * self.best[monitor]
        improved = better and math.isfinite(values[monitor])
        self.waited = 0 if improved else self.waited + 1
        if improved:
            self.best[monitor] = values[monitor]
        return improved

    def _out_of_patience(self) -> bool:
        if self.stage.patience is None or self.waited < self.stage.patience:
            return False
        log.info("stage %s: stops early, %s has not improved for %d validations", self.stage.name, self.stage.monitor,
                 self.waited)  # fmt: skip
        return True

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _save(self, name: str) -> None:
        """Write `<stage>/<name>.pt`: everything generation and an exact resume need."""
        if not self.fabric.is_global_zero:
            return
        own = {name for plan in self.model.plans.values() for name in plan.trains}
        networks = {n: self.networks.get(n, getattr(self.model, n)) for n in sorted(own)}
        for network_name, average in self.averages.items():
            networks[network_name] = average.network
        checkpoint.save(
            self.folder / f"{name}.pt",
            CheckpointContent(
                model=self.config.model_name,
                config=to_plain(self.config),
                networks={n: network.state_dict() for n, network in networks.items()},
                stage=self.stage.name,
                trained=list(self.plan.trains),
                ready=sorted(self.ready),
                epoch=self.epoch,
                batch_in_epoch=self.batch_in_epoch,
                step=self.step,
                finished=self.finished,
                best=dict(self.best),
                waited=self.waited,
                training_networks={n: self.networks[n].state_dict() for n in self.averages},
                optimizers={n: optimizer.state_dict() for n, optimizer in self.optimizers.items()},
                precision=self.fabric.strategy.precision.state_dict(),
                rng=rng_state(),
            ),
        )

    def _restore(self, state: CheckpointContent) -> None:
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state.optimizers[name])
        for name, average in self.averages.items():
            checkpoint.load_state(average.network, state.networks[name], f"{self.folder / 'last.pt'}: {name}")
        self.fabric.strategy.precision.load_state_dict(state.precision)
        self.epoch, self.step = state.epoch, state.step
        self.batch_in_epoch = state.batch_in_epoch
        self.best, self.waited = dict(state.best), state.waited
        self.ready |= set(state.ready)
        restore_rng(state.rng)
        log.info("stage %s: resumed at step %d of %d", self.stage.name, self.step, self.total_steps)
