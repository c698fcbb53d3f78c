"""What can be known before the work begins: preprocessing a large data set takes days, a missing file is known at once.

Nothing here is kept: the work itself looks again, and these are the same looks.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.clips.folder import META_FILE
from talkingface.config.layers import dotted, leaves, to_plain
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import CheckpointError, ConfigError, DataError, Unavailable, closest
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.metric import MetricContext, make_metric
from talkingface.files import check_can_be_made
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.configuration import LoadedConfig, from_plain
from talkingface.plugin.metrics import metric_class
from talkingface.plugin.registry import get_spec
from talkingface.training.start import StageStart, is_given
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.plugin.contract import TalkingFaceModel

_PLACES = (
    "data_root",
    "preprocessed_root",
    "train_filelist",
    "val_filelist",
    "test_filelist",
    "unseen_filelist",
)
_SETTINGS = ("layout", "fps", "demo", "preprocess")
_OF_THE_MACHINE = ("preprocess.workers", "preprocess.force")


def check_training(config: Config, afterwards: bool, prepares: bool, coming: Collection[str] = ()) -> None:
    """Refuse a training that could not begin, or whose end is sure to fail.

    Args:
        config: the configuration.
        afterwards: whether the trained model is evaluated; otherwise metrics may still be asked for while it trains.
        prepares: whether clips may have to be prepared first.
        coming: networks whose lender is still to be trained; its settings will come along with them.

    Raises:
        ConfigError: the name of the run is taken, the run that is resumed is of another model, or a stage does not go
            with the model's settings.
        CheckpointError: weights that a stage needs are missing or do not fit, or there is no run to resume.
        DataError: a metric cannot be computed here, and `evaluation.strict` is on.
        OutputError: a folder cannot be written.
    """
    check_monitors(config)
    get_spec(config.model_name).model.check_stages(config.model, config.stages)
    run = RunFolder.open(config)
    if not coming:
        changed_settings(run, config)
    check_can_be_made(run.path)
    if prepares and next(Path(config.preprocessed_root).rglob(META_FILE), None) is None:
        # Where clips lie already there may be nothing to make: prepared data are often shared, and read-only.
        check_can_be_made(config.preprocessed_root)
    model = get_spec(config.model_name).model(config.model)
    load_experts(model, config, kinds=[s.kind for s in config.stages if config.stage in (None, s.name)], held=coming)
    model.given |= frozenset(coming)  # of a size that is not known yet; no stage fills it
    if not coming:
        check_resumed(config, model, run)
    check_origins(config, model, run)
    check_metrics(config, afterwards)


def check_monitors(config: Config) -> None:
    """Refuse a stage that waits for a figure which none of the metrics has.

    Raises:
        ConfigError: with the figures that there are.
    """
    if get_spec(config.model_name).evaluator is not None:
        return  # it has figures of its own
    known = {figure for name in config.metrics or () for figure in metric_class(name).figures}
    for stage in config.stages:
        kind, _, figure = stage.monitor.partition("/")
        if kind == "eval" and figure not in known:
            raise ConfigError(
                f"stage '{stage.name}': monitor '{stage.monitor}' is a figure of none of the metrics; there are"
                f" {', '.join(sorted(known)) or 'none'}{closest(figure, known)}"
            )


def changed_settings(run: RunFolder, config: Config) -> list[str]:
    """Keys that a resumed run had otherwise; none of a new one. How videos are made may change at any time.

    Raises:
        ConfigError: the networks, losses or crops are others.
    """
    file = run.path / "config.yaml"
    if not file.is_file():
        return []
    old, new = read_yaml(file)[0], to_plain(config)
    before, now = ({k: v for k, v in (c.get("model") or {}).items() if k != "inference"} for c in (old, new))
    if not _same(before, now):
        raise ConfigError(f"{run.path}: was trained with other `model:` settings; they cannot change on resume")
    return [key for key in ("seed", "precision", "stages", "dataset") if not _same(old.get(key), new[key])]


def _same(old: Any, new: Any) -> bool:
    """Whether settings are those of before; keys that were not known yet when `old` was written do not count."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() <= new.keys() and all(_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return old == new


def on_the_data_of(loaded: LoadedConfig, path: str | Path) -> LoadedConfig:
    """The configuration with the data settings that a checkpoint was trained with, where it is of this data set.

    Other clips than those of the training need other places (`data_root`, `preprocessed_root`, lists); what was drawn
    or prepared for the training is not made anew with other settings.

    Args:
        loaded: what the user asks for.
        path: run folder or checkpoint that is evaluated.

    Raises:
        CheckpointError: it is missing, unreadable, or of another model.
        ConfigError: settings of the data are asked for that the training did not have.
    """
    file = checkpoint.find_checkpoint(path)
    content, config = checkpoint.load(file, loaded.config.model_name), loaded.config
    if content.config.get("dataset") != config.dataset or "data_root" not in content.config:
        return loaded  # other data, or a published model, which does not tell where its data were
    trained = from_plain(content.config, {}, str(file))
    asked = {key: value for name in (*_PLACES, *_SETTINGS) for key, value in loaded.asked(name).items()}
    before = {dotted(at): value for at, value in leaves(to_plain(trained))}
    other = {key for key, value in asked.items() if key not in _OF_THE_MACHINE and _differs(key, before, value)}
    changed = sorted(key for key in other if key not in _PLACES)
    if changed and not other.intersection(_PLACES):
        told = "; ".join(f"{key} is {asked[key]!r}, not {before[key]!r}" for key in changed)
        raise ConfigError(
            f"{file}: was trained on data of other settings: {told}. Leave them out, or score other clips by naming"
            " their places with --data_root, --preprocessed_root and the file lists"
        )
    machine = {key: getattr(config.preprocess, key.split(".")[1]) for key in _OF_THE_MACHINE}
    data = from_plain(content.config, {**asked, **machine}, str(file))
    return replace(loaded, config=config.model_copy(update={n: getattr(data, n) for n in (*_PLACES, *_SETTINGS)}))


def _differs(key: str, before: Mapping[str, Any], value: Any) -> bool:
    """Whether a setting is another one; places may be spelt in several ways."""
    old = before.get(key, value)
    if key in _PLACES and isinstance(old, str) and isinstance(value, str):
        return os.path.abspath(old) != os.path.abspath(value)
    return old != value


def check_resumed(config: Config, model: TalkingFaceModel, run: RunFolder) -> None:
    """See that the networks which a run has saved are those that it would go on with.

    Checkpoints of a stage hold those of later stages, too, as they were initialised: an exact resume begins with them.

    Args:
        config: the configuration.
        model: built from it.
        run: the run that is begun or resumed.

    Raises:
        CheckpointError: a checkpoint is unreadable, or an earlier version built a network otherwise.
    """
    for stage in config.stages:
        path = run.stage(stage.name) / "last.pt"
        if not path.is_file():
            continue
        content = checkpoint.load(path, config.model_name)
        try:
            checkpoint.check_networks(model, content.networks, path)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; an earlier version built it otherwise, so this run cannot go on: train a new one"
                f" (--resume=none{_spared(config, model, run)})"
            ) from None


def _spared(config: Config, model: TalkingFaceModel, run: RunFolder) -> str:
    """Options by which a new run takes networks whose stages have ended, where others only use them."""
    options = ""
    for name in sorted({name for plan in model.plans.values() for name in plan.uses}):
        stages = [stage for stage in config.stages if name in model.plans[stage.kind].trains]
        paths = [run.stage(stage.name) / "best.pt" for stage in stages if _has_ended(run.stage(stage.name))]
        if (
            paths
            and len(paths) == len(stages)
            and name in checkpoint.fitting(model, checkpoint.load(paths[-1]).networks)
        ):
            options += f" --experts.{name}={paths[-1]}"
    return options


def _has_ended(stage: Path) -> bool:
    return (stage / "best.pt").is_file() and checkpoint.load(stage / "last.pt").finished


def check_origins(config: Config, model: TalkingFaceModel, run: RunFolder) -> None:
    """See that whatever the stages begin with is there, but for what earlier stages are still to make.

    Args:
        config: the configuration.
        model: a model whose weights may be overwritten.
        run: the run that is begun or resumed.

    Raises:
        CheckpointError: a stage or file that is named is not there, or lacks the network.
    """
    skipped = [stage.name for stage in config.stages if is_given(config, model, stage)]
    coming = [stage.name for stage in config.stages if config.stage in (None, stage.name)]
    for stage in config.stages:
        if stage.name in coming and stage.name not in skipped and not (run.stage(stage.name) / "last.pt").is_file():
            StageStart(config, model, stage, run, skipped).check(coming)


def check_metrics(config: Config, afterwards: bool) -> None:
    """With `evaluation.strict`, see that every metric can be computed.

    Args:
        config: the configuration.
        afterwards: see `check_training`.

    Raises:
        DataError: a metric cannot be computed here.
    """
    if not config.evaluation.strict:
        return  # training alone must not load what scoring needs
    steps = [config.eval_step if stage.eval_step is None else stage.eval_step for stage in config.stages]
    scores_by_metrics = issubclass(get_spec(config.model_name).evaluator or Evaluator, Evaluator)
    if not scores_by_metrics or not (afterwards or any(steps)):
        return
    context = MetricContext(config.saved_dir, config.dataset)
    for name in config.metrics:
        metric = make_metric(name, config.evaluation, config.weights_dir, context=context)
        if metric.may_come_from_this_run:
            continue
        try:
            metric.prepare()
        except Unavailable as error:
            raise DataError(f"metric {name} is not available: {error}") from error
