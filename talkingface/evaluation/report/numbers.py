"""How the numbers of every report are written: names of figures, digits, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talkingface.evaluation.metric import Figure

DETAILS = ("row", "variant", "region", "protocol", "net", "network", "aggregation")
"""Parts of a definition that belong to a figure's name, since numbers with others do not compare."""


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


def number(value: float | None) -> str:
    """Four digits below 1, two decimals above; a dash for none."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"


def interval(ends: tuple[float, float] | None) -> str:
    """`[low, high]`, or nothing."""
    return "" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"
