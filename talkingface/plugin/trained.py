"""A model with the weights of a checkpoint, for whoever uses it: generation, export, publishing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from talkingface.errors import CheckpointError, ConfigError
from talkingface.plugin.assembly import build_for, load_experts
from talkingface.plugin.configuration import from_plain
from talkingface.plugin.contract import TalkingFaceModel
from talkingface.plugin.registry import get_spec, model_file
from talkingface.weights import checkpoint as files
from talkingface.weights.checkpoint import CheckpointContent

if TYPE_CHECKING:
    from talkingface.config.sections import Config

log = logging.getLogger("talkingface")


class Trained(NamedTuple):
    """A model with its weights.

    Attributes:
        name: registered name.
        model: on the CPU.
        config: of the checkpoint, with the changes asked for.
        content: what the checkpoint holds.
        path: the checkpoint file.
    """

    name: str
    model: TalkingFaceModel
    config: Config
    content: CheckpointContent
    path: Path


def read_trained(
    name: str | None, checkpoint: str | Path | None, overrides: Mapping[str, Any] | None = None
) -> Trained:
    """Build the model a checkpoint was trained with and load its weights.

    Args:
        name: registered model name; None takes the checkpoint's.
        checkpoint: see `Pipeline.from_checkpoint`.
        overrides: dotted configuration keys that differ from training.

    Raises:
        CheckpointError: missing, unreadable, or of another model.
        ConfigError: an override that does not fit, or names another lender than the training had.
    """
    canonical = model_file(name)[0] if name else None
    overrides = dict(overrides or {})
    weights = overrides.get("weights_dir", "checkpoints")
    path = files.find_checkpoint(checkpoint) if checkpoint is not None else _imported(canonical, weights)
    content = files.load(path, canonical)
    spec = get_spec(content.model)
    _refuse_other_lender(spec.model, content, overrides, path)
    config = from_plain(content.config, overrides, str(path))
    if any(key.split(".")[0] == "model" for key in overrides):
        spec.model.check_overrides(from_plain(content.config, {}, str(path)).model, config.model)
    needed = spec.model.needed_to_speak(config.model)
    speaking = {name: content.networks[name] for name in content.networks if needed is None or name in needed}
    model = build_for(spec.model, config.model, speaking, path)
    content = _without_misfits(content, model, path)
    load_experts(model, config, held=content.ready)
    # What `experts:` gives now replaces what was only saved along as it was initialised.
    held = {network: state for network, state in content.networks.items() if network not in model.given}
    files.load_networks(model, held, path)
    model.ready = model.given.union(content.ready)
    model.stage = next((stage for stage in config.stages if stage.name == content.stage), None)
    return Trained(spec.name, model, config, content, path)


def _without_misfits(content: CheckpointContent, model: TalkingFaceModel, path: Path) -> CheckpointContent:
    """The content without networks that only train and are of another make, as earlier versions built some."""
    fitting = files.fitting(model, content.networks)  # `build_for` has seen what videos are made with
    if misfits := [name for name in content.networks if name not in fitting]:
        log.info("%s: %s of another make left out, for videos are made without", path, ", ".join(misfits))
    networks = {name: content.networks[name] for name in fitting}
    return replace(content, networks=networks, ready=[name for name in content.ready if name in networks])


def _refuse_other_lender(
    model: type[TalkingFaceModel], content: CheckpointContent, overrides: Mapping[str, Any], path: Path
) -> None:
    """What was borrowed for the training is in the checkpoint, and what was trained goes with nothing else."""
    for name in (name for name, loan in model.borrows.items() if not loan.optional):
        if overrides.get(f"experts.{name}") and name in content.ready:
            raise ConfigError(f"experts.{name}: {path} holds the network it was trained with; leave the option out")


def _imported(name: str | None, weights_dir: str) -> Path:
    if name is None:
        raise CheckpointError("give a model name or a checkpoint")
    path = Path(weights_dir) / name / "imported.pt"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no imported weights; give --checkpoint=saved/{name}-.../RUN of your own training, or convert the"
            f" published files with `python run_talkingface.py import --model={name} --folder=DIR`"
        )
    return path
