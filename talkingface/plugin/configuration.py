"""From files and arguments to one checked `Config`.

Precedence, weakest first: overall < model < profile of the model < dataset < `--config_files` < command line.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from talkingface.clips.layouts import LAYOUTS
from talkingface.config.checks import check_model_parts, check_without_model, validate
from talkingface.config.former_keys import COMMAND_LINE, is_former_overall, take_defaults, take_table, translate
from talkingface.config.layers import KeyPath, Layer, Merged, dotted, leaves, named_list, nest, properties_dir, to_plain
from talkingface.config.sections import Config
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError, closest, first_line, unknown
from talkingface.plugin.metrics import METRICS, default_metrics
from talkingface.plugin.registry import dataset_file, get_spec, load_plugins, model_file

log = logging.getLogger("talkingface")


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration, with the origin of every value."""

    config: Config
    origins: Mapping[KeyPath, str]
    own_layers: frozenset[str] = frozenset()

    def asked(self, section: str) -> dict[str, Any]:
        """Dotted keys below `section` that the user set (command line, own files), as opposed to the built-in files."""
        values = dict(leaves(self.as_dict()))
        mine = [p for p, where in self.origins.items() if p[0] == section and where.split(":")[0] in self.own_layers]
        return {dotted(path): values[path] for path in mine if path in values}

    def settled(self, overrides: Mapping[str, Any], origin: str) -> LoadedConfig:
        """The configuration with values that follow from what lies around it.

        Args:
            overrides: dotted keys and values.
            origin: where they come from, in words.
        """
        plain, origins = to_plain(self.config), dict(self.origins)
        for key in overrides:
            parts = tuple(key.split("."))
            origins = {path: where for path, where in origins.items() if path[: len(parts)] != parts}
            origins[parts] = origin
            section = plain
            for part in parts[:-1]:
                section = section.setdefault(part, {})
            section[parts[-1]] = overrides[key]  # replaced, not merged: what stood there may be of another kind
        return replace(self, config=from_plain(plain, {}, "the configuration"), origins=origins)

    def as_dict(self) -> dict[str, Any]:
        """Plain data of the whole configuration, fit for YAML and for checkpoints."""
        return to_plain(self.config)

    def to_yaml(self, with_origins: bool = False) -> str:
        """The resolved configuration as YAML; with the origin of each value behind it as a comment."""
        if with_origins:
            return "\n".join(self._commented())
        return yaml.safe_dump(self.as_dict(), sort_keys=False, default_flow_style=None, width=100)

    def _commented(self) -> Iterator[str]:
        """One line for each value, and one for each section around them."""
        rows = list(_rows(self.as_dict()))
        width = min(60, max(len(text) for text, _ in rows))
        for text, path in rows:
            yield text if path is None else f"{text:<{width}}  # {self._origin(path)}"

    def _origin(self, path: KeyPath) -> str:
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return "default"


def _rows(value: Mapping[str, Any], at: KeyPath = (), indent: str = "") -> Iterator[tuple[str, KeyPath | None]]:
    """Lines of block YAML for a mapping, each with the path of its value; None for the head of a section."""
    for key, item in value.items():
        here = (*at, key)
        head = f"{indent}{_flow(key)}:"
        if isinstance(item, dict) and item:
            yield head, None
            yield from _rows(item, here, f"{indent}  ")
        elif named_list(item):
            yield head, None
            for index, entry in enumerate(item):
                first, *rest = _rows(entry, (*here, index), f"{indent}    ")
                yield f"{indent}  - {first[0].strip()}", first[1]
                yield from rest
        else:
            yield f"{head} {_flow(item)}", here


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()


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
    spec_name, spec_path = model_file(model)
    layers = [Layer.from_file(properties_dir() / "overall.yaml"), Layer.from_file(spec_path)]
    dataset_name, dataset_path = dataset_file(dataset)
    own, weakest = _own_files(files)
    upper = [Layer.from_file(dataset_path), *own, Layer(COMMAND_LINE, nest(overrides or {}))]
    former = take_table(layers[1])
    layers[1:] = [*weakest, *_with_profile(layers[1], upper)]
    problems: list[str] = []
    merged = _merge(layers, former)
    merged.data |= {"model_name": spec_name, "dataset": dataset_name}
    _apply_stage_overrides(merged)
    _choose_metrics(merged)
    config = validate(Config, merged.data, (), merged, problems)
    config = check_model_parts(config, get_spec(spec_name).model, merged, problems)
    problems += _name_problems(merged)
    _raise_all(problems)
    return LoadedConfig(config, merged.origins, frozenset(layer.name for layer in upper[1:]))


def profiles_of(model: str) -> list[str]:
    """Names of the profiles that the YAML of a registered model defines."""
    return list(read_yaml(model_file(model)[1])[0].get("profiles") or {})


def load_settings(
    files: Sequence[str | Path] = (), overrides: Mapping[str, Any] | None = None, dataset: str | None = None
) -> LoadedConfig:
    """Resolve and check the configuration of a command in which no model takes part.

    Args:
        files: YAML files over the built-in one, later ones win.
        overrides: dotted key -> value, strongest.
        dataset: name of a data set, for its folders; None: there is none.

    Raises:
        ConfigError: every unknown key, wrong type and contradiction, one line each with file and key.
        RegistryError: unknown data set.
    """
    load_plugins()
    layers = [Layer.from_file(properties_dir() / "overall.yaml")]
    name, path = dataset_file(dataset) if dataset else ("", None)
    layers += [Layer.from_file(path)] if path else []
    given, weakest = _own_files(files)
    own = [*given, Layer(COMMAND_LINE, nest(overrides or {}))]
    layers[1:1] = weakest
    problems: list[str] = []
    merged = _merge([*layers, *own])
    merged.data |= {"model_name": "", "dataset": name}
    _choose_metrics(merged)
    config = validate(Config, merged.data, (), merged, problems)
    check_without_model(merged, problems)
    problems += _name_problems(merged)
    _raise_all(problems)
    return LoadedConfig(config, merged.origins, frozenset(layer.name for layer in own))


def from_plain(data: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> Config:
    """The configuration stored in a checkpoint, with changes.

    Args:
        data: plain data as `to_plain` made it.
        overrides: dotted key -> value, also keys of earlier ports of the model.
        source: name of the checkpoint, for messages.

    Raises:
        ConfigError: an override is unknown or of the wrong type.
    """
    merged = Merged()
    try:
        merged.add(Layer(source, json.loads(json.dumps(data))))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: its configuration is no plain data ({first_line(error)})") from None
    asked = Layer(COMMAND_LINE, nest(overrides))
    if asked.data:
        _, path = model_file(str(data.get("model_name")))
        asked.data, warnings = translate(asked.data, asked.name, take_table(Layer.from_file(path)))
        for warning in warnings:
            log.warning("%s", warning)
    merged.add(asked)
    problems: list[str] = []
    _choose_metrics(merged)
    config = validate(Config, merged.data, (), merged, problems)
    config = check_model_parts(config, get_spec(str(data.get("model_name"))).model, merged, problems)
    problems += _name_problems(merged)
    _raise_all(problems)
    return config


def _own_files(files: Sequence[str | Path]) -> tuple[list[Layer], list[Layer]]:
    """The user's files, and apart from them those that stand below all models, as they did in the earlier toolkit."""
    own: list[Layer] = []
    weakest: list[Layer] = []
    for layer in (Layer.from_file(Path(file)) for file in files):
        former = is_former_overall(layer.data)
        for warning in take_defaults(layer) if former else ():
            log.warning("%s", warning)
        (weakest if former else own).append(layer)
    return own, weakest


def _merge(layers: Sequence[Layer], former: Mapping[str, str] | None = None) -> Merged:
    """Lay the layers over each other, weakest first; earlier keys, `former` those of the model, give a warning."""
    merged = Merged()
    for layer in layers:
        layer.data, warnings = translate(layer.data, layer.name, former)
        for warning in warnings:
            log.warning("%s", warning)
        merged.add(layer)
    return merged


def _choose_metrics(merged: Merged) -> None:
    if merged.data.get("metrics") is None:
        merged.data["metrics"] = default_metrics()


def _name_problems(merged: Merged) -> list[str]:
    """Unknown metrics and layouts, found before any work; plug-ins may have brought theirs."""
    names, layout = merged.data["metrics"], merged.data.get("layout")
    problems = []
    for name in names if isinstance(names, (list, tuple)) else ():
        if str(name).upper() not in METRICS:
            problems.append(f"{merged.origin(('metrics',))}: metrics: {unknown('metric', str(name), METRICS)}")
    if isinstance(layout, str) and layout not in LAYOUTS:
        problems.append(f"{merged.origin(('layout',))}: layout: {unknown('layout', layout, LAYOUTS)}")
    return problems


def _raise_all(problems: list[str]) -> None:
    if problems:
        text = f"{len(problems)} configuration errors:\n  " if len(problems) > 1 else ""
        raise ConfigError(text + "\n  ".join(problems))


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
        if asked_by == COMMAND_LINE or not asked_by.startswith("properties"):
            raise ConfigError(
                f"{asked_by}: profile '{selected}' is not defined in {model_layer.name}"
                f"{closest(str(selected), list(profiles))} (profiles: {', '.join(profiles) or 'none'})"
            )
        return [model_layer, *upper]
    lines = {p[2:]: n for p, n in model_layer.lines.items() if p[:2] == ("profiles", selected)}
    return [model_layer, Layer(f"{model_layer.name}", profiles[selected], lines), *upper]


def _apply_stage_overrides(merged: Merged) -> None:
    """Top-level `epochs`, `max_steps`, `batch_size`, `learning_rate`, ... stand for the same key of every stage."""
    stages = merged.data.get("stages")
    if not named_list(stages):
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
                options = stage["optim"][name] or {}
                if not isinstance(options, dict):
                    continue  # the check of types will name it
                stage["optim"] = {**stage["optim"], name: {**options, optim[key]: merged.data[key]}}
                _same_origin(merged, (*at, "optim", name, optim[key]), (key,))


def _same_origin(merged: Merged, path: KeyPath, other: KeyPath) -> None:
    merged.origins[path] = merged.origins.get(other, "default")
    merged.ranks[path] = merged.ranks.get(other, 0)
