"""Offset curves of a lip-sync expert as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from talkingface.files import atomic_output
from talkingface.lipsync.expert.scores import Sweep

COLOURS = ("#1b6ca8", "#c8553d", "#2f8f5b", "#7a5195")


def plot_sweeps(groups: Mapping[str, Sequence[Sweep]], output: Path, title: str) -> None:
    """Draw the curve of every clip thinly and the mean of each group thickly, as PNG.

    Args:
        groups: curves by name of their group.
        output: the picture.
        title: what stands above it.

    Raises:
        OutputError: it cannot be written.
    """
    # The object-oriented interface: pyplot would choose a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, sweeps), colour in zip(groups.items(), COLOURS, strict=False):
        for sweep in sweeps:
            axes.plot(_offsets(sweep), sweep.curve, color=colour, linewidth=0.7, alpha=0.3)
        mean = Sweep.mean(sweeps)
        hits = sum(sweep.hit for sweep in sweeps)
        label = f"{name}: peak {mean.peak:+d}, prominence {mean.prominence:.2f}, {hits} of {len(sweeps)} clear at 0"
        axes.plot(_offsets(mean), mean.curve, color=colour, linewidth=2.2, label=label)
    axes.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlabel="offset in frames (positive: earlier sound)", ylabel="mean cosine of mouths and sounds")
    axes.set(title=title, ylim=(0.0, 1.0))  # all that a cosine of this expert can be: flat must look flat
    axes.grid(alpha=0.2)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    with atomic_output(output) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _offsets(sweep: Sweep) -> np.ndarray:
    return np.arange(-sweep.reach, sweep.reach + 1)


def plot_clips(groups: Mapping[str, Mapping[str, Sweep]], output: Path, most: int = 24) -> None:
    """Draw the curve of every clip in a panel of its own, as PNG.

    Args:
        groups: curves by clip, by name of their group.
        output: the picture.
        most: panels; of more clips the first ones of each group are shown.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The same share for every group, so that many seen people do not push out the few unseen ones.
    each = max(1, most // max(1, len(groups)))
    shown = [
        (row, clip_id, sweep, colour)
        for (row, sweeps), colour in zip(groups.items(), COLOURS, strict=False)
        for clip_id, sweep in list(sweeps.items())[:each]
    ]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)  # rounded up
    figure = Figure(figsize=(2.6 * columns, 1.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    # The clips first: the other way round, `zip` takes a panel more before it notices that there is no clip for it.
    for (row, clip_id, sweep, colour), axes in zip(shown, panels, strict=False):
        axes.plot(_offsets(sweep), sweep.curve, color=colour)
        axes.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
        axes.set_title(f"{row} {clip_id}: {sweep.peak:+d}, {sweep.prominence:.2f}", fontsize=8)
        axes.set_ylim(0.0, 1.0)
        axes.grid(alpha=0.2)
    for axes in panels:  # what is left of the last row
        axes.set_axis_off()
    figure.supxlabel("offset in frames (positive: earlier sound)", fontsize=9)
    with atomic_output(output) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
