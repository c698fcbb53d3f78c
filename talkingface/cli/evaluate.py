"""`evaluate`: scores a trained model, videos of another system, or the metrics themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.cli.arguments import Arguments, Command, Option
from talkingface.cli.configuration import CONFIGURED, load, load_without_model, print_config
from talkingface.errors import ConfigError, DataError
from talkingface.files import writable_folder

if TYPE_CHECKING:
    from talkingface.evaluation.self_test.run import Outcome

REPORT = "evaluation"
"""Folder of the report where no model takes part."""


def evaluate(arguments: Arguments) -> int | None:
    """One of the three kinds of evaluation, told apart by their options."""
    if arguments["generated"] or arguments["reference"]:
        return evaluate_folders(arguments)
    if arguments["self_test"]:
        return run_self_test(arguments)
    return evaluate_model(arguments)


def evaluate_model(arguments: Arguments) -> None:
    """Score a trained model on the test list."""
    if arguments["checkpoint"]:
        arguments.overrides["evaluate_model_file"] = arguments["checkpoint"]
    loaded = load(arguments)
    if arguments["print_config"]:
        return print_config(loaded)
    from talkingface.workflow import evaluate

    result = evaluate(loaded, arguments["output"])
    if result is not None:  # a helper process leaves it to the first
        print(result.table())


def evaluate_folders(arguments: Arguments) -> None:
    """Score the videos of one folder against those of the same names in another.

    Raises:
        ConfigError: an unknown key, or an option that makes no sense here.
        DataError: no pair of videos, not one that could be scored, or no metric that could be computed.
        OutputError: the report's folder cannot be written.
    """
    generated, reference = (_folder(name, arguments[name]) for name in ("generated", "reference"))
    for option in ("model", "dataset", "checkpoint", "self_test"):
        if arguments[option]:
            raise ConfigError(f"--{option} does not go with --generated and --reference, which score plain files")
    output = arguments["output"] or REPORT
    if any(Path(output).resolve() == folder.resolve() for folder in (generated, reference)):
        raise ConfigError(f"--output={output}: holds the videos to score; choose a folder of its own for the report")
    loaded = load_without_model(arguments)
    if arguments["print_config"]:
        return print_config(loaded)
    from talkingface.devices import limit_threads
    from talkingface.evaluation.folders import require_figures, score_folders

    limit_threads(loaded.config.threads)
    result = score_folders(loaded, generated, reference, output)
    print(result.table())
    require_figures(result)


def _folder(option: str, value: str | None) -> Path:
    if not value:
        raise ConfigError(f"give --{option}=DIR too: --generated names the videos to score, --reference the real ones")
    path = Path(value)
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "no such folder"
        raise DataError(f"--{option}={value}: {what}")
    return path


def run_self_test(arguments: Arguments) -> int | None:
    """Run all checks on a few clips, print a line for each, and write `self_test.json`.

    Returns:
        1 if a check failed.

    Raises:
        ConfigError: an unknown key, or an option that makes no sense here.
        DataError: fewer than two clips can be used; with `evaluation.strict`, no check failed but one could not run.
        OutputError: the report's folder cannot be written.
    """
    for option in ("model", "checkpoint"):
        if arguments[option]:
            raise ConfigError(f"--{option} does not go with --self_test, which checks the metrics and no model")
    loaded = load_without_model(arguments, arguments["dataset"] or "demo")
    if arguments["print_config"]:
        return print_config(loaded)
    from talkingface.devices import limit_threads
    from talkingface.evaluation.self_test.run import open_self_test

    limit_threads(loaded.config.threads)
    file = writable_folder(arguments["output"] or REPORT) / "self_test.json"
    told: set[str] = set()
    with open_self_test(loaded) as test:
        print(f"self-test on {len(test.clips)} clips of {test.dataset}, networks on {test.device}")
        for outcome in test.run():
            print(_line(outcome, told), flush=True)
    test.write(file)
    print(f"{test.summary()}; details in {file}")
    if test.failed:
        return 1
    if loaded.config.evaluation.strict:
        test.require_all()
    return None


def _line(outcome: Outcome, told: set[str]) -> str:
    """A line about a check; a reason that was given before is not repeated."""
    known = outcome.not_here and outcome.detail in told
    told.add(outcome.detail)
    return outcome.line("as above" if known else outcome.detail)


EVALUATE = Command(
    line="score a trained model on the test list, videos of another system, or the metrics themselves",
    options=(
        Option("checkpoint", "run folder or .pt file (also --evaluate_model_file)"),
        Option("generated", "folder of videos that another system made; needs --reference, no model"),
        Option("reference", "folder of the real videos, under the same names"),
        Option("output", f"folder of the report; default: RUN/eval, without a model: {REPORT}"),
        Option("self_test", "check the metrics on clips of --dataset: shifted, shuffled, identical", flag=True),
        *CONFIGURED,
    ),
    run=evaluate,
    takes_keys=True,
)
