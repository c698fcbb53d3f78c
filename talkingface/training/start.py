"""What a fresh stage starts from.

Whatever a stage starts from lies in files or follows from the seed, never in memory alone: a run that was killed
between two stages, or whose stages are trained one `--stage` at a time, goes on as if nothing had happened.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import ValidationError

from talkingface.config.layers import to_plain
from talkingface.config.sections import Config, StageConfig
from talkingface.config.stages import Origin
from talkingface.devices import take_threads_of
from talkingface.errors import CheckpointError, ConfigError, first_line
from talkingface.plugin.contract import Plan, TalkingFaceModel
from talkingface.plugin.hearing import noted, refuse_other_weights
from talkingface.training.rng import isolated_rng, restore_rng, seed_of
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent, find_checkpoint
from talkingface.weights.hub import is_on_hub
from talkingface.weights.runs import RunFolder
from talkingface.weights.safe_file import PUBLISHED

log = logging.getLogger("talkingface")


def is_given(config: Config, model: TalkingFaceModel, stage: StageConfig) -> bool:
    """Whether `experts:` names weights of all that a stage would train, and later stages only use them."""
    trains = model.plans[stage.kind].trains
    used = {name for plan in model.plans.values() for name in plan.uses}
    return config.stage != stage.name and all(name in used and config.experts.get(name) for name in trains)


class StageStart:
    """Fills a model with the weights that a stage starts from.

    Args:
        config: the configuration.
        model: the model; its `given` networks have their weights from `experts:`.
        stage: the stage.
        run: where earlier stages left their checkpoints.
        skipped: names of stages that are not trained because `experts:` gives what they would train.

    Attributes:
        ready: names of the networks with trained or given weights.
    """

    def __init__(
        self, config: Config, model: TalkingFaceModel, stage: StageConfig, run: RunFolder, skipped: Collection[str]
    ) -> None:
        self.config, self.model, self.stage, self.run, self.skipped = config, model, stage, run, skipped
        self.plan: Plan = model.plans[stage.kind]
        self.ready: set[str] = set(model.given)

    def fill(self, before: Path | None) -> set[str]:
        """Networks as the stage before left them, then those of `init_from`, then those that start anew.

        Args:
            before: last checkpoint of the stage before; None for the first stage.

        Returns:
            The networks that are ready; what the stage itself trains is not among them yet.

        Raises:
            CheckpointError: a source is missing, lacks the network that is asked for, or does not fit.
            ConfigError: its networks were trained with settings without which they are others.
        """
        if before is not None:
            self._go_on_after(before)
        for origin in map(Origin.parse, self.stage.init_from):
            if origin.place not in self.skipped:
                self._take(origin)
        self._restart()
        return self.ready

    def check(self, coming: Collection[str]) -> None:
        """Look for every source that is not a stage still to come, and fill the model from it.

        Args:
            coming: names of stages that are trained before this one.

        Raises:
            CheckpointError, ConfigError: see `fill`.
        """
        trains = {stage.name: self.model.plans[stage.kind].trains for stage in self.config.stages}
        for origin in map(Origin.parse, self.stage.init_from):
            if origin.place in coming:  # it will have brought these when a later entry is read
                self.ready |= {origin.network} if origin.network else set(trains[origin.place])
            elif origin.place not in self.skipped:
                self._take(origin)

    def _go_on_after(self, path: Path) -> None:
        """Model and random numbers as the stage before left them, also in a process that did not train it.

        What it trained does not become ready by this: a stage names what it builds on in `init_from`.
        """
        before = checkpoint.load(path, self.config.model_name)
        experts = before.config.get("experts") or {}
        newly_given = {name for name in self.model.given if experts.get(name) != self.config.experts.get(name)}
        for networks in (before.networks, before.training_networks):
            kept = {name: state for name, state in networks.items() if name not in newly_given}
            checkpoint.load_networks(self.model, kept, path)
        if before.rng is not None:
            restore_rng(before.rng)
            take_threads_of(before.threads, self.config.threads)

    def _take(self, origin: Origin) -> None:
        """Load what one entry of `init_from` names."""
        path = self._file(origin)
        content = checkpoint.load(path, self.config.model_name)
        names = self._names(origin, content) - set(self.plan.restarts)
        here = noted(type(self.model), to_plain(self.config.model))
        refuse_other_weights(type(self.model), here, content.config, path, names)
        lacking = sorted(names - set(content.ready))
        if lacking:
            raise CheckpointError(
                f"stage '{self.stage.name}': init_from '{origin}': {path} holds no trained {', '.join(lacking)}; it has"
                f" {', '.join(content.ready) or 'none'}{self._without_the_rest(origin, content, names)}"
            )
        self._refuse_other_settings(origin, path, content, names)
        try:
            checkpoint.load_networks(self.model, {name: content.networks[name] for name in sorted(names)}, path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._without_the_rest(origin, content, names)}") from None
        self.ready |= names

    def _without_the_rest(self, origin: Origin, content: CheckpointContent, names: set[str]) -> str:
        """For a message: how to begin without the networks that are lacking or do not fit.

        Empty where an entry names its one network, and where videos are made with one of these: then it is the
        checkpoint, or a setting, that is not the one which was meant.
        """
        held = {name: content.networks[name] for name in sorted(names.intersection(content.ready))}
        fitting = checkpoint.fitting(self.model, held)
        left_out = names.difference(fitting)
        needed = self.model.needed_to_speak(self.config.model)
        if origin.network is not None or not left_out or not fitting or left_out.intersection(needed or names):
            return ""
        by_name = [str(origin._replace(network=name)) for name in fitting]
        entries = [by_name if Origin.parse(text) == origin else [text] for text in self.stage.init_from]
        told = ", ".join(text for each in entries for text in each)
        return f"; to begin without {', '.join(sorted(left_out))}: --stages.{self.stage.name}.init_from='[{told}]'"

    def _refuse_other_settings(self, origin: Origin, path: Path, content: CheckpointContent, names: set[str]) -> None:
        """Refuse networks that would be others here, though their weights fit."""
        trained, model = content.config.get("model"), type(self.model)
        if not isinstance(trained, Mapping):
            return  # nothing is known of them
        try:
            reason = model.trained_otherwise(self.stage.kind, names, trained, self.config.model)
        except ValidationError as error:
            raise CheckpointError(
                f"{path}: its settings are none of {self.config.model_name} ({first_line(error)})"
            ) from None
        if reason:
            raise ConfigError(f"stage '{self.stage.name}': init_from '{origin}': {path}: {reason}")

    def _file(self, origin: Origin) -> Path:
        """Best, else last checkpoint of a stage of this run, or the file that is named."""
        own = self.run.stage(origin.place) / "best.pt"
        own = own if own.is_file() else own.with_name("last.pt")
        path = own if own.is_file() else self._elsewhere(origin.place)
        if not path.is_file():
            raise CheckpointError(
                f"stage '{self.stage.name}' starts from stage '{origin.place}', but {own} is not there; train it first,"
                f" or name its run with --resume=RUN, or a file with --stages.{self.stage.name}.init_from=FILE"
            )
        return path

    @staticmethod
    def _elsewhere(place: str) -> Path:
        """A checkpoint file, or the one of a published folder."""
        return find_checkpoint(place) if is_on_hub(place) or (Path(place) / PUBLISHED).is_file() else Path(place)

    def _names(self, origin: Origin, content: CheckpointContent) -> set[str]:
        """What an entry brings: one network, or all that its stage trained.

        Also what that stage only used, unless `experts:` or an earlier entry has brought it.
        """
        if origin.network is not None:
            return {origin.network}
        return {*content.trained, *(set(content.ready) - self.ready)}

    def _restart(self) -> None:
        """Give the networks that start anew first weights which depend on seed and stage, and on nothing before."""
        if not self.plan.restarts:
            return
        with isolated_rng(seed_of(self.config.seed, self.stage.name)):
            # A whole model, because only its constructor knows how its networks are initialised.
            fresh = type(self.model)(self.config.model)
        states = {name: getattr(fresh, name).state_dict() for name in self.plan.restarts}
        checkpoint.load_networks(self.model, states, f"stage '{self.stage.name}'")
        log.info("stage %s: begins with new weights for %s", self.stage.name, ", ".join(self.plan.restarts))
