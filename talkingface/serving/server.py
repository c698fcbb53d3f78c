"""Runs the server until it is told to end."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from talkingface.errors import ConfigError
from talkingface.serving.app import Page, make_app
from talkingface.serving.child import Refused, TimeLimit
from talkingface.serving.config import ServeConfig
from talkingface.serving.guard import is_loopback
from talkingface.serving.page.examples import Examples
from talkingface.serving.patience import connection_class
from talkingface.serving.service import Served, Service
from talkingface.workers import WorkerDied

log = logging.getLogger("talkingface")

_GOODBYE_SECONDS = 5  # for answers under way when the server is told to end


def serve(
    settings: ServeConfig,
    served: Sequence[Served],
    devices: Sequence[str],
    overrides: Mapping[str, Any],
    host: str,
    port: int,
    token: str | None,
    root_path: str,
    templates: Mapping[str, Path],
    saved: Path,
    ready: Callable[[str], None],
) -> None:
    """Serve until a signal ends the program.

    Args:
        settings: limits and places.
        served: the models.
        devices: one worker process for each.
        overrides: configuration keys that differ from training.
        host: address to listen at.
        port: 0 takes a free one.
        token: that clients must show; None: nobody is asked.
        root_path: prefix of all paths.
        templates: videos of the adapter for the LawDNet server.
        saved: folder of runs that the page shows.
        ready: called with the address once clients may come.

    Raises:
        ConfigError: the address is taken, a model cannot be served, or a template is no good.
    """
    door = listen(host, port)
    service = Service(settings, served, devices, overrides, templates=templates)
    # Where uploads lie while they arrive: beside the others, not in a folder that may be memory.
    examples = Examples(service.folder.path / "examples")
    before, tempfile.tempdir = tempfile.tempdir, str(service.folder.uploads.absolute())
    try:
        start(service)
        if token is None and not is_loopback(host):
            log.warning("anybody who reaches %s may use this server; --token_file=FILE asks for a token", host)
        app = make_app(service, token, root_path, Page(examples, saved), is_loopback(host))
        examples.start()
        # It writes a line about every request that is no multipart; the client is told, and that is enough.
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            limit_concurrency=settings.connections,
            timeout_graceful_shutdown=_GOODBYE_SECONDS,
            http=connection_class(settings.stall_seconds),
            server_header=False,
        )
        ready(address_of(door, root_path))
        uvicorn.Server(config).run(sockets=[door])
    finally:
        tempfile.tempdir = before
        examples.close()
        service.close()
        door.close()


def start(service: Service) -> None:
    """Start a service; what is wrong with its models and templates is an error of whoever named them.

    Raises:
        ConfigError: a model cannot be served, or a template is no good.
    """
    try:
        service.start()
    except (Refused, TimeLimit, WorkerDied) as error:
        raise ConfigError(str(error)) from None


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients.

    Raises:
        ConfigError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host={host} --port={port}: cannot be listened at ({reason}); choose another") from None


def address_of(door: socket.socket, root_path: str) -> str:
    """Address of the page, as a browser on this machine takes it."""
    host, port = door.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{root_path}/"
