"""talkingface: research toolkit for talking-face generation.

The public surface: `run()` does what the command line does, `Pipeline` makes a face talk, `list_models()` names models.
Importing this package imports neither torch nor any model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__", "list_models", "run"]

if TYPE_CHECKING:
    from talkingface.pipeline import Pipeline
    from talkingface.registry import list_models
    from talkingface.runner import run

_HOMES = {
    "Pipeline": "talkingface.pipeline",
    "list_models": "talkingface.registry",
    "run": "talkingface.runner",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'talkingface' has no attribute '{name}'")
