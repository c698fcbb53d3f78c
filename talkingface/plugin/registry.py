"""Names to models, data sets, trainers and evaluators. Nothing heavy is imported until a name is asked for.

A built-in model is a YAML file in `properties/model/` whose `plugin:` names its module. A model of another package is
found through the entry-point group `talkingface.models` (name = module) or the environment variable
`TALKINGFACE_PLUGINS=package.module[,more]`; its YAML lies beside its module as `<Name>.yaml`.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.config.layers import properties_dir
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError, RegistryError, unknown

if TYPE_CHECKING:
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")

ENTRY_POINTS = "talkingface.models"
PLUGIN_VARIABLE = "TALKINGFACE_PLUGINS"


@dataclass(frozen=True)
class ModelSpec:
    """What belongs to a model name; `trainer` and `evaluator` are None where the shared class serves."""

    name: str
    model: type[TalkingFaceModel]
    datasets: tuple[type, ...]
    trainer: type | None = None
    evaluator: type | None = None
    yaml: Path | None = None


_SPECS: dict[str, ModelSpec] = {}
_BROKEN: set[str] = set()  # plug-in modules that could not be imported, each told once


def register(
    name: str, trainer: type | None = None, evaluator: type | None = None, config: str | Path | None = None
) -> Callable[[type], type]:
    """Class decorator: make a model known under `name`.

    Args:
        name: what users type after `--model=`.
        trainer: subclass of `Trainer`, None for the shared one.
        evaluator: subclass of `Evaluator`, None for the shared one.
        config: the model's YAML; default `<Name>.yaml` beside the module, or the built-in
            `properties/model/<Name>.yaml`.
    """

    def decorate(cls: type) -> type:
        ours = _builtin_module(name)
        if ours is not None and not cls.__module__.startswith("talkingface."):
            raise RegistryError(f"model name '{name}' is already taken by {ours}")
        known = _SPECS.get(name)
        if known is not None and (known.model.__module__, known.model.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise RegistryError(f"model name '{name}' is already taken by {known.model.__module__}")
        datasets = tuple(dict.fromkeys(plan.dataset for plan in cls.plans.values()))
        _SPECS[name] = ModelSpec(name, cls, datasets, trainer, evaluator, _yaml_of(name, cls, config))
        return cls

    return decorate


def _yaml_of(name: str, cls: type, config: str | Path | None) -> Path | None:
    folder = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or ".").resolve().parent
    if config is not None:
        return folder / config
    beside = folder / f"{name}.yaml"
    return beside if beside.is_file() else _builtin_models().get(name)


@cache
def _builtin_models() -> dict[str, Path]:
    return {path.stem: path for path in sorted((properties_dir() / "model").glob("*.yaml"))}


def _builtin_module(name: str) -> str | None:
    """Module of a built-in model, None where no such model is built in."""
    path = _builtin_models().get(name)
    return _header(path).get("plugin") if path else None


def load_plugins() -> None:
    """Import the third-party modules: their `@register` lines run.

    One that cannot be imported is named in a warning, once, and the rest works.
    """
    modules = {e.value.partition(":")[0] for e in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    modules |= {m.strip() for m in os.environ.get(PLUGIN_VARIABLE, "").split(",") if m.strip()}
    for module in sorted(modules - _BROKEN):
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever the code of others does
            _BROKEN.add(module)
            log.warning(
                "plug-in module '%s' cannot be imported and is left out: %s (named in %s or by an installed package)",
                module,
                _reason(error),
                PLUGIN_VARIABLE,
            )


def _reason(error: BaseException) -> str:
    """The first line of what an error says, with its type."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@cache
def _header(path: Path) -> dict[str, Any]:
    return read_yaml(path)[0]


def _models() -> dict[str, Path | None]:
    """Every known model name with its YAML file."""
    load_plugins()
    return {**_builtin_models(), **{name: spec.yaml for name, spec in _SPECS.items() if _readable(spec)}}


@cache
def _readable(spec: ModelSpec) -> bool:
    """Whether the YAML of a model can be read; what a plug-in brings is left out with a warning where it cannot."""
    try:
        _header(spec.yaml) if spec.yaml and spec.yaml.is_file() else None
    except ConfigError as error:
        log.warning("model '%s' is left out: %s", spec.name, _reason(error))
        return False
    return True


def list_models() -> list[str]:
    """Names of all models, built in and of plug-ins, sorted."""
    return sorted(_models())


def describe_models() -> dict[str, str]:
    """Name -> one line, read from the YAML files; no model is imported."""
    return {n: str(_header(p).get("description", "")) if p else "" for n, p in sorted(_models().items())}


def model_file(name: str) -> tuple[str, Path]:
    """Canonical name and YAML file of a model, from its name or an alias in any case.

    Raises:
        RegistryError: unknown name; the message lists the names and the closest.
    """
    models = _models()
    by_alias = {n.lower(): n for n in models}
    for known, path in models.items():
        for alias in (_header(path).get("aliases") or []) if path else []:
            by_alias.setdefault(str(alias).lower(), known)
    canonical = by_alias.get(str(name).lower())
    if canonical is None:
        raise RegistryError(unknown("model", str(name), models, by_alias))
    path = models[canonical]
    if path is None or not path.is_file():
        raise RegistryError(f"model '{canonical}' has no YAML: expected {canonical}.yaml beside its module")
    return canonical, path


def get_spec(name: str) -> ModelSpec:
    """Import a model's module and return what belongs to its name.

    Raises:
        RegistryError: unknown name, or its module does not register it.
    """
    canonical, path = model_file(name)
    if canonical not in _SPECS:
        module = _header(path).get("plugin")
        if not module:
            raise RegistryError(f"{path}: `plugin:` must name the module of model '{canonical}'")
        try:
            importlib.import_module(module)
        except (ImportError, SyntaxError) as error:
            raise RegistryError(f"{path}: plugin '{module}' cannot be imported: {_reason(error)}") from error
        if canonical not in _SPECS:
            raise RegistryError(f"{path}: module '{module}' does not register a model named '{canonical}'")
    return _SPECS[canonical]


@cache
def _datasets() -> dict[str, Path]:
    return {path.stem: path for path in sorted((properties_dir() / "dataset").glob("*.yaml"))}


def describe_datasets() -> dict[str, str]:
    """Data set name -> one line."""
    return {name: str(_header(path).get("description", "")) for name, path in _datasets().items()}


def dataset_file(name: str) -> tuple[str, Path]:
    """Canonical name and YAML file of a data set, from its name in any case or the path of a YAML file."""
    if str(name).endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name).stem, Path(name)
    known = {n.lower(): n for n in _datasets()}
    canonical = known.get(str(name).lower())
    if canonical is None:
        hint = "; --dataset=my.yaml takes a YAML file of your own"
        raise RegistryError(unknown("data set", str(name), _datasets(), known) + hint)
    return canonical, _datasets()[canonical]
