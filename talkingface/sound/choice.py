"""Which front end a model hears with, as a section of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from talkingface.config.sections import Section
from talkingface.errors import ConfigError
from talkingface.sound.front_ends import (
    ELSEWHERE,
    FrontEnd,
    WithSpeaker,
    front_end_kind,
    made_by_others,
    speaker_kind,
)

ARTEFACT = "features@"
"""What the names of what a front end heard begin with."""


class FrontEndConfig(Section):
    """What a model hears.

    Attributes:
        name: of the front end.
        settings: its options.
        speaker: what gives the vector of a speaker; empty: nothing, or the front end itself.
        speaker_settings: its options.
        made_by: what the front end was when data and weights were made, down to the hashes of its files; noted by the
            toolkit, and compared wherever either is used.
    """

    name: str = "mel"
    settings: dict[str, Any] = Field(default_factory=dict)
    speaker: str = ""
    speaker_settings: dict[str, Any] = Field(default_factory=dict)
    made_by: dict[str, Any] = Field(default_factory=dict)

    @property
    def artefact(self) -> str:
        """Name of its rows in a clip's folder, `features@vc_mel+statistics`."""
        return ARTEFACT + "+".join(filter(None, (self.name, self.speaker)))

    @property
    def elsewhere(self) -> bool:
        """Whether the rows of the data were made elsewhere: its files may be missing until somebody speaks."""
        return ELSEWHERE in self.made_by

    @property
    def choice(self) -> dict[str, Any]:
        """The section as parameters of the step that makes the rows."""
        return self.model_dump(exclude=set() if self.elsewhere else {"made_by"})

    def build(self, weights_dir: str | Path = "checkpoints", device: str = "cpu") -> FrontEnd:
        """The front end; its files are read when it is first asked.

        Raises:
            RegistryError: there is none of this name.
            ConfigError: it has no such option.
        """
        rows = _built(front_end_kind(self.name), self.settings, weights_dir, device)
        if not self.speaker:
            return rows
        return WithSpeaker(rows, _built(speaker_kind(self.speaker), self.speaker_settings, weights_dir, device))

    def made_by_others(self, record: Mapping[str, Any]) -> str | None:
        """Why rows with this record in `clip.json` do not serve, or None; it names both front ends."""
        stored = record.get("params", {}).get("made_by")
        if not self.made_by or not stored:
            return None
        return made_by_others(stored, self.made_by)


def recorded_choice(artefact: str, record: Mapping[str, Any]) -> FrontEndConfig:
    """The front end that made rows with this record in `clip.json`; where it says little, the name tells."""
    name, _, speaker = artefact.removeprefix(ARTEFACT).partition("+")
    params = record.get("params", {})
    known = {key: params[key] for key in FrontEndConfig.model_fields if key in params}
    return FrontEndConfig(**{"name": name, "speaker": speaker, **known})


def choice_in(settings: Any, key: str) -> FrontEndConfig:
    """The section at a dotted key of a model's settings."""
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def _built(kind: Any, settings: Mapping[str, Any], weights_dir: str | Path, device: str) -> Any:
    try:
        return kind(weights_dir, device, **settings)
    except TypeError as error:
        raise ConfigError(f"front end '{kind.name}': {error}; docs/adding_a_model.md#sound tells of options") from None


def short_hash(fingerprint: Mapping[str, Any]) -> str:
    """A fingerprint in twelve letters."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:12]
