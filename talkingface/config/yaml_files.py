"""Reading values: YAML files with line numbers, and single values from the command line. Never `eval`."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import yaml

from talkingface.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """The safe loader, which also reads `1e-4` as a float (YAML 1.1 wants a dot)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)

_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Read a YAML mapping.

    Returns:
        The mapping, and the line number (from 1) of every key path in it.

    Raises:
        ConfigError: the file is missing, not YAML, not a mapping, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read this configuration file: {error}") from None
    lines: dict[tuple[str | int, ...], int] = {}
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return {}, {}
        _walk(root, (), lines, path)
        value = loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found a {type(value).__name__}")
    return value, lines


def _walk(node: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path) -> None:
    """Note the line of every key below `node`; a key given twice is an error."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                dotted = ".".join(map(str, (*at, name)))
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: key '{dotted}' is given twice")
            seen.add(name)
            lines[(*at, name)] = key.start_mark.line + 1
            _walk(value, (*at, name), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*at, index)] = item.start_mark.line + 1
            _walk(item, (*at, index), lines, path)


def parse_value(text: str) -> Any:
    """A command-line value: YAML first (`3`, `1e-4`, `[a, b]`, `true`, `null`), then Python literals, else a string."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        value = text
    if isinstance(value, str) and value == text.strip():
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
        if isinstance(value, (tuple, set, frozenset)):
            value = list(value)
        elif isinstance(value, bytes):
            value = text
    return value
