"""Score what was trained: which clips can be scored, with which checkpoint, and where the report goes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.clips.openers import open_source
from talkingface.clips.source import Audio
from talkingface.config.stages import until
from talkingface.devices import allow_tf32, limit_threads
from talkingface.errors import DataError, TalkingFaceError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.inner import evaluate_inner
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.evaluation.sharing import takes_part
from talkingface.faces.detectors import Place
from talkingface.files import writable_folder
from talkingface.pipeline import Pipeline
from talkingface.plugin.assembly import lacking_to_speak
from talkingface.plugin.registry import get_spec
from talkingface.team import Team
from talkingface.training.processes import in_several
from talkingface.training.run_log import RunLog
from talkingface.training.together import prepared_by_the_first
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder
from talkingface.weights.safe_file import PUBLISHED
from talkingface.workflow.data import Clips, prepare

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import Config, StageConfig
    from talkingface.evaluation.report.result import EvalResult
    from talkingface.plugin.configuration import LoadedConfig
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")
LOGGED_PICTURES = 4  # of an evaluation, in TensorBoard and wandb
_WITHOUT_VIDEOS = (
    "the clips were converted from older code without their videos, from which videos are generated and with which they"
    " are compared; put the videos below data_root and preprocess"
)


def score_run(loaded: LoadedConfig, clips: Clips, run_folder: RunFolder, team: Team) -> EvalResult | None:
    """Score what a run has made, or the checkpoint that is named; None where nothing is to be, or can be."""
    config = loaded.config
    if not config.evaluate or not _makes_videos(config, run_folder):
        return None
    inner = _scores_without_videos(config)
    if config.train and clips["test"] and not inner and not _scorable(config, clips["test"]):
        log.warning("nothing is evaluated: %s", _WITHOUT_VIDEOS)
        return None
    checkpoint = Path(config.evaluate_model_file) if config.evaluate_model_file else run_folder.path
    return score_checkpoint(loaded, clips, checkpoint, run_folder.path / "eval", team)


def clips_to_score(loaded: LoadedConfig, held: ExitStack) -> tuple[LoadedConfig, Clips, Team]:
    """The clips that an evaluation needs, and who shares in it."""
    get_clips = partial(prepare, evaluate_only=True)
    if not in_several(loaded.config):
        return loaded, get_clips(loaded), Team()
    loaded, clips, fabric = prepared_by_the_first(loaded, get_clips, held)
    return loaded, clips, Team.of(fabric)


def _makes_videos(config: Config, run_folder: RunFolder) -> bool:
    """Whether videos can be made after the one stage that `config.stage` names (always true without it)."""
    if not config.train or config.stage is None:
        return True
    content = checkpoint.load(checkpoint.find_checkpoint(run_folder.stage(config.stage)))
    given = {name for name, file in config.experts.items() if file}
    ready, stages = given.union(content.ready), until(config.stages, content.stage)
    if lacking_to_speak(get_spec(config.model_name).model, config.model, ready, stages) == []:
        return True
    log.info("stage %s alone makes no videos, so nothing is evaluated; --resume=auto goes on", config.stage)
    return False


def place_of_report(config: Config, checkpoint: Path, output: str | None, held: ExitStack) -> Path:
    """`output`; else `eval` in the run folder that a checkpoint belongs to, or in a new one where it has none.

    A published folder stays as it is.
    """
    if output:
        return writable_folder(output)
    if checkpoint.is_dir() and not (checkpoint / PUBLISHED).is_file():
        return checkpoint / "eval"
    if checkpoint.parent.name in _stage_names(config):
        return checkpoint.parent.parent / "eval"
    apart = config.model_copy(update={"train": False, "resume": "none"})
    return held.enter_context(RunFolder.claimed(apart)).path / "eval"


def _stage_names(config: Config) -> list[str]:
    return [stage.name for stage in config.stages]


def make_evaluator(config: Config, pipeline: Pipeline, clips: Clips) -> Any:
    """The evaluator of the configuration's model, with its metrics."""
    known = [clip for split in clips.values() for clip in _scorable(config, split)]
    return (get_spec(config.model_name).evaluator or Evaluator).from_config(config, pipeline, known)


def _scores_without_videos(config: Config) -> bool:
    """Whether the model tells something of clips that have no videos."""
    return get_spec(config.model_name).model.scores_without_videos


def _scorable(config: Config, clips: Sequence[ClipFolder]) -> list[ClipFolder]:
    """The clips that can be scored; what was converted from older code may have no video to compare with."""
    evaluator = get_spec(config.model_name).evaluator or Evaluator
    return [clip for clip in clips if not (evaluator.needs_video and clip.imported and not clip.has_video)]


def score_checkpoint(loaded: LoadedConfig, clips: Clips, checkpoint: Path, out: Path, team: Team) -> EvalResult | None:
    """Generate and score the test clips; None in the helper processes, which have done their share of it."""
    config = loaded.config
    limit_threads(config.threads)
    allow_tf32(config.tf32)
    if not clips["test"]:
        raise DataError(f"{config.test_filelist}: no usable test clip to evaluate on")
    test = _scorable(config, clips["test"])
    if not test and _scores_without_videos(config):
        return _evaluate_inner(loaded, clips, checkpoint, out) if team.is_first else None
    if not test:
        raise DataError(f"{config.preprocessed_root}: nothing can be evaluated: {_WITHOUT_VIDEOS}")
    if len(test) < len(clips["test"]):
        log.warning("%d of %d test clips: %s", len(clips["test"]) - len(test), len(clips["test"]), _WITHOUT_VIDEOS)
    # The checkpoint knows its own settings; what the user asks for now (say, more references) comes on top.
    asked = {**loaded.asked("model"), "output.preset": config.output.preset, "video_cache_mb": config.video_cache_mb}
    borrows = get_spec(config.model_name).model.borrows
    lent = {f"experts.{name}" for name, loan in borrows.items() if not loan.optional}
    asked |= {key: value for key, value in loaded.asked("experts").items() if key in lent}
    pipeline = Pipeline.from_checkpoint(config.model_name, checkpoint, config.device, asked)
    evaluator = make_evaluator(config, pipeline, clips)
    chosen = test[: config.evaluation.max_clips]
    result = evaluator.run(chosen, out) if takes_part(evaluator, team) else None
    if not team.is_first:
        return None
    if config.layout == "demo" and config.train:
        _animate_examples(pipeline, chosen, out / "examples")
    return result


def _animate_examples(pipeline: Pipeline, clips: Sequence[ClipFolder], folder: Path) -> None:
    """Let what the model makes beside videos speak with the sound of a test clip."""
    model = pipeline.model
    try:
        for source in model.examples(clips, folder):
            opened = open_source(source, model.accepts, model.output_rate, pipeline.name)
            output = pipeline.generate_file(opened, Audio(clips[0].audio()), source.with_suffix(".mp4"))
            log.info("animated %s: %s", source.name, output)
    except TalkingFaceError as error:
        log.warning("what the demo animates at its end is left out: %s", error)


def _evaluate_inner(loaded: LoadedConfig, clips: Clips, checkpoint: Path, out: Path) -> EvalResult:
    """Score the inner stages on test clips that have no videos."""
    config = loaded.config
    log.warning("the test clips have no videos: the model is evaluated by figures of its inner stages alone")
    asked = loaded.asked("model")
    pipeline = Pipeline.from_checkpoint(config.model_name, checkpoint, config.device, asked, speaks=False)
    pool = [clip for split in clips.values() for clip in split]
    setup = EvaluationSetup.from_config(config, pipeline, pool)
    return evaluate_inner(pipeline.model, setup, clips["test"][: config.evaluation.max_clips], out)


def video_scorer(config: Config, clips: Clips, team: Team) -> Any:
    """The trainer's `evaluate`: generate a few validation clips with the weights of the moment and score the files."""
    chosen = _scorable(config, clips.get("val") or [])[: config.evaluation.val_clips]
    if not chosen:
        return None

    def score(model: TalkingFaceModel, stage: StageConfig, out: Path) -> Mapping[str, float]:
        place = Place(config.weights_dir, config.device)
        kept = {"output": config.output, "video_cache_mb": config.video_cache_mb}
        pipeline = Pipeline(model, config.model_name, None, config.preprocess.landmarks, place, **kept)
        evaluator = make_evaluator(config, pipeline, clips)
        if not takes_part(evaluator, team):
            return {}
        return evaluator.run(chosen, out, rows=("generated",), quiet=True).values("generated")

    return score


def log_evaluation(run_folder: RunFolder, config: Config, result: EvalResult) -> None:
    """The final figures, and a few pictures, beside the curves of the training."""
    out = run_folder.path / "eval"
    pictures = [*sorted((out / "samples").glob("*.png")), *sorted(out.glob("*.png"))]
    RunLog(run_folder, config).evaluation(result.flat(), {file.stem: file for file in pictures[:LOGGED_PICTURES]})
