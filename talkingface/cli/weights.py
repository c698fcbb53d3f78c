"""The command `weights`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.weights.download import DownloadError, download
from talkingface.weights.published import FILES, WeightsError, find, how_to_get, status

if TYPE_CHECKING:
    from talkingface.weights.published import WeightFile


def table(weights_dir: str | Path) -> list[str]:
    """Lines about every file: name, status, size, path and purpose; below it the terms and the address."""
    rows = [("name", "status", "size", f"below {weights_dir}", "for")]
    for file in FILES:
        rows.append((file.name, status(file, weights_dir), _size(file, weights_dir), file.path, file.purpose))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for position, file in reversed(list(enumerate(FILES, start=1))):
        address = file.url or f"by hand: {file.source}"
        lines.insert(position + 1, " " * (widths[0] + 2) + f"{address}; licence: {file.licence}")
    return lines


def _size(file: WeightFile, weights_dir: str | Path) -> str:
    path = Path(weights_dir) / file.path
    size = path.stat().st_size if path.is_file() else file.size
    about = "" if path.is_file() or file.exact else "~"
    return f"{about}{size / 2**20:.0f} MiB" if size else "-"


def command(weights_dir: str | Path, name: str | None = None) -> int:
    """`run_talkingface.py weights`: print the table, or with a name fetch that file; returns the exit code.

    Raises:
        WeightsError: no such entry, no direct address, or another file lies in its place.
        DownloadError: it cannot be fetched, or is not the published one.
    """
    if not name:
        print("\n".join(table(weights_dir)))
        print("\npresent: no hash is published. --download=NAME fetches a file that has a direct address.")
        return 0
    file = find(name)
    path = Path(weights_dir) / file.path
    if path.is_file():
        _check_present(file, path, weights_dir)
        print(f"{path} is there already ({status(file, weights_dir)})")
        return 0
    if not file.url:
        known = f" (sha256 {file.sha256})" if file.sha256 else ""
        raise WeightsError(f"{file.name} has no direct address: get it {how_to_get(file.name, weights_dir)}{known}")
    try:
        digest = download(file.url, path, file.sha256)
    except DownloadError as error:
        raise DownloadError(f"{error}; authors' page: {file.source}") from error
    print(f"wrote {path}, sha256 {digest}{'' if file.sha256 else ' (none is published to compare with)'}")
    return 0


def _check_present(file: WeightFile, path: Path, weights_dir: str | Path) -> None:
    found = status(file, weights_dir)
    if found.startswith("WRONG"):
        raise WeightsError(f"{path} is not the published file ({found.lower()}); move it away and try again")
