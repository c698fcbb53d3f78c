"""What is peculiar about LawDNet as published, one switch each: its weights need it, new ones do better without.

Found in the official implementation of LawDNet, arXiv:2409.09326.
"""

from __future__ import annotations

from typing import NamedTuple

from talkingface.networks.dubbing.generator import Compat, check_compat


class Quirks(NamedTuple):
    """What a generator keeps of the published one.

    Attributes:
        scrambled_field: x and y of the sampling field are read from memory in another order than written.
        clamped_field: coordinates and not displacements are resized to the map, so that the outermost pixels sample
            beside themselves.
        whole_grid: the field has its full grid also on maps that are smaller.
        dead_layers: every round begins anew with the references, so that only the last one counts; the others are
            kept for their weights, but not evaluated.
    """

    scrambled_field: bool
    clamped_field: bool
    whole_grid: bool
    dead_layers: bool

    @classmethod
    def of(cls, compat: Compat, **switches: bool | None) -> Quirks:
        """All of them (`published`) or none (`corrected`), but for those that `switches` set by name.

        Raises:
            ValueError: another word, or a switch that is none.
        """
        check_compat(compat)
        unknown = sorted(set(switches) - set(cls._fields))
        if unknown:
            raise ValueError(f"unknown switch {unknown[0]!r}; known: {', '.join(cls._fields)}")
        return cls(*(compat == "published" if switches.get(name) is None else switches[name] for name in cls._fields))
