"""Train a model in a run folder of its own, alone or with other processes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from talkingface.devices import allow_tf32, limit_threads, seed_everything
from talkingface.errors import DataError
from talkingface.files import write_text
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.registry import get_spec
from talkingface.readiness import changed_settings
from talkingface.team import Team
from talkingface.training.together import claimed_by_the_first, end_helpers, prepared_by_the_first
from talkingface.training.trainer import Trainer
from talkingface.workflow.data import Clips
from talkingface.workflow.scoring import video_scorer

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig
    from talkingface.weights.runs import RunFolder

log = logging.getLogger("talkingface")


def train_in_folder(
    loaded: LoadedConfig, get_clips: Callable[[LoadedConfig], Clips], held: ExitStack
) -> tuple[LoadedConfig, Clips, RunFolder, Team]:
    """Train in a run folder, locked until `held` is left.

    Returns:
        The first process's configuration, the clips, the folder, and who has taken part.
    """
    limit_threads(loaded.config.threads)
    loaded, clips, fabric = prepared_by_the_first(loaded, partial(_with_training_clips, get_clips), held)
    config, team = loaded.config, Team.of(fabric)
    run_folder = claimed_by_the_first(config, team, held)
    seed_everything(config.seed, config.reproducibility)
    allow_tf32(config.tf32)
    spec = get_spec(config.model_name)
    model = spec.model(config.model)
    model.bind(config.weights_dir, str(fabric.device))
    load_experts(model, config, kinds=[s.kind for s in config.stages if config.stage in (None, s.name)])
    made = fabric.is_global_zero and run_folder.status == "new"
    if fabric.is_global_zero:
        _open_run(run_folder, loaded, model.licence)
    evaluate_videos = video_scorer(config, clips, team)
    trainer = (spec.trainer or Trainer)(config, model, clips, run_folder, fabric, evaluate_videos)
    log.info("training %s on %s: %s", config.model_name, fabric.device, run_folder.path)
    try:
        trainer.fit()
        fabric.barrier()
    except BaseException:
        end_helpers(fabric)
        if made:
            run_folder.forget_untrained(stage.name for stage in config.stages)
        raise
    return loaded, clips, run_folder, team


def _with_training_clips(get_clips: Callable[[LoadedConfig], Clips], loaded: LoadedConfig) -> Clips:
    """The clips, of which there are some to train on."""
    clips = get_clips(loaded)
    if not clips["train"]:
        raise DataError(
            f"{loaded.config.preprocessed_root}: no usable training clip; either every clip was rejected, or all usable"
            " ones stand in the validation and test lists"
        )
    return clips


def _open_run(run_folder: RunFolder, loaded: LoadedConfig, licence: str = "") -> None:
    """Write the resolved configuration into the run folder; a resumed run must have the same model."""
    changed = changed_settings(run_folder, loaded.config)
    if changed:
        log.warning("%s: resumed with changed %s", run_folder.path, ", ".join(changed))
    write_text(run_folder.path / "config.yaml", loaded.to_yaml())
    run_folder.set_status("running", licence)
