"""What a subject of the fuzz runs is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from helpers.mutations import Rng


class Subject:
    """One kind of file."""

    name: ClassVar[str] = ""
    native: ClassVar[bool] = False  # read by native code that may die of it

    def make(self, folder: Path) -> None:
        """Write a valid sample."""

    def damage(self, folder: Path, rng: Rng) -> None:
        """Change a copy of it."""

    def use(self, folder: Path) -> None:
        """Do with it what commands do; raises a `TalkingFaceError` where it is refused."""
