"""Preprocess, train, evaluate, as one call or one by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.clips.folder import ClipFolder, among, usable_clips
from talkingface.clips.layouts import SPLITS, UNSEEN, make_layout
from talkingface.clips.openers import open_source
from talkingface.clips.prepared import conversion_advice
from talkingface.clips.source import Audio
from talkingface.demo.corpus import ensure_demo_corpus
from talkingface.devices import allow_tf32, limit_threads, seed_everything
from talkingface.errors import CheckpointError, ConfigError, DataError, TalkingFaceError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.inner import evaluate_inner
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.evaluation.sharing import takes_part
from talkingface.faces.detectors import Place
from talkingface.files import writable_folder, write_text
from talkingface.pipeline import Pipeline
from talkingface.plugin.assembly import lacking_to_speak, load_experts
from talkingface.plugin.borrowed import LenderMissing, carried_over, with_borrowed
from talkingface.plugin.configuration import LoadedConfig, load_config
from talkingface.plugin.hearing import with_front_end
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.by_converter import with_converted
from talkingface.preprocess.plan import named_artefacts, plan_steps
from talkingface.preprocess.prepare import ensure
from talkingface.readiness import changed_settings, check_training, on_the_data_of
from talkingface.team import Team
from talkingface.training.launchers import is_child_process
from talkingface.training.processes import in_several
from talkingface.training.run_log import RunLog
from talkingface.training.together import claimed_by_the_first, end_helpers, join, prepared_by_the_first
from talkingface.training.trainer import Trainer
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder, latest_run
from talkingface.weights.safe_file import PUBLISHED

if TYPE_CHECKING:
    from talkingface.config.sections import Config, StageConfig
    from talkingface.evaluation.report.result import EvalResult
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")
Clips = dict[str, "list[ClipFolder]"]
LOGGED_PICTURES = 4  # of an evaluation, in TensorBoard and wandb
_WITHOUT_VIDEOS = (
    "the clips were converted from older code without their videos, from which videos are generated and with which they"
    " are compared; put the videos below data_root and preprocess"
)


def run(
    model: str,
    dataset: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    evaluate_model_file: str | None = None,
) -> dict[str, Any]:
    """Do what the command line does: preprocess what is missing, train, evaluate.

    Args:
        model: registered model name.
        dataset: data set name.
        config_file_list: more YAML files.
        config_dict: overrides, dotted or nested keys.
        evaluate_model_file: checkpoint to evaluate when `train` is off.

    Returns:
        The content of `metrics.json`; empty when evaluation is off.
    """
    overrides = dict(config_dict or {})
    if evaluate_model_file is not None:
        overrides["evaluate_model_file"] = evaluate_model_file
    result = run_configured(load_config(model, dataset, config_file_list or (), overrides))
    return {} if result is None else result.content


def run_configured(loaded: LoadedConfig) -> EvalResult | None:
    """The same for a configuration that is read already.

    Returns:
        What the evaluation found; None where there is none, and in the helper processes of distributed training.
    """
    join()
    config = loaded.config
    if not config.train and not config.evaluate_model_file:
        raise ConfigError("--train=False needs --evaluate_model_file=FILE, the checkpoint to evaluate")
    if config.train and config.evaluate_model_file:
        raise ConfigError("--evaluate_model_file names a trained model: add --train=False, or leave it out to train")
    if config.evaluate_model_file:
        loaded = on_the_data_of(loaded, config.evaluate_model_file)
    else:
        loaded = _with_prerequisites(loaded)
    with ExitStack() as held:
        return _run(loaded, held)


def _with_prerequisites(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with what its model borrows; with `prerequisites: train` a run that is missing is made first.

    Raises:
        LenderMissing: it is missing, and not to be made, or its training has not made it.
        CheckpointError: it is missing, and several processes train.
    """
    if is_child_process():
        return loaded  # the first process will say
    trained: set[str] = set()
    while True:
        try:
            return _resolved(loaded)
        except LenderMissing as missing:
            name = missing.loan.model
            if loaded.config.prerequisites == "refuse" or name in trained:
                raise
            if in_several(loaded.config):
                # The others would begin with this model while the first process trains the lender.
                raise CheckpointError(f"{missing}; where several processes train, that run is not made first") from None
            trained.add(name)
            log.info("%s needs a trained %s, which comes first, in a run of its own", loaded.config.model_name, name)
            # A training that was killed in the lender's run goes on there.
            own = {"evaluate": False, "resume": "auto" if loaded.config.resume == "auto" else "none"}
            run_configured(load_config(name, loaded.config.dataset, (), {**carried_over(loaded), **own}))
            log.info("now %s", loaded.config.model_name)


def _resolved(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with what follows from clips without videos, other runs, and files of weights."""
    return with_front_end(with_borrowed(with_converted(loaded)))


def preprocess(loaded: LoadedConfig, only: Sequence[str] = (), merge: bool = False) -> None:
    """Make what training needs, or the artefacts of `only`, also where `need_preprocess` is off.

    With `merge` nothing is made: what the processes of all shards have made is put together.

    Raises:
        ConfigError: a shard is to be merged.
    """
    if merge and loaded.config.preprocess.shard is not None:
        raise ConfigError("--merge puts the shards together: leave --preprocess.shard out")
    prepare(_resolved(loaded), always=True, only=only, merge=merge)


def _run(loaded: LoadedConfig, held: ExitStack) -> EvalResult | None:
    """Prepare, train, evaluate; the run's folder is `held` all the while."""
    config = loaded.config
    started = time.monotonic()
    if config.train:
        if not is_child_process():
            check_training(config, config.evaluate, prepares=config.need_preprocess)
        loaded, clips, run_folder, team = _train(loaded, prepare, held)
    else:
        loaded, clips, team = _to_score(loaded, held)
        run_folder = claimed_by_the_first(config, team, held)
    result = _evaluate_run(loaded, clips, run_folder, team)
    if not team.is_first:
        return None
    if result is not None:
        _log_evaluation(run_folder, loaded.config, result)
    _finish(run_folder, loaded.config)
    if result is not None:
        log.info("all done in %.1f minutes; everything is in %s", (time.monotonic() - started) / 60, run_folder.path)
    return result


def _evaluate_run(loaded: LoadedConfig, clips: Clips, run_folder: RunFolder, team: Team) -> EvalResult | None:
    """Score what a run has made, or the checkpoint that is named; None where nothing is to be, or can be."""
    config = loaded.config
    if not config.evaluate or not _makes_videos(config, run_folder):
        return None
    inner = _scores_without_videos(config)
    if config.train and clips["test"] and not inner and not _scorable(config, clips["test"]):
        log.warning("nothing is evaluated: %s", _WITHOUT_VIDEOS)
        return None
    checkpoint = Path(config.evaluate_model_file) if config.evaluate_model_file else run_folder.path
    return _evaluate(loaded, clips, checkpoint, run_folder.path / "eval", team)


def _to_score(loaded: LoadedConfig, held: ExitStack) -> tuple[LoadedConfig, Clips, Team]:
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
    if lacking_to_speak(get_spec(config.model_name).model, config.model, given.union(content.ready)) == []:
        return True
    log.info("stage %s alone makes no videos, so nothing is evaluated; --resume=auto goes on", config.stage)
    return False


def train(loaded: LoadedConfig) -> RunFolder | None:
    """Train from prepared data, which needs no media or face library.

    Returns:
        The run's folder; None in the helper processes of distributed training.
    """
    join()
    if not is_child_process():
        loaded = _resolved(loaded)
        check_training(loaded.config, False, prepares=False)
    with ExitStack() as held:
        loaded, _, run_folder, team = _train(loaded, lambda given: prepared_clips(given.config), held)
        if team.is_first:
            _finish(run_folder, loaded.config)
    return run_folder if team.is_first else None


def _finish(run_folder: RunFolder, config: Config) -> None:
    """Mark a run as complete; after a single `--stage` it stays open for `--resume=auto`."""
    if config.train and config.stage is None:
        run_folder.set_status("finished")


def evaluate(loaded: LoadedConfig, output: str | None = None) -> EvalResult | None:
    """Score a trained model; the report goes to `output`, by default to `eval` in the run folder of the checkpoint.

    Returns:
        What was found; None in the helper processes of a distributed evaluation.
    """
    join()
    path = Path(loaded.config.evaluate_model_file or latest_run(loaded.config))
    loaded = on_the_data_of(loaded, path)
    with ExitStack() as held:
        out = None if is_child_process() else _place_of_report(loaded.config, path, output, held)
        loaded, clips, team = _to_score(loaded, held)
        path, out = team.gather((path, out))[0]
        result = _evaluate(loaded, clips, path, out, team)
    if result is None:
        return None
    if out.name == "eval" and (out.parent / "run.json").is_file():
        _log_evaluation(RunFolder(out.parent), loaded.config, result)
    return result


def _log_evaluation(run_folder: RunFolder, config: Config, result: EvalResult) -> None:
    """The final figures, and a few pictures, beside the curves of the training."""
    out = run_folder.path / "eval"
    pictures = [*sorted((out / "samples").glob("*.png")), *sorted(out.glob("*.png"))]
    RunLog(run_folder, config).evaluation(result.flat(), {file.stem: file for file in pictures[:LOGGED_PICTURES]})


def _place_of_report(config: Config, checkpoint: Path, output: str | None, held: ExitStack) -> Path:
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


# -- data --------------------------------------------------------------------------------------------------------------


def prepare(
    loaded: LoadedConfig,
    always: bool = False,
    evaluate_only: bool = False,
    only: Sequence[str] = (),
    merge: bool = False,
) -> Clips:
    """Make what is missing (the demo corpus, preprocessed clips) and return the usable clips of every split.

    Args:
        loaded: the configuration.
        always: also when `need_preprocess` is off.
        evaluate_only: make and ask for no more than scoring needs.
        only: make and ask for these artefacts alone; `faces` stands for every variant that the model reads.
        merge: make nothing, put together what the processes of all shards have made.

    Returns:
        The clips of every split; of a shard none, for it does not know the others.

    Raises:
        ConfigError: no step makes one of them, or a share of the clips is to be trained or scored on.
        DataError: the data are missing, or no clip is usable.
    """
    config = loaded.config
    if config.preprocess.shard is not None and not always:
        raise ConfigError("--preprocess.shard is for `preprocess`: after all shards `preprocess --merge`, then `run`")
    model = get_spec(config.model_name).model
    artefacts = model.evaluation_artefacts if evaluate_only else model.artefacts_for(config.model)
    if only:
        artefacts = named_artefacts(only, artefacts)
        plan_steps(artefacts, model.step_settings(config.model), config.preprocess)  # refuses a name before any work
    if (config.need_preprocess or always) and not is_child_process():
        if config.layout == "demo":
            ensure_demo_corpus(config, redraw=not evaluate_only)
        ensure(config, model, config.model, force=config.preprocess.force, artefacts=artefacts, merge=merge)
    if config.preprocess.shard is not None:
        return {}
    return prepared_clips(config, artefacts)


def prepared_clips(config: Config, artefacts: Sequence[str] | None = None) -> Clips:
    """Usable preprocessed clips of `train`, `val`, `test` and `unseen`.

    They have all of `artefacts` (the model's) but those that training does without.

    Raises:
        DataError: no training clip is usable, with the reasons.
    """
    layout = make_layout(config)
    model = get_spec(config.model_name).model
    artefacts = model.artefacts_for(config.model) if artefacts is None else artefacts
    artefacts = [name for name in artefacts if not among(name, model.trains_without)]
    root = Path(config.preprocessed_root)
    clips: Clips = {}
    named = 0
    for split in (*SPLITS, UNSEEN):
        ids = layout.split_ids(config, split) if split != UNSEEN else layout.listed_ids(config, UNSEEN) or []
        named += len(ids)
        # What the layout says of speakers now, not what it said when the clips were prepared.
        found = (ClipFolder(root / i, clip_id=i, speaker=layout.speaker(i)) for i in ids)
        kept, dropped = usable_clips(found, artefacts)
        if dropped:
            shown = "; ".join(f"{i}: {reason}" for i, reason in dropped[:3])
            more = f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""
            log.warning("%s list: %d of %d clips left out: %s%s", split, len(dropped), len(ids), shown, more)
        clips[split] = kept
    if not named and config.train_filelist and Path(config.train_filelist).is_file():
        raise DataError(f"{config.train_filelist}: names no clip, nor do the other lists; write one clip name per line")
    if not any(clips.values()):
        command = f"python run_talkingface.py preprocess --model={config.model_name} --dataset={config.dataset}"
        advice = conversion_advice(root) or f"run `{command}` and read its table of reasons"
        raise DataError(f"{root}: no usable preprocessed clip; {advice}")
    return clips


def _train(
    loaded: LoadedConfig, get_clips: Callable[[LoadedConfig], Clips], held: ExitStack
) -> tuple[LoadedConfig, Clips, RunFolder, Team]:
    """Train in a run folder, locked until `held` is left.

    Returns:
        The first process's configuration, the clips, the folder, and who has taken part.
    """
    limit_threads(loaded.config.threads)
    loaded, clips, fabric = prepared_by_the_first(loaded, partial(_with_training_clips, get_clips), held)
    config, team = loaded.config, Team.of(fabric)
    run_folder = claimed_by_the_first(config, team, held)
    seed_everything(config.seed, config.reproducibility)
    allow_tf32(config.tf32)
    spec = get_spec(config.model_name)
    model = spec.model(config.model)
    model.bind(config.weights_dir, str(fabric.device))
    load_experts(model, config, kinds=[s.kind for s in config.stages if config.stage in (None, s.name)])
    made = fabric.is_global_zero and run_folder.status == "new"
    if fabric.is_global_zero:
        _open_run(run_folder, loaded, model.licence)
    evaluate_videos = _video_scorer(config, clips, team)
    trainer = (spec.trainer or Trainer)(config, model, clips, run_folder, fabric, evaluate_videos)
    log.info("training %s on %s: %s", config.model_name, fabric.device, run_folder.path)
    try:
        trainer.fit()
        fabric.barrier()
    except BaseException:
        end_helpers(fabric)
        if made:
            run_folder.forget_untrained(stage.name for stage in config.stages)
        raise
    return loaded, clips, run_folder, team


def _with_training_clips(get_clips: Callable[[LoadedConfig], Clips], loaded: LoadedConfig) -> Clips:
    """The clips, of which there are some to train on."""
    clips = get_clips(loaded)
    if not clips["train"]:
        raise DataError(
            f"{loaded.config.preprocessed_root}: no usable training clip; either every clip was rejected, or all usable"
            " ones stand in the validation and test lists"
        )
    return clips


def _open_run(run_folder: RunFolder, loaded: LoadedConfig, licence: str = "") -> None:
    """Write the resolved configuration into the run folder; a resumed run must have the same model."""
    changed = changed_settings(run_folder, loaded.config)
    if changed:
        log.warning("%s: resumed with changed %s", run_folder.path, ", ".join(changed))
    write_text(run_folder.path / "config.yaml", loaded.to_yaml())
    run_folder.set_status("running", licence)


def _video_scorer(config: Config, clips: Clips, team: Team) -> Any:
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


# -- evaluation --------------------------------------------------------------------------------------------------------


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


def _evaluate(loaded: LoadedConfig, clips: Clips, checkpoint: Path, out: Path, team: Team) -> EvalResult | None:
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
    lent = {f"experts.{name}" for name in get_spec(config.model_name).model.borrows}
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
