"""What of a configuration or a report is about the machine and the person, and is not given away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OF_THE_MACHINE = frozenset(
    ("saved_dir", "weights_dir", "weights_mirror", "run_name", "resume", "evaluate_model_file", "experts", "device")
    + ("threads", "num_workers", "distributed", "log_wandb", "wandb_project", "prerequisites")
    + ("layout", "data_root", "preprocessed_root", "train_filelist", "val_filelist", "test_filelist", "unseen_filelist")
)
_ABSOLUTE = re.compile(r"(?:/|~|[A-Za-z]:[\\/]|\\\\)")


def shared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the places and habits of the machine it comes from."""
    kept = without_places({key: value for key, value in config.items() if key not in _OF_THE_MACHINE})
    for stage in kept.get("stages") or ():
        # What a stage began with is in the weights; a file of somebody else's machine is no name for it.
        stage["init_from"] = [text for text in stage.get("init_from") or () if not re.search(r"[/\\.]", text)]
    return kept


def without_places(value: Any) -> Any:
    """Plain data in which an absolute path is its last part alone."""
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_places(item) for item in value]
    if isinstance(value, str) and _ABSOLUTE.match(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
