"""Objects inside checkpoints of other programs: read past, never made.

Some published files hold an optimiser or a scheduler as the object it was. `torch.load(weights_only=True)` refuses
them, and would have to import their code to make them. Here each of their classes gets an inert one in its place, for
the time of one reading; what was built of it is then left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

_MAPPINGS = {"collections.defaultdict"}
"""What optimisers keep their state in; a stand-in must take entries."""

_KEYS = (str, int, float, bool, bytes, type(None))


class Inert:
    """Stands for an object of an unknown class, whatever it is given."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Keep nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        """Take everything."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


def _stand_in(name: str) -> type | Callable[..., Any]:
    """Something that torch takes for the class or function `module.name` and that does nothing."""
    module, _, last = name.rpartition(".")
    if name in _MAPPINGS:

        def mapping(*arguments: Any) -> OrderedDict:
            return OrderedDict()

        mapping.__module__, mapping.__name__, mapping.__qualname__ = module, last, last
        return mapping
    return type(last, (Inert,), {"__module__": module})


@contextmanager
def stand_ins(names: Collection[str]) -> Iterator[None]:
    """While it lasts, `torch.load(weights_only=True)` admits these names, and makes nothing of them."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([_stand_in(name) for name in names])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def without_objects(content: Any) -> Any:
    """The same without what stand-ins were made for: tensors and plain values, in plain containers."""
    if isinstance(content, Mapping):
        kept = {key: value for key, value in content.items() if isinstance(key, _KEYS) and not _is_object(value)}
        return {key: without_objects(value) for key, value in kept.items()}
    if type(content) in (list, tuple, set):
        return type(content)(without_objects(part) for part in content if not _is_object(part))
    return content


def _is_object(value: Any) -> bool:
    return isinstance(value, Inert) or callable(value)  # a class or function that was only named is callable
