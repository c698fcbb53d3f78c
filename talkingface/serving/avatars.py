"""Faces that speak in streams: uploaded once, kept while they are used, or until others take their place."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from talkingface.errors import DataError, OutputError
from talkingface.files import write_text, writing
from talkingface.serving.folder import remove
from talkingface.serving.job import new_id
from talkingface.stored.jsons import read_json

_MOST_BYTES = 10_000


@dataclass(frozen=True)
class Avatar:
    """A face that was uploaded to speak in streams.

    Attributes:
        id: its name.
        model: served name of the model that makes it speak.
        kind: `video` or `picture`.
    """

    id: str
    model: str
    kind: str


class Avatars:
    """The faces in a folder, each a file and beside it what is known of it; the least recently used ones go.

    Args:
        folder: private folder.
        most: how many are kept.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most

    def add(self, upload: Path, model: str, kind: str) -> Avatar:
        """Keep an upload, which moves here.

        Raises:
            OutputError: the disk is full.
        """
        avatar = Avatar(new_id(), model, kind)
        try:
            write_text(self._told(avatar.id), json.dumps(asdict(avatar)))
            with writing(self.file(avatar)):
                os.replace(upload, self.file(avatar))
                os.utime(self.file(avatar))
        except OutputError:
            self._forget(avatar.id)
            raise
        for name in self._by_use()[: -self._most]:
            self._forget(name)
        return avatar

    def find(self, avatar_id: str) -> Avatar | None:
        """A face by its name, which counts as its use; None where there is none."""
        if not avatar_id.isalnum():  # a name is a part of a path
            return None
        try:
            told = read_json(self._told(avatar_id), _MOST_BYTES)
            avatar = Avatar(str(told["id"]), str(told["model"]), str(told["kind"]))
            os.utime(self.file(avatar))
        except (DataError, OSError, LookupError, TypeError):
            return None
        return avatar

    def file(self, avatar: Avatar) -> Path:
        """Where it lies."""
        return self._folder / avatar.id

    def remove(self, avatar: Avatar) -> None:
        """Remove a face."""
        self._forget(avatar.id)

    def expire(self, before: float) -> None:
        """Remove what was not used since a time, in seconds since 1970."""
        for name in self._by_use():
            with suppress(OSError):
                if (self._folder / name).stat().st_mtime < before:
                    self._forget(name)

    def _told(self, avatar_id: str) -> Path:
        return self._folder / f"{avatar_id}.json"

    def _by_use(self) -> list[str]:
        """Names, the least recently used first."""
        files = [path for path in self._folder.iterdir() if path.name.isalnum()]
        return [path.name for path in sorted(files, key=lambda path: path.stat().st_mtime)]

    def _forget(self, avatar_id: str) -> None:
        remove(self._told(avatar_id))
        remove(self._folder / avatar_id)
