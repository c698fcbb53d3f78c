"""Keys of the earlier toolkit: what they are called now, or why they are ignored. Each gives one warning.

A model may add keys of earlier ports of its own, under `former_keys:` in its YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from talkingface.config.layers import Layer
from talkingface.config.sections import Config
from talkingface.errors import ConfigError

COMMAND_LINE = "command line"
"""Name of the layer that is no file."""

RENAMED: dict[str, str] = {
    "checkpoint_dir": "saved_dir",
    "worker": "num_workers",
    "resume_checkpoint_path": "resume",
    "lse_checkpoint_path": "evaluation.lse_checkpoint",
    "state": "log_level",
    "ngpu": "distributed.devices",
}

ALIASES: dict[str, str] = {
    "metrics_strict": "evaluation.strict",
    "fid_weights_path": "evaluation.fid_weights_path",
}
"""Short names for keys of a section; they may be used without a warning."""

IGNORED: dict[str, str] = {
    "gpu_id": "choose the GPU with --device=cuda:N or the CUDA_VISIBLE_DEVICES environment variable",
    "shuffle": "training clips are always shuffled, from the seed",
    "saved": "checkpoints are always written to the run folder",
    "train_batch_size": "nothing ever read it; the batch size is `batch_size`, or that of each stage",
    "evaluate_batch_size": "metrics choose their own batch size; results do not depend on it",
    "eval_batch_size": "metrics choose their own batch size; results do not depend on it",
    "temp_dir": "everything a run makes lies in its run folder",
    "temp_sub_dir": "everything a run makes lies in its run folder",
    "checkpoint_sub_dir": "the run folder is saved/<Model>-<dataset>/<run>",
    "lse_reference_dir": "no intermediate files are written",
    "valid_metric_bigger": "give `mode: max` beside `monitor` in the stage",
    "vshift": "the published value 15 is part of the LSE definition",
    "preprocess_batch_size": "see preprocess.workers",
    "loss_decimal_place": "log.jsonl holds full precision",
    "metric_decimal_place": "metrics.json holds full precision",
    "reg_weight": "give weight_decay of the optimiser in the stage",
}


OF_OVERALL = frozenset(
    {
        *("gpu_id", "worker", "use_gpu", "checkpoint_dir", "train_batch_size", "evaluate_batch_size", "temp_dir"),
        *("lse_reference_dir", "valid_metric_bigger", "saved", "shuffle", "lse_checkpoint_path"),
    }
)
"""Keys that its `overall.yaml` had and none of its other files."""

OF_EVERY_STAGE = (
    "epochs",
    "max_steps",
    "batch_size",
    "learner",
    "learning_rate",
    "weight_decay",
    "eval_step",
    "stopping_step",
)


def is_former_overall(data: Mapping[str, Any]) -> bool:
    """Whether a file is the `overall.yaml` of the earlier toolkit: its values were the weakest of all."""
    return len(OF_OVERALL & data.keys()) >= 5


def take_defaults(layer: Layer) -> list[str]:
    """Drop from such a file what was said of training in general: here every stage has values of its own.

    Returns:
        What to tell.
    """
    dropped = [key for key in OF_EVERY_STAGE if layer.data.pop(key, None) is not None]
    told = f"{layer.name}: an overall.yaml of the earlier toolkit; its values are the weakest, as they were there"
    return [told + (f", and {', '.join(dropped)} stay those of each stage" if dropped else "")]


def take_table(layer: Layer) -> dict[str, str]:
    """Take the table `former_keys:` out of a model's YAML: what keys of earlier ports of that model are called now.

    Each entry is `old: new.dotted.key`, or `old: a sentence` that says why the key is ignored.

    Raises:
        ConfigError: it is no such table, or an old key is a key of today.
    """
    table = layer.data.pop("former_keys", None) or {}
    if not isinstance(table, dict):
        raise ConfigError(f"{layer.where(('former_keys',))}: former_keys: must be a mapping of old keys to new ones")
    for old, new in table.items():
        where = layer.where(("former_keys", str(old)))
        if not isinstance(old, str) or not isinstance(new, str) or not new.strip():
            raise ConfigError(f"{where}: former_keys: '{old}' must lead to a key or to a sentence, got {new!r}")
        if old in Config.model_fields:
            raise ConfigError(f"{where}: former_keys: '{old}' is a key of today and cannot stand for another")
    return table


def translate(
    data: dict[str, Any], where: str, table: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Replace earlier keys in one layer.

    Args:
        data: top-level mapping of one configuration source.
        where: name of that source, for the warnings.
        table: keys of earlier ports of the model, see `take_table`; they win over the toolkit's own.

    Returns:
        The mapping with today's keys, and the warnings.

    Raises:
        ConfigError: a key stands for a part of a section that the layer sets to a plain value, or a short name and the
            key that it stands for differ.
    """
    table = table or {}
    sentences = {old: new for old, new in table.items() if " " in new.strip()}
    renamed = RENAMED | ALIASES | {old: new for old, new in table.items() if old not in sentences}
    ignored = {key: why for key, why in IGNORED.items() if key not in table} | sentences
    out = {k: v for k, v in data.items() if k not in (*renamed, *ignored, "use_gpu")}
    warnings: list[str] = []
    if out.get("resume") is True and where != COMMAND_LINE and not data.get("resume_checkpoint_path"):
        # As there: the switch alone does nothing. On the command line somebody means it.
        del out["resume"]
        warnings.append(f"{where}: resume: true without a path is ignored; go on with --resume=auto or --resume=RUN")
    for key, value in data.items():
        if key in ignored:
            warnings.append(f"{where}: {key} is ignored: {ignored[key]}")
        elif key in renamed:
            if key not in ALIASES:
                warnings.append(f"{where}: {key} is now called {renamed[key]}")
            _put(out, key, renamed[key], value, where)
        elif key == "use_gpu":
            warnings.append(f"{where}: use_gpu is now device=auto|cpu|cuda")
            if value is False:
                out.setdefault("device", "cpu")
    if parent := _around_imgs(out.get("preprocessed_root")):
        warnings.append(
            f"{where}: preprocessed_root: {out['preprocessed_root']} is the folder of HyperLips' pictures, clips lie"
            f" beside it: {parent}"
        )
        out["preprocessed_root"] = parent
    return out, warnings


def _around_imgs(root: Any) -> str | None:
    """The folder meant by `preprocessed_data/imgs`, as an earlier port of HyperLips had it; None for any other root.

    A folder in which clips were prepared is what it is, whatever its name.
    """
    path = PurePosixPath(root.replace("\\", "/")) if isinstance(root, str) else PurePosixPath()
    if path.name != "imgs" or next(Path(path).glob("*/*/clip.json"), None):
        return None
    theirs = path.parent.name == "preprocessed_data" or next(Path(path).glob("*/*/0.jpg"), None)
    return str(path.parent) if theirs else None


def _put(out: dict[str, Any], key: str, new: str, value: Any, where: str) -> None:
    """Set today's key `new` of `out` to the value of the earlier `key`; the layer's own sections stay as they are."""
    *parents, leaf = new.split(".")
    target = out
    for parent in parents:
        section = target.get(parent, {})
        # A section without any key is null in YAML.
        if section is not None and not isinstance(section, dict):
            raise ConfigError(f"{where}: '{key}' stands for '{new}', but '{parent}' is set to {section!r}")
        target[parent] = dict(section or {})
        target = target[parent]
    if key in ALIASES and leaf in target and target[leaf] != value:
        raise ConfigError(f"{where}: '{key}' and '{new}' are the same key, set to {value!r} and {target[leaf]!r}")
    target[leaf] = value
