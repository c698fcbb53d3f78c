"""What commands share that run on a configuration: their options, reading it, and showing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.cli.arguments import HELP, Arguments, Option, split_files
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig

MODEL = Option("model", "model name, see `list`")

CONFIGURED = (
    MODEL,
    Option("dataset", "data set name, see `list`"),
    Option("config_files", 'more YAML files, blank-separated: "a.yaml b.yaml"'),
    Option("print_config", "show every value with the file it came from, and stop", flag=True),
    HELP,
)


def load(arguments: Arguments, dataset: str | None = None) -> LoadedConfig:
    """The configuration that the command line asks for.

    Args:
        arguments: of a command that has the options `CONFIGURED`.
        dataset: name of the data set where none is given.

    Model and data set may also be named by the files.

    Raises:
        ConfigError: no model or data set is named, or the configuration is wrong.
    """
    from talkingface.plugin.configuration import load_config

    files = split_files(arguments["config_files"])
    named = _named_in(files)
    model = arguments["model"] or named.get("model_name")
    dataset = arguments["dataset"] or named.get("dataset") or dataset
    if not model or not dataset:
        missing = " and ".join(f"--{n}=NAME" for n, v in (("model", model), ("dataset", dataset)) if not v)
        raise ConfigError(f"give {missing}; `python run_talkingface.py list` shows the names")
    return load_config(model, dataset, files, arguments.overrides)


def _named_in(files: list[str]) -> dict[str, str]:
    """Model and data set that files name, as what `--print_config` shows does; later files win."""
    named: dict[str, str] = {}
    for file in files:
        content = read_yaml(Path(file))[0]
        named |= {key: content[key] for key in ("model_name", "dataset") if isinstance(content.get(key), str)}
    return named


def load_without_model(arguments: Arguments, dataset: str | None = None) -> LoadedConfig:
    """The configuration of a command in which no model takes part, on a data set or on none."""
    from talkingface.plugin.configuration import load_settings

    return load_settings(split_files(arguments["config_files"]), arguments.overrides, dataset)


def print_config(loaded: LoadedConfig) -> None:
    """What `--print_config` shows: every value with the file it came from, as a YAML file that loads again."""
    print(loaded.to_yaml(with_origins=True))
