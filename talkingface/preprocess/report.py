"""What became of all clips: counts, reasons, speed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from talkingface.preprocess.outcome import FAILED, OK, REJECTED, Outcome

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


@dataclass
class Report:
    """What became of every clip.

    Attributes:
        outcomes: by clip id, in the order of the data set.
        worked: number of clips that were not done already.
        seconds: wall time of the run.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    worked: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Note the result of a clip."""
        self.outcomes[outcome.clip_id] = outcome

    def go_on(self, later: Report) -> None:
        """Note what a later pass over the same clips has made of them."""
        for outcome in later.outcomes.values():
            if before := self.outcomes.get(outcome.clip_id):
                outcome.made = tuple(dict.fromkeys((*before.made, *outcome.made)))
                outcome.seconds = {**before.seconds, **outcome.seconds}
            self.add(outcome)
        self.worked, self.seconds = max(self.worked, later.worked), self.seconds + later.seconds

    def with_status(self, status: str) -> dict[str, Outcome]:
        """Results of that kind, by clip id."""
        return {name: outcome for name, outcome in self.outcomes.items() if outcome.status == status}

    def _with(self, status: str) -> dict[str, str]:
        return {name: outcome.reason for name, outcome in self.with_status(status).items()}

    @property
    def ok_ids(self) -> list[str]:
        """Clips that are ready."""
        return list(self._with(OK))

    @property
    def rejected(self) -> dict[str, str]:
        """Reasons of the clips that cannot be used, by clip id."""
        return self._with(REJECTED)

    @property
    def failed(self) -> dict[str, str]:
        """Errors of the clips that could not be prepared, by clip id."""
        return self._with(FAILED)

    @property
    def made(self) -> int:
        """Number of clips for which anything was made in this run."""
        return sum(bool(outcome.made) for outcome in self.outcomes.values())

    @property
    def counts(self) -> dict[str, int]:
        """Number of clips by status."""
        return {status: len(self._with(status)) for status in (OK, REJECTED, FAILED)}

    @property
    def rejected_by(self) -> dict[str, int]:
        """Number of rejected clips by the filter or step that rejected them, the largest first."""
        found = Counter(outcome.by for outcome in self.outcomes.values() if outcome.status == REJECTED and outcome.by)
        return dict(found.most_common())

    @property
    def repairs(self) -> dict[str, list[str]]:
        """Clips by what had to be done to them, of converted ones; repairs that differ in numbers alone are one."""
        first: dict[str, str] = {}
        clips: dict[str, list[str]] = defaultdict(list)
        for name, outcome in self.outcomes.items():
            for told in _repairs(outcome.facts):
                clips[first.setdefault(_NUMBER.sub("#", told), told)].append(name)
        return dict(clips)

    @property
    def step_rates(self) -> dict[str, float]:
        """Frames per second of each step that ran, per worker."""
        spent: dict[str, float] = defaultdict(float)
        frames: Counter[str] = Counter()
        for outcome in self.outcomes.values():
            for step, seconds in outcome.seconds.items():
                spent[step] += seconds
                frames[step] += outcome.frames
        return {step: frames[step] / max(seconds, 1e-9) for step, seconds in spent.items()}

    def table(self) -> str:
        """Counts, then the reasons with the number of clips and a few of their names."""
        counts = self.counts
        lines = [
            f"{len(self.outcomes)} clips: {counts[OK]} ok, {counts[REJECTED]} rejected, {counts[FAILED]} failed "
            f"({self.worked} worked on in {self.seconds:.0f} s)"
        ]
        if self.rejected_by:
            lines.append("  rejected by " + ", ".join(f"{name}: {count}" for name, count in self.rejected_by.items()))
        if two := [
            name for name, outcome in self.outcomes.items() if outcome.facts.get("landmarks", {}).get("two_faces")
        ]:
            lines.append(
                f"  two faces of like size in {len(two)} clips, one of which is used (preprocess.landmarks.pick);"
                f" preprocess.filters.single_face rejects such clips  [{', '.join(two[:3])}{', ...' * (len(two) > 3)}]"
            )
        if blind := {
            name: frames for name, outcome in self.outcomes.items() if (frames := _without_mesh(outcome.facts)) > 0
        }:
            names = ", ".join(list(blind)[:3]) + ", ..." * (len(blind) > 3)
            lines.append(f"  no mesh on {sum(blind.values())} drawn faces of {len(blind)} clips, left out  [{names}]")
        for repair, names in self.repairs.items():
            lines.append(f"  repaired {len(names):>6} x {repair}  [{', '.join(names[:3])}{', ...' * (len(names) > 3)}]")
        for status, group in self._groups():
            names = ", ".join(clip_id for clip_id, _ in group[:3]) + (", ..." if len(group) > 3 else "")
            lines.append(f"  {status:<8} {len(group):>6} x {group[0][1]}  [{names}]")
        return "\n".join(lines)

    def reasons(self) -> str:
        """The most frequent reasons in one line."""
        groups = sorted(self._groups(), key=lambda entry: len(entry[1]), reverse=True)
        return "; ".join(f"{len(group)} x {group[0][1]}" for _, group in groups[:3]) or "there are no clips"

    def _groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """(status, [(clip_id, reason), ...]) of reasons that agree but for numbers and names."""
        result: list[tuple[str, list[tuple[str, str]]]] = []
        for status in (REJECTED, FAILED):
            groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
            for clip_id, reason in self._with(status).items():
                groups[_NUMBER.sub("#", reason.replace(clip_id, "<clip>"))].append((clip_id, reason))
            result += [(status, group) for group in sorted(groups.values(), key=len, reverse=True)]
        return result


def _repairs(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What had to be done to a clip; `clip.json` may hold anything."""
    lists = [values.get("repairs") for values in facts.values()]
    return [told for found in lists if isinstance(found, list) for told in found if isinstance(told, str)]


def _without_mesh(facts: Mapping[str, Mapping[str, Any]]) -> int:
    """Drawn faces of a clip on which no mesh was found, whatever made them; `clip.json` may hold anything."""
    counts = (values.get("without_mesh") for values in facts.values())
    return max((count for count in counts if isinstance(count, int)), default=0)
