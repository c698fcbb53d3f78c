"""From files and arguments to one checked `Config`: layers, deep merge, origins of values, errors in one report.

Precedence, weakest first: overall < model < profile of the model < dataset < `--config_files` < command line.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from talkingface.config import Config, Section, StageConfig
from talkingface.config_compat import translate
from talkingface.config_values import read_yaml
from talkingface.errors import ConfigError, RegistryError

log = logging.getLogger("talkingface")
KeyPath = tuple[str | int, ...]


def properties_dir() -> Path:
    """Folder of the built-in YAML files: beside `run_talkingface.py` in a checkout, inside the package in a wheel."""
    checkout = Path(__file__).resolve().parent.parent / "properties"
    return checkout if checkout.is_dir() else Path(__file__).resolve().parent / "properties"


@dataclass
class Layer:
    """One source of values: a file or the command line."""

    name: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> Layer:
        """Read a YAML file as a layer."""
        data, lines = read_yaml(path)
        return cls(_short(path), data, lines)

    def where(self, path: KeyPath) -> str:
        """The layer's name, with the line number of `path` where known."""
        return f"{self.name}:{self.lines[path]}" if path in self.lines else self.name


@dataclass
class Merged:
    """Merged values and, for each leaf, where it came from."""

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

    def _merge(self, old: Any, new: Any, at: KeyPath, layer: Layer, source: KeyPath) -> Any:
        if isinstance(new, dict) and isinstance(old, dict):
            merged = dict(old)
            for key, value in new.items():
                merged[key] = self._merge(old.get(key), value, (*at, key), layer, (*source, key))
            return merged
        if isinstance(new, dict) and _named_list(old):
            return self._merge_named(old, new, at, layer, source)
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
                    f"{layer.where((*source, name))}: '{_dotted((*at, name))}': there is no such stage"
                    f"{_closest(name, names)} (stages: {', '.join(names)})"
                )
            index = names.index(name)
            merged[index] = self._merge(old[index], value, (*at, index), layer, (*source, name))
        return merged

    def _note(self, value: Any, at: KeyPath, layer: Layer, source: KeyPath) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                self._note(item, (*at, key), layer, (*source, key))
        elif _named_list(value):
            for index, item in enumerate(value):
                self._note(item, (*at, index), layer, (*source, index))
        else:
            while source and source not in layer.lines:
                source = source[:-1]
            self.origins[at] = layer.where(source)
            self.ranks[at] = self.layers

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at `path` came from; of a section, where its strongest value did."""
        if path in self.origins:
            return self.origins[path]
        below = [p for p in self.origins if p[: len(path)] == path]
        if below:
            return self.origins[max(below, key=lambda p: self.ranks.get(p, 0))]
        above = [p for p in self.origins if path[: len(p)] == p]
        return self.origins[max(above, key=len)] if above else None


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration, with the origin of every value."""

    config: Config
    origins: Mapping[KeyPath, str]
    own_layers: frozenset[str] = frozenset()

    def asked(self, section: str) -> dict[str, Any]:
        """Dotted keys below `section` that the user set (command line, own files), as opposed to the built-in files."""
        values = dict(_leaves(self.as_dict()))
        mine = [p for p, where in self.origins.items() if p[0] == section and where.split(":")[0] in self.own_layers]
        return {_dotted(path): values[path] for path in mine if path in values}

    def as_dict(self) -> dict[str, Any]:
        """Plain data of the whole configuration, fit for YAML and for checkpoints."""
        return to_plain(self.config)

    def to_yaml(self, with_origins: bool = False) -> str:
        """The resolved configuration as YAML; with the origin of each value behind it as a comment."""
        text = yaml.safe_dump(self.as_dict(), sort_keys=False, default_flow_style=None, width=100)
        return "\n".join(self._origin_lines()) if with_origins else text

    def _origin_lines(self) -> list[str]:
        rows = [(_dotted(path), json.dumps(value), self._origin(path)) for path, value in _leaves(self.as_dict())]
        width = min(60, max(len(f"{key}: {value}") for key, value, _ in rows))
        return [f"{f'{key}: {value}':<{width}}  # {origin}" for key, value, origin in rows]

    def _origin(self, path: KeyPath) -> str:
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return "default"


def to_plain(value: Any) -> Any:
    """Sections, tuples and paths as dictionaries, lists and strings."""
    if isinstance(value, BaseModel):
        return {key: to_plain(getattr(value, key)) for key in type(value).model_fields}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def load_config(
    model: str, dataset: str, files: Sequence[str | Path] = (), overrides: Mapping[str, Any] | None = None
) -> LoadedConfig:
    """Resolve and check the configuration of one model on one data set.

    Args:
        model: registered model name or alias, any case.
        dataset: name of a file in `properties/dataset/`, any case.
        files: more YAML files, later ones win.
        overrides: dotted key -> value, strongest.

    Raises:
        ConfigError: every unknown key, wrong type and contradiction, one line each with file and key.
        RegistryError: unknown model or data set.
    """
    from talkingface.registry import dataset_file, get_spec, model_file

    spec_name, spec_path = model_file(model)
    layers = [Layer.from_file(properties_dir() / "overall.yaml"), Layer.from_file(spec_path)]
    dataset_name, dataset_path = dataset_file(dataset)
    upper = [Layer.from_file(dataset_path), *(Layer.from_file(Path(f)) for f in files)]
    upper.append(Layer("command line", nest(overrides or {})))
    layers[1:] = _with_profile(layers[1], upper)
    problems: list[str] = []
    merged = Merged()
    for layer in layers:
        layer.data, warnings = translate(layer.data, layer.name)
        for warning in warnings:
            log.warning("%s", warning)
        merged.add(layer)
    merged.data |= {"model_name": spec_name, "dataset": dataset_name}
    _apply_stage_overrides(merged)
    config = _validate(Config, merged.data, (), merged, problems)
    config = _check_model_parts(config, get_spec(spec_name).model, merged, problems)
    _raise_all(problems)
    return LoadedConfig(config, merged.origins, frozenset(layer.name for layer in upper[1:]))


def from_plain(data: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> Config:
    """The configuration stored in a checkpoint, with changes.

    Args:
        data: plain data as `to_plain` made it.
        overrides: dotted key -> value.
        source: name of the checkpoint, for messages.

    Raises:
        ConfigError: an override is unknown or of the wrong type.
    """
    from talkingface.registry import get_spec

    merged = Merged()
    merged.add(Layer(source, json.loads(json.dumps(data))))
    merged.add(Layer("command line", nest(overrides)))
    problems: list[str] = []
    config = _validate(Config, merged.data, (), merged, problems)
    config = _check_model_parts(config, get_spec(str(data.get("model_name"))).model, merged, problems)
    _raise_all(problems)
    return config


def _raise_all(problems: list[str]) -> None:
    if problems:
        text = f"{len(problems)} configuration errors:\n  " if len(problems) > 1 else ""
        raise ConfigError(text + "\n  ".join(problems))


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


def _with_profile(model_layer: Layer, upper: list[Layer]) -> list[Layer]:
    """Split the model's `profiles:` off and insert the selected one between model and data set."""
    profiles = model_layer.data.pop("profiles", {}) or {}
    selected, asked_by = None, model_layer.name
    for layer in [model_layer, *upper]:
        if "profile" in layer.data:
            selected, asked_by = layer.data["profile"], layer.name
    if selected is None:
        return [model_layer, *upper]
    if not isinstance(selected, str) or selected not in profiles:
        if asked_by == "command line" or not asked_by.startswith("properties"):
            raise ConfigError(
                f"{asked_by}: profile '{selected}' is not defined in {model_layer.name}"
                f"{_closest(str(selected), list(profiles))} (profiles: {', '.join(profiles) or 'none'})"
            )
        return [model_layer, *upper]
    lines = {p[2:]: n for p, n in model_layer.lines.items() if p[:2] == ("profiles", selected)}
    return [model_layer, Layer(f"{model_layer.name}", profiles[selected], lines), *upper]


def _apply_stage_overrides(merged: Merged) -> None:
    """Top-level `epochs`, `max_steps`, `batch_size`, `learning_rate`, ... stand for the same key of every stage."""
    stages = merged.data.get("stages")
    if not _named_list(stages):
        return
    plain = {"epochs": "epochs", "max_steps": "max_steps", "batch_size": "batch_size", "stopping_step": "patience"}
    optim = {"learning_rate": "lr", "learner": "name", "weight_decay": "weight_decay"}
    given = {key for key in (*plain, *optim) if merged.data.get(key) is not None}
    merged.data["stages"] = copies = [dict(stage) for stage in stages]
    for index, stage in enumerate(copies):
        at: KeyPath = ("stages", index)
        if len(given & {"epochs", "max_steps"}) == 1:
            # Whoever says how long in one unit means it: the other unit's limit of the YAML goes.
            stage.pop("max_steps" if "epochs" in given else "epochs", None)
        for key in given & plain.keys():
            stage[plain[key]] = merged.data[key]
            _same_origin(merged, (*at, plain[key]), (key,))
        for key in given & optim.keys():
            networks = stage.get("optim")
            for name in networks if isinstance(networks, dict) else ():
                stage["optim"] = {
                    **stage["optim"],
                    name: {**(stage["optim"][name] or {}), optim[key]: merged.data[key]},
                }
                _same_origin(merged, (*at, "optim", name, optim[key]), (key,))


def _same_origin(merged: Merged, path: KeyPath, other: KeyPath) -> None:
    merged.origins[path] = merged.origins.get(other, "default")
    merged.ranks[path] = merged.ranks.get(other, 0)


def _check_model_parts(config: Config | None, model: type, merged: Merged, problems: list[str]) -> Config | None:
    """Fill the typed `model:` section and every stage's `data:`; check kinds, networks and stage order.

    Also runs when the rest of the configuration is wrong (`config` is None), so that all errors come at once.
    """
    section = _validate(model.Config, merged.data.get("model") or {}, ("model",), merged, problems)
    listed = merged.data.get("stages")
    listed = listed if isinstance(listed, list) else []
    stages = config.stages if config else [_stage_or_none(data, merged) for data in listed]
    checked = []
    for index, stage in enumerate(stages):
        if stage is None:
            continue
        at: KeyPath = ("stages", index)
        plan = model.plans.get(stage.kind)
        if plan is None:
            problems.append(
                f"{merged.origin((*at, 'kind'))}: stage '{stage.name}': kind '{stage.kind}' is not one of"
                f" {', '.join(model.plans)}{_closest(stage.kind, list(model.plans))}"
            )
            continue
        problems += _stage_problems(stage, plan, at, [s.name for s in stages if s], merged)
        data = _validate(plan.dataset.Options, stage.data or {}, (*at, "data"), merged, problems)
        checked.append(stage.model_copy(update={"data": data}))
    problems += _metric_problems(merged.data.get("metrics"), merged)
    only = merged.data.get("stage")
    if only and only not in [s.name for s in stages if s]:
        names = [s.name for s in stages if s]
        problems.append(f"{merged.origin(('stage',))}: stage '{only}' is not one of {', '.join(names)}")
    return config and config.model_copy(update={"model": section, "stages": tuple(checked)})


def _stage_or_none(data: Any, merged: Merged) -> StageConfig | None:
    return _validate(StageConfig, data, (), merged, [])


def _stage_problems(stage: StageConfig, plan: Any, at: KeyPath, names: list[str], merged: Merged) -> list[str]:
    problems = []
    for name in stage.optim:
        if name not in plan.trains:
            problems.append(
                f"{merged.origin((*at, 'optim', name))}: stage '{stage.name}': optim.{name}: this stage trains"
                f" {', '.join(plan.trains)}{_closest(name, plan.trains)}"
            )
    for name in plan.trains:
        if name not in stage.optim:
            problems.append(f"{merged.origin(at)}: stage '{stage.name}': optim.{name} is missing")
    if stage.monitor.startswith("eval/"):
        problems += _monitor_problems(stage, plan, at, merged)
    earlier = names[: at[1]]
    for name in stage.init_from:
        if name not in earlier and not any(c in name for c in "./\\"):
            problems.append(
                f"{merged.origin((*at, 'init_from'))}: stage '{stage.name}': init_from '{name}' is neither an earlier"
                f" stage ({', '.join(earlier) or 'there is none'}) nor a file"
            )
    if names.count(stage.name) > 1:
        problems.append(f"{merged.origin(at)}: stage name '{stage.name}' is used twice")
    return problems


def _monitor_problems(stage: StageConfig, plan: Any, at: KeyPath, merged: Merged) -> list[str]:
    """What is wrong with monitoring a metric of generated videos."""
    where = f"{merged.origin((*at, 'monitor'))}: stage '{stage.name}': monitor '{stage.monitor}'"
    if not plan.generates:
        return [f"{where}: this stage cannot generate videos yet; monitor one of its val/ losses"]
    if not (merged.data.get("eval_step") if stage.eval_step is None else stage.eval_step):
        return [f"{where} needs eval_step, the epochs between evaluations"]
    return []


def _metric_problems(names: Any, merged: Merged) -> list[str]:
    """Unknown metric names, found before anything is trained."""
    from talkingface.evaluator import METRICS

    problems = []
    for name in names if isinstance(names, (list, tuple)) else ():
        if str(name).upper() not in METRICS:
            try:
                from talkingface.evaluator.base import metric_class

                metric_class(str(name))
            except RegistryError as error:
                problems.append(f"{merged.origin(('metrics',))}: metrics: {error}")
    return problems


def _validate(cls: type[Section], data: Any, at: KeyPath, merged: Merged, problems: list[str]) -> Any:
    """Check `data` against `cls`; problems are appended and None is returned."""
    if isinstance(data, cls):
        return data
    try:
        # JSON mode is strict about numbers and booleans yet reads lists as tuples and strings as paths.
        return cls.model_validate_json(json.dumps(to_plain(data)), strict=True)
    except ValidationError as error:
        unknown = [detail for detail in error.errors() if detail["type"] == "extra_forbidden"]
        if unknown and merged.lenient:
            data = to_plain(data)
            for detail in unknown:
                log.warning("%s; it is ignored", _problem(cls, detail, at, merged))
                _remove(data, detail["loc"])
            return _validate(cls, data, at, merged, problems)
        problems += [_problem(cls, detail, at, merged) for detail in error.errors()]
    except TypeError as error:
        problems.append(f"{merged.origin(at) or 'configuration'}: '{_dotted(at)}': {error}")
    return None


def _remove(data: Any, path: Sequence[str | int]) -> None:
    for part in path[:-1]:
        data = data[part]
    del data[path[-1]]


def _problem(cls: type[Section], detail: Mapping[str, Any], at: KeyPath, merged: Merged) -> str:
    path = (*at, *detail["loc"])
    where = merged.origin(path) or "configuration"
    shown = _stage_names(path, merged)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(cls, detail["loc"][:-1])
        hint = _closest(str(path[-1]), known) or _closest_anywhere(str(path[-1]))
        return f"{where}: unknown key '{shown}'{hint}"
    if detail["type"] == "missing":
        return f"{where}: '{shown}' is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    got = json.dumps(detail.get("input"), default=str)
    if detail["type"] == "value_error":
        return f"{where}: '{shown}': {message}"
    return f"{where}: '{shown}': expected {message}, got {got if len(got) < 60 else got[:57] + '...'}"


def _stage_names(path: KeyPath, merged: Merged) -> str:
    """Dotted path in which a stage is named rather than numbered."""
    if len(path) > 1 and path[0] == "stages" and isinstance(path[1], int):
        stages = merged.data.get("stages")
        if _named_list(stages) and path[1] < len(stages):
            return _dotted(("stages", stages[path[1]]["name"], *path[2:]))
    return _dotted(path)


def _fields_at(cls: type[BaseModel], loc: Iterable[str | int]) -> list[str]:
    """Field names of the section at `loc`, looking through optional and container types."""
    for part in loc:
        if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
            return []
        if part in cls.model_fields:
            cls = _section_in(cls.model_fields[part].annotation) or cls
    return list(cls.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _section_in(inner)
        if found is not None:
            return found
    return None


def _closest(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean '{match[0]}'?" if match else ""


def _closest_anywhere(name: str) -> str:
    dotted: dict[str, str] = {}

    def collect(cls: type[BaseModel], prefix: str) -> None:
        for key, info in cls.model_fields.items():
            dotted.setdefault(key, prefix + key)
            inner = _section_in(info.annotation)
            if inner is not None:
                collect(inner, f"{prefix}{key}.")

    collect(Config, "")
    match = difflib.get_close_matches(name, list(dotted), n=1, cutoff=0.75)
    return f", did you mean '{dotted[match[0]]}'?" if match else ""


def _named_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "name" in v for v in value)


def _leaves(value: Any, at: KeyPath = ()) -> Iterable[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*at, key))
    elif _named_list(value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, index))
    else:
        yield at, value


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(map(str, path))


def _short(path: Path) -> str:
    """Path as shown in messages: relative to the built-in properties or to the working directory where possible."""
    resolved = path.resolve()
    for root in (properties_dir().parent, Path.cwd()):
        if resolved.is_relative_to(root):
            return str(resolved.relative_to(root))
    return str(path)
