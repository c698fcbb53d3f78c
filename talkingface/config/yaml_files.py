"""Reading values: YAML files with line numbers, and single values from the command line. Never `eval`."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import yaml

from talkingface.errors import ConfigError

MOST_BYTES = 2**20
"""Of a configuration file; the largest of our own has 10 kB."""

MOST_VALUES = 20_000
"""Values of a file, each counted as often as it is referred to (`*name`): nine lines can ask for 10^9 of them."""

DEEPEST = 40
"""Levels of nesting; a configuration has seven."""

LARGEST = 2**63 - 1
"""Whole numbers beyond this fit into no seed, count or size, and some libraries fail at them."""

_TIMES = "tag:yaml.org,2002:timestamp"
_FLOATS = "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """The safe loader, which reads `1e-4` as a float (YAML 1.1 wants a dot), and a date as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TIMES, _FLOATS)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)

_Loader.add_implicit_resolver(_FLOATS, _FLOAT, list("-+0123456789."))


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Read a YAML mapping.

    Returns:
        The mapping, and the line number (from 1) of every key path in it.

    Raises:
        ConfigError: the file is missing, too large, not YAML, not a mapping, names a key twice, or holds a value that
            no configuration has: one that refers to itself, a key that is no text, a number out of all range.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size / 2**20:.0f} MiB are too much for a configuration file")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read this configuration file: {error}") from None
    lines: dict[tuple[str | int, ...], int] = {}
    value = _construct(text, str(path), lines)
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found a {type(value).__name__}")
    return value, lines


def _construct(text: str, name: str, lines: dict[tuple[str | int, ...], int]) -> Any:
    """The value of a YAML text; fills `lines`. Errors name `name` and the line."""
    loader = None
    try:
        loader = _Loader(text)  # reads the first characters, which may be such as YAML refuses
        root = loader.get_single_node()
        if root is None:
            return None
        _Walk(lines, name).visit(root, (), ())
        value = loader.construct_document(root)
        _check_numbers(value, name)
        return _at_home(value)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply, more than {DEEPEST} levels") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        # A tag such as `!!int` in front of what is no number, or a number of thousands of digits.
        raise ConfigError(f"{name}: a value does not fit its type ({error})") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Walk:
    """Goes through the nodes as the values will lie: notes lines, refuses what would never end or has no use."""

    def __init__(self, lines: dict[tuple[str | int, ...], int], name: str) -> None:
        self.lines, self.name = lines, name
        self.values = 0

    def visit(self, node: yaml.Node, at: tuple[str | int, ...], above: tuple[yaml.Node, ...]) -> None:
        """Note the line of every key below `node`; a key given twice is an error."""
        self.values += 1
        where = f"{self.name}:{node.start_mark.line + 1}"
        if any(node is other for other in above):
            raise ConfigError(f"{where}: a value refers to itself (*name inside &name)")
        if self.values > MOST_VALUES:
            raise ConfigError(f"{where}: more than {MOST_VALUES} values once its references (*name) are followed")
        if len(above) > DEEPEST:
            raise ConfigError(f"{where}: nested too deeply, more than {DEEPEST} levels")
        if isinstance(node, yaml.MappingNode):
            self._visit_keys(node, at, (*above, node))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*at, index)] = item.start_mark.line + 1
                self.visit(item, (*at, index), (*above, node))

    def _visit_keys(self, node: yaml.MappingNode, at: tuple[str | int, ...], above: tuple[yaml.Node, ...]) -> None:
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEY_TAGS:
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise ConfigError(f"{self.name}:{line}: a key must be a name, found {shown}; put quotes around it")
            if key.value in seen:
                raise ConfigError(f"{self.name}:{line}: key '{'.'.join(map(str, (*at, key.value)))}' is given twice")
            seen.add(key.value)
            self.lines[(*at, key.value)] = line
            self.visit(value, (*at, key.value), above)


_KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


def _at_home(value: Any) -> Any:
    """Paths that begin with `~/`, written out: behind `--key=` no shell does it."""
    if isinstance(value, dict):
        return {key: _at_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return home(value) if isinstance(value, str) else value


def home(text: str) -> str:
    """A path that begins with `~/` or `~name/`, written out; any other text as it is."""
    return os.path.expanduser(text) if re.match(r"~[\w.-]*/", text) else text


def _check_numbers(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(item, name)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item, name)
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{name}: {str(value)[:12]}... is out of range for a whole number")


def parse_value(text: str) -> Any:
    """A command-line value: YAML first (`3`, `1e-4`, `[a, b]`, `true`, `null`), then Python literals, else a string.

    Raises:
        ConfigError: the value refers to itself, is nested without end or out of all range.
    """
    try:
        value = _construct(text, "command line", {})
    except ConfigError as error:
        if isinstance(error.__context__, (yaml.YAMLError, ValueError, KeyError, TypeError)):
            value = text
        else:
            raise
    if isinstance(value, str) and value == text.strip():
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
        if isinstance(value, (tuple, set, frozenset)):
            value = list(value)
        elif not isinstance(value, (str, int, float, bool, list, dict, type(None))):
            value = text
    return value
