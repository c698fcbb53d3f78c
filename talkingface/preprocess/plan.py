"""Which steps make what a model needs, in an order that works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import talkingface.preprocess.aligned
import talkingface.preprocess.features  # noqa: F401  (both register their step)
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import ConfigError
from talkingface.preprocess.filters.measured import NO_FILTERS, wanted_filters
from talkingface.preprocess.step import STEPS, Step


def plan_steps(
    artefacts: Iterable[str], overrides: Mapping[str, Mapping[str, Any]], settings: PreprocessConfig
) -> list[Step]:
    """The steps that make `artefacts` and all they need, in an order that works.

    Args:
        artefacts: names, for instance of `model.artefacts_for()`.
        overrides: parameters by artefact name, from `model.step_settings`.
        settings: `preprocess:` of the configuration; the steps of its filters come first.

    Raises:
        ConfigError: no step makes an artefact, or a parameter is not known.
    """
    artefacts = list(artefacts)
    filters = wanted_filters(settings.filters)
    if "sync" in (*filters, *artefacts):
        import talkingface.preprocess.filters.sync  # noqa: F401  (registers its step; only now, since it brings torch)

    steps = _plan([*filters, *artefacts], overrides, settings)
    if filters:
        # What a plan without filters holds, too, is the model's own; the rest is there for the filters alone.
        plain = _plan(artefacts, overrides, settings.model_copy(update={"filters": NO_FILTERS}))
        for name, step in steps.items():
            step.for_filters = name not in plain
    return list(steps.values())


def named_artefacts(names: Iterable[str], artefacts: Sequence[str]) -> tuple[str, ...]:
    """What a user means by `names`: one of the model's `artefacts`, all its variants of a kind, or any other artefact.

    `faces` of a model that reads `faces@x` alone is `faces@x`.
    """
    found: list[str] = []
    for name in names:
        variants = [artefact for artefact in artefacts if artefact.partition("@")[0] == name]
        found += [name] if name in artefacts or not variants else variants
    return tuple(dict.fromkeys(found))


def _plan(
    artefacts: Iterable[str], overrides: Mapping[str, Mapping[str, Any]], settings: PreprocessConfig
) -> dict[str, Step]:
    """The steps of `artefacts` and of what they need, by artefact, each after what it needs."""
    steps: dict[str, Step] = {}

    def add(artefact: str) -> None:
        if artefact in steps:
            return
        kind = artefact.partition("@")[0]
        if kind not in STEPS:
            raise ConfigError(f"no preprocessing step makes '{kind}'; known: {', '.join(STEPS)}")
        step = STEPS[kind](artefact, overrides.get(artefact, {}), settings)
        for needed in step.needs:
            add(needed)
        steps[artefact] = step

    for artefact in artefacts:
        add(artefact)
    return steps
