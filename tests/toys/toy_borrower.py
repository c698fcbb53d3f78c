"""A toy that borrows: `ToyBorrower` paints with the ear of a finished run of `ToyEar`."""

from __future__ import annotations

from talkingface.plugin import Borrowed, register
from toys.toy_painter import ToyPainter


@register("ToyBorrower")
class ToyBorrower(ToyPainter):
    """`ToyPainter` that finds its ear by itself."""

    borrows = {"ear": Borrowed("ToyEar", settings={"width": "width"})}
