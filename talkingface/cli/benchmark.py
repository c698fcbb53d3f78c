"""`benchmark`: how fast this machine does each part of the work."""

from __future__ import annotations

import json
import math
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


def benchmark(arguments: Arguments) -> None:
    """Print the figures as JSON and as a table; also write the JSON where asked, and compare with an older one.

    Raises:
        ConfigError: `--only` names something else than a part, or `--seconds` is no time.
        DataError: what is compared with is no benchmark.
    """
    if not 0 < arguments["seconds"] < math.inf:
        raise ConfigError(f"command line: --seconds must be a positive number, got {arguments['seconds']:g}")
    loaded = _configurations(arguments)
    if arguments["print_config"]:
        return print_config(next(each for each in loaded.values() if not isinstance(each, str)))
    from talkingface.benchmark.compare import compared, read_figures
    from talkingface.benchmark.speed import table

    old = read_figures(arguments["compare"]) if arguments["compare"] else None  # a mistake is known before the work
    figures = _measured(arguments, loaded)
    text = json.dumps(figures, indent=2)
    print(text)
    if "models" not in figures:
        print(table(figures))
    if arguments["json"]:
        write_text(Path(arguments["json"]), text + "\n")
    if old is not None:
        print("\n".join(compared(old, figures)))


def _configurations(arguments: Arguments) -> dict[str, LoadedConfig | str]:
    """That of the model, or of every model; of several, one without what is asked for has the reason instead.

    Raises:
        ConfigError: no model can be configured so.
    """
    if str(arguments["model"]).lower() != ALL:
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


def _measured(arguments: Arguments, loaded: dict[str, LoadedConfig | str]) -> dict[str, Any]:
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
    if str(arguments["model"]).lower() == ALL:
        return measure_models(loaded, arguments["seconds"], only, lambda text: print(text, flush=True))
    [one] = loaded.values()
    limit_threads(one.config.threads)
    return measure(one, arguments["seconds"], only)


BENCHMARK = Command(
    line="measure data loading, training, generation, evaluation and preprocessing speed; --model=all: of every model",
    options=(
        Option("json", "also write the figures to this file"),
        Option("compare", "an older file of --json: print how many times faster each figure is now"),
        Option("seconds", "time spent on each figure; work that takes longer is done once", 5.0, type=float),
        Option("only", "measure these parts alone: preprocessing,training,generation,evaluation,metrics,onnx"),
        *CONFIGURED,
    ),
    run=benchmark,
    takes_keys=True,
)
