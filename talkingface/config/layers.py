"""Layers of configuration: reading them, merging them, and remembering where every value came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError, closest

KeyPath = tuple[str | int, ...]


def properties_dir() -> Path:
    """Folder of the built-in YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(str(files("talkingface"))).resolve()
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


@dataclass
class Layer:
    """One source of values: a file or the command line.

    Attributes:
        name: as shown to the user.
        data: nested values.
        lines: line number of every key of a file.
    """

    name: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> Layer:
        """Read a YAML file as a layer."""
        data, lines = read_yaml(path)
        return cls(shown_path(path), data, lines)

    def where(self, path: KeyPath) -> str:
        """The layer's name, with the line number of `path` where known."""
        return f"{self.name}:{self.lines[path]}" if path in self.lines else self.name


@dataclass
class Merged:
    """Merged values and, for each leaf, where it came from.

    Attributes:
        data: nested values; stages are a list.
        origins: by path, name and line of the layer that a value came from.
        ranks: by path, the number of that layer; of the values of a section the highest was the last word.
        layers: how many were added.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    ranks: dict[KeyPath, int] = field(default_factory=dict)
    layers: int = 0

    @property
    def lenient(self) -> bool:
        """Whether unknown keys are dropped with a warning (`strict_config: warn`) instead of being errors."""
        return self.data.get("strict_config") == "warn"

    def add(self, layer: Layer) -> None:
        """Lay `layer` over what is there: mappings merge, lists are replaced (lists of stages merge by name)."""
        self.layers += 1
        self.data = self._merge(self.data, layer.data, (), layer, ())

    # Two paths go along: `at` is the place in the result, where a stage has a number, `source` the place in the layer,
    # where a stage may be written by its name; the line number is found by the latter.

    def _merge(self, old: Any, new: Any, at: KeyPath, layer: Layer, source: KeyPath) -> Any:
        if isinstance(new, dict) and isinstance(old, dict):
            merged = dict(old)
            for key, value in new.items():
                merged[key] = self._merge(old.get(key), value, (*at, key), layer, (*source, key))
            return merged
        if isinstance(new, dict) and named_list(old):
            return self._merge_named(old, new, at, layer, source)
        # A replaced list or section takes with it where its parts came from.
        for path in [p for p in self.origins if p[: len(at)] == at]:
            del self.origins[path]
        self._note(new, at, layer, source)
        return new

    def _merge_named(
        self, old: list[Any], new: dict[str, Any], at: KeyPath, layer: Layer, source: KeyPath
    ) -> list[Any]:
        names = [item["name"] for item in old]
        merged = list(old)
        for name, value in new.items():
            if name not in names:
                raise ConfigError(
                    f"{layer.where((*source, name))}: '{dotted((*at, name))}': there is no such stage"
                    f"{closest(name, names)} (stages: {', '.join(names)})"
                )
            index = names.index(name)
            merged[index] = self._merge(old[index], value, (*at, index), layer, (*source, name))
        return merged

    def _note(self, value: Any, at: KeyPath, layer: Layer, source: KeyPath) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                self._note(item, (*at, key), layer, (*source, key))
        elif named_list(value):
            for index, item in enumerate(value):
                self._note(item, (*at, index), layer, (*source, index))
        else:
            # What was written under a former name has no line here; the nearest key above it may have one.
            while source and source not in layer.lines:
                source = source[:-1]
            self.origins[at] = layer.where(source)
            self.ranks[at] = self.layers

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at `path` came from; of a section, where its strongest value did."""
        if path in self.origins:
            return self.origins[path]
        above = [p for p in self.origins if path[: len(p)] == p]
        if above:
            return self.origins[max(above, key=len)]
        # What is missing has no origin of its own; that of the section around it says where to look.
        for end in range(len(path), 0, -1):
            below = [p for p in self.origins if p[:end] == path[:end]]
            if below:
                return self.origins[max(below, key=lambda p: self.ranks.get(p, 0))]
        return None


def to_plain(value: Any) -> Any:
    """Sections, tuples and paths as dictionaries, lists and strings."""
    if isinstance(value, BaseModel):
        return {key: to_plain(getattr(value, key)) for key in type(value).model_fields}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` -> `{"a": {"b": 1}}`; a key that is both a value and a section is an error."""
    out: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, leaf = dotted.split(".")
        node = out
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"command line: '{dotted}' contradicts another option that sets '{part}' to a value")
        if isinstance(value, dict) and isinstance(node.get(leaf), dict):
            node[leaf] = {**node[leaf], **value}
        elif leaf in node and node[leaf] != value:
            raise ConfigError(f"command line: '{dotted}' is given twice with different values")
        else:
            node[leaf] = value
    return out


def named_list(value: Any) -> bool:
    """Whether `value` is a list of mappings with names, as stages are: these merge by name."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "name" in v for v in value)


def leaves(value: Any, at: KeyPath = ()) -> Iterable[tuple[KeyPath, Any]]:
    """Path and value of everything that is not a section itself."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*at, key))
    elif named_list(value):
        for index, item in enumerate(value):
            yield from leaves(item, (*at, index))
    else:
        yield at, value


def dotted(path: Iterable[str | int]) -> str:
    """`("a", 0, "b")` -> `a.0.b`."""
    return ".".join(map(str, path))


def shown_path(path: Path) -> str:
    """Path as shown in messages: relative to the built-in properties or to the working directory where possible."""
    resolved = path.resolve()
    for root in (properties_dir().parent, Path.cwd()):
        if resolved.is_relative_to(root):
            return str(resolved.relative_to(root))
    return str(path)
