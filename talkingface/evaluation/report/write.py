"""The files of a report: `metrics.json`, `per_clip.csv`, `per_clip.json` and `report.html`."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.evaluation.metric import finite_only
from talkingface.evaluation.report.html import write_html
from talkingface.files import csv_text, write_text

if TYPE_CHECKING:
    from talkingface.evaluation.report.result import ClipScore, EvalResult
    from talkingface.media import KeptFrames


def write_report(result: EvalResult, folder: Path, html: bool = False, kept: KeptFrames | None = None) -> None:
    """Write `metrics.json`, `per_clip.csv` and `per_clip.json`, and `report.html` if asked.

    An older `report.html` does not stay beside new numbers. Its films are made of what is `kept` of decoded videos.

    Raises:
        OutputError: the folder cannot be written.
    """
    # First of all: should a later file fail, an old page must not show other numbers than the new ones beside it.
    with suppress(OSError):
        (folder / "report.html").unlink(missing_ok=True)
    _add_fingerprints(result)
    write_text(folder / "metrics.json", as_json(result.to_json()))
    write_text(folder / "per_clip.csv", _per_clip_csv(result))
    write_text(folder / "per_clip.json", _per_clip_json(result, folder))
    if html:
        write_html(result, folder, kept)


def as_json(content: Any) -> str:
    """Indented JSON without NaN and infinity."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _add_fingerprints(result: EvalResult) -> None:
    """Note which real videos were used: clips of one name are other clips in other data."""
    known: dict[Path, str] = {}
    for clip in result.clips:
        if clip.reference is not None and not clip.fingerprint:
            # A real video stands behind several rows; it is read once.
            if clip.reference not in known:
                known[clip.reference] = _fingerprint(clip.reference)
            clip.fingerprint = known[clip.reference]


def _fingerprint(path: Path) -> str:
    """Size of a file in bytes and sha256 of its first MiB; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return f"{path.stat().st_size}-{hashlib.sha256(file.read(2**20)).hexdigest()}"
    except OSError:
        return ""


def _per_clip_csv(result: EvalResult) -> str:
    """One line per row and clip: figures to six digits, an empty cell where one is undefined."""
    rows: list[list[Any]] = [["row", "clip", "frames", *result.figures, "excluded_frames", "notes"]]
    for clip in result.clips:
        values = finite_only(clip.values)
        cells = ["" if values.get(key) is None else f"{values[key]:.6g}" for key in result.figures]
        # Figures count frames of their own (windows, pairs); the table has room for one number, that of the fullest.
        frames = max(clip.frames.values(), default=0)
        excluded = " ".join(f"{key}={count}" for key, count in clip.excluded.items() if count)
        rows.append([clip.row, clip.clip_id, frames, *cells, excluded, " | ".join(clip.notes)])
    return csv_text(rows)


def _per_clip_json(result: EvalResult, folder: Path) -> str:
    """All that is known of every clip, one clip to the line."""
    lines = [json.dumps(_per_clip(c, folder), allow_nan=False, ensure_ascii=False) for c in result.clips]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _per_clip(clip: ClipScore, folder: Path) -> dict[str, Any]:
    """A clip for JSON: values in full, null where undefined; paths relative to the report's folder where inside it."""
    entry = asdict(clip)
    entry["values"] = finite_only(clip.values)
    entry["curves"] = {name: list(finite_only(dict(enumerate(curve))).values()) for name, curve in clip.curves.items()}
    for name in ("video", "reference"):
        path: Path | None = entry[name]
        if path is not None:
            path = path.absolute()
            # Inside the folder relative, so that a report can be moved with its videos; others keep their full path.
            inside = path.is_relative_to(folder.absolute())
            entry[name] = str(path.relative_to(folder.absolute()) if inside else path)
    return entry
