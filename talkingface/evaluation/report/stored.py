"""Evaluations read back from the files that `write_report` made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkingface.errors import DataError
from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.result import ClipScore, EvalResult, RowResult
from talkingface.stored.jsons import read_json

_MOST_BYTES = 2**30  # per_clip.json of a large data set, with sync curves
_OWN = {"rows", "details", "stage_figures", "figures", "definitions", "unavailable", "skipped", "date"}
"""Keys of metrics.json that are not provenance."""


def find_metrics(path: str | Path) -> Path:
    """The `metrics.json` of a run folder, of its `eval` folder, or the file itself.

    Raises:
        DataError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for candidate in (path / "metrics.json", path / "eval" / "metrics.json"):
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise DataError(f"{path}: has no metrics.json; evaluate it first, or give another run")
    raise DataError(f"{path}: no such file or folder; give a run folder, its eval folder or its metrics.json")


def read_result(metrics: Path) -> EvalResult:
    """An evaluation as it was written; without `per_clip.json` beside it, it has no clips.

    Raises:
        DataError: a file is damaged or not one of ours.
    """
    content = _read_json(metrics)
    try:
        result = _result(content)
        clips = metrics.with_name("per_clip.json")
        if clips.is_file():
            result.clips = [_clip(entry, metrics.parent) for entry in _read_json(clips)]
    # Any file may be called metrics.json: whatever its content breaks is the same message to the user.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{metrics}: not a report of this toolkit ({type(error).__name__}: {error})") from error
    return result


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, _MOST_BYTES)
    except DataError as error:
        raise DataError(f"{error}; evaluate again") from error


def _result(content: Mapping[str, Any]) -> EvalResult:
    figures = content["figures"]
    result = EvalResult(
        figures={k: Figure(f["unit"], f["higher_is_better"], f["about"]) for k, f in figures.items()},
        metric_of={key: str(figure.get("metric", "")) for key, figure in figures.items()},
        definitions=dict(content["definitions"]),
        provenance={key: value for key, value in content.items() if key not in _OWN},
        stage_figures=_numbers(content["stage_figures"]),
        unavailable={name: str(entry["reason"]) for name, entry in content["unavailable"].items()},
        skipped=[(s["row"], s["clip"], s["what"], s["reason"]) for s in content["skipped"]],
        date=str(content.get("date", "")),
    )
    for name, values in content["rows"].items():
        details = content["details"][name]
        result.rows[name] = RowResult(
            values=_numbers({key: value for key, value in values.items() if key in figures}),
            clips=int(values["clips"]),
            scored=dict(details["clips_per_figure"]),
            frame_means=_numbers(details["mean_over_frames"]),
            non_finite=dict(details["undefined_clips"]),
            # Reports of before intervals lack them.
            intervals={key: (float(low), float(high)) for key, (low, high) in details.get("interval95", {}).items()},
        )
    return result


def _clip(entry: Mapping[str, Any], folder: Path) -> ClipScore:
    video, reference = (None if entry[name] is None else folder / entry[name] for name in ("video", "reference"))
    return ClipScore(
        row=entry["row"],
        clip_id=entry["clip_id"],
        values={key: _number(value) for key, value in entry["values"].items()},
        frames=dict(entry["frames"]),
        excluded=dict(entry["excluded"]),
        notes=list(entry["notes"]),
        curves={name: [_number(value) for value in curve] for name, curve in entry["curves"].items()},
        video=video,
        reference=reference,
        fingerprint=str(entry.get("fingerprint") or ""),
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Means as the evaluation held them: a figure that could not be computed (null) has no entry."""
    return {key: float(value) for key, value in values.items() if value is not None}


def _number(value: float | None) -> float:
    """A clip's value as the evaluation held it: null in JSON stands for NaN, which has no form there."""
    return math.nan if value is None else float(value)
