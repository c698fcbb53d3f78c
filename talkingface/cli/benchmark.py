"""`benchmark`: how fast this machine does each part of the work."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.cli.arguments import Arguments, Command, Option
from talkingface.cli.configuration import CONFIGURED, load, print_config
from talkingface.errors import ConfigError, TalkingFaceError, unknown
from talkingface.files import write_text

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig

ALL = "all"
_MOST_MINUTES = 30.0


def benchmark(arguments: Arguments) -> None:
    """Print the figures as JSON and as a table; also write the JSON where asked, and compare with an older one.

    Raises:
        ConfigError: `--only` names something else than a part, or `--seconds` is no time.
        DataError: what is compared with is no benchmark.
    """
    if not 0 < arguments["seconds"] < math.inf:
        raise ConfigError(f"command line: --seconds must be a positive number, got {arguments['seconds']:g}")
    minutes = _most_minutes(arguments)
    loaded = _configurations(arguments)
    if arguments["print_config"]:
        return print_config(next(each for each in loaded.values() if not isinstance(each, str)))
    from talkingface.benchmark.compare import compared, read_figures
    from talkingface.benchmark.overview import overview
    from talkingface.benchmark.speed import table

    old = read_figures(arguments["compare"]) if arguments["compare"] else None  # a mistake is known before the work
    figures = _measured(arguments, loaded, minutes)
    text = json.dumps(figures, indent=2)
    print(text)
    print(overview(figures) if "models" in figures else table(figures))
    if arguments["json"]:
        write_text(Path(arguments["json"]), text + "\n")
    if old is not None:
        print("\n".join(compared(old, figures)))


def _configurations(arguments: Arguments) -> dict[str, LoadedConfig | str]:
    """That of the model, or of every model; of several, one without what is asked for has the reason instead.

    Raises:
        ConfigError: no model can be configured so.
    """
    if not _is_all(arguments):
        loaded = load(arguments, dataset="demo")
        return {loaded.config.model_name: loaded}
    from talkingface.plugin.registry import list_models

    found: dict[str, LoadedConfig | str] = {}
    for name in list_models():
        try:
            found[name] = load(replace(arguments, options={**arguments.options, "model": name}), dataset="demo")
        except TalkingFaceError as error:
            found[name] = str(error)
    if all(isinstance(each, str) for each in found.values()):
        raise ConfigError(str(next(iter(found.values()))))
    return found


def _most_minutes(arguments: Arguments) -> float:
    """For one of several models.

    Raises:
        ConfigError: it is no time, or there is but one model.
    """
    given = arguments["most_minutes"]
    if given is not None and not _is_all(arguments):
        raise ConfigError("command line: --most_minutes goes with --model=all")
    if given is not None and not 0 < given < math.inf:
        raise ConfigError(f"command line: --most_minutes must be a positive number, got {given:g}")
    return given or _MOST_MINUTES


def _is_all(arguments: Arguments) -> bool:
    """Whether every model is asked for."""
    return str(arguments["model"]).lower() == ALL


def _say(line: str) -> None:
    """How far the work is, beside what it gives."""
    print(line, file=sys.stderr, flush=True)


def _measured(arguments: Arguments, loaded: dict[str, LoadedConfig | str], minutes: float) -> dict[str, Any]:
    """The figures; of several models the tables are printed as they come."""
    from talkingface.benchmark.every import measure_models
    from talkingface.benchmark.speed import EXTRA_PARTS, PARTS, measure
    from talkingface.devices import limit_threads
    from talkingface.packages import need

    only = [name.strip() for name in (arguments["only"] or ",".join(PARTS)).split(",")]
    for name in only:
        if name not in (*PARTS, *EXTRA_PARTS):
            raise ConfigError(unknown("part of `benchmark --only`:", name, (*PARTS, *EXTRA_PARTS)))
    if "onnx" in only:
        need("onnx", "benchmark --only=onnx")
    if _is_all(arguments):
        shown = lambda text: print(text, flush=True)  # noqa: E731
        return measure_models(loaded, arguments["seconds"], minutes * 60, only, shown, _say)
    [one] = loaded.values()
    limit_threads(one.config.threads)
    return measure(one, arguments["seconds"], only, lambda part, _: _say(part))


BENCHMARK = Command(
    line="measure data loading, training, generation, evaluation and preprocessing speed; --model=all: of every model",
    options=(
        Option("json", "also write the figures to this file"),
        Option("compare", "an older file of --json: print how many times faster each figure is now"),
        Option("seconds", "time spent on each figure; work that takes longer is done once", 5.0, type=float),
        Option(
            "most_minutes",
            f"with --model=all: that one model may take, with its data; default {_MOST_MINUTES:g}",
            type=float,
        ),
        Option("only", "measure these parts alone: preprocessing,training,generation,evaluation,metrics,onnx"),
        *CONFIGURED,
    ),
    run=benchmark,
    takes_keys=True,
)
