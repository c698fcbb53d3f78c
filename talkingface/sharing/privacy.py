"""What of a configuration or a report is about the machine and the person, and is not given away."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

_OF_THE_DATA = ("data_root", "landmarks_root", "preprocessed_root") + tuple(
    f"{split}_filelist" for split in ("train", "val", "test", "unseen")
)
_OF_THE_MACHINE = frozenset(
    ("saved_dir", "weights_dir", "weights_mirror", "run_name", "resume", "evaluate_model_file", "experts", "device")
    + ("threads", "num_workers", "distributed", "log_wandb", "wandb_project", "prerequisites", "layout", *_OF_THE_DATA)
)
_FILES_AND_RUNS = (
    "evaluation.judge",
    "evaluation.lse_checkpoint",
    "evaluation.track_weights",
    "evaluation.fid_weights_path",
    "evaluation.lpips_trunk",
    "evaluation.lpips_linear",
    "evaluation.csim_checkpoint",
    "preprocess.landmarks.model_path",
    "preprocess.filters.sync.expert",
    "demo.portraits",
)
"""Keys that stay, with the name of a file alone."""
_NO_PLACES = ("auto", "none")
_OF_A_REPORT = frozenset(("checkpoint",))
_RUNS_OF_A_REPORT = ("run",)  # of a judge

_WORD = r"[^\s\\/\"'`()\[\]{}<>,;:|]+"
_DEEPER = rf"(?:{_WORD}(?: {_WORD})*[\\/]+)*(?:{_WORD})?"  # folders may have spaces in their names
_BEGINS = r"(?<![^\s\"'`(\[{<=,;:|])"
_ELSEWHERE = r"/(?![/\s])|~[\w.-]*[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|\\\\"
_FILE_NAME = re.compile(r".\.[A-Za-z]\w*(?:#[\w-]+)?$")
_BEFORE_A_COLON = r"\A(?![^:]*\d/\d)[^:\"`()]+[\\/][^:\"`()\\/]+\.[A-Za-z]\w*(?=: )"  # `my films/b.mp4: no face`
_FIRST = _WORD.replace("|]", "|=]")  # the name of an option is no part of its value
_RELATIVE = rf"{_FIRST}(?:[\\/]+{_WORD})+[\\/]*"
_NO_PATH = re.compile(r"[-+]?\d[\d.]*/\d[\d.]*|n/a|frames/s")


def shared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the places and habits of the machine it comes from."""
    kept = {key: value for key, value in config.items() if key not in _OF_THE_MACHINE}
    kept = without_places(kept, config)
    for key in _FILES_AND_RUNS:
        section, name = _section_of(kept, key)
        if isinstance(section.get(name), str) and section[name] not in _NO_PLACES:
            section[name] = _file_name(section[name])
    kept.get("preprocess", {}).pop("ray_address", None)
    for stage in kept.get("stages") or ():
        # What a stage began with is in the weights; a file of somebody else's machine is no name for it.
        stage["init_from"] = [text for text in stage.get("init_from") or () if not re.search(r"[/\\.]", text)]
    return kept


def shared_report(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `metrics.json` likewise; `config` is that of the run.

    The data, judges and weights of an evaluation may be others than those of the run, so that all that looks like a
    path counts as one, but for the names of its clips.
    """
    paths = re.compile(f"{_BEFORE_A_COLON}|{_paths(config)}|{_BEGINS}{_RELATIVE}")
    clips = frozenset(_clips_of(content))

    def stays(text: str) -> bool:
        return text in clips or _NO_PATH.fullmatch(text) is not None

    def cut(text: str) -> str:
        return text if text in clips else paths.sub(lambda path: _told(path[0], stays), text)

    kept = {key: value for key, value in content.items() if key not in _OF_A_REPORT}
    # What figures are is said by the code.
    return {key: value if key == "figures" else _cleared(value, cut, _RUNS_OF_A_REPORT) for key, value in kept.items()}


def _clips_of(report: Mapping[str, Any]) -> Iterator[str]:
    """Names of clips in a report."""
    yield from (skip["clip"] for skip in report.get("skipped") or ())
    for lenders in ((report.get("references") or {}).get("clip"), report.get("donors")):
        for name, lender in (lenders or {}).items():
            yield from (name, lender)


def without_places(value: Any, config: Mapping[str, Any]) -> Any:
    """Plain data without paths, also in the middle of a sentence: of a file its name stays, of a folder `...`.

    Args:
        value: the data.
        config: names the places whose relative paths count, too: of the runs, the data, the experts, weights.
    """
    paths = re.compile(_paths(config))
    return _cleared(value, lambda text: paths.sub(lambda path: _told(path[0]), text))


def _paths(config: Mapping[str, Any]) -> str:
    """A pattern of paths: absolute ones, and what lies in the folders of a configuration."""
    return f"{_BEGINS}(?:{'|'.join([*_own_places(config), f'(?:{_ELSEWHERE}){_DEEPER}'])})"


def _own_places(config: Mapping[str, Any]) -> Iterator[str]:
    """Patterns of what lies in the folders of a configuration, the longest first."""
    named = [config.get(key) for key in ("saved_dir", *_OF_THE_DATA)]
    named += (config.get("experts") or {}).values()
    sections = [_section_of(config, key) for key in _FILES_AND_RUNS]
    named += [section.get(name) for section, name in sections if section.get(name) not in _NO_PLACES]
    folders = {str(Path(text)) for text in named if isinstance(text, str) and text} - {"."}
    for folder in sorted(folders, key=len, reverse=True):
        # A folder of one word, `saved` say, is also a word of the language.
        inside = rf"[\\/]+{_DEEPER}"
        yield re.escape(folder) + (rf"(?:{inside}|(?![\w-]|\.\w))" if re.search(r"[\\/]", folder) else inside)


def _section_of(config: Mapping[str, Any], key: str) -> tuple[Any, str]:
    """The section with a dotted key, empty where there is none, and the key's last part."""
    *sections, name = key.split(".")
    for section in sections:
        config = config.get(section) or {}
    return config, name


def _cleared(value: Any, cut: Callable[[str], str], places: Collection[str] = ()) -> Any:
    """Plain data with all text cut; `places` are keys whose text is a path as a whole."""
    if isinstance(value, Mapping):
        whole = {key: _file_name for key in places}
        return {key: _cleared(item, whole.get(key, cut), places) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleared(item, cut, places) for item in value]
    return cut(value) if isinstance(value, str) else value


def _told(path: str, stays: Callable[[str], bool] = lambda text: False) -> str:
    """What may stay of a path, with the full stop of a sentence that ends in it; `stays` tells what is none."""
    text = re.sub(r"(?<=\w)[.!?]+$", "", path)
    return path if stays(text) else _file_name(text) + path[len(text) :]


def _file_name(path: str) -> str:
    """The name of a file; of a folder `...`."""
    name = re.split(r"[\\/]", path)[-1]
    return name if _FILE_NAME.search(name) else "..."
