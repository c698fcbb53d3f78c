"""What stages hand on to each other, as far as a configuration tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from talkingface.config.sections import StageConfig


class Origin(NamedTuple):
    """One entry of `init_from`.

    Attributes:
        place: an earlier stage, or a checkpoint file.
        network: the one network that is taken; None: all that are ready there.
    """

    place: str
    network: str | None = None

    @classmethod
    def parse(cls, text: str) -> Origin:
        """`stage`, `stage:network`, `file.pt` or `file.pt:network`; the colon of a drive letter names no network."""
        place, colon, network = text.rpartition(":")
        return cls(place, network) if colon and place and network.isidentifier() else cls(text)

    def __str__(self) -> str:
        return self.place if self.network is None else f"{self.place}:{self.network}"


def until(stages: Sequence[StageConfig], name: str) -> Sequence[StageConfig]:
    """The stages up to the one of this name, which is the last of them; none where there is no such stage."""
    names = [stage.name for stage in stages]
    return stages[: names.index(name) + 1] if name in names else ()


def ready_after(
    stage: StageConfig, stages: Sequence[StageConfig], plans: Mapping[str, Any], experts: Mapping[str, str | None]
) -> set[str] | None:
    """Networks with trained or given weights when a stage has ended; None where a file decides.

    Args:
        stage: the stage.
        stages: those before it; an entry of `init_from` that is none of them is a file.
        plans: stage kind -> `Plan` of the model.
        experts: network -> file, of the configuration.
    """
    plan = plans[stage.kind]
    ready = {*plan.trains, *(name for name in (*plan.frozen, *plan.uses) if experts.get(name))}
    for origin in map(Origin.parse, stage.init_from):
        source = next((other for other in stages if other.name == origin.place), None)
        if origin.network is not None:
            ready.add(origin.network)
            continue
        before = ready_after(source, stages, plans, experts) if source is not None else None
        if before is None:
            return None
        ready |= before
    return ready
