"""Which clips train, validate and test: by clip of seen people, and by person."""

from __future__ import annotations

from pathlib import Path

from talkingface.errors import DataError
from talkingface.files import write_text

SPLITS = ("train", "val", "test")


def clip_id(layout: str, identity: int, clip: int) -> str:
    """Name of a clip in the file lists: `id00/00000`, or `id00_00000` in the flat layout."""
    return f"id{identity:02d}{'/' if layout == 'lrs2' else '_'}{clip:05d}"


def split_corpus(identities: int, clips: int, layout: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Splits by clip (of seen identities) and by identity."""
    by_clip: dict[str, list[str]] = {name: [] for name in SPLITS}
    by_identity: dict[str, list[str]] = {name: [] for name in SPLITS}
    clip_parts, identity_parts = _parts(clips), _parts(identities)
    for i in range(identities):
        for c in range(clips):
            name = clip_id(layout, i, c)
            for split in clip_parts[c]:
                by_clip[split].append(name)
            for split in identity_parts[i]:
                by_identity[split].append(name)
    return by_clip, by_identity


def _parts(count: int) -> list[tuple[str, ...]]:
    """Splits that each of `count` things belongs to; about a sixth each for val and test.

    With two things val and test share the second, with one everything shares it: no list may be empty.
    """
    if count == 1:
        return [SPLITS]
    if count == 2:
        return [("train",), ("val", "test")]
    held = max(1, round(count / 6))
    return [("train",)] * (count - 2 * held) + [("val",)] * held + [("test",)] * held


def check_lists(folder: Path, root: Path, splits: dict[str, list[str]]) -> None:
    """Refuse to overwrite file lists that belong to somebody's real data.

    Raises:
        DataError: `folder` holds other lists although `root` holds no demo corpus.
    """
    if (root / "manifest.json").is_file():
        return
    for name, lines in splits.items():
        path = folder / f"{name}.txt"
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace").split() not in ([], lines):
            raise DataError(f"{path}: this list is not one of a demo corpus; choose another folder for the corpus")


def write_lists(folder: Path, splits: dict[str, list[str]]) -> None:
    """Write one `<split>.txt` per split, a clip id per line."""
    for name, lines in splits.items():
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))
