"""How the numbers of every report are written: names of figures, digits, intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from talkingface.evaluation.metric import Figure

DETAILS = ("row", "variant", "region", "protocol", "net", "network", "aggregation")
"""Parts of a definition that belong to a figure's name, since numbers with others do not compare."""

SIGNIFICANT = 4  # digits of the largest number of a line
MOST_PLACES = 6  # behind the point


def label(key: str, figure: Figure, definition: Mapping[str, Any]) -> str:
    """A figure with what its number depends on: `psnr (piq, frame, dB, higher is better)`."""
    details = [text for text in (depends_on(definition), figure.unit, direction(figure)) if text]
    return f"{key} ({', '.join(details)})" if details else key


def depends_on(definition: Mapping[str, Any]) -> str:
    """What belongs to a figure's name, nothing twice: `piq, frame`."""
    texts: list[str] = []
    for name in DETAILS:
        text = str(definition.get(name) or "")
        if text and not any(text in known for known in texts):
            texts.append(text)
    return ", ".join(texts)


def direction(figure: Figure) -> str:
    """Which way is better, in words; empty where neither is."""
    return {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]


def decimals(values: Iterable[float | None]) -> int:
    """Digits behind the point for numbers that stand in one line: four digits of the largest of them in all."""
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value)]
    largest = max(sizes, default=0.0)
    # Of 9.9996 four digits are 10.00: what is written decides, not what is stored.
    exponent = int(f"{largest:.{SIGNIFICANT - 1}e}".partition("e")[2])
    return min(max(SIGNIFICANT - 1 - exponent, 0), MOST_PLACES) if largest else SIGNIFICANT - 1


def decimals_of_line(values: Mapping[str, float | None]) -> int:
    """Digits behind the point for one figure of several rows, by the name of the row.

    The real row has no say where another has a value: its 1, 0 or 80 dB tells nothing about the size of the others.
    """
    others = [value for row, value in values.items() if row != "real"]
    return decimals(others if any(others) else values.values())


def number(value: float | None, places: int | None = None) -> str:
    """A number with so many digits behind the point; a dash for none.

    One that stands alone (no `places`) has four digits below 1, two behind the point above.
    """
    if value is None:
        return "-"
    if places is None:
        return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text  # no "-0.000"


def interval(ends: tuple[float, float] | None, places: int | None = None) -> str:
    """`[low, high]`, or nothing."""
    return "" if ends is None else f"[{number(ends[0], places)}, {number(ends[1], places)}]"
