"""The same training with several settings and seeds, in turn or on a Ray cluster, and one report about all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.config.folder_names import MOST_BYTES
from talkingface.errors import TalkingFaceError, out_of_memory
from talkingface.evaluation.report.compare import Compared, Wanted, compare_runs
from talkingface.packages import need
from talkingface.plugin.registry import PLUGIN_VARIABLE
from talkingface.ray_cluster import connected, same_modules
from talkingface.workflow import prepare, run_configured
from talkingface.workflow.prerequisites import with_prerequisites

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig

SEED = "seed"


@dataclass(frozen=True)
class Point:
    """One combination of settings.

    Attributes:
        settings: dotted key -> value.
        name: of its run folder; what comes before `-seed<N>` is the same for runs that differ in their seed only.
    """

    settings: Mapping[str, Any]
    name: str


@dataclass(frozen=True)
class Job:
    """A point with its configuration.

    Attributes:
        name: of its run folder.
        folder: where that is.
        loaded: the configuration.
        finished: whether it is complete already.
    """

    name: str
    folder: Path
    loaded: LoadedConfig
    finished: bool = False


Told = Callable[[Job, str], None]
"""Hears of every job that has ended: the reason for which it failed, empty where it did not."""


def points(over: Mapping[str, Sequence[Any]], name: str) -> list[Point]:
    """Every combination, the last key changing fastest.

    Args:
        over: dotted key -> its values.
        name: first part of the names of the run folders.
    """
    found = []
    for values in product(*over.values()):
        settings = dict(zip(over, values, strict=True))
        found.append(Point(settings, _name_of(name, settings, len(found))))
    return found


def _name_of(name: str, settings: Mapping[str, Any], index: int) -> str:
    """`name-lr=0.0001-seed1`; settings too long for a folder's name are counted instead."""
    others = [key for key in settings if key != SEED]
    shown = [key.rpartition(".")[2] for key in others]
    parts = [f"{short if shown.count(short) == 1 else key}={settings[key]}" for key, short in zip(others, shown)]
    text = "-".join([name, *(re.sub(r"[^\w.=+-]+", "_", part).strip("_") for part in parts)])
    seed = f"-{SEED}{settings[SEED]}" if SEED in settings else ""
    return f"{text}{seed}" if len(f"{text}{seed}".encode()) <= MOST_BYTES else f"{name}-{index:03d}{seed}"


def run_in_turn(jobs: Sequence[Job], told: Told) -> None:
    """One job after the other; one that fails does not keep the others from running.

    A failure that is no error of the user's, a bug, is raised once all have run.
    """
    bugs: list[Exception] = []
    for job in jobs:
        try:
            if not job.finished:
                run_configured(job.loaded)
            told(job, "")
        except TalkingFaceError as error:
            told(job, str(error))
        except Exception as error:
            advice = out_of_memory(error)
            told(job, advice or f"{type(error).__name__}: {error}")
            bugs += [] if advice else [error]
    if bugs:
        raise bugs[0]


def run_on_ray(jobs: Sequence[Job], told: Told, address: str = "local", gpus: float | None = None) -> None:
    """All jobs on a Ray cluster, as many at once as it has room for.

    The data are prepared here first, so that jobs which share them find them made; so are the runs that they borrow
    from, where those may be (`prerequisites: train`).

    Args:
        jobs: what is to be done; all see the same folders.
        told: hears of every job that ends, in the order in which they do.
        address: of the cluster, `auto` for the one that runs here; `local` starts one on this machine.
        gpus: of a job, parts of one too; None: one, where the cluster has any.

    Raises:
        PackageMissing: Ray is not installed.
        ConfigError: there is no cluster at this address.
        LenderMissing: there is no run to borrow from, and it is not to be made.
    """
    need("ray", "sweep --executor=ray")
    for loaded in _distinct_data(jobs):
        prepare(with_prerequisites(loaded, run_configured))
    with connected(address, "--ray_address", "leave it out") as ray:
        options = {"num_cpus": 1, "num_gpus": gpus_each(ray.cluster_resources(), gpus), "max_retries": 0}
        remote = ray.remote(**options, runtime_env=same_modules(PLUGIN_VARIABLE))(_run_there)
        running = {remote.remote(job.loaded, os.getcwd()): job for job in jobs if not job.finished}
        for job in jobs:
            if job.finished:
                told(job, "")
        while running:
            [done], _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                told(job, ray.get(done))
            except ray.exceptions.RayError as error:
                told(job, f"its worker ended ({type(error).__name__})")


def gpus_each(resources: Mapping[str, float], wanted: float | None) -> float:
    """GPUs of a run: Ray hides them all from a task that asks for none, which would then train on the CPU."""
    if wanted is not None:
        return wanted
    return 1.0 if resources.get("GPU", 0) > 0 else 0.0


def _run_there(loaded: LoadedConfig, folder: str) -> str:
    """A job in a worker of Ray: the reason for which it failed, empty where it did not."""
    os.chdir(folder)  # places in the configuration are relative to where the command was given
    try:
        run_configured(loaded)
    except Exception as error:
        return str(error) if isinstance(error, TalkingFaceError) else f"{type(error).__name__}: {error}"
    return ""


def _distinct_data(jobs: Sequence[Job]) -> Iterator[LoadedConfig]:
    """Configurations whose data are to be prepared; seeds share theirs."""
    known: list[tuple[Any, ...]] = []
    for job in jobs:
        config = job.loaded.config
        data = (config.model, config.preprocess, config.preprocessed_root, config.data_root, config.demo)
        if config.need_preprocess and not job.finished and data not in known:
            known.append(data)
            yield job.loaded


def report(folders: Sequence[Path], output: str | Path) -> Compared:
    """One report about runs: those that differ in their seed only become one, with mean, deviation and interval."""
    return compare_runs(folders, output, Wanted(group=True))
