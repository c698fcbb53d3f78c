"""The front end that a model hears with: noted with data and weights, and others refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.errors import CheckpointError
from talkingface.plugin.registry import get_spec
from talkingface.sound.choice import choice_in
from talkingface.sound.front_ends import ELSEWHERE, described, made_by_others

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig
    from talkingface.plugin.contract import TalkingFaceModel

MADE_BY = "made_by"


def with_front_end(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with what the front end of its model is, down to the hashes of its files.

    A configuration of a model without one comes back as it is; so does one whose data hold rows that were made
    elsewhere, where the files of the front end are missing.

    Raises:
        DataError: one of its files is not there.
    """
    config = loaded.config
    model = get_spec(config.model_name).model
    if not model.hears:
        return loaded
    choice = choice_in(config.model, model.hears)
    front_end = choice.build(config.weights_dir)
    if choice.elsewhere and front_end.missing():
        return loaded
    return loaded.settled({f"model.{model.hears}.{MADE_BY}": front_end.fingerprint()}, "the front end")


def with_published_front_end(loaded: LoadedConfig, told: Collection[str]) -> LoadedConfig:
    """The configuration of published weights with the names of the front end that they were trained with.

    With which files and options others used it nobody knows, so another one of these names is not refused.

    Args:
        loaded: the configuration.
        told: dotted keys that the files or whoever imports them have set; where none of them is of the front end,
            nothing is known of it, and nothing noted.
    """
    model = get_spec(loaded.config.model_name).model
    key = f"model.{model.hears}"
    if not model.hears or not any(f"{each}.".startswith(f"{key}.") for each in told):
        return loaded
    choice = choice_in(loaded.config.model, model.hears)
    made_by: dict[str, Any] = {"name": choice.name, ELSEWHERE: True}
    if choice.speaker:
        made_by["parts"] = [{"name": choice.name}, {"name": choice.speaker}]
    return loaded.settled({f"{key}.{MADE_BY}": made_by}, "the published files")


def noted(model: type[TalkingFaceModel], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What plain settings (`model:`) say of the front end that was used; empty where they do not."""
    section: Any = config
    for part in (*model.hears.split("."), MADE_BY) if model.hears else ():
        section = section.get(part) if isinstance(section, Mapping) else None
    return section if model.hears and isinstance(section, Mapping) else {}


def refuse_other_weights(
    model: type[TalkingFaceModel],
    wanted: Mapping[str, Any],
    config: Mapping[str, Any],
    path: Path,
    networks: Collection[str] = (),
) -> None:
    """Check that weights were trained on what is heard here.

    Args:
        model: class of the model.
        wanted: fingerprint of the front end here; empty: not known.
        config: whole plain configuration of the checkpoint.
        path: the checkpoint, for the message.
        networks: those that are taken from it; empty: all. Where they are all deaf, any serve.

    Raises:
        CheckpointError: another front end; both are named.
    """
    if networks and set(networks).issubset(model.deaf):
        return
    stored = noted(model, config.get("model") or {})
    if stored and wanted and (reason := made_by_others(stored, wanted)):
        raise CheckpointError(f"{path}: {reason}; set --model.{model.hears} as it was, or train anew")


def spoken(model: TalkingFaceModel) -> str:
    """The front end of a model in words, for reports; empty where it has none or nothing is noted."""
    made_by = choice_in(model.config, model.hears).made_by if model.hears else {}
    return described(made_by) if made_by else ""
