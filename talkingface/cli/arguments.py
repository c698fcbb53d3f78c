"""The command line: one parser for `--key=value` and `--key value`, declared options and configuration keys alike."""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from talkingface.config.yaml_files import home, parse_value
from talkingface.errors import ConfigError, unknown

SHORT = {"-m": "--model", "-d": "--dataset", "-h": "--help"}


@dataclass(frozen=True)
class Option:
    """An option of a command that is no configuration key; one that may come `repeated` has a list of values.

    It may have other names, as published scripts call it; they are not shown.
    """

    name: str
    help: str
    default: Any = None
    flag: bool = False
    required: bool = False
    repeated: bool = False
    type: type = str
    also: tuple[str, ...] = ()


HELP = Option("help", "show this help", flag=True)
"""An option of every command."""


@dataclass
class Arguments:
    """A parsed command line.

    Attributes:
        command: name of the command.
        options: value of each of its options.
        overrides: configuration keys, dotted, with their values.
        words: what is neither.
    """

    command: str
    options: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.options[name]


@dataclass(frozen=True)
class Command:
    """What can be asked for by one word.

    Attributes:
        line: what it does, for the overview.
        options: what may be given besides configuration keys.
        run: does it, prints what the user wants to know and returns the exit code, None for 0.
        takes_keys: whether configuration keys may be given.
        takes_words: whether words without a leading `--` may be given.
        kept: what is left after it was interrupted, for the message.
    """

    line: str
    options: tuple[Option, ...]
    run: Callable[[Arguments], int | None]
    takes_keys: bool = False
    takes_words: bool = False
    kept: str = ""


def parse(argv: Sequence[str], commands: Mapping[str, Command], default: str) -> Arguments:
    """Split `argv` into command, its options and configuration overrides.

    Args:
        argv: arguments without the program name.
        commands: by name.
        default: command when none is named.

    Raises:
        ConfigError: unknown command or option, missing value, or the same option twice with different values.
    """
    tokens = [SHORT.get(token, token) for token in argv]
    name = default
    if tokens and not tokens[0].startswith("-"):
        name = tokens.pop(0)
        if name not in commands:
            raise ConfigError(unknown("command", name, commands))
    command = commands[name]
    out = Arguments(name, {option.name: option.default for option in command.options})
    _read(tokens, command, out)
    if out.words and not command.takes_words:
        raise ConfigError(f"command line: do not know what to do with '{out.words[0]}' (options look like --key=value)")
    for option in command.options:
        if option.required and out.options[option.name] is None and not out.options.get("help"):
            meant = difflib.get_close_matches(option.name, out.overrides, n=1)
            hint = f"; there is no option --{meant[0]}" if meant else ""
            raise ConfigError(f"`{name}` needs --{option.name}=...: {option.help}{hint}")
    return out


def _read(tokens: list[str], command: Command, out: Arguments) -> None:
    """Sort `tokens` into options, overrides and words."""
    known = {name: option for option in command.options for name in (option.name, *option.also)}
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
        if option is not None and option.repeated:
            out.options[option.name] = [*(out.options[option.name] or ()), _converted(option, text)]
            continue
        name = name if option is None else option.name
        if given.setdefault(name, text) != text:
            raise ConfigError(f"command line: --{name} is given twice, as '{given[name]}' and as '{text}'")
        if option is not None:
            out.options[option.name] = _converted(option, text)
        elif command.takes_keys:
            out.overrides[name] = parse_value(text)
        else:
            names = [f"--{option.name}" for option in command.options]
            raise ConfigError(unknown(f"option of `{out.command}`:", f"--{name}", names))


def _converted(option: Option, text: str) -> Any:
    try:
        value = option.type(home(text))
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
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
