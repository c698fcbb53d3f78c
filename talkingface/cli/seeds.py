"""`--seeds=1,2,3` of `run` and `train`: the same training with several seeds, one after the other."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.cli.arguments import Arguments, Option
from talkingface.cli.configuration import load, print_config
from talkingface.errors import ConfigError, TalkingFaceError, out_of_memory, printable

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.plugin.configuration import LoadedConfig

SEEDS = Option("seeds", "train with each of these seeds in turn, each in a run folder of its own: --seeds=1,2,3")


@dataclass(frozen=True)
class SeedRun:
    """One seed of a series.

    Attributes:
        seed: the seed.
        folder: its run folder; the name ends in `-seed<N>`.
        finished: whether that is complete already.
        loaded: the configuration of this run.
    """

    seed: int
    folder: Path
    finished: bool
    loaded: LoadedConfig


def once_or_by_seed(arguments: Arguments, work: Callable[[LoadedConfig], object]) -> int:
    """Do `work` on the configuration, with `--seeds` once for each of them.

    Returns:
        Exit code: 2 where a seed failed.

    Raises:
        ConfigError: the configuration is wrong, or the seeds cannot be run in turn.
    """
    if arguments["print_config"]:
        print_config(load(arguments))
    elif arguments["seeds"] is None:
        work(load(arguments))
    else:
        return _series(plan_series(arguments), work)
    return 0


def _series(runs: list[SeedRun], work: Callable[[LoadedConfig], object]) -> int:
    """All seeds in turn; one that fails is told at once and does not keep the others from running."""
    failed: dict[int, str] = {}
    for number, run in enumerate(runs, 1):
        print(f"seed {run.seed} ({number} of {len(runs)}): {run.folder}" + (", finished before" * run.finished))
        try:
            if not run.finished:
                work(run.loaded)
        except TalkingFaceError as error:
            failed[run.seed] = str(error)
            print(f"error: seed {run.seed}: {printable(str(error))}", file=sys.stderr)
        except Exception as error:
            failed[run.seed] = type(error).__name__
            if advice := out_of_memory(error):
                print(f"error: seed {run.seed}: {advice}", file=sys.stderr)
            else:  # a bug: it is to be seen in full, and the other seeds are to be kept all the same
                traceback.print_exc()
    done = [str(run.folder) for run in runs if run.seed not in failed]
    if len(done) > 1:
        command = f"python run_talkingface.py compare --group {shlex.join(done)}"
        print(f"mean and deviation over {len(done)} seeds: {command}")
    if failed:
        which = f"{len(failed)} of {len(runs)} seeds failed: {', '.join(map(str, failed))}"
        print(f"error: {which}; mend it and add --resume=auto", file=sys.stderr)
    return 2 if failed else 0


def plan_series(arguments: Arguments) -> list[SeedRun]:
    """What is to be done for each seed; whatever is wrong is found here, before the first one starts.

    Raises:
        ConfigError: see there.
    """
    seeds = read_seeds(arguments["seeds"])
    config = load(arguments).config
    _check(arguments, config)
    parent = Path(config.saved_dir) / f"{config.model_name}-{config.dataset}"
    going_on = config.resume == "auto"
    name = config.run_name or (going_on and _unfinished_series(parent, seeds)) or _new_name(parent, seeds)
    runs = [_seed_run(arguments, seed, parent / f"{name}-seed{seed}", going_on) for seed in seeds]
    taken = [str(run.folder) for run in runs if _status(run.folder) != "new"]
    if taken and not going_on:
        raise ConfigError(f"{', '.join(taken)}: there already; go on with --resume=auto, or choose another --run_name")
    return runs


def _seed_run(arguments: Arguments, seed: int, folder: Path, going_on: bool) -> SeedRun:
    """A seed's configuration: an open run is resumed by its path, one that was never begun is new."""
    status = _status(folder)
    resume = {"resume": str(folder)} if going_on and status == "running" else {"resume": "none"}
    overrides = arguments.overrides | {"seed": seed, "run_name": folder.name} | resume
    return SeedRun(seed, folder, going_on and status == "finished", load(replace(arguments, overrides=overrides)))


def read_seeds(text: str) -> list[int]:
    """`1,2,3`, also with blanks or in brackets, as numbers.

    Raises:
        ConfigError: it is something else, or a seed comes twice.
    """
    words = text.strip().strip("[]()").replace(",", " ").split()
    if not words or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words):
        raise ConfigError(f"command line: --seeds={text}: whole numbers from 0 on, as in --seeds=1,2,3")
    seeds = [int(word) for word in words]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"command line: --seeds={text}: a seed comes twice; its runs would be the same")
    return seeds


def _check(arguments: Arguments, config: Config) -> None:
    if "seed" in arguments.overrides:
        raise ConfigError("command line: give --seed or --seeds, not both")
    if not config.train:
        raise ConfigError("command line: --seeds trains; with --train=False there is nothing to repeat")
    if config.resume not in ("none", "auto"):
        raise ConfigError(f"--resume={config.resume}: with --seeds give --resume=auto, which goes on with all of them")
    from talkingface.training.launchers import take_slurm
    from talkingface.training.processes import in_several

    take_slurm(os.environ)
    if in_several(config):
        raise ConfigError("--seeds runs in one process; with several GPUs start one command per seed, with --seed=N")


def _status(folder: Path) -> str:
    from talkingface.weights.runs import RunFolder

    return RunFolder(folder).status


def _unfinished_series(parent: Path, seeds: list[int]) -> str | None:
    """Name of the latest series of runs that has one of these seeds, and not all of them finished."""
    names: dict[str, float] = {}
    for file in parent.glob("*/run.json"):
        match = re.fullmatch(r"(.+)-seed(\d+)", file.parent.name)
        if match and int(match[2]) in seeds:
            names[match[1]] = max(names.get(match[1], 0.0), file.stat().st_mtime)
    still_open = [n for n in names if any(_status(parent / f"{n}-seed{seed}") != "finished" for seed in seeds)]
    return max(still_open, key=lambda name: names[name], default=None)


def _new_name(parent: Path, seeds: list[int]) -> str:
    """The time, as of any run without a name; a series that began in the same second has another one."""
    name, number = time.strftime("%Y%m%d-%H%M%S"), 2
    free = name
    while any((parent / f"{free}-seed{seed}").exists() for seed in seeds):
        free, number = f"{name}-{number}", number + 1
    return free
