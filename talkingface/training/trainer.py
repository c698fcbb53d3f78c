"""The shared training loop: every stage of every model runs here.

This file holds the zero_grad / backward / clip / step of the project (`lipsync/expert/causes.py` says why it has one of
its own). Models yield `Update`s; see plugin/contract.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from talkingface.config.layers import to_plain
from talkingface.config.sections import Config, StageConfig
from talkingface.config.stages import until
from talkingface.devices import begin_compiled_step, compiled, resolve_device, resolve_precision, take_threads_of
from talkingface.errors import CheckpointError, ConfigError, first_line
from talkingface.networks.synced_norm import common_statistics, synced
from talkingface.plugin.assembly import lacking_to_speak
from talkingface.plugin.contract import Batch, Plan, StepContext, TalkingFaceModel
from talkingface.training.best import BestSoFar
from talkingface.training.data import StageData
from talkingface.training.divergence import bad_terms, bad_weights, diverged
from talkingface.training.means import RunningMeans
from talkingface.training.monitors import check_later_monitors, check_monitor
from talkingface.training.optimizers import AveragedWeights, lr_factor, make_optimizer
from talkingface.training.processes import explained_errors, make_fabric
from talkingface.training.rng import restore_rng, rng_state
from talkingface.training.run_log import RunLog
from talkingface.training.start import StageStart, is_given
from talkingface.training.validation import Evaluate, Validation
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.runs import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from talkingface.clips.folder import ClipFolder

log = logging.getLogger("talkingface")


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
        """Train every stage (or the one `config.stage` names) that this run has not finished yet.

        Afterwards the model has the best weights of the last stage.
        """
        self._check_later_monitors()
        before = None  # file of the stage before
        longer: list[str] = []  # stages that go on after their end
        for stage in self.config.stages:
            chosen = self.config.stage in (None, stage.name)
            if is_given(self.config, self.model, stage):
                if chosen:
                    names = ", ".join(self.model.plans[stage.kind].trains)
                    log.info("stage %s: not trained, `experts:` names the weights of %s", stage.name, names)
                continue
            last = self.run.stage(stage.name) / "last.pt"
            state = checkpoint.load(last, self.config.model_name) if last.is_file() else None
            finished = state is not None and state.finished
            goes_on = finished and chosen and goes_longer(stage, state)
            if goes_on:
                longer.append(stage.name)
            elif chosen and finished:
                log.info("stage %s: already finished in %s%s", stage.name, self.run.path, _began_before(longer))
                # Asked at every start: what a model refused to go on from is not trained on by starting once more.
                self.model.stage_ended(StepContext(stage, state.epoch, state.step, state.best))
            if chosen and (goes_on or not finished):
                StageLoop(self, stage, state, before).run_to_end()
            before = last if finished or chosen else before
        self._take_best()

    def _check_later_monitors(self) -> None:
        """Refuse wrong monitors of stages that begin after others; those that have begun were looked at then."""
        stages = [
            stage
            for stage in self.config.stages
            if self.config.stage in (None, stage.name) and not is_given(self.config, self.model, stage)
        ]
        later = [stage for stage in stages[1:] if not (self.run.stage(stage.name) / "last.pt").is_file()]
        check_later_monitors(later, self.config, self.model, self.clips, self.fabric)

    def _take_best(self) -> None:
        """The best weights of the last stage that was asked for and has some."""
        for stage in reversed(self.config.stages):
            path = self.run.stage(stage.name) / "best.pt"
            if self.config.stage in (None, stage.name) and path.is_file():
                checkpoint.load_networks(self.model, checkpoint.load(path).networks, path)
                self.model.stage = stage
                return


def goes_longer(stage: StageConfig, state: CheckpointContent) -> bool:
    """Whether a finished stage is to go on because it may last longer now; says so where patience forbids it."""
    old = next((former for former in state.config.get("stages", ()) if former.get("name") == stage.name), {})
    limits = [(old.get(name), getattr(stage, name)) for name in ("epochs", "max_steps")]
    if not any(before is not None and (now is None or now > before) for before, now in limits):
        return False
    if stage.patience is not None and state.waited >= stage.patience:
        log.warning(
            "stage %s: ended because %s had not improved for %d validations; for more steps raise"
            " --stages.%s.patience as well, or set it to null",
            stage.name,
            stage.monitor,
            state.waited,
            stage.name,
        )
        return False
    return True


def _began_before(longer: Sequence[str]) -> str:
    """What to know of a finished stage after earlier ones have gone on."""
    if not longer:
        return ""
    return (
        f"; it began from {' and '.join(longer)} as they were before this, and stays as it is: for a new one, move its"
        " folder away and resume again"
    )


class StageLoop:
    """One stage: its optimisers, data and position. Made, run to its end, dropped.

    Args:
        trainer: whose stage it is.
        stage: the stage.
        state: what a killed run has saved of it; None: it starts fresh.
        before: last checkpoint of the stage before; None for the first stage.
    """

    def __init__(
        self, trainer: Trainer, stage: StageConfig, state: CheckpointContent | None, before: Path | None = None
    ) -> None:
        self.trainer, self.stage = trainer, stage
        self.config, self.model, self.log = trainer.config, trainer.model, trainer.log
        self.plan: Plan = self.model.plans[stage.kind]
        self.folder = trainer.run.stage(stage.name)
        self.epoch, self.step, self.batch_in_epoch = 0, 0, 0
        self.best = BestSoFar(stage)
        self.finished = False
        self.accumulated: set[str] = set()
        self.means = RunningMeans()
        self.fabric = self._stage_fabric()
        self.data = StageData(self.config, stage, self.plan, trainer.clips, self.fabric)
        self.model.stage = stage
        self.ready = (self._start(before) if state is None else self._load(state)) | set(self.plan.trains)
        self.model.ready = frozenset(self.ready)
        self._set_up_networks()
        if state is not None:
            self._restore(state)
        self.speaks = self._speaks()
        self.validation = Validation(
            model=self.model,
            networks={name: self._averaged(name) for name in self.networks},
            data=self.data,
            fabric=self.fabric,
            log=self.log,
            folder=self.folder,
            seed=self.config.seed,
            evaluate=trainer.evaluate,
        )

    # -- set-up --------------------------------------------------------------------------------------------------------

    def _stage_fabric(self) -> Fabric:
        """The run's Fabric, or one of another precision when the stage asks for it."""
        fabric, wanted = self.trainer.fabric, self.stage.precision
        device = resolve_device(self.config.device)
        if wanted is None or resolve_precision(wanted, device) == resolve_precision(self.config.precision, device):
            return fabric
        if fabric.world_size > 1:
            name = self.stage.name
            raise ConfigError(
                f"stage '{name}': precision {wanted} differs from the run's {self.config.precision}, and several"
                f" processes share one; give --precision={wanted} to the run or --stages.{name}.precision=null"
            )
        return make_fabric(self.config, wanted)

    def _start(self, before: Path | None) -> set[str]:
        """Weights of a fresh stage; returns the networks that were trained or given."""
        skipped = [stage.name for stage in self.config.stages if is_given(self.config, self.model, stage)]
        ready = StageStart(self.config, self.model, self.stage, self.trainer.run, skipped).fill(before)
        self.model.initialise(self.data.train, self._context())
        return ready

    def _load(self, state: CheckpointContent) -> set[str]:
        """Weights of a killed run; they replace those of an expert that was not given when the stage began."""
        for networks in (state.networks, state.training_networks):
            checkpoint.load_networks(self.model, networks, self.folder / "last.pt")
        return set(state.ready) | (self.model.given - state.networks.keys())

    def _set_up_networks(self) -> None:
        """Make optimisers and averages, and hand the trained networks to Fabric."""
        for name in (*self.plan.frozen, *self.plan.uses):
            getattr(self.model, name).requires_grad_(False).eval().to(self.fabric.device)
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Any] = {}
        self.averages: dict[str, AveragedWeights] = {}
        for name in self.plan.trains:
            network = getattr(self.model, name).requires_grad_(True).train()
            if self.config.distributed.sync_batchnorm and self.fabric.world_size > 1:
                synced(network)
            self.networks[name] = network
            fast = compiled(network, self.config.compile, self.fabric.device)
            wrapped, optimizer = self.fabric.setup(fast, make_optimizer(network, self.stage.optim[name]))
            self.optimizers[name] = optimizer
            setattr(self.model, name, wrapped)
            if self.stage.optim[name].ema:
                self.averages[name] = AveragedWeights(network, self.stage.optim[name].ema)
        self.model.to(self.fabric.device)

    def _averaged(self, name: str) -> nn.Module:
        """A trained network as it is validated, saved and generates: averaged where the stage averages."""
        return self.averages[name].network if name in self.averages else self.networks[name]

    def _speaks(self) -> bool:
        """Whether videos can be made with what this stage trains and was handed."""
        stages = until(self.config.stages, self.stage.name)
        lacking = lacking_to_speak(type(self.model), self.config.model, self.ready, stages)
        if lacking and self.stage.monitor.startswith("eval/"):
            raise ConfigError(
                f"stage '{self.stage.name}': monitor '{self.stage.monitor}': no videos can be made, for want of"
                f" {', '.join(lacking)}; hand it over with init_from, or monitor one of the val/ losses"
            )
        return lacking == []

    def _check_monitor(self) -> None:
        """Refuse a `monitor` that no validation will give, before the training rather than after its first epoch.

        Raises:
            ConfigError: with the figures that there are.
        """
        if self.stage.monitor.startswith("val/"):
            check_monitor(self.stage, self.validation.figures(self._context()))

    def _context(self) -> StepContext:
        return StepContext(self.stage, self.epoch, self.step, self.best.values, len(self.data.batches))

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run_to_end(self) -> None:
        """Train until the stage's length, early stopping or an error; afterwards the model is unwrapped again."""
        self.log.start_stage(self.stage.name, self.step)
        bar = tqdm(
            total=self.data.total_steps,
            initial=self.step,
            desc=self.stage.name,
            unit="step",
            disable=not (self.config.show_progress and self.fabric.is_global_zero),
        )
        try:
            with bar:
                if not self.finished and self.step < self.data.total_steps:
                    self._check_monitor()
                    if self.step == 0:
                        self.validation.ask_model(self._context())
                    self._train(bar)
                    self.model.stage_ended(self._context())
                    self.log.end_stage(self.step, self.best.values)
        finally:
            for name, network in self.networks.items():
                setattr(self.model, name, network)
            self.log.close()
        self.fabric.barrier()

    def _train(self, bar: tqdm) -> None:
        self.data.batches.set_position(self.epoch, self.batch_in_epoch)
        for batch in self.data.loader:
            self._set_learning_rate()
            with explained_errors(self.stage):
                values = self._train_batch(batch, self._context())
            self.means.add(values)
            self.step += 1
            self.batch_in_epoch += 1
            bar.update()
            if self.batch_in_epoch == len(self.data.batches):
                self.epoch, self.batch_in_epoch = self.epoch + 1, 0
            if self.step % self.config.log_every == 0:
                self._flush_logs(bar)
            self._validate_or_save(bar)
            if self.finished or self.step >= self.data.total_steps:
                return

    def skip_warm_up(self) -> None:
        """Stand where the model says that all of the stage takes part, for the benchmark."""
        ctx = self.model.under_way(self.data.train, self._context())
        self.epoch, self.step, self.best.values = ctx.epoch, ctx.step, dict(ctx.best)

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
            if self.config.compile == "reduce-overhead":
                begin_compiled_step()
        with ExitStack() as unsynchronised, common_statistics():
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
                    self.accumulated.discard(update.network)  # another update of it begins with no gradients
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
        factor = lr_factor(self.step, self.data.total_steps, self.stage.scheduler)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.stage.optim[name].lr * factor

    # -- logging -------------------------------------------------------------------------------------------------------

    def _flush_logs(self, bar: tqdm) -> None:
        """Read the averages since the last time, in one transfer; stop when one of them is not finite."""
        values = self.means.read(self.fabric)
        if not values:
            return
        if bad := bad_terms(values):
            raise diverged(self._context(), bad, values, self.folder / "last.pt")
        rates = {f"lr/{n}": self.stage.optim[n].lr * self._factor() for n in self.optimizers}
        train = {f"train/{name}": value for name, value in values.items()}
        self.log.record(self.stage.name, self.epoch, self.step, {**train, **rates})
        bar.set_postfix({name.split("/", 1)[-1]: f"{value:.4g}" for name, value in list(values.items())[:4]})

    def _refuse_bad_weights(self) -> None:
        """Stop where the last step has spoilt the weights, which no loss has told yet; see `bad_weights`."""
        if bad := bad_weights(self.networks):
            raise diverged(self._context(), bad, {}, self.folder / "last.pt")

    def _factor(self) -> float:
        return lr_factor(max(0, self.step - 1), self.data.total_steps, self.stage.scheduler)

    # -- validation and checkpoints ------------------------------------------------------------------------------------

    def _validate_or_save(self, bar: tqdm) -> None:
        """Validate, score videos, save, as the intervals ask; decide about early stopping."""
        every = self.stage.validate_every
        epoch_ended = self.batch_in_epoch == 0
        at_end = self.step >= self.data.total_steps
        due = self.step % every.steps == 0 if every.steps else epoch_ended and self.epoch % every.epochs == 0
        eval_step = self.config.eval_step if self.stage.eval_step is None else self.stage.eval_step
        score = bool(eval_step) and epoch_ended and self.epoch % eval_step == 0 and self.speaks
        if due or at_end or score:
            self._flush_logs(bar)
            self._refuse_bad_weights()
            values = self.validation.measure(self._context(), score)
            self.log.record(self.stage.name, self.epoch, self.step, values)
            improved = self.best.note(values)
            self.finished = at_end or self.best.out_of_patience()
            # Best first: whoever finds a finished `last` can rely on a `best` beside it.
            if improved or (self.finished and not (self.folder / "best.pt").is_file()):
                self._save("best")
            self._save("last")
        elif self.config.save_every_steps and self.step % self.config.save_every_steps == 0:
            self._flush_logs(bar)
            self._refuse_bad_weights()
            self._save("last")

    def _save(self, name: str) -> None:
        """Write `<stage>/<name>.pt`: everything generation and an exact resume need."""
        gradients = self._pending_gradients()
        if not self.fabric.is_global_zero:
            return
        own = {name for plan in self.model.plans.values() for name in (*plan.trains, *plan.uses)}
        networks = {n: self._averaged(n) if n in self.networks else getattr(self.model, n) for n in sorted(own)}
        checkpoint.save(
            self.folder / f"{name}.pt",
            CheckpointContent(
                model=self.config.model_name,
                config=to_plain(self.config),
                networks={n: network.state_dict() for n, network in networks.items()},
                stage=self.stage.name,
                trained=list(self.plan.trains),
                ready=sorted(self.ready & own),
                epoch=self.epoch,
                batch_in_epoch=self.batch_in_epoch,
                step=self.step,
                finished=self.finished,
                best=dict(self.best.values),
                waited=self.best.waited,
                training_networks={n: self.networks[n].state_dict() for n in self.averages},
                optimizers={n: optimizer.state_dict() for n, optimizer in self.optimizers.items()},
                gradients=gradients,
                precision=self.fabric.strategy.precision.state_dict(),
                rng=rng_state(),
                threads=torch.get_num_threads(),
            ),
        )

    def _pending_gradients(self) -> dict[str, dict[str, Tensor]]:
        """Gradients of the batches since the last optimiser step, where several make one (`accumulate`).

        Each process has summed up its own; their mean in every process leads to the same step.
        """
        if self.step % self.stage.accumulate == 0:
            return {}
        pending: dict[str, dict[str, Tensor]] = {}
        for name in sorted(self.accumulated):
            found = {key: p.grad for key, p in self.networks[name].named_parameters() if p.grad is not None}
            pending[name] = {key: self.fabric.all_reduce(grad, reduce_op="mean") for key, grad in found.items()}
        return pending

    def _restore(self, state: CheckpointContent) -> None:
        """Put optimisers, averages, position and random numbers where the killed run had them.

        Raises:
            CheckpointError: they are not those of this stage.
        """
        try:
            self._take_over(state)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / 'last.pt'}: training cannot go on from it, its state is not that of this stage"
                f" ({first_line(error)}); give best.pt with --stages.{self.stage.name}.init_from in a new run"
            ) from error

    def _take_over(self, state: CheckpointContent) -> None:
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state.optimizers[name])
        for name, average in self.averages.items():
            checkpoint.load_state(average.network, state.networks[name], f"{self.folder / 'last.pt'}: {name}")
        for name, gradients in state.gradients.items():
            for key, parameter in self.networks[name].named_parameters():
                parameter.grad = gradients[key].to(parameter) if key in gradients else None
            self.accumulated.add(name)
        self.fabric.strategy.precision.load_state_dict(state.precision)
        self.epoch, self.step, self.batch_in_epoch = state.epoch, state.step, state.batch_in_epoch
        self.best.values, self.best.waited = dict(state.best), state.waited
        restore_rng(state.rng)
        take_threads_of(state.threads, self.config.threads)
        log.info("stage %s: resumed at step %d of %d", self.stage.name, self.step, self.data.total_steps)
