"""Weight files from a folder or an address nearby, asked before the authors' own."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from talkingface.files import atomic_output, file_sha256
from talkingface.weights.download import download
from talkingface.weights.published import WeightFile, WeightsError, fetch, find, is_published

log = logging.getLogger("talkingface")


def fetch_near(name: str, weights_dir: str | Path, mirror: str | None) -> tuple[WeightFile, str | None]:
    """Bring the file called `name` to its place below `weights_dir`, from the mirror where that has it.

    Args:
        name: see `published.find`.
        weights_dir: folder of the weight files.
        mirror: folder or address where files lie as they do below `weights_dir`; None: there is none.

    Returns:
        Its entry, and its sha256; None for one that was there already.

    Raises:
        WeightsError: the mirror is no folder or its file another one; or as of `published.fetch`.
        DownloadError: it cannot be fetched, or is not the published one.
        OutputError: it cannot be written.
    """
    file = find(name)
    path = Path(weights_dir) / file.path
    if mirror and not path.exists() and (digest := _take(file, mirror, path)):
        return file, digest
    return fetch(name, weights_dir)


def is_address(mirror: str) -> bool:
    """Whether a mirror is asked over HTTP; otherwise it is a folder."""
    return urlsplit(mirror).scheme in ("http", "https")


def check_mirror(mirror: str) -> None:
    """Refuse a mirror that is neither an address nor a folder.

    Raises:
        WeightsError: so it is.
    """
    if not is_address(mirror) and not Path(mirror).is_dir():
        raise WeightsError(f"{mirror}: no such folder; weights_mirror names a folder or an address")


def in_mirror(file: WeightFile, mirror: str) -> Path | None:
    """Where a file lies in a mirror that is a folder: as below `weights_dir`, or by its name alone."""
    places = (Path(mirror) / file.path, Path(mirror) / Path(file.path).name)
    return None if is_address(mirror) else next((place for place in places if place.is_file()), None)


def _take(file: WeightFile, mirror: str, path: Path) -> str | None:
    """Take a file from a mirror.

    Of a folder, which is the user's own, a file without a published hash is taken as it is; over HTTP it is not.

    Returns:
        Its sha256; None where the mirror does not have it, or cannot prove it.

    Raises:
        WeightsError: the mirror's file is not the published one.
        DownloadError: the address cannot be reached, or sends something else.
        OutputError: it cannot be written.
    """
    if is_address(mirror):
        if len(file.sha256) < 64:
            log.warning("%s is not fetched from %s: no full hash is published to check it with", file.name, mirror)
            return None
        return download(f"{mirror.rstrip('/')}/{file.path}", path, file.sha256, file.most_bytes)
    check_mirror(mirror)
    place = in_mirror(file, mirror)
    if place is None:
        log.warning("%s has no %s", mirror, file.path)
        return None
    with atomic_output(path) as temporary:
        shutil.copyfile(place, temporary)
        digest = file_sha256(temporary)
        if is_published(file.name, digest) is False or (file.exact and temporary.stat().st_size != file.size):
            raise WeightsError(f"{place}: is not the published {file.path} (sha256 {digest}); it is not taken")
    return digest
