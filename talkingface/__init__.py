"""talkingface: research toolkit for talking-face generation.

The public surface: `run()` does what the command line does, `Pipeline` makes a face talk, `dub()` does so in one
call for LawDNet and DINet, `list_models()` names models.
Importing this package imports neither torch nor any model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from talkingface.version import __version__

if TYPE_CHECKING:
    from talkingface.lipsync.dubbing.dub import dub
    from talkingface.pipeline import Pipeline
    from talkingface.plugin.registry import list_models
    from talkingface.workflow.calls import run

__all__ = ["Pipeline", "__version__", "dub", "list_models", "run"]

_HOMES = {
    "Pipeline": "talkingface.pipeline",
    "dub": "talkingface.lipsync.dubbing.dub",
    "list_models": "talkingface.plugin.registry",
    "run": "talkingface.workflow.calls",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'talkingface' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names, for completion in an editor or notebook."""
    return list(__all__)
