"""Clips that have no videos: a model is evaluated on them by the figures of its inner stages alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.errors import DataError, TalkingFaceError
from talkingface.evaluation.report.result import EvalResult, one_line
from talkingface.evaluation.report.write import write_report
from talkingface.evaluation.rows import assign_donors

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.evaluation.setup import EvaluationSetup
    from talkingface.plugin.contract import TalkingFaceModel

REMARK = "the clips have no video: none is generated to be compared, these are figures of the model's inner stages"
SAMPLES = "samples"


def evaluate_inner(
    model: TalkingFaceModel, setup: EvaluationSetup, clips: Sequence[ClipFolder], out: str | Path
) -> EvalResult:
    """Figures of the inner stages, and videos to be looked at; the report says that there is nothing else.

    Args:
        model: in eval mode.
        setup: what the report says about itself, and further clips that lend their sound.
        clips: held-out clips.
        out: folder for `metrics.json`, `report.html` and `samples/`.

    Raises:
        DataError: the model has no figures of these clips.
        OutputError: `out` cannot be written.
    """
    donors = assign_donors(clips, setup.pool)
    scored = [clip for clip in clips if clip.clip_id in donors]
    result = EvalResult()
    result.stage_figures = model.stage_scores(scored, [donors[clip.clip_id] for clip in scored])
    if not result.stage_figures:
        raise DataError(f"none of {len(clips)} clips could be scored: the model has no figures of clips without videos")
    remarks = [REMARK] + (["synthetic data, no evidence of model quality"] if setup.synthetic else [])
    lent = {clip.clip_id: donors[clip.clip_id].clip_id for clip in scored}
    result.provenance = {**setup.identity, "clips": len(scored), "donors": lent, "remarks": remarks}
    try:
        model.sample_videos(clips[: setup.settings.samples], Path(out) / SAMPLES)
    except TalkingFaceError as error:  # the figures are known, and not yet written
        result.skipped.append(("samples", "all", "sample videos", one_line(error)))
    write_report(result, Path(out), setup.settings.html)
    return result
