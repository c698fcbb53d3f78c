"""A run's numbers and pictures on Weights & Biases: one group per run, in it one entry per stage."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from talkingface.config.layers import to_plain
from talkingface.config.sections import Config
from talkingface.errors import DataError
from talkingface.files import write_text
from talkingface.stored.jsons import read_json

IDS = "wandb.json"


class WandbLog:
    """One entry of the run's group; a part that was logged before goes on under its id.

    Args:
        folder: the run folder, which keeps the ids.
        config: the configuration, shown as hyper-parameters.
        part: a stage, or `evaluation`.
    """

    def __init__(self, folder: Path, config: Config, part: str) -> None:
        group = f"{config.model_name}-{config.dataset}-{folder.name}"
        self._run: Any = wandb.init(
            project=config.wandb_project,
            group=group,
            job_type=part,
            name=f"{folder.name}-{part}",
            id=stored_id(folder, part),
            resume="allow",
            dir=str(folder),
            config=to_plain(config),
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at one step."""
        self._run.log(dict(values), step=step)

    def picture(self, name: str, file: Path, size: tuple[int, int], step: int) -> None:
        """A PNG or animated GIF; its size is in the file."""
        shown = wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))
        self._run.log({name: shown}, step=step)

    def results(self, hyperparameters: Mapping[str, Any], figures: Mapping[str, float], step: int) -> None:
        """The figures that stand for the entry in tables; it has the whole configuration already."""
        self._run.summary.update(dict(figures))

    def close(self) -> None:
        """Send what is waiting."""
        self._run.finish()


def stored_id(folder: Path, part: str) -> str:
    """The id of a part of a run: as the run folder keeps it, else a new one that it keeps from now on."""
    try:
        ids = read_json(folder / IDS)
    except DataError:
        ids = {}
    if not isinstance(ids, dict) or not isinstance(ids.get(part), str):
        ids = {**(ids if isinstance(ids, dict) else {}), part: secrets.token_hex(4)}
        write_text(folder / IDS, json.dumps(ids) + "\n")
    return ids[part]
