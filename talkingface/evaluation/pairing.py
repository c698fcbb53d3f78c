"""Which generated video belongs to which real one, where both are files in folders.

Systems name what they write in their own way: `id00/00006.mp4` as the data set does, `id00_00006.mp4` flat, our own
reports with a hash behind names that would not be unique. A form is taken only where it leaves no doubt.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from talkingface.evaluation.report.result import safe_name

Spelling = Callable[[str], Iterable[str]]


class Pairing(NamedTuple):
    """Names of generated and real videos that belong together, and of those that are alone.

    Attributes:
        partner: name of the real video by that of the generated one.
        unmade: real videos without a generated one.
        strange: generated videos without a real one.
    """

    partner: dict[str, str]
    unmade: list[str]
    strange: list[str]


def pair(made: Iterable[str], real: Iterable[str]) -> Pairing:
    """Pair names, the surest forms first.

    Args:
        made: paths of generated videos below their folder, without suffix.
        real: the same of real videos.
    """
    partner: dict[str, str] = {}
    left_made, left_real = set(made), set(real)
    for of_made, of_real in _FORMS:
        for name, other in _certain(left_made, left_real, of_made, of_real):
            partner[name] = other
        left_made -= partner.keys()
        left_real -= set(partner.values())
    return Pairing(partner, sorted(left_real), sorted(left_made))


def videos_of_run(folder: Path) -> Path:
    """The generated videos of a run or report folder of ours; any other folder itself."""
    for inner in ("eval/videos/generated", "videos/generated", "generated"):
        if (folder / inner).is_dir() and (inner != "generated" or folder.name == "videos"):
            return folder / inner
    return folder


def _certain(made: set[str], real: set[str], of_made: Spelling, of_real: Spelling) -> Iterator[tuple[str, str]]:
    """Pairs with a spelling in common that nobody else has."""
    owners = [_owners(made, of_made), _owners(real, of_real)]
    found = {(owners[0][form], owners[1][form]) for form in owners[0].keys() & owners[1].keys()}
    times = [Counter(side) for side in zip(*found, strict=True)] if found else []
    yield from sorted(p for p in found if times[0][p[0]] == times[1][p[1]] == 1)


def _owners(names: set[str], spelling: Spelling) -> dict[str, str]:
    """Whose a spelling is; those of several names are nobody's."""
    owners: dict[str, str | None] = {}
    for name in names:
        for form in set(spelling(name)):
            owners[form] = None if form in owners else name
    return {form: name for form, name in owners.items() if name is not None}


def _as_it_is(name: str) -> Iterable[str]:
    return (name,)


def _composed(name: str) -> Iterable[str]:
    """An accent may be a character of its own or part of the letter (macOS writes it so): one name, two spellings."""
    return (unicodedata.normalize("NFC", name),)


def _as_we_write(name: str) -> Iterable[str]:
    return (safe_name(name),)


def _flat(name: str) -> Iterable[str]:
    return (unicodedata.normalize("NFC", name).replace("/", "_"),)


def _ends(name: str) -> Iterable[str]:
    """The name without its first folders: `main/id00/00006` is `id00_00006` and `00006`, too."""
    parts = unicodedata.normalize("NFC", name).split("/")
    return ("_".join(parts[k:]) for k in range(1, len(parts)))


# Of a generated name and of a real one. One of the two may carry further folders in front, never both.
_FORMS: tuple[tuple[Spelling, Spelling], ...] = (
    (_as_it_is, _as_it_is),
    (_composed, _composed),
    (_as_it_is, _as_we_write),
    (_flat, _flat),
    (_flat, _ends),
    (_ends, _flat),
)
