"""One file over HTTP: resumable, hash checked, complete or not there at all.

Only `run_talkingface.py weights --download=NAME` comes here; nothing is fetched by itself.
"""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from talkingface.errors import TalkingFaceError, first_line, printable
from talkingface.files import atomic_output, file_sha256, output_error

log = logging.getLogger("talkingface")

CHUNK = 2**20
TIMEOUT = 30.0  # seconds without an answer


class DownloadError(TalkingFaceError):
    """A file could not be fetched, or is not what was published."""


def download(url: str, target: Path, sha256: str, most_bytes: int, timeout: float = TIMEOUT) -> str:
    """Fetch `url` to `target`, by way of `<target>.part`.

    What an interrupted download left in the `.part` file is used: the hash tells afterwards whether the pieces fit
    together. Links are not followed: neither one that lies in the place of the `.part` file, nor one of the server from
    https to anything less.

    Args:
        url: direct address.
        target: where the file goes; it appears only when it is complete and right.
        sha256: published hash, all 64 digits.
        most_bytes: more cannot be the file: reading ends there.
        timeout: seconds without an answer.

    Returns:
        The file's sha256.

    Raises:
        DownloadError: no connection, the server refuses, the connection broke, or the hash is wrong.
        OutputError: `target` cannot be written.
    """
    part = part_of(target)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.is_symlink():
            part.unlink()
        _fetch(url, part, target, most_bytes, timeout)
        digest = file_sha256(part)
        if digest != sha256:
            part.unlink()
            raise DownloadError(
                f"{url}: wrong hash, removed: sha256 {digest} instead of {sha256}; what arrived is not the published"
                " file; try again, or fetch it from elsewhere"
            )
        os.replace(part, target)
    except OSError as error:
        raise output_error(target, error) from error
    except KeyboardInterrupt:
        if part.is_file():
            log.warning("%s holds what has arrived, %.0f MiB; the same command goes on there", part, _mib(part))
        raise
    return digest


def part_of(target: Path) -> Path:
    """Where an unfinished download lies."""
    return target.with_name(f"{target.name}.part")


def archive_of(target: Path) -> Path:
    """Where the zip lies that a file is taken out of."""
    return target.with_name(f"{target.name}.zip")


def take_out(archive: Path, member: str, target: Path, sha256: str) -> str:
    """Copy one file of a zip that was fetched to `target`, and remove the zip.

    Returns:
        The file's sha256.

    Raises:
        DownloadError: the zip has no such file, or another one.
        OutputError: `target` cannot be written.
    """
    try:
        with atomic_output(target) as temporary:
            try:
                with zipfile.ZipFile(archive) as zipped, zipped.open(member) as inside, temporary.open("wb") as out:
                    shutil.copyfileobj(inside, out, CHUNK)
            except (zipfile.BadZipFile, KeyError) as error:
                raise DownloadError(f"{archive}: has no readable {member} ({first_line(error)}); removed") from None
            digest = file_sha256(temporary)
            if digest != sha256:
                raise DownloadError(f"{archive}: {member} has sha256 {digest} instead of {sha256}; removed")
    finally:
        archive.unlink(missing_ok=True)
    return digest


class _SafeRedirects(HTTPRedirectHandler):
    """Follows a server to another address, but not from https to an address that anybody on the way can answer."""

    def redirect_request(self, request: Request, *rest: Any) -> Request | None:
        """The request of the new address, its last argument."""
        schemes = urlsplit(request.full_url).scheme, urlsplit(rest[-1]).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise DownloadError(f"{request.full_url}: the server sends us to {rest[-1]}, which is not secure; refused")
        return super().redirect_request(request, *rest)


def _fetch(url: str, part: Path, target: Path, most_bytes: int, timeout: float) -> None:
    """Bring `part` to the length of the file at `url`."""
    have = part.stat().st_size if part.is_file() else 0
    # Without "identity" a server may compress, and then positions count in another file.
    headers = {"User-Agent": "talkingface", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-"} if have else {}
    try:
        reply = build_opener(_SafeRedirects).open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not have:  # 416: there is nothing from this position on
            raise DownloadError(_refused(url, target, error)) from None
        # `bytes */N`: the file has N bytes. If that is what is here, it is complete; else the piece is of another file.
        if error.headers.get("Content-Range", "").strip() == f"bytes */{have}":
            return
        part.unlink()
        return _fetch(url, part, target, most_bytes, timeout)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise DownloadError(_unreachable(url, target, getattr(error, "reason", None) or error)) from None
    with reply:
        # 200 means that the server ignores ranges and sends the whole file.
        start = _start(reply.headers) if reply.status == 206 else 0
        if start in (0, have):
            return _copy(reply, part, start, most_bytes, url)
    if not have:
        raise DownloadError(f"{url}: the server answers with a piece of the file; fetch it by hand, to {target}")
    part.unlink()  # another range than the one asked for
    return _fetch(url, part, target, most_bytes, timeout)


def _copy(reply: Any, part: Path, start: int, most_bytes: int, url: str) -> None:
    """Append the body to the first `start` bytes of `part`."""
    length = reply.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() and len(length) < 16 else None
    bar = tqdm(
        total=total,
        initial=start,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc=printable(_name(url)),
        disable=None,
    )
    place = start
    with open(part, "ab" if start else "wb", opener=_no_link) as stream, bar:
        while chunk := _read(reply, part, url):
            place += len(chunk)
            if place > most_bytes:
                break
            stream.write(chunk)
            bar.update(len(chunk))
    if place > most_bytes:
        part.unlink()
        raise DownloadError(f"{url}: sends more than the {most_bytes / 2**20:.1f} MiB of the published file; removed")
    if total is not None and part.stat().st_size < total:
        raise DownloadError(_broken(url, part, f"{_mib(part):.1f} of {total / 2**20:.1f} MiB"))


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _read(reply: Any, part: Path, url: str) -> bytes:
    try:
        return reply.read(CHUNK)
    except (HTTPException, OSError) as error:
        raise DownloadError(_broken(url, part, str(error) or type(error).__name__)) from None


def _start(headers: Mapping[str, str]) -> int:
    """First position of a partial answer; -1 when it does not say."""
    first = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _mib(path: Path) -> float:
    return path.stat().st_size / 2**20


def _name(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]


def _refused(url: str, target: Path, error: HTTPError) -> str:
    advice = "try again later" if error.code >= 500 or error.code == 429 else "the file may have moved"
    return f"{url}: the server answers {error.code} {error.reason}; {advice}, or put the file at {target} by hand"


def _unreachable(url: str, target: Path, reason: object) -> str:
    host = urlsplit(url).netloc
    return (
        f"{host} cannot be reached ({reason}); without a network fetch {url} on another machine and put it at {target}"
    )


def _broken(url: str, part: Path, what: str) -> str:
    return f"{url}: the connection broke ({what}); the same command goes on, the beginning is in {part}"
