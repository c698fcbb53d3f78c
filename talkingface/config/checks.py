"""Checking a merged configuration against its types; every problem becomes one line with file, key and nearest key."""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from talkingface.config.layers import KeyPath, Merged, dotted, leaves, named_list, to_plain
from talkingface.config.sections import Config, Section, StageConfig
from talkingface.config.stages import Origin, ready_after
from talkingface.errors import closest

log = logging.getLogger("talkingface")


def check_model_parts(config: Config | None, model: type, merged: Merged, problems: list[str]) -> Config | None:
    """Fill the typed `model:` section and every stage's `data:`; check kinds, networks and stage order.

    Also runs when the rest of the configuration is wrong (`config` is None), so that all errors come at once.
    """
    section = validate(model.Config, merged.data.get("model") or {}, ("model",), merged, problems)
    listed = merged.data.get("stages")
    listed = listed if isinstance(listed, list) else []
    stages = config.stages if config else [_stage_or_none(data, merged) for data in listed]
    # As they are written: a stage in which something else is wrong has its name all the same.
    names = [str(data.get("name", "")) if isinstance(data, dict) else "" for data in listed]
    checked = []
    for index, stage in enumerate(stages):
        if stage is None:
            continue
        at: KeyPath = ("stages", index)
        plan = model.plans.get(stage.kind)
        if plan is None:
            problems.append(
                f"{merged.origin((*at, 'kind'))}: stage '{stage.name}': kind '{stage.kind}' is not one of"
                f" {', '.join(model.plans)}{closest(stage.kind, list(model.plans))}"
            )
            continue
        problems += _stage_problems(stage, plan, at, names, merged)
        problems += _origin_problems(stage, model, at, names, merged)
        if section is not None and all(stages[:index]) and stage.monitor.startswith("eval/"):
            problems += _monitor_problems(stage, model, section, stages, at, merged)
        data = validate(plan.dataset.Options, stage.data or {}, (*at, "data"), merged, problems)
        options = validate(plan.options, stage.options or {}, (*at, "options"), merged, problems)
        checked.append(stage.model_copy(update={"data": data, "options": options}))
    problems += _expert_problems(model, merged)
    only = merged.data.get("stage")
    if only and only not in names:
        problems.append(f"{merged.origin(('stage',))}: stage '{only}' is not one of {', '.join(names)}")
    return config and config.model_copy(update={"model": section, "stages": tuple(checked)})


def _expert_problems(model: type, merged: Merged) -> list[str]:
    """Weights that are given for a network which takes none."""
    given = merged.data.get("experts")
    known = list(dict.fromkeys(name for plan in model.plans.values() for name in (*plan.frozen, *plan.uses)))
    return [
        f"{merged.origin(('experts', name))}: experts.{name}: {model.__name__} takes no such network"
        f"{closest(name, known)} (there {'are' if len(known) > 1 else 'is'} {', '.join(known) or 'none'})"
        for name, file in (given.items() if isinstance(given, dict) else ())
        if name not in known and file is not None
    ]


def check_without_model(merged: Merged, problems: list[str]) -> None:
    """Settings of a model or of its training stages are out of place here."""
    for section in ("model", "stages"):
        for path, _ in leaves(merged.data.get(section) or {}, (section,)):
            if len(path) > 1:
                problems.append(f"{merged.origin(path)}: '{_stage_names(path, merged)}': no model takes part here")


def _stage_or_none(data: Any, merged: Merged) -> StageConfig | None:
    return validate(StageConfig, data, (), merged, [])


def _stage_problems(stage: StageConfig, plan: Any, at: KeyPath, names: list[str], merged: Merged) -> list[str]:
    problems = []
    for name in stage.optim:
        if name not in plan.trains:
            problems.append(
                f"{merged.origin((*at, 'optim', name))}: stage '{stage.name}': optim.{name}: this stage trains"
                f" {', '.join(plan.trains)}{closest(name, plan.trains)}"
            )
    for name in plan.trains:
        if name not in stage.optim:
            problems.append(f"{merged.origin(at)}: stage '{stage.name}': optim.{name} is missing")
    if names.count(stage.name) > 1:
        problems.append(f"{merged.origin(at)}: stage name '{stage.name}' is used twice")
    return problems


def _origin_problems(stage: StageConfig, model: type, at: KeyPath, names: list[str], merged: Merged) -> list[str]:
    """What is wrong with the sources of a stage's weights."""
    problems = []
    where = f"{merged.origin((*at, 'init_from'))}: stage '{stage.name}': init_from"
    earlier = names[: at[1]]
    known = list(dict.fromkeys(name for plan in model.plans.values() for name in (*plan.trains, *plan.uses)))
    for text in stage.init_from:
        origin = Origin.parse(text)
        if origin.place not in earlier and not any(c in origin.place for c in "./\\"):
            listed = ", ".join(earlier) or "there is none"
            problems.append(f"{where} '{text}' is neither an earlier stage ({listed}) nor a file")
        if origin.network in model.plans[stage.kind].restarts:
            problems.append(f"{where} '{text}': '{origin.network}' starts anew in every stage of this kind")
        elif origin.network is not None and origin.network not in known:
            hint = closest(origin.network, known)
            problems.append(f"{where} '{text}': there is no network '{origin.network}'{hint} ({', '.join(known)})")
    return problems


def _monitor_problems(
    stage: StageConfig,
    model: type,
    section: Section,
    stages: Sequence[StageConfig | None],
    at: KeyPath,
    merged: Merged,
) -> list[str]:
    """What is wrong with monitoring a metric of generated videos."""
    where = f"{merged.origin((*at, 'monitor'))}: stage '{stage.name}': monitor '{stage.monitor}'"
    earlier = [other for other in stages[: at[1]] if other is not None and other.kind in model.plans]
    needed = model.needed_to_speak(section)
    experts = merged.data.get("experts")
    ready = ready_after(stage, earlier, model.plans, experts if isinstance(experts, dict) else {})
    if needed is None or (ready is not None and not ready.issuperset(needed)):
        return [f"{where}: this stage cannot generate videos yet; monitor one of its val/ losses"]
    if not (merged.data.get("eval_step") if stage.eval_step is None else stage.eval_step):
        return [f"{where} needs eval_step, the epochs between evaluations"]
    return []


def validate(cls: type[Section], data: Any, at: KeyPath, merged: Merged, problems: list[str]) -> Any:
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
            return validate(cls, data, at, merged, problems)
        problems += [_problem(cls, detail, at, merged) for detail in error.errors()]
    except TypeError as error:
        problems.append(f"{merged.origin(at) or 'configuration'}: '{dotted(at)}': {error}")
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
        hint = closest(str(path[-1]), known) or _closest_anywhere(str(path[-1]))
        return f"{where}: unknown key '{shown}'{hint}"
    if detail["type"] == "missing":
        return f"{where}: '{shown}' is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    got = json.dumps(detail.get("input"), default=str)
    if detail["type"] == "value_error":
        return f"{_origin_of_named(message, path, merged) or where}: '{shown}': {message}"
    return f"{where}: '{shown}': expected {message}, got {got if len(got) < 60 else got[:57] + '...'}"


def _origin_of_named(message: str, path: KeyPath, merged: Merged) -> str | None:
    """Where the key came from that a validator of a whole section names, as in `crop.size must be a multiple of 4`."""
    for word in re.findall(r"[a-z_][a-z_0-9.]*[a-z_0-9]", message):
        found = merged.origins.get((*path, *word.split(".")))
        if found is not None:
            return found
    return None


def _stage_names(path: KeyPath, merged: Merged) -> str:
    """Dotted path in which a stage is named rather than numbered."""
    if len(path) > 1 and path[0] == "stages" and isinstance(path[1], int):
        stages = merged.data.get("stages")
        if named_list(stages) and path[1] < len(stages):
            return dotted(("stages", stages[path[1]]["name"], *path[2:]))
    return dotted(path)


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
