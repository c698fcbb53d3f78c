"""From files to a model with weights: experts, and the published files of a paper."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from talkingface.errors import CheckpointError
from talkingface.weights.checkpoint import load_state, read

if TYPE_CHECKING:
    from talkingface.config.sections import Config, Section
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")


def import_official(model: TalkingFaceModel, folder: str | Path) -> list[str]:
    """Fill a model from the published files of its paper.

    Args:
        model: freshly built model; its `official` tuple says which file fills which network. Where several files may
            fill one network (forms of different size, say), the first that fits does.
        folder: where the files are.

    Returns:
        Names of the networks that were filled.

    Raises:
        CheckpointError: no file found, or entries that do not fit, each named.
    """
    folder = Path(folder)
    if not model.official:
        raise CheckpointError(f"{type(model).__name__} has no published checkpoints to import")
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    filled: list[str] = []
    problems: list[tuple[str, str]] = []
    for official in model.official:
        path = folder / official.file
        if not path.is_file():
            continue
        if official.network in filled:
            log.warning("%s: left out, '%s' is filled already; give it a folder of its own", path, official.network)
            continue
        try:
            load_state(getattr(model, official.network), official_state(official, read(path)), f"{path}")
        except CheckpointError as error:
            problems.append((official.network, str(error)))
            continue
        filled.append(official.network)
    unfit = [text for network, text in problems if network not in filled]
    if unfit:
        raise CheckpointError("\n  ".join(unfit))
    if not filled:
        wanted = ", ".join(dict.fromkeys(o.file for o in model.official))
        raise CheckpointError(f"{folder}: none of the published files is there: {wanted}")
    return filled


def official_state(official: Any, content: Any) -> dict[str, Tensor]:
    """The entries one of our networks takes from a published file, under our names."""
    for key in official.key:
        if not isinstance(content, dict) or key not in content:
            raise CheckpointError(f"{official.file}: expected an entry '{key}', the file has another layout")
        content = content[key]
    state = {}
    for key, value in content.items():
        # Only one leading prefix goes: `flow_module.` contains the substring `module.` as well.
        key = key[len(official.strip) :] if official.strip and key.startswith(official.strip) else key
        if key.startswith(official.ignore) and official.ignore:
            continue
        for old, new in official.rename:
            if key.startswith(old):
                key = new + key[len(old) :]
                break
        state[key] = value
    return state


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
