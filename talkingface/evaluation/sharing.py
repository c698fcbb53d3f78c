"""Which processes have a share in an evaluation."""

from __future__ import annotations

from typing import Any

from talkingface.evaluation.evaluator import Evaluator
from talkingface.team import Team


def takes_part(evaluator: Any, team: Team) -> bool:
    """Let an evaluator share its clips out, and say whether this process has any of them.

    What cannot be shared out is done by the first process alone: a model's own evaluator, and metrics that sum up by
    themselves (`Metric.shareable`).
    """
    if isinstance(evaluator, Evaluator) and all(metric.shareable() for metric in evaluator.metrics):
        evaluator.team = team
        return True
    return team.is_first
