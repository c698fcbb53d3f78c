"""The server's private folder: uploads under names of ours, results, the list of jobs; one server at a time."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from talkingface.errors import ConfigError
from talkingface.files import output_error
from talkingface.weights.lock import FolderLock, TakenError

_FOR_US_ALONE = 0o700


class ServingFolder:
    """Where the server keeps what it was sent and what it made; nobody else on the machine may look in.

    Args:
        path: the folder; it is made where it is missing.

    Raises:
        ConfigError: another server uses it.
        OutputError: it cannot be made or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        names = ("uploads", "results", "avatars", "page")
        self.uploads, self.results, self.avatars, self.page = (self.path / name for name in names)
        try:
            for folder in (self.path, self.uploads, self.results, self.avatars, self.page):
                folder.mkdir(mode=_FOR_US_ALONE, parents=True, exist_ok=True)
                os.chmod(folder, _FOR_US_ALONE)
        except OSError as error:
            raise output_error(self.path, error) from error
        self._lock = self._take_lock()

    def _take_lock(self) -> FolderLock:
        try:
            return FolderLock.take(self.path)
        except TakenError:
            raise ConfigError(
                f"{self.path}: another server uses this folder; give this one its own with --serve.folder=DIR"
            ) from None

    @property
    def jobs(self) -> Path:
        """File of the list of jobs."""
        return self.path / "jobs.sqlite"

    def new_upload(self) -> Path:
        """A new empty file; its name says nothing about that of the client's file, and cannot be guessed.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        path = self.uploads / secrets.token_hex(16)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise output_error(path, error) from error
        return path

    def sweep(self, wanted_uploads: set[str], wanted_results: set[str]) -> None:
        """Remove what no job knows: what a killed server left half done, and what its page had."""
        for folder, wanted in ((self.uploads, wanted_uploads), (self.results, wanted_results)):
            for path in folder.iterdir():
                if path.name not in wanted:
                    remove(path)
        for path in self.page.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else remove(path)

    def release(self) -> None:
        """Let another server use the folder."""
        self._lock.release()


def remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    with suppress(OSError):
        path.unlink()
