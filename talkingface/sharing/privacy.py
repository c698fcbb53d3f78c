"""What of a configuration or a report is about the machine and the person, and is not given away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_OF_THE_DATA = ("data_root", "landmarks_root", "preprocessed_root") + tuple(
    f"{split}_filelist" for split in ("train", "val", "test", "unseen")
)
_OF_THE_MACHINE = frozenset(
    ("saved_dir", "weights_dir", "weights_mirror", "run_name", "resume", "evaluate_model_file", "experts", "device")
    + ("threads", "num_workers", "distributed", "log_wandb", "wandb_project", "prerequisites", "layout", *_OF_THE_DATA)
)
_OF_A_REPORT = frozenset(("checkpoint",))

_WORD = r"[^\s\\/\"'`()\[\]{}<>,;:|]+"
_DEEPER = rf"(?:{_WORD}(?: {_WORD})*[\\/]+)*(?:{_WORD})?"  # folders may have spaces in their names
_BEGINS = r"(?<![^\s\"'`(\[{<=,;:|])"
_ELSEWHERE = r"/(?![/\s])|~[\w.-]*[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|\\\\"
_FILE_NAME = re.compile(r".\.[A-Za-z]\w*$")


def shared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the places and habits of the machine it comes from."""
    kept = {key: value for key, value in config.items() if key not in _OF_THE_MACHINE}
    kept = without_places(kept, config)
    kept.get("preprocess", {}).pop("ray_address", None)
    for stage in kept.get("stages") or ():
        # What a stage began with is in the weights; a file of somebody else's machine is no name for it.
        stage["init_from"] = [text for text in stage.get("init_from") or () if not re.search(r"[/\\.]", text)]
    return kept


def shared_report(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `metrics.json` likewise; `config` is that of the run."""
    return without_places({key: value for key, value in content.items() if key not in _OF_A_REPORT}, config)


def without_places(value: Any, config: Mapping[str, Any]) -> Any:
    """Plain data without paths, also in the middle of a sentence: of a file its name stays, of a folder `...`.

    Args:
        value: the data.
        config: names the folders whose relative paths count, too: of the runs, the data, the experts.
    """
    patterns = [*_own_places(config), f"(?:{_ELSEWHERE}){_DEEPER}"]
    return _cleared(value, re.compile(f"{_BEGINS}(?:{'|'.join(patterns)})"))


def _own_places(config: Mapping[str, Any]) -> Iterator[str]:
    """Patterns of what lies in the folders of a configuration, the longest first."""
    named = [config.get(key) for key in ("saved_dir", *_OF_THE_DATA)]
    named += (config.get("experts") or {}).values()
    folders = {str(Path(text)) for text in named if isinstance(text, str) and text} - {"."}
    for folder in sorted(folders, key=len, reverse=True):
        # A folder of one word, `saved` say, is also a word of the language.
        inside = rf"[\\/]+{_DEEPER}"
        yield re.escape(folder) + (rf"(?:{inside}|(?![\w-]|\.\w))" if re.search(r"[\\/]", folder) else inside)


def _cleared(value: Any, paths: re.Pattern[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _cleared(item, paths) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleared(item, paths) for item in value]
    return paths.sub(_name, value) if isinstance(value, str) else value


def _name(path: re.Match[str]) -> str:
    """What may stay of a path, with the full stop of a sentence that ends in it."""
    text = re.sub(r"(?<=\w)[.!?]+$", "", path[0])
    name = re.split(r"[\\/]", text)[-1]
    return (name if _FILE_NAME.search(name) else "...") + path[0][len(text) :]
