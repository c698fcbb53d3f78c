"""The report: `EvalResult` and the files made of it (`metrics.json`, `per_clip.csv`, side-by-side videos)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.data.output import atomic_output
from talkingface.errors import TalkingFaceError
from talkingface.evaluator.base import Figure, finite_only

if TYPE_CHECKING:
    import numpy as np

CAPTION_HEIGHT = 24


@dataclass
class ClipScore:
    """One line of `per_clip.csv`."""

    row: str
    clip_id: str
    values: dict[str, float]
    frames: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class RowResult:
    """Averages of one row.

    Attributes:
        values: mean over clips, by figure.
        clips: clips scored in this row.
        scored: clips behind each figure.
        frame_means: mean over all frames of all clips instead.
        non_finite: clips left out of a mean because the figure was undefined there.
    """

    values: dict[str, float] = field(default_factory=dict)
    clips: int = 0
    scored: dict[str, int] = field(default_factory=dict)
    frame_means: dict[str, float] = field(default_factory=dict)
    non_finite: dict[str, int] = field(default_factory=dict)


@dataclass
class EvalResult:
    """Everything an evaluation found out.

    Attributes:
        rows: averages by row name.
        figures: unit and direction by figure.
        definitions: variants, regions, protocols and weight hashes.
        provenance: model, data set, checkpoint, references, landmark provider, whether the data are synthetic.
        stage_figures: the model's own figures of its inner stages.
        unavailable: metric name -> reason.
        skipped: (row, clip, what, reason), `what` being a metric name or `clip`.
        clips: one entry per row and clip.
    """

    rows: dict[str, RowResult] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    definitions: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    stage_figures: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str, str, str]] = field(default_factory=list)
    clips: list[ClipScore] = field(default_factory=list)

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
            "details": {
                name: {
                    "clips_per_figure": row.scored,
                    "mean_over_frames": finite_only(row.frame_means),
                    "undefined_clips": row.non_finite,
                }
                for name, row in self.rows.items()
            },
            "stage_figures": finite_only(self.stage_figures),
            "figures": {key: figure._asdict() for key, figure in self.figures.items()},
            "definitions": self.definitions,
            "unavailable": {name: {"available": False, "reason": reason} for name, reason in self.unavailable.items()},
            "skipped": [
                {"row": row, "clip": clip, "what": what, "reason": reason} for row, clip, what, reason in self.skipped
            ],
            **self.provenance,
        }

    def table(self) -> str:
        """The printed table: figures down, rows across, then stage figures, unavailable metrics and skipped clips."""
        lines = [self._title()]
        names = list(self.rows)
        labels = {key: self._label(key) for key in self.figures}
        width = max([len(label) for label in labels.values()] + [len(k) for k in self.stage_figures] + [12])
        lines.append(" " * width + "".join(f"{name:>12}" for name in names))
        for key, label in labels.items():
            cells = [self.rows[name].values.get(key) for name in names]
            if any(cell is not None for cell in cells):
                lines.append(f"{label:<{width}}" + "".join(f"{_number(cell):>12}" for cell in cells))
        lines.append(f"{'clips':<{width}}" + "".join(f"{self.rows[name].clips:>12}" for name in names))
        if self.stage_figures:
            lines += ["", "stage figures"]
            lines += [f"{key:<{width}}{_number(value):>12}" for key, value in self.stage_figures.items()]
        lines += [f"{name}: n/a ({reason})" for name, reason in self.unavailable.items()]
        lines += self._skipped_lines()
        return "\n".join(lines)

    def _title(self) -> str:
        head = " on ".join(str(self.provenance[key]) for key in ("model", "dataset") if self.provenance.get(key))
        parts = [head or "evaluation", *self.provenance.get("remarks", [])]
        return "; ".join(parts)

    def _label(self, key: str) -> str:
        figure, definition = self.figures[key], self.definitions.get(key, {})
        details = [str(definition[name]) for name in ("variant", "region") if name in definition]
        details += [figure.unit] if figure.unit else []
        arrow = {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]
        details += [arrow] if arrow else []
        return f"{key} ({', '.join(details)})" if details else key

    def _skipped_lines(self) -> list[str]:
        shown = [f"skipped {clip} ({row}, {what}): {reason}" for row, clip, what, reason in self.skipped[:10]]
        more = len(self.skipped) - len(shown)
        return [*shown, f"... and {more} more, see metrics.json"] if more > 0 else shown


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"


def write_report(result: EvalResult, folder: Path) -> None:
    """Write `metrics.json` and `per_clip.csv`.

    Raises:
        OutputError: the folder cannot be written.
    """
    text = json.dumps(result.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
    _write(folder / "metrics.json", text + "\n")
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["row", "clip", "frames", *result.figures, "excluded_frames", "notes"])
    for clip in result.clips:
        values = finite_only(clip.values)
        cells = ["" if values.get(key) is None else f"{values[key]:.6g}" for key in result.figures]
        frames = max(clip.frames.values(), default=0)
        excluded = " ".join(f"{key}={count}" for key, count in clip.excluded.items() if count)
        table.writerow([clip.row, clip.clip_id, frames, *cells, excluded, " | ".join(clip.notes)])
    _write(folder / "per_clip.csv", stream.getvalue())


def _write(path: Path, text: str) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_side_by_side(videos: Mapping[str, Path], output: Path, fps: float, audio: np.ndarray | None = None) -> None:
    """Write videos beside each other with a caption above each, as long as the shortest; streams.

    Args:
        videos: caption -> file; all are scaled to the height of the first.
        output: the video to write.
        fps: its frame rate.
        audio: (n,) mono 16 kHz to mux.
    """
    import numpy as np

    from talkingface.data.media import VideoReader, VideoWriter

    readers = [iter(VideoReader(path, fps=fps)) for path in videos.values()]
    with VideoWriter(output, fps=fps, audio=audio) as writer:
        for frames in zip_longest(*readers):
            if any(frame is None for frame in frames):
                break
            height = frames[0].shape[0]
            panels = [captioned(frame, title, height) for title, frame in zip(videos, frames, strict=True)]
            writer.write(np.concatenate(panels, axis=1))


def captioned(frame: np.ndarray, title: str, height: int) -> np.ndarray:
    """The frame scaled to `height`, with a dark strip and its title on top: (height + strip, W, 3) uint8 RGB."""
    import cv2
    import numpy as np

    if frame.shape[0] != height:
        width = max(1, round(frame.shape[1] * height / frame.shape[0]))
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    strip = np.full((CAPTION_HEIGHT, frame.shape[1], 3), 24, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, _), _ = cv2.getTextSize(title, font, 0.5, 1)
    scale = 0.5 * min(1.0, (frame.shape[1] - 12) / width)
    cv2.putText(strip, title, (6, 17), font, scale, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, frame])


def safe_name(clip_id: str) -> str:
    """A clip id as a file name: `id00/0003` becomes `id00_0003`."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in clip_id)


def one_line(error: BaseException) -> str:
    """An error in one line: the message alone for ours, with the type for others."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TalkingFaceError) and text else f"{type(error).__name__}: {text}"
