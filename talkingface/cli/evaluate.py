"""The commands that score files and the metrics themselves."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.errors import ConfigError, DataError
from talkingface.evaluation.folders import _score
from talkingface.evaluation.self_test.run import FAILED, NOT_HERE, OK, _bench, _wanted, run_checks
from talkingface.files import atomic_output, output_folder
from talkingface.plugin.configuration import load_settings

if TYPE_CHECKING:
    from talkingface.cli.arguments import Arguments


def evaluate_folders(generated: str | None, reference: str | None, output: str, arguments: Arguments) -> int:
    """Score the videos of one folder against those of the same names in another, and print the table.

    Args:
        generated: folder of videos that some system made.
        reference: folder of the real videos.
        output: folder of the report.
        arguments: the command line, for configuration keys and further files.

    Returns:
        0.

    Raises:
        ConfigError: an unknown key, or an option that makes no sense here.
        DataError: no pair of videos, or not one that could be scored.
        OutputError: `output` cannot be written.
    """
    from talkingface.cli.arguments import split_files
    from talkingface.devices import limit_threads

    folders = [_folder(name, value) for name, value in (("generated", generated), ("reference", reference))]
    for option in ("model", "dataset", "checkpoint", "self_test"):
        if arguments[option]:
            raise ConfigError(f"--{option} does not go with --generated and --reference, which score plain files")
    if any(Path(output).resolve() == folder.resolve() for folder in folders):
        raise ConfigError(f"--output={output}: holds the videos to score; choose a folder of its own for the report")
    loaded = load_settings(split_files(arguments["config_files"]), arguments.overrides)
    if arguments["print_config"]:
        print(loaded.to_yaml(with_origins=True))
        return 0
    limit_threads(loaded.config.threads)
    if "shuffled" in loaded.config.evaluation.rows:
        raise ConfigError("evaluation.rows: 'shuffled' needs a model that can be given another voice; leave it out")
    with tempfile.TemporaryDirectory(prefix="talkingface-") as landmarks:
        _score(loaded, *folders, output_folder(output), Path(landmarks))
    return 0


def _folder(option: str, value: str | None) -> Path:
    if not value:
        raise ConfigError(f"give --{option}=DIR too: --generated names the videos to score, --reference the real ones")
    path = Path(value)
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "no such folder"
        raise DataError(f"--{option}={value}: {what}")
    return path


def run_self_test(dataset: str | None, output: str, arguments: Arguments) -> int:
    """Run all checks on a few clips, print a line for each, and write `self_test.json`.

    Args:
        dataset: name of a data set; None: the demo, which is made if it is not there.
        output: folder to write to.
        arguments: the command line, for configuration keys and further files.

    Returns:
        0, or 1 if a check failed.

    Raises:
        ConfigError: an unknown key, or an option that makes no sense here.
        DataError: fewer than two clips can be used; with `evaluation.strict`, no check failed but one could not run.
        OutputError: `output` cannot be written.
    """
    from talkingface.cli.arguments import split_files
    from talkingface.devices import limit_threads

    for option in ("model", "checkpoint"):
        if arguments[option]:
            raise ConfigError(f"--{option} does not go with --self_test, which checks the metrics and no model")
    loaded = load_settings(split_files(arguments["config_files"]), arguments.overrides, dataset or "demo")
    if arguments["print_config"]:
        print(loaded.to_yaml(with_origins=True))
        return 0
    limit_threads(loaded.config.threads)
    folder = output_folder(output)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="talkingface-") as temporary:
        bench = _bench(loaded.config, Path(temporary))
        print(f"self-test on {len(bench.clips)} clips of {loaded.config.dataset}, networks on {bench.device}")
        outcomes = list(run_checks(bench, _wanted(loaded)))
    seconds = time.monotonic() - started
    counts = Counter(outcome.status for outcome in outcomes)
    content = {
        "dataset": loaded.config.dataset,
        "clips": [clip.clip_id for clip in bench.clips],
        "device": bench.device,
        "seconds": round(seconds, 1),
        "counts": {status: counts[status] for status in (OK, FAILED, NOT_HERE)},
        "checks": [outcome.to_json() for outcome in outcomes],
    }
    with atomic_output(folder / "self_test.json") as file:
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    summary = ", ".join(f"{counts[status]} {status}" for status in (OK, FAILED, NOT_HERE))
    print(f"{summary} in {seconds:.0f} s; details in {folder / 'self_test.json'}")
    if counts[FAILED]:
        return 1
    if loaded.config.evaluation.strict and counts[NOT_HERE]:
        first = next(outcome for outcome in outcomes if outcome.status == NOT_HERE)
        raise DataError(f"{first.check.metric} could not be checked: {first.detail}")
    return 0
