"""The command line: one parser for `--key=value` and `--key value`, declared options and configuration keys alike."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from talkingface.config.yaml_files import parse_value
from talkingface.errors import ConfigError

SHORT = {"-m": "--model", "-d": "--dataset", "-h": "--help"}


@dataclass(frozen=True)
class Option:
    """An option of a command that is no configuration key."""

    name: str
    help: str
    default: Any = None
    flag: bool = False
    required: bool = False
    type: type = str


@dataclass
class Arguments:
    """A parsed command line."""

    command: str
    options: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.options[name]


def parse(
    argv: Sequence[str], commands: dict[str, tuple[Option, ...]], default: str, takes_keys: set[str]
) -> Arguments:
    """Split `argv` into command, its options and configuration overrides.

    Args:
        argv: arguments without the program name.
        commands: options of each command.
        default: command when none is named.
        takes_keys: commands that accept configuration keys.

    Raises:
        ConfigError: unknown command or option, missing value, or the same option twice with different values.
    """
    tokens = [SHORT.get(token, token) for token in argv]
    command = default
    if tokens and not tokens[0].startswith("-"):
        command = tokens.pop(0)
        if command not in commands:
            from talkingface.errors import unknown

            raise ConfigError(unknown("command", command, commands))
    known = {option.name: option for option in commands[command]}
    out = Arguments(command, {name: option.default for name, option in known.items()})
    given: dict[str, str] = {}
    while tokens:
        token = tokens.pop(0)
        if not token.startswith("--"):
            out.words.append(token)
            continue
        name, equals, text = token[2:].partition("=")
        option = known.get(name) or known.get(name.replace("-", "_"))
        if option is not None and option.flag:
            out.options[option.name] = parse_value(text) is not False if equals else True
            continue
        if not equals:
            if not tokens or tokens[0].startswith("--"):
                raise ConfigError(f"command line: --{name} needs a value: --{name}=VALUE")
            text = tokens.pop(0)
        if given.setdefault(name, text) != text:
            raise ConfigError(f"command line: --{name} is given twice, as '{given[name]}' and as '{text}'")
        if option is not None:
            out.options[option.name] = _converted(option, text)
        elif command in takes_keys:
            out.overrides[name] = parse_value(text)
        else:
            from talkingface.errors import unknown

            raise ConfigError(unknown(f"option of `{command}`:", f"--{name}", [f"--{n}" for n in known]))
    if out.words and command != "compare":
        raise ConfigError(f"command line: do not know what to do with '{out.words[0]}' (options look like --key=value)")
    for option in known.values():
        if option.required and out.options[option.name] is None and not out.options.get("help"):
            raise ConfigError(f"`{command}` needs --{option.name}=...: {option.help}")
    return out


def _converted(option: Option, text: str) -> Any:
    try:
        return option.type(text)
    except ValueError:
        what = {int: "a whole number", float: "a number"}.get(option.type, option.type.__name__)
        raise ConfigError(f"command line: --{option.name} must be {what}, got '{text}'") from None


def split_files(text: str | None) -> list[str]:
    """`"a.yaml b.yaml"` -> two names; quotes protect blanks inside a name.

    Raises:
        ConfigError: a quote is not closed.
    """
    try:
        return shlex.split(text) if text else []
    except ValueError as error:
        raise ConfigError(f"command line: --config_files={text}: {error}") from None
