"""Runs that differ in their seed only, as one: mean, standard deviation and interval over runs."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError
from talkingface.evaluation.report.comparison import GENERATED, Run, run_folder

NO_DIFFERENCE = frozenset(
    ("seed", "run_name", "resume", "stage", "evaluate", "evaluate_model_file", "need_preprocess", "saved_dir", "device")
    + ("weights_mirror",)
    + ("distributed", "num_workers", "threads", "show_progress", "log_level", "log_every", "save_every_steps")
    + ("tensorboard", "log_wandb", "wandb_project")
)
"""Keys of a configuration that change neither the data nor what is learnt from them, beside the seed."""


@dataclass(frozen=True)
class SeedGroup:
    """Runs of one configuration.

    Attributes:
        name: as tables call it.
        runs: in the order given.
        seeds: of each run; None where it is not known.
    """

    name: str
    runs: tuple[Run, ...]
    seeds: tuple[int | None, ...]

    def mean(self, figure: str) -> float | None:
        """Mean over runs; None where not every run has the figure."""
        values = self._values(figure)
        return statistics.fmean(values) if values else None

    def deviation(self, figure: str) -> float | None:
        """Standard deviation over runs (n - 1); None of a single run."""
        values = self._values(figure)
        return statistics.stdev(values) if len(values) > 1 else None

    def interval(self, figure: str) -> tuple[float, float] | None:
        """95 % interval of the mean over runs, by Student's t with n - 1 degrees; None of a single run.

        It says how far the mean of other seeds may lie; that of the clips is the bootstrap's, in each run.
        """
        mean, deviation = self.mean(figure), self.deviation(figure)
        if mean is None or deviation is None:
            return None
        half = float(stats.t.ppf(0.975, len(self.runs) - 1)) * deviation / math.sqrt(len(self.runs))
        return mean - half, mean + half

    def _values(self, figure: str) -> list[float]:
        found = [run.result.values(GENERATED).get(figure) for run in self.runs]
        return [] if None in found else [value for value in found if value is not None]

    @property
    def about(self) -> str:
        """`3 runs, seeds 1, 2, 3`."""
        known = [str(seed) for seed in self.seeds if seed is not None]
        runs = f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'}"
        return f"{runs}, seed{'' if len(known) == 1 else 's'} {', '.join(known)}" if known else runs


def group_runs(runs: Sequence[Run]) -> list[SeedGroup]:
    """Runs put together whose configurations are equal but for the seed; one without a configuration stands alone.

    Of a seed that comes twice the later run counts: it would otherwise make the deviation too small.
    """
    found: dict[str, dict[Any, tuple[Run, int | None]]] = {}
    for index, run in enumerate(runs):
        config = stored_configuration(run)
        seed = None if config is None else config.get("seed")
        key = f"alone {index}" if config is None else _identity(config)
        found.setdefault(key, {})[index if seed is None else ("seed", seed)] = (run, seed)
    names = _names([[run for run, _ in group.values()] for group in found.values()])
    return [
        SeedGroup(name, tuple(run for run, _ in group.values()), tuple(seed for _, seed in group.values()))
        for name, group in zip(names, found.values(), strict=True)
    ]


def group_to_json(group: SeedGroup, figures: Sequence[str]) -> dict[str, Any]:
    """An entry of `groups` in `comparison.json`."""
    means = {key: group.mean(key) for key in figures}
    deviations = {key: group.deviation(key) for key in figures}
    intervals = {key: group.interval(key) for key in figures}
    return {
        "name": group.name,
        "runs": [run.name for run in group.runs],
        "seeds": list(group.seeds),
        "mean": {key: value for key, value in means.items() if value is not None},
        "deviation": {key: value for key, value in deviations.items() if value is not None},
        "interval95": {key: list(ends) for key, ends in intervals.items() if ends is not None},
    }


def left_out(runs: Sequence[Run], groups: Sequence[SeedGroup]) -> list[str]:
    """What is said about runs that do not count since a later one has their seed."""
    kept = [run for group in groups for run in group.runs]
    return [f"{run.name}: not counted, a later run has the same seed" for run in runs if run not in kept]


def stored_configuration(run: Run) -> dict[str, Any] | None:
    """The `config.yaml` of the run folder that an evaluation lies in, or whose checkpoint it judged; None without."""
    folders = [run_folder(run.path)]
    if run.result.provenance.get("checkpoint"):
        folders.append(Path(str(run.result.provenance["checkpoint"])).parent.parent)
    for folder in folders:
        if (folder / "config.yaml").is_file():
            try:
                return read_yaml(folder / "config.yaml")[0]
            except ConfigError:
                return None  # damaged: nobody can say what it was
    return None


def _identity(config: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in config.items() if k not in NO_DIFFERENCE}, sort_keys=True, default=str)


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The model of each group, with what its folders share where several groups have that model."""
    models = [str(group[0].result.provenance.get("model") or group[0].name) for group in groups]
    names: list[str] = []
    for group, model in zip(groups, models, strict=True):
        series = {re.sub(r"-seed\d+$", "", run_folder(run.path).name) for run in group}
        name = model if models.count(model) == 1 else f"{model} {min(series)}"
        taken = sum(known == name or known.startswith(f"{name} (") for known in names)
        names.append(f"{name} ({taken + 1})" if taken else name)
    return names
