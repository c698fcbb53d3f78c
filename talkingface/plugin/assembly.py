"""From the files that `experts:` names to a model with their weights, and whether it can speak with them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.errors import CheckpointError

if TYPE_CHECKING:
    from talkingface.config.sections import Config, Section
    from talkingface.plugin.contract import TalkingFaceModel


def load_experts(
    model: TalkingFaceModel, config: Config, kinds: Collection[str] | None = None, held: Collection[str] = ()
) -> None:
    """Load the weights of experts from the files or runs that `experts:` names, and note them in `model.given`.

    Frozen networks must be given; one that another stage trains may be.

    Args:
        model: the model to fill.
        config: its configuration; files are looked up as they are, then under `weights_dir`.
        kinds: stage kinds that are about to train, whose experts must be there; None loads what is there.
        held: networks that a checkpoint holds, which need no file.

    Raises:
        CheckpointError: a needed file is missing; the message says which key names it.
    """
    plans = [plan for kind, plan in model.plans.items() if kinds is None or kind in kinds]
    needed = {name for plan in plans for name in plan.frozen}
    offered = {name for plan in plans for name in plan.uses if config.experts.get(name)}
    for name in sorted((needed | offered) - set(held)):
        file = config.experts.get(name)
        path = next((p for p in (Path(file), Path(config.weights_dir) / file) if p.exists()), None) if file else None
        if path is not None:
            model.load_expert(name, path)
            model.given |= {name}
        elif kinds is not None:
            raise CheckpointError(
                f"{file or name}: the weights of '{name}' are not there; `python run_talkingface.py doctor` says where"
                f" to get them, --experts.{name}=FILE names another place{model.expert_hint(name)}"
            )


def lacking_to_speak(model: type[TalkingFaceModel], config: Section, ready: Collection[str]) -> list[str] | None:
    """Networks that making videos needs and that are not ready; None for a model that makes none.

    Args:
        model: class of the model.
        config: its settings.
        ready: names of the networks with trained or given weights.
    """
    needed = model.needed_to_speak(config)
    return None if needed is None else [name for name in needed if name not in ready]
