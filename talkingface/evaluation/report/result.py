"""The result of an evaluation: `EvalResult` with its rows and clips, and the table that is printed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from talkingface.clips.layouts import printable
from talkingface.errors import TalkingFaceError
from talkingface.evaluation.metric import Figure, finite_only
from talkingface.evaluation.report.numbers import decimals_of_line, interval, label, number

SHOWN_SKIPS = 10  # lines below the printed table
COLUMN = 12  # characters of a column, at least
INTERVAL = 19  # characters of [-0.1234, -0.01234]
LONGEST_NAME = 100  # bytes; file systems allow 255, and a suffix and the name of a temporary file come on top


@dataclass
class ClipScore:
    """One line of `per_clip.csv`, and what does not fit into a table.

    Attributes:
        row: `generated`, `real`, `still` or `shuffled`.
        clip_id: the clip.
        values: its figures; NaN or infinity where one is undefined.
        frames: frames (or windows) behind each figure.
        excluded: frames left out of each figure.
        notes: what a reader should know.
        curves: agreement of lips and sound at every offset from -n to n frames, by the name of the judge.
        video: the file that was scored.
        reference: the real video.
        fingerprint: size and hash of the real video's beginning; empty until the report is written, or unknown.
    """

    row: str
    clip_id: str
    values: dict[str, float]
    frames: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    video: Path | None = None
    reference: Path | None = None
    fingerprint: str = ""


@dataclass
class RowResult:
    """Averages of one row.

    Attributes:
        values: mean over clips, by figure.
        clips: clips scored in this row.
        scored: clips behind each figure.
        frame_means: mean over all frames of all clips instead.
        non_finite: clips left out of a mean because the figure was undefined there.
        intervals: 95 % bootstrap interval of each mean.
    """

    values: dict[str, float] = field(default_factory=dict)
    clips: int = 0
    scored: dict[str, int] = field(default_factory=dict)
    frame_means: dict[str, float] = field(default_factory=dict)
    non_finite: dict[str, int] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass
class EvalResult:
    """Everything an evaluation found out.

    Attributes:
        rows: averages by row name.
        figures: unit and direction by figure.
        metric_of: the metric that each figure belongs to.
        definitions: variants, regions, protocols and weight hashes.
        provenance: model, data set, checkpoint, references, landmark provider, whether the data are synthetic.
        stage_figures: the model's own figures of its inner stages.
        unavailable: metric name -> reason.
        skipped: (row, clip, what, reason), `what` being a metric name or `clip`.
        clips: one entry per row and clip.
        date: when it began, ISO 8601 with the offset from UTC.
    """

    rows: dict[str, RowResult] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    metric_of: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    stage_figures: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str, str, str]] = field(default_factory=list)
    clips: list[ClipScore] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))

    def values(self, row: str = "generated") -> dict[str, float]:
        """Averages of a row by figure; without figures that could not be computed."""
        return dict(self.rows[row].values) if row in self.rows else {}

    def flat(self, prefix: str = "") -> dict[str, float]:
        """One mapping for logs and `monitor`: `ssim` of the generated row, `<row>/ssim` of others, stage figures."""
        flat = {f"{prefix}{key}": value for key, value in self.values().items()}
        for row in self.rows:
            if row != "generated":
                flat |= {f"{prefix}{row}/{key}": value for key, value in self.values(row).items()}
        return flat | {f"{prefix}{key}": value for key, value in self.stage_figures.items()}

    def per_clip(self, row: str, key: str) -> dict[str, float]:
        """A figure of every clip of a row where it is defined, by clip."""
        clips = {clip.clip_id: clip.values.get(key, math.nan) for clip in self.clips if clip.row == row}
        return {clip_id: value for clip_id, value in clips.items() if math.isfinite(value)}

    def failed(self, row: str) -> list[tuple[str, str]]:
        """Clips without any figure in a row, with the reason: (clip, reason)."""
        # A clip that could not be generated is left out of every row, so that all rows are means over the same clips.
        rows = (row, "generated")
        return [(clip, why) for where, clip, what, why in self.skipped if what == "clip" and where in rows]

    def left_out(self, row: str, key: str) -> list[tuple[str, str]]:
        """Further clips that do not count in one figure of a row, with the reason: (clip, reason)."""
        metric = self.metric_of.get(key)
        failed = [(clip, why) for where, clip, what, why in self.skipped if (where, what) == (row, metric)]
        # A clip without this figure (0.0) was skipped and is in `failed` already; here count those whose value is no
        # number.
        undefined = [c.clip_id for c in self.clips if c.row == row and not math.isfinite(c.values.get(key, 0.0))]
        return failed + [(clip, "undefined in this clip") for clip in undefined]

    @property
    def content(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """The content of `metrics.json`: plain values, neither NaN nor infinity."""
        rows = {}
        for name, row in self.rows.items():
            rows[name] = {
                **finite_only({key: row.values[key] for key in self.figures if key in row.values}),
                **{key: None for key in self.figures if key not in row.values},
                "clips": row.clips,
            }
        return {
            "rows": rows,
            "details": {name: self._details(name) for name in self.rows},
            "stage_figures": finite_only(self.stage_figures),
            "figures": {
                key: {"metric": self.metric_of.get(key, ""), **figure._asdict()} for key, figure in self.figures.items()
            },
            "definitions": self.definitions,
            "unavailable": {name: {"available": False, "reason": reason} for name, reason in self.unavailable.items()},
            "skipped": [
                {"row": row, "clip": clip, "what": what, "reason": reason} for row, clip, what, reason in self.skipped
            ],
            "date": self.date,
            **self.provenance,
        }

    def _details(self, name: str) -> dict[str, Any]:
        row = self.rows[name]
        failed = len(self.failed(name))
        left_out = {key: failed + len(self.left_out(name, key)) for key in row.scored}
        return {
            "clips_per_figure": row.scored,
            "clips_left_out": {key: count for key, count in left_out.items() if count},
            "interval95": {key: list(ends) for key, ends in row.intervals.items()},
            "mean_over_frames": finite_only(row.frame_means),
            "undefined_clips": row.non_finite,
        }

    def table(self) -> str:
        """The printed table: figures down, rows across, then stage figures, unavailable metrics and skipped clips."""
        return printed_table(self)

    def title(self) -> str:
        """Model and data set, then remarks."""
        head = " on ".join(str(self.provenance[key]) for key in ("model", "dataset") if self.provenance.get(key))
        parts = [head or "evaluation", *self.provenance.get("remarks", [])]
        return "; ".join(parts)


def printed_table(result: EvalResult) -> str:
    """Figures down, rows across, then stage figures, unavailable metrics and skipped clips.

    The first row, usually the generated one, also shows its intervals; report.html has those of all rows.
    """
    rows = list(result.rows.values())
    labels = {key: label(key, figure, result.definitions.get(key, {})) for key, figure in result.figures.items()}
    width = max([len(text) for text in labels.values()] + [len(key) for key in result.stage_figures] + [12])
    column = max([COLUMN, *(len(name) + 2 for name in result.rows)])
    intervals = rows[0].intervals if rows else {}

    def line(text: str, cells: Sequence[object], ends: str = "") -> str:
        # The interval belongs to the first column alone; it stands between that and the next.
        first, *others = [f"{cell!s:>{column}}" for cell in cells]
        ends = f" {ends:<{INTERVAL}}" if intervals else ""
        return (f"{text:<{width}}" + first + ends + "".join(others)).rstrip()

    lines = [result.title()]
    lines += [line("", list(result.rows))] if rows else []
    for key, text in labels.items():
        if any(key in row.values for row in rows):
            values = {name: row.values.get(key) for name, row in result.rows.items()}
            places = decimals_of_line(values)
            cells = [number(value, places) for value in values.values()]
            lines.append(line(text, cells, interval(intervals.get(key), places)))
    lines += [line("clips", [row.clips for row in rows])] if rows else []
    lines += ["[ ]: 95 % bootstrap interval of the mean over clips"] if intervals else []
    if result.stage_figures:
        lines += ["", "stage figures"] if rows else ["stage figures"]
        lines += [f"{key:<{width}}{number(value):>{COLUMN}}" for key, value in result.stage_figures.items()]
    lines += [f"{name}: n/a ({reason})" for name, reason in result.unavailable.items()]
    return "\n".join(lines + _skipped(result))


def _skipped(result: EvalResult) -> list[str]:
    """What was skipped, a line each; of many only the first."""
    lines = [f"skipped {clip} ({row}, {what}): {reason}" for row, clip, what, reason in result.skipped]
    more = len(lines) - SHOWN_SKIPS
    return [*lines[:SHOWN_SKIPS], f"... and {more} more, see metrics.json"] if more > 0 else lines


def safe_name(clip_id: str) -> str:
    """A clip id as a file name, another one for every id: `id00/0003` becomes `id00_0003`.

    The folder separator alone is replaced without a trace. An id with other special characters, with a `_` of its own
    or of more than `LONGEST_NAME` bytes ends in `~` and a part of its hash.
    """
    plain = "".join(char if char.isalnum() or char in "-." else "_" for char in clip_id)
    short = plain.encode()[:LONGEST_NAME].decode(errors="ignore")
    # Nothing was replaced but the separator, nothing cut off: no other id can become the same name.
    if "_" not in clip_id and short == clip_id.replace("/", "_"):
        return short
    digest = hashlib.sha256(clip_id.encode(errors="surrogatepass")).hexdigest()
    return f"{short}~{digest[:10]}"


def one_line(error: BaseException) -> str:
    """An error in one line that can be written anywhere: the message alone for ours, with the type for others."""
    text = printable(" ".join(str(error).split()))
    return text if isinstance(error, TalkingFaceError) and text else f"{type(error).__name__}: {text}"
