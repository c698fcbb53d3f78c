"""Plots of the report as SVG text: colours come from the page's style sheet, so they follow its light and dark mode.

Every function returns `Markup` in which all text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from talkingface.evaluation.report.numbers import decimals, interval, number

WIDTH = 360  # of a plot, in its own units; the page scales it
LANE = 50  # height of one row of a strip plot: a line of text, then the points
EDGE = 10
MAX_POINTS = 150
"""Points drawn per lane; of more clips, those at evenly spaced ranks, which keep the shape and both ends."""

Axis = Callable[[float], float]


@dataclass(frozen=True)
class Lane:
    """One row of a strip plot.

    Attributes:
        name: what stands above the points.
        style: class of the style sheet that gives the colour.
        values: the figure by clip.
        mean: average over clips.
        interval: its 95 % interval.
        reference: whether it only shows how far the others could get; such a lane does not stretch the axis.
    """

    name: str
    style: str
    values: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    interval: tuple[float, float] | None = None
    reference: bool = False

    @property
    def span(self) -> list[float]:
        """What its points, mean and interval reach; an interval may reach beyond all clips."""
        return [*self.values.values(), *(v for v in (self.mean, *(self.interval or ())) if v is not None)]


@dataclass(frozen=True)
class Curve:
    """A value at every offset from -n to n frames; NaN where there is none.

    Attributes:
        name: what the line belongs to.
        style: class of the style sheet that gives colour and dashes.
        values: (2n + 1,) in the order of the offsets.
    """

    name: str
    style: str
    values: Sequence[float]

    def peak(self, low_is_match: bool) -> int | None:
        """Offset in frames of the best agreement; None where nothing is finite."""
        values = np.asarray(self.values, np.float64)
        if not np.isfinite(values).any():
            return None
        # `nanarg...` counts from the left end of the curve; the middle is offset 0.
        best = np.nanargmin(values) if low_is_match else np.nanargmax(values)
        return int(best) - len(values) // 2


def strip_plot(title: str, lanes: Sequence[Lane]) -> Markup:
    """One point per clip in a lane per row; below the points the mean (diamond) and its 95 % interval (bar).

    The shaded box holds the middle half of the clips, its line is the median. An arrow stands for a lane that lies
    beyond the axis.
    """
    shown = [lane for lane in lanes if lane.values]
    low, high = _axis(shown)
    places = decimals([lane.mean for lane in shown if not lane.reference] or [lane.mean for lane in shown])
    ticks = _ticks(low, high)
    bottom = LANE * len(shown) + 4

    def x(value: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (value - low) / (high - low)

    parts = [Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/>').format(_px(x(t)), bottom) for t in ticks]
    for index, lane in enumerate(shown):
        side = _beyond(lane, low, high)
        if side:
            parts += [*_heading(lane, LANE * index, places), _arrow(lane, LANE * index, side)]
        else:
            parts += [*_heading(lane, LANE * index, places), *_lane(lane, LANE * index, x)]
    for tick in ticks:
        # Numbers near an edge stand inside the plot: the picture is cut off there.
        anchor = "start" if x(tick) < 24 else "end" if x(tick) > WIDTH - 24 else "middle"
        place = Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>')
        parts.append(place.format(_px(x(tick)), bottom + 12, anchor, f"{tick:g}"))
    # What the eye sees, in words for screen readers.
    about = "; ".join(f"{lane.name}: mean {number(lane.mean, places)} over {len(lane.values)} clips" for lane in shown)
    return _svg(parts, bottom + 16, f"{title}, one point per clip. {about}")


def _axis(lanes: Sequence[Lane]) -> tuple[float, float]:
    """The ends of the axis; a reference counts only where it leaves the others at least half of its length."""
    judged = [v for lane in lanes if not lane.reference for v in lane.span]
    if not judged:
        return _range([v for lane in lanes for v in lane.span])
    ends, most = _range(judged), 2 * (_range(judged)[1] - _range(judged)[0])
    for lane in lanes:
        with_lane = _range([*judged, *lane.span])
        if lane.reference and with_lane[1] - with_lane[0] <= most:
            judged += lane.span
            ends = with_lane
    return ends


def _beyond(lane: Lane, low: float, high: float) -> int:
    """-1 or 1 where a reference reaches beyond the left or right end of the axis; 0 where all fits in."""
    short = {-1: low - min(lane.span), 1: max(lane.span) - high}
    side = max(short, key=lambda end: short[end])
    return side if lane.reference and short[side] > 0 else 0


def _heading(lane: Lane, top: float, places: int) -> list[Markup]:
    """Name of a lane on the left, its mean and interval on the right."""
    text = f"{number(lane.mean, places)} {interval(lane.interval, places)}".strip()
    return [
        Markup('<text x="0" y="{}">{}</text>').format(top + 12, lane.name),
        Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(WIDTH, top + 12, text),
    ]


def _arrow(lane: Lane, top: float, side: int) -> Markup:
    """A mark at the end of the axis beyond which a reference lies."""
    tip = WIDTH - EDGE if side > 0 else EDGE
    back = tip - 9 * side
    arrow = Markup('<path class="{} beyond" d="M{} {}L{} {}L{} {}z"/>')
    text = Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">beyond this axis</text>')
    return arrow.format(lane.style, tip, top + 26, back, top + 21, back, top + 31) + text.format(
        back - 6 * side, top + 30, "end" if side > 0 else "start"
    )


def _lane(lane: Lane, top: float, x: Axis) -> list[Markup]:
    """A lane of a strip plot from `top` on; `x` gives the place of a value."""
    values = sorted(lane.values.items(), key=lambda item: item[1])
    # From the top of a lane: name and mean (baseline 12), points around 26, interval at 39.
    middle, foot = top + 26, top + 39
    first, median, third = (x(q) for q in np.quantile([v for _, v in values], (0.25, 0.5, 0.75)))
    parts = [
        Markup('<g class="{}">').format(lane.style),
        Markup('<rect class="box" x="{}" y="{}" width="{}" height="14"/>').format(
            _px(first), middle - 7, _px(max(third - first, 1))
        ),
        Markup('<line class="median" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            _px(median), middle - 7, middle + 7
        ),
    ]
    for rank in _ranks(len(values)):
        clip, value = values[rank]
        # Neighbours in rank lie at different heights, so that equal values can be told apart: multiples of the golden
        # ratio, taken modulo 1, spread evenly however many there are.
        y = middle + 5 * ((rank * 0.618034) % 1 * 2 - 1)
        point = Markup('<circle cx="{}" cy="{}" r="2.6"><title>{}: {}</title></circle>')
        parts.append(point.format(_px(x(value)), _px(y), clip, number(value)))
    if lane.interval:
        bar = Markup('<line class="bar" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>')
        parts.append(bar.format(_px(x(lane.interval[0])), _px(x(lane.interval[1])), foot))
    if lane.mean is not None:
        diamond = Markup('<path class="mean" d="M{0} {1}l4 4l-4 4l-4 -4z"/>')
        parts.append(diamond.format(_px(x(lane.mean)), foot - 4))
    return [*parts, Markup("</g>")]


def offset_plot(
    title: str, curves: Sequence[Curve], low_is_match: bool, faint: Sequence[Curve] = (), width: int = WIDTH
) -> Markup:
    """Agreement of lips and sound over the offset in frames, the best one of each curve marked.

    Args:
        title: what is shown, for those who cannot see it.
        curves: drawn in full, with their peaks.
        low_is_match: whether the lowest value is the best (a distance) or the highest (a similarity).
        faint: further lines behind them, without peaks.
        width: of the plot in its own units; less makes letters larger.
    """
    every = [*faint, *curves]
    side = max(len(curve.values) // 2 for curve in every)
    low, high = _range([v for curve in every for v in curve.values])
    # `left` keeps room for the numbers of the value axis.
    height, left = 130, 34

    def x(offset: float) -> float:
        return left + (width - left - EDGE) * (offset + side) / (2 * side or 1)

    def y(value: float) -> float:
        return 8 + (height - 16) * (high - value) / (high - low)

    parts = [
        Markup('<line class="{2}" x1="{0}" x2="{0}" y1="4" y2="{1}"/>').format(
            _px(x(offset)), height, "zero" if offset == 0 else "grid"
        )
        for offset in range(-(side // 5) * 5, side + 1, 5)
    ]
    # More numbers than six would touch each other at this height.
    for value in _ticks(low, high)[:6]:
        parts.append(Markup('<text class="tick" x="0" y="{}">{}</text>').format(_px(y(value) + 3), f"{value:g}"))
    # Faint lines first: SVG draws later things on top.
    for curve in faint:
        parts.append(_path(curve, x, y, "faint"))
    for curve in curves:
        parts.append(_path(curve, x, y, "curve"))
        peak = curve.peak(low_is_match)
        if peak is not None:
            value = curve.values[peak + len(curve.values) // 2]
            mark = Markup('<circle class="{} peak" cx="{}" cy="{}" r="4"><title>{}: best at {}</title></circle>')
            parts.append(mark.format(curve.style, _px(x(peak)), _px(y(value)), curve.name, frames(peak)))
    for offset in range(-(side // 5) * 5, side + 1, 5):
        place = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>')
        parts.append(place.format(_px(x(offset)), height + 13, f"{offset:+d}" if offset else "0"))
    about = "; ".join(f"{c.name} best at {frames(c.peak(low_is_match))}" for c in curves)
    return _svg(parts, height + 18, f"{title}. {about}", width)


def frames(offset: int | None) -> str:
    """An offset in words: `+2 frames`."""
    return "nowhere" if offset is None else f"{offset:+d} frames" if offset else "0 frames"


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Average over clips at every offset; NaN where no clip has a value. Clips of other lengths are left out."""
    lengths = [len(curve) for curve in curves]
    usual = max(set(lengths), key=lengths.count)
    stacked = np.array([curve for curve in curves if len(curve) == usual], np.float64)
    counts = np.isfinite(stacked).sum(axis=0)
    sums = np.where(np.isfinite(stacked), stacked, 0.0).sum(axis=0)
    return [float(total / count) if count else math.nan for total, count in zip(sums, counts, strict=True)]


def _path(curve: Curve, x: Axis, y: Axis, kind: str) -> Markup:
    """A curve as one path of SVG: `M` moves the pen, `L` draws."""
    # A gap (NaN) lifts the pen: a line across it would show agreement that nobody measured.
    steps, lifted = [], True
    for index, value in enumerate(curve.values):
        if not math.isfinite(value):
            lifted = True
            continue
        steps.append(f"{'M' if lifted else 'L'}{_px(x(index - len(curve.values) // 2))} {_px(y(value))}")
        lifted = False
    return Markup('<path class="{} {}" d="{}"><title>{}</title></path>').format(
        curve.style, kind, "".join(steps), curve.name
    )


def _svg(parts: Sequence[Markup], height: float, label: str, width: int = WIDTH) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, _px(height), label)
    return head + Markup("").join(parts) + Markup("</svg>")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The span of the finite values with a little room at both ends; never empty."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    # Equal values have no span, zeros no size: the axis still needs a length.
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers within the range."""
    # Five steps as they come, then the next round one above: 1, 2 or 5 times a power of ten.
    raw = (high - low) / 5
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw)
    count = math.floor(high / step) - math.ceil(low / step) + 1
    # Through text: 3 * 0.1 would be printed as 0.30000000000000004.
    return [float(f"{(math.ceil(low / step) + index) * step:.12g}") for index in range(count)]


def _ranks(count: int) -> list[int]:
    """Positions, in the sorted values, of the points that are drawn."""
    if count <= MAX_POINTS:
        return list(range(count))
    return sorted({round(rank) for rank in np.linspace(0, count - 1, MAX_POINTS)})


def _px(value: float) -> str:
    """A coordinate to a tenth of a unit: more would only make the page larger."""
    return f"{value:.1f}".removesuffix(".0")
