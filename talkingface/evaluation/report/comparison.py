"""Several evaluations side by side: which numbers compare, and how the methods differ on the clips they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError
from talkingface.evaluation.bootstrap import mean_interval
from talkingface.evaluation.metric import finite_only
from talkingface.evaluation.report.numbers import number
from talkingface.evaluation.report.result import ClipScore, EvalResult
from talkingface.evaluation.report.results_table import all_figures, flatten
from talkingface.evaluation.report.stored import find_metrics, read_result

GENERATED, SHUFFLED, REFERENCES = "generated", "shuffled", ("real", "still")
DIFFERENT_CLIPS = "means over different clips"
OTHER_DATA = "other data sets"
IN_LOSS = "judge.also_in_loss"
"""Part of a definition that says whether the model was trained to please the judge."""
FEWEST = 6
"""Clips behind a verdict: all of five differ in one way by chance in one case of 16, and their interval shows that."""
TOLERANCE = 1e-3
"""Relative difference up to which two evaluations of a reference row agree: codecs differ a little."""


@dataclass(frozen=True)
class Run:
    """One evaluated system: its name in the report, its `metrics.json`, and what that holds."""

    name: str
    path: Path
    result: EvalResult

    @property
    def remarks(self) -> list[str]:
        """What its own report says in the first line: a judge that proves nothing, where references come from, ..."""
        return [str(remark) for remark in self.result.provenance.get("remarks") or ()]


@dataclass(frozen=True)
class Difference:
    """A run less the first run in one figure, clip by clip.

    Attributes:
        figure: the figure.
        run: name of the run.
        base: name of the first run.
        mean: average of the differences.
        interval95: of that average; None for a single clip.
        clips: clips that both have.
        verdict: `better`, `worse` or `different` where the interval does not hold 0, `unclear` where it does.
        doubt: why the verdict proves nothing, if so.
    """

    figure: str
    run: str
    base: str
    mean: float
    interval95: tuple[float, float] | None
    clips: int
    verdict: str
    doubt: str = ""


class Comparison:
    """Runs, and all that follows from them.

    Attributes:
        runs: in the order given; the first is what the others are compared with.
        references: reference rows, each with the first run that has it: (row, run).
        warnings: what a reader must know before comparing.
        doubtful: by figure, why its numbers do not compare.
        notes: by (reference row, figure), in which runs that row has another value.
        differences: paired differences to the first run.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self.figures = all_figures([run.result for run in runs])
        found = [(row, [run for run in self.runs if row in run.result.rows]) for row in REFERENCES]
        self.references = [(row, having[0]) for row, having in found if having]
        self.warnings: list[str] = []
        self.doubtful: dict[str, str] = {}
        self._redefined: set[str] = set()
        self._compare_settings()
        self._compare_data()
        self._compare_clips()
        self._compare_definitions()
        self._partial = self._find_partial_judges()
        self.notes = self._compare_references()
        self.differences = [d for run in self.runs[1:] for d in self._differences(run)]

    def _compare_settings(self) -> None:
        for name in ("fps", "synthetic"):
            self._warn_if_differing(name, {r.name: r.result.provenance.get(name) for r in self.runs})
        policies = {r.name: (r.result.provenance.get("references") or {}).get("policy") for r in self.runs}
        self._warn_if_differing("references", policies)
        for run in self.runs:
            if not run.result.clips:
                self.warnings.append(f"{run.name}: no per_clip.json, so it has no distributions and no differences")

    def _warn_if_differing(self, name: str, values: dict[str, Any]) -> None:
        known = {run: value for run, value in values.items() if value is not None}
        if len({str(value) for value in known.values()}) > 1:
            self.warnings.append(f"{name} differs ({_each(known)})")

    def _compare_data(self) -> None:
        """See that clips of one name are the same real videos; where nobody knows, that the data sets are the same."""
        for run in self.runs[1:]:
            known = self._known_videos(run)
            others = [clip for clip, same in known.items() if not same]
            if others:
                names = f"{run.name} and {self.runs[0].name}"
                self.warnings.append(f"{names} have other real videos of one name: {len(others)} of {len(known)} clips")
                self._doubt(self.figures, OTHER_DATA)
        sets = {run.name: run.result.provenance.get("dataset") for run in self.runs}
        if not all(self._known_videos(run) for run in self.runs[1:]) and len(set(sets.values()) - {None}) > 1:
            self._warn_if_differing("dataset", sets)
            self._doubt(self.figures, OTHER_DATA)

    def _known_videos(self, run: Run) -> dict[str, bool]:
        """Clips of a name that the first run has too: whether the real video is the same one, where that is known."""
        ours, theirs = ({c.clip_id: c.fingerprint for c in generated(r)} for r in (run, self.runs[0]))
        return {name: print_ == theirs[name] for name, print_ in ours.items() if print_ and theirs.get(name)}

    def paired(self, run: Run) -> set[str]:
        """Clips that a run and the first one share: of the same name, and of the same real video as far as is known."""
        common = {clip.clip_id for clip in generated(run)} & {clip.clip_id for clip in generated(self.runs[0])}
        known = self._known_videos(run)
        sets = {r.result.provenance.get("dataset") for r in (run, self.runs[0])} - {None}
        return {name for name in common if known.get(name, len(sets) < 2)}

    def shared_clips(self, figure: str) -> dict[str, list[float]]:
        """A figure of the clips that every run has and whose real video is the same: one value per run, by clip."""
        scores = [run.result.per_clip(GENERATED, figure) for run in self.runs]
        paired = [self.paired(run) for run in self.runs[1:]]
        clips = [clip for clip in scores[0] if all(clip in one for one in (*scores, *paired))]
        return {clip: [score[clip] for score in scores] for clip in clips}

    def _doubt(self, figures: Sequence[str], reason: str) -> None:
        for key in figures:
            self.doubtful[key] = "; ".join(filter(None, (self.doubtful.get(key), reason)))

    def _compare_clips(self) -> None:
        sets = {r.name: {c.clip_id for c in generated(r)} for r in self.runs}
        sets = {name: clips for name, clips in sets.items() if clips}
        common = set.intersection(*sets.values()) if sets else set()
        if any(clips != common for clips in sets.values()):
            counts = _each({name: len(clips) for name, clips in sets.items()})
            self.warnings.append(
                f"clips differ ({counts}; {len(common)} in all): means are over different clips, "
                "differences over those that both runs have"
            )
            self._doubt(self.figures, DIFFERENT_CLIPS)
            return
        reasons: dict[str, list[str]] = {}
        for key in self.figures:
            scored = {r.name: set(r.result.per_clip(GENERATED, key)) for r in self.runs if r.name in sets}
            scored = {name: clips for name, clips in scored.items() if clips}
            if any(clips != next(iter(scored.values())) for clips in scored.values()):
                counts = _each({name: len(clips) for name, clips in scored.items()})
                reasons.setdefault(f"scored on different clips ({counts})", []).append(key)
        for reason, keys in reasons.items():
            self.warnings.append(f"{', '.join(keys)}: {reason}")
            self._doubt(keys, DIFFERENT_CLIPS)

    def _compare_definitions(self) -> None:
        reasons: dict[str, list[str]] = {}
        for key in self.figures:
            by_run = {r.name: dict(flatten(r.result.definitions[key])) for r in self.runs if _computed(r, key)}
            shared = set.intersection(*map(set, by_run.values())) if by_run else set()
            for part in sorted(shared - {IN_LOSS}):
                values = {name: definition[part] for name, definition in by_run.items()}
                if len(set(values.values())) > 1:
                    short = {name: value[:12] if part.endswith("sha256") else value for name, value in values.items()}
                    reasons.setdefault(f"{part} differs ({_each(short)})", []).append(key)
        for reason, keys in reasons.items():
            self.warnings.append(f"{', '.join(keys)}: {reason}")
            self._doubt(keys, reason)
            self._redefined.update(keys)

    def _find_partial_judges(self) -> dict[tuple[str, str], str]:
        """By (figure, run), that the judge of a figure is the expert which that run was trained to please."""
        found: dict[tuple[str, str], str] = {}
        for run in self.runs:
            for key in self.figures:
                if _computed(run, key) and dict(flatten(run.result.definitions[key])).get(IN_LOSS) == "yes":
                    found[key, run.name] = f"the judge of {run.name} is also in its loss"
        for (key, _), reason in found.items():
            self._doubt([key], reason)
        return found

    def _compare_references(self) -> dict[tuple[str, str], str]:
        notes = {}
        for row, first in self.references:
            for run in self.runs:
                values, known = run.result.values(row), first.result.values(row)
                for key in known.keys() & values.keys():
                    if not math.isclose(known[key], values[key], rel_tol=TOLERANCE, abs_tol=1e-6):
                        notes.setdefault((row, key), []).append(f"{run.name}: {number(values[key])}")
        for row, first in self.references:
            keys = [key for key in self.figures if (row, key) in notes]
            if keys:
                named = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
                self.warnings.append(f"the {row} row, shown from {first.name}, is not the same in all runs: {named}")
        return {place: ", ".join(others) for place, others in notes.items()}

    def _differences(self, run: Run) -> list[Difference]:
        base, paired = self.runs[0], self.paired(run)
        found = []
        for key in self.figures:
            ours, theirs = (r.result.per_clip(GENERATED, key) for r in (run, base))
            differences = [value - theirs[clip] for clip, value in ours.items() if clip in theirs and clip in paired]
            if differences and key not in self._redefined:
                found.append(self._difference(key, run, differences))
        return found

    def _difference(self, key: str, run: Run, differences: list[float]) -> Difference:
        mean = math.fsum(differences) / len(differences)
        interval = mean_interval(differences, EvaluationConfig().bootstrap)
        verdict = "unclear"
        if interval and not interval[0] <= 0 <= interval[1]:
            higher = run.result.figures[key].higher_is_better
            verdict = "different" if higher is None else "better" if (mean > 0) == higher else "worse"
        names = (self.runs[0].name, run.name)
        doubts = [self._partial[key, name] for name in names if (key, name) in self._partial]
        if verdict != "unclear" and len(differences) < FEWEST:
            doubts.append(f"{len(differences)} clips may all differ in one way by chance")
        return Difference(key, run.name, names[0], mean, interval, len(differences), verdict, "; ".join(doubts))

    def merged(self) -> EvalResult:
        """The generated rows under the names of their runs, and the reference rows, as one result for the table."""
        first = self.runs[0].result
        merged = EvalResult(date=first.date, provenance={"model": " against ".join(run.name for run in self.runs)})
        for run in reversed(self.runs):
            merged.figures |= run.result.figures
            merged.definitions |= run.result.definitions
        merged.figures = {key: merged.figures[key] for key in self.figures}
        for name in dict.fromkeys(name for run in self.runs for name in run.result.unavailable):
            reasons = {run.name: run.result.unavailable.get(name) for run in self.runs}
            same = len(set(reasons.values())) == 1
            known = {run: reason for run, reason in reasons.items() if reason}
            merged.unavailable[name] = next(iter(known.values())) if same else _each(known)
        merged.rows = {run.name: run.result.rows[GENERATED] for run in self.runs}
        merged.rows |= {row: run.result.rows[row] for row, run in self.references}
        return merged

    def to_json(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        merged = self.merged()
        return {
            "runs": [_identity(run) for run in self.runs],
            "rows": {
                name: finite_only(row.values) | {"clips": row.clips, "interval95": row.intervals}
                for name, row in merged.rows.items()
            },
            "references_from": {row: run.name for row, run in self.references},
            "differences": [asdict(difference) for difference in self.differences],
            "warnings": self.warnings,
            "does_not_compare": self.doubtful,
            "figures": {key: figure._asdict() for key, figure in merged.figures.items()},
            "definitions": {run.name: run.result.definitions for run in self.runs},
        }


def generated(run: Run) -> list[ClipScore]:
    """The clips of a run's generated row."""
    return [clip for clip in run.result.clips if clip.row == GENERATED]


def read_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Evaluated runs, named after their models, and their folders where models repeat.

    Raises:
        DataError: a path has no usable `metrics.json`, or no generated row in it.
    """
    files = [find_metrics(path) for path in paths]
    results = [read_result(file) for file in files]
    for file, result in zip(files, results, strict=True):
        if GENERATED not in result.rows:
            raise DataError(f"{file}: has no `{GENERATED}` row, so there is nothing to compare")
        _take_from_shuffled(result)
    names = _names(files, results)
    return [Run(name, file, result) for name, file, result in zip(names, files, results, strict=True)]


def _take_from_shuffled(result: EvalResult) -> None:
    """Give the generated row the figures that only another clip's audio can tell, such as the response to a swap."""
    if SHUFFLED not in result.rows:
        return
    row, other = result.rows[GENERATED], result.rows[SHUFFLED]
    # A figure that failed on the generated clips is not one that only this row has.
    keys = [key for key in other.values if key not in row.values and not result.left_out(GENERATED, key)]
    for name in ("values", "scored", "frame_means", "non_finite", "intervals"):
        lent = {key: value for key, value in getattr(other, name).items() if key in keys}
        getattr(row, name).update(lent)
    clips = {clip.clip_id: clip.values for clip in result.clips if clip.row == SHUFFLED}
    for clip in result.clips:
        if clip.row == GENERATED:
            clip.values |= {key: value for key, value in clips.get(clip.clip_id, {}).items() if key in keys}
    for key in keys:
        result.definitions[key] = {**result.definitions.get(key, {}), "row": SHUFFLED}


def _names(files: Sequence[Path], results: Sequence[EvalResult]) -> list[str]:
    folders = [run_folder(file).name for file in files]
    models = [str(result.provenance.get("model") or folder) for result, folder in zip(results, folders, strict=True)]
    names = []
    for model, folder in zip(models, folders, strict=True):
        name = f"{model} {folder}" if models.count(model) > 1 and model != folder else model
        taken = sum(n == name or n.startswith(f"{name} (") for n in (*names, *REFERENCES))
        names.append(f"{name} ({taken + 1})" if taken else name)
    return names


def run_folder(metrics: Path) -> Path:
    """The run that a `metrics.json` belongs to: its folder, or the one above where that is called `eval`."""
    folder = metrics.absolute().parent
    return folder.parent if folder.name == "eval" else folder


def _computed(run: Run, key: str) -> bool:
    return key in run.result.definitions and key in run.result.values(GENERATED)


def _identity(run: Run) -> dict[str, Any]:
    known = run.result.provenance
    named = {key: known[key] for key in ("model", "dataset", "checkpoint") if key in known}
    return {"name": run.name, "path": str(run.path), "date": run.result.date, **named, "remarks": run.remarks}


def _each(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
