"""What a command or a script calls: preprocess, train, evaluate, one by one or all of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.errors import ConfigError
from talkingface.plugin.configuration import LoadedConfig, load_config
from talkingface.readiness import check_training, on_the_data_of
from talkingface.training.launchers import is_child_process
from talkingface.training.together import claimed_by_the_first, join
from talkingface.weights.runs import RunFolder, latest_run
from talkingface.workflow.data import prepare, prepared_clips
from talkingface.workflow.prerequisites import resolved, with_prerequisites
from talkingface.workflow.scoring import clips_to_score, log_evaluation, place_of_report, score_checkpoint, score_run
from talkingface.workflow.training import train_in_folder

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.evaluation.report.result import EvalResult

log = logging.getLogger("talkingface")


def run(
    model: str,
    dataset: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    evaluate_model_file: str | None = None,
) -> dict[str, Any]:
    """Do what the command line does: preprocess what is missing, train, evaluate.

    Args:
        model: registered model name.
        dataset: data set name.
        config_file_list: more YAML files.
        config_dict: overrides, dotted or nested keys.
        evaluate_model_file: checkpoint to evaluate when `train` is off.

    Returns:
        The content of `metrics.json`; empty when evaluation is off.
    """
    overrides = dict(config_dict or {})
    if evaluate_model_file is not None:
        overrides["evaluate_model_file"] = evaluate_model_file
    result = run_configured(load_config(model, dataset, config_file_list or (), overrides))
    return {} if result is None else result.content


def run_configured(loaded: LoadedConfig) -> EvalResult | None:
    """The same for a configuration that is read already.

    Returns:
        What the evaluation found; None where there is none, and in the helper processes of distributed training.
    """
    join()
    config = loaded.config
    if not config.train and not config.evaluate_model_file:
        raise ConfigError("--train=False needs --evaluate_model_file=FILE, the checkpoint to evaluate")
    if config.train and config.evaluate_model_file:
        raise ConfigError("--evaluate_model_file names a trained model: add --train=False, or leave it out to train")
    if config.evaluate_model_file:
        loaded = on_the_data_of(loaded, config.evaluate_model_file)
    else:
        loaded = with_prerequisites(loaded, run_configured)
    with ExitStack() as held:
        return _run(loaded, held)


def _run(loaded: LoadedConfig, held: ExitStack) -> EvalResult | None:
    """Prepare, train, evaluate; the run's folder is `held` all the while."""
    config = loaded.config
    started = time.monotonic()
    if config.train:
        if not is_child_process():
            check_training(config, config.evaluate, prepares=config.need_preprocess)
        loaded, clips, run_folder, team = train_in_folder(loaded, prepare, held)
    else:
        loaded, clips, team = clips_to_score(loaded, held)
        run_folder = claimed_by_the_first(config, team, held)
    result = score_run(loaded, clips, run_folder, team)
    if not team.is_first:
        return None
    if result is not None:
        log_evaluation(run_folder, loaded.config, result)
    _finish(run_folder, loaded.config)
    if result is not None:
        log.info("all done in %.1f minutes; everything is in %s", (time.monotonic() - started) / 60, run_folder.path)
    return result


def preprocess(loaded: LoadedConfig, only: Sequence[str] = (), merge: bool = False) -> None:
    """Make what training needs, or the artefacts of `only`, also where `need_preprocess` is off.

    With `merge` nothing is made: what the processes of all shards have made is put together.

    Raises:
        ConfigError: a shard is to be merged.
    """
    if merge and loaded.config.preprocess.shard is not None:
        raise ConfigError("--merge puts the shards together: leave --preprocess.shard out")
    prepare(resolved(loaded), always=True, only=only, merge=merge)


def train(loaded: LoadedConfig) -> RunFolder | None:
    """Train from prepared data, which needs no media or face library.

    Returns:
        The run's folder; None in the helper processes of distributed training.
    """
    join()
    if not is_child_process():
        loaded = resolved(loaded)
        check_training(loaded.config, False, prepares=False)
    with ExitStack() as held:
        loaded, _, run_folder, team = train_in_folder(loaded, lambda given: prepared_clips(given.config), held)
        if team.is_first:
            _finish(run_folder, loaded.config)
    return run_folder if team.is_first else None


def _finish(run_folder: RunFolder, config: Config) -> None:
    """Mark a run as complete; after a single `--stage` it stays open for `--resume=auto`."""
    if config.train and config.stage is None:
        run_folder.set_status("finished")


def evaluate(loaded: LoadedConfig, output: str | None = None) -> EvalResult | None:
    """Score a trained model; the report goes to `output`, by default to `eval` in the run folder of the checkpoint.

    Returns:
        What was found; None in the helper processes of a distributed evaluation.
    """
    join()
    path = Path(loaded.config.evaluate_model_file or latest_run(loaded.config))
    loaded = on_the_data_of(loaded, path)
    with ExitStack() as held:
        out = None if is_child_process() else place_of_report(loaded.config, path, output, held)
        loaded, clips, team = clips_to_score(loaded, held)
        path, out = team.gather((path, out))[0]
        result = score_checkpoint(loaded, clips, path, out, team)
    if result is None:
        return None
    if out.name == "eval" and (out.parent / "run.json").is_file():
        log_evaluation(RunFolder(out.parent), loaded.config, result)
    return result
