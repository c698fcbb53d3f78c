"""What we note beside dumps that we write: the front end, and what the faces are registered to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from talkingface.config.sections import Section
from talkingface.errors import DataError, RegistryError
from talkingface.models.makeittalk.config import faces_artefact
from talkingface.models.makeittalk.front_end import ConvertedMel
from talkingface.networks.speaker_encoder import Resemblyzer
from talkingface.sound.choice import FrontEndConfig
from talkingface.sound.front_ends import front_end_kind, speaker_kind
from talkingface.stored.jsons import read_json


class AboutDumps(Section):
    """Content of `<prefix>.json`.

    Attributes:
        format: of this file.
        front_end: what made the rows of sound, down to its fingerprint.
        canonical: the face that all are registered to; `""`: not ours, as in published dumps, which are made fit.
    """

    format: Literal[1] = 1
    front_end: FrontEndConfig
    canonical: Literal["own", "published", ""] = ""

    @property
    def faces_artefact(self) -> str:
        """Name of the registered landmarks in a clip."""
        return faces_artefact(self.canonical or "own")


def about_dumps(path: Path) -> AboutDumps:
    """What is noted of a family of dumps; of published ones nothing is, their sound is AutoVC's.

    Raises:
        DataError: the note is damaged.
    """
    if not path.is_file():
        return AboutDumps(front_end=FrontEndConfig(name=ConvertedMel.name, speaker=Resemblyzer.name))
    try:
        about = AboutDumps(**read_json(path))
    except (ValidationError, TypeError) as error:
        told = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {"loc": (), "msg": error}
        where = ".".join(map(str, told["loc"]))
        raise DataError(f"{path}: {where}: {told['msg']}; export the dumps again") from None
    try:
        front_end_kind(about.front_end.name)
        _ = about.front_end.speaker and speaker_kind(about.front_end.speaker)
    except RegistryError as error:  # of no use, and their names become names of files
        raise DataError(f"{path}: front_end: {error}") from None
    return about
