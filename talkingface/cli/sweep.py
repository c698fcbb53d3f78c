"""`sweep`: one training for every combination of settings, and one report."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.cli.arguments import Arguments, Command, Option
from talkingface.cli.configuration import CONFIGURED, load, print_config
from talkingface.config.yaml_files import parse_value
from talkingface.errors import ConfigError, printable, unknown

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.evaluation.report.compare import Compared
    from talkingface.sweep import Job

EXECUTORS = ("local", "ray")


def sweep(arguments: Arguments) -> int:
    """Run all combinations and compare what they have become.

    Returns:
        Exit code: 2 where a run failed.

    Raises:
        ConfigError: the settings are wrong, or the runs cannot be made in turn.
    """
    over = read_over(arguments["over"] or ())
    config = load(arguments)
    if arguments["print_config"]:
        print_config(config)
        return 0
    _check(arguments, over, config.config)
    name = config.config.run_name or time.strftime("sweep-%Y%m%d-%H%M%S")
    jobs = plan(arguments, over, config.config, name)
    failed = _run(arguments, jobs)
    done = [job.folder for job in jobs if job.name not in failed]
    if done:
        from talkingface.sweep import report

        _show(report(done, arguments["output"] or jobs[0].folder.parent / f"{name}-report"))
    if failed:
        print(f"error: {len(failed)} of {len(jobs)} runs failed; mend it and add --resume=auto", file=sys.stderr)
    return 2 if failed else 0


def read_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`KEY=a,b` of every `--over`: dotted key -> its values.

    Raises:
        ConfigError: another form, a key twice, or a value twice.
    """
    over: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        found = parse_value(f"[{values}]") if equals and key else None
        if not isinstance(found, list) or not found:
            raise ConfigError(f"command line: --over={text}: expected KEY=VALUE,VALUE, as in --over seed=1,2,3")
        if key in over:
            raise ConfigError(f"command line: --over names {key} twice; put all its values into one")
        if any(found.count(value) > 1 for value in found):
            raise ConfigError(f"command line: --over={text}: a value comes twice; its runs would be the same")
        over[key] = found
    if not over:
        raise ConfigError("command line: `sweep` needs --over KEY=a,b, once for each key; --over seed=1,2,3 for seeds")
    return over


def _check(arguments: Arguments, over: dict[str, list[Any]], config: Config) -> None:
    for key in over:
        if key in arguments.overrides:
            raise ConfigError(f"command line: give --{key} or --over {key}=..., not both")
    if arguments["executor"] not in EXECUTORS:
        raise ConfigError(unknown("--executor", arguments["executor"], EXECUTORS))
    for option in ("ray_address", "gpus_per_run"):
        if arguments["executor"] == "local" and arguments[option] is not None:
            raise ConfigError(f"command line: --{option} goes with --executor=ray")
    if not 0 <= (arguments["gpus_per_run"] or 0) < math.inf:
        raise ConfigError(f"command line: --gpus_per_run={arguments['gpus_per_run']:g}: must be 0 or more")
    if not (config.train and config.evaluate):
        raise ConfigError("command line: `sweep` trains and compares; leave --train and --evaluate as they are")
    if config.resume not in ("none", "auto"):
        raise ConfigError(f"--resume={config.resume}: give `sweep` --resume=auto, which goes on with all of its runs")
    if config.resume == "auto" and not config.run_name:
        raise ConfigError("--resume=auto: name the sweep that is to go on, with the --run_name that it had")
    if config.distributed.devices * config.distributed.num_nodes > 1 or "LOCAL_WORLD_SIZE" in os.environ:
        raise ConfigError("`sweep` runs each training in one process; start one command per run for several devices")


def plan(arguments: Arguments, over: dict[str, list[Any]], config: Config, name: str) -> list[Job]:
    """The runs; whatever is wrong with one of them is found here, before the first one starts.

    Args:
        arguments: of the command.
        over: dotted key -> its values.
        config: what all runs have in common.
        name: first part of the names of the run folders.

    Raises:
        ConfigError: a setting is wrong, or a run folder is there already.
    """
    from talkingface.sweep import Job, points
    from talkingface.weights.runs import RunFolder

    parent = Path(config.saved_dir) / f"{config.model_name}-{config.dataset}"
    going_on, jobs = config.resume == "auto", []
    for point in points(over, name):
        folder = parent / point.name
        status = RunFolder(folder).status
        if status != "new" and not going_on:
            raise ConfigError(f"{folder}: there already; go on with --resume=auto, or choose another --run_name")
        resume = str(folder) if going_on and status == "running" else "none"
        changed = arguments.overrides | dict(point.settings) | {"run_name": point.name, "resume": resume}
        loaded = load(replace(arguments, overrides=changed))
        jobs.append(Job(point.name, folder, loaded, finished=status == "finished"))
    return jobs


def _run(arguments: Arguments, jobs: list[Job]) -> dict[str, str]:
    """Run them; the names of those that failed, with their reasons."""
    from talkingface.sweep import run_in_turn, run_on_ray

    failed: dict[str, str] = {}
    ended: list[str] = []

    def told(job: Job, reason: str) -> None:
        ended.append(job.name)
        said = "finished before" if job.finished else "done"
        print(f"{len(ended)} of {len(jobs)}: {job.folder}, {'failed' if reason else said}", flush=True)
        if reason:
            failed[job.name] = reason
            print(f"error: {job.name}: {printable(reason)}", file=sys.stderr)

    if arguments["executor"] == "ray":
        run_on_ray(jobs, told, arguments["ray_address"] or "local", arguments["gpus_per_run"])
    else:
        run_in_turn(jobs, told)
    return failed


def _show(found: Compared) -> None:
    from talkingface.evaluation.report.seed_table import printed_seeds

    print(printed_seeds(found.groups, found.comparison))
    print(f"wrote {found.files[0]}")


SWEEP = Command(
    line="train with every combination of settings and seeds, and compare: --over KEY=a,b --over seed=1,2,3",
    options=(
        Option("over", "KEY=a,b: a configuration key and its values; may be repeated", repeated=True),
        Option("output", "folder of the report; default: <run_name>-report beside the runs"),
        Option("executor", "local: one run after the other; ray: as many at once as a Ray cluster takes", "local"),
        Option("ray_address", "of the cluster, `auto` for the one that runs here; default: start one on this machine"),
        Option("gpus_per_run", "of Ray, parts of one too; default: 1 where the cluster has any", type=float),
        *CONFIGURED,
    ),
    run=sweep,
    takes_keys=True,
    kept="what was finished is kept, --resume=auto with the same --run_name goes on",
)
