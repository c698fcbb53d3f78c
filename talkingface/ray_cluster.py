"""Ray, imported where it is asked for alone: connecting to a cluster, and what its processes must find there."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from talkingface.errors import ConfigError, first_line

if TYPE_CHECKING:
    from types import ModuleType


@contextmanager
def connected(address: str, option: str, instead: str) -> Iterator[ModuleType]:
    """Ray, connected; a connection that was there before stays.

    Args:
        address: of the cluster: `auto`, `host:port`, or `local` for one that lives in this command.
        option: what names the address, for the message.
        instead: what one may do without a cluster, likewise.

    Raises:
        ImportError: Ray is not installed.
        ConfigError: no cluster answers.
    """
    import ray

    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    more = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{option}={address}: no Ray cluster answers there ({first_line(error)}); start one with `ray start"
            f" --head`, or {instead}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def same_modules(*variables: str) -> dict[str, Any]:
    """A `runtime_env` for processes that import what this one does, also plug-ins and a toolkit that is not installed.

    Args:
        *variables: names of environment variables that they need, too.
    """
    given = {name: os.environ[name] for name in variables if name in os.environ}
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **given}}
