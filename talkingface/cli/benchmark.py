"""`benchmark`: how fast this machine does each part of the work."""

from __future__ import annotations

import json
import math
from pathlib import Path

from talkingface.cli.arguments import Arguments, Command, Option
from talkingface.cli.configuration import CONFIGURED, load, print_config
from talkingface.errors import ConfigError, unknown
from talkingface.files import write_text


def benchmark(arguments: Arguments) -> None:
    """Print the figures as JSON and as a table; also write the JSON where asked.

    Raises:
        ConfigError: `--only` names something else than a part, or `--seconds` is no time.
    """
    if not 0 < arguments["seconds"] < math.inf:
        raise ConfigError(f"command line: --seconds must be a positive number, got {arguments['seconds']:g}")
    loaded = load(arguments, dataset="demo")
    if arguments["print_config"]:
        return print_config(loaded)
    from talkingface.benchmark.speed import PARTS, measure, table
    from talkingface.devices import limit_threads

    limit_threads(loaded.config.threads)
    only = [name.strip() for name in (arguments["only"] or ",".join(PARTS)).split(",")]
    for name in only:
        if name not in PARTS:
            raise ConfigError(unknown("part of `benchmark --only`:", name, PARTS))
    figures = measure(loaded, arguments["seconds"], only)
    text = json.dumps(figures, indent=2)
    print(text)
    print(table(figures))
    if arguments["json"]:
        write_text(Path(arguments["json"]), text + "\n")


BENCHMARK = Command(
    line="measure data loading, training, generation and preprocessing speed",
    options=(
        Option("json", "also write the figures to this file"),
        Option("seconds", "time spent on each figure; work that takes longer is done once", 5.0, type=float),
        Option("only", "measure these parts alone: preprocessing,training,generation,metrics"),
        *CONFIGURED,
    ),
    run=benchmark,
    takes_keys=True,
)
