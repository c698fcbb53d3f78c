"""Keys of the earlier toolkit: what they are called now, or why they are ignored. Each gives one warning."""

from __future__ import annotations

from typing import Any

from talkingface.errors import ConfigError

RENAMED: dict[str, str] = {
    "checkpoint_dir": "saved_dir",
    "worker": "num_workers",
    "train_batch_size": "batch_size",
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


def translate(data: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Replace the earlier toolkit's keys in one layer.

    Args:
        data: top-level mapping of one configuration source.
        where: name of that source, for the warnings.

    Returns:
        The mapping with today's keys, and the warnings.

    Raises:
        ConfigError: a key stands for a part of a section that the layer sets to a plain value, or a short name and the
            key that it stands for differ.
    """
    out = {k: v for k, v in data.items() if k not in (*RENAMED, *ALIASES, *IGNORED, "use_gpu")}
    warnings: list[str] = []
    for key, value in data.items():
        if key == "use_gpu":
            warnings.append(f"{where}: use_gpu is now device=auto|cpu|cuda")
            if value is False:
                out.setdefault("device", "cpu")
        elif key in IGNORED:
            warnings.append(f"{where}: {key} is ignored: {IGNORED[key]}")
        elif key in RENAMED or key in ALIASES:
            new = RENAMED.get(key) or ALIASES[key]
            if key in RENAMED:
                warnings.append(f"{where}: {key} is now called {new}")
            _put(out, key, new, value, where)
    return out, warnings


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
