"""How fast this machine does each part of the work."""

from __future__ import annotations

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

from talkingface.benchmark.metrics import metric_speed
from talkingface.benchmark.timing import best, rate
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import make_layout
from talkingface.clips.prepared import prepared_ids
from talkingface.clips.source import Audio, Source
from talkingface.devices import allow_tf32, has_fast_bf16, resolve_device, seed_everything
from talkingface.errors import ConfigError, TalkingFaceError
from talkingface.export.onnx_files import export_model
from talkingface.export.runtime import run_exported
from talkingface.faces.detectors import Place
from talkingface.media import samples_of
from talkingface.pipeline import Pipeline
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.borrowed import with_stand_ins
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.prepare import Preprocessor
from talkingface.training.trainer import StageLoop, Trainer
from talkingface.weights.runs import RunFolder
from talkingface.workflow import make_evaluator, prepare

try:
    import resource
except ImportError:  # Windows
    resource = None

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.plugin.configuration import LoadedConfig
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")
Clips = dict[str, list[Any]]
PROFILED_FRAMES = 16
WARM_FRAMES = 8
PARTS = ("preprocessing", "training", "generation", "evaluation", "metrics")
"""What can be measured by itself; data loading is part of training."""

EXTRA_PARTS = ("onnx",)
"""What is measured only where it is named: it needs packages that not everybody has, and a minute to export."""


Told = Callable[[str, Mapping[str, Any]], None]
"""Hears of every part that begins, and the figures that there are by then."""


def measure(
    loaded: LoadedConfig,
    seconds: float = 5.0,
    only: Collection[str] = PARTS,
    told: Told = lambda *_: None,
    failed: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Groups of figures by title, fit for JSON; weights are random, since speed does not depend on them.

    Args:
        loaded: configuration; its data set is prepared first when it is not yet.
        seconds: time spent on each figure; a piece of work that takes longer is done once.
        only: those of `PARTS` to measure.
        told: hears how far it is.
        failed: gets the reasons of parts that cannot be measured, and the others are; None: the first one is raised.
    """
    with tempfile.TemporaryDirectory() as lent:
        resolved = with_stand_ins(loaded, Path(lent))
        if any(Path(lent) in Path(file).parents for file in resolved.config.experts.values() if file):
            spare_made_parts(resolved.config)
        return _measure(resolved, seconds, only, told, failed)


def spare_made_parts(config: Config) -> None:
    """Refuse to make parts of prepared clips anew with random weights.

    Raises:
        ConfigError: trained weights made them, of a run that is gone.
    """
    root, steps = Path(config.preprocessed_root), get_spec(config.model_name).model.step_settings(config.model)
    drawn = {artefact: params["weights"] for artefact, params in steps.items() if "weights" in params}
    for clip_id in prepared_ids(root) if drawn else ():
        for artefact, weights in drawn.items():
            made = ClipFolder(root / clip_id).record(artefact).get("params", {}).get("weights")
            if made not in (None, weights):
                raise ConfigError(
                    f"{root / clip_id}: its {artefact} was made by weights {made}, and no run has them any more: to"
                    " measure with random ones, give another --preprocessed_root, or name a run with --experts"
                )


def _measure(
    loaded: LoadedConfig, seconds: float, only: Collection[str], told: Told, failed: dict[str, str] | None
) -> dict[str, Any]:
    """See `measure`; the configuration has what its model borrows."""
    config = loaded.config.model_copy(update={"tensorboard": False, "log_wandb": False, "show_progress": False})
    told("preparing the data", {})
    clips = prepare(loaded)
    seed_everything(config.seed, config.reproducibility)
    allow_tf32(config.tf32)
    figures: dict[str, Any] = {"hardware": hardware(config)}
    with tempfile.TemporaryDirectory() as scratch:
        for part, groups in _parts(config, clips, Path(scratch), seconds):
            if part in only:
                told(part, figures)
                try:
                    figures |= groups()
                except TalkingFaceError as error:
                    if failed is None:
                        raise
                    failed[part] = str(error)
    return figures | {"peak memory MiB": peak_memory()}


def _parts(
    config: Config, clips: Clips, scratch: Path, seconds: float
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every part that the model has, with what measures its groups of figures."""
    yield "preprocessing", lambda: {"preprocessing frames/s": preprocessing(config, clips)}
    yield "training", lambda: training(config, clips, scratch, seconds)
    speaks = get_spec(config.model_name).model.needed_to_speak(config.model) is not None
    if speaks:
        yield "generation", lambda: {"generation": generation(config, clips, scratch, seconds)}
    yield "evaluation", lambda: {"evaluation": evaluation(config, clips, scratch, seconds)}
    example = (clips["test"] or clips["train"])[0].video
    yield "metrics", lambda: metric_speed(example, seconds, resolve_device(config.device))
    if speaks:  # last, since not every model can leave as ONNX files
        yield "onnx", lambda: {"generation by ONNX files": generation(config, clips, scratch, seconds, exported=True)}


def training(config: Config, clips: Clips, scratch: Path, seconds: float) -> dict[str, Any]:
    """Speed of every stage, by what is measured."""
    rows = [stage_speed(config, clips, name, scratch, seconds) for name in _stages(config)]
    titles = {"data loading items/s": "items_per_s", "training steps/s": "steps_per_s", "batch size": "batch_size"}
    return {title: {row["stage"]: row[key] for row in rows} for title, key in titles.items()}


def _stages(config: Config) -> list[str]:
    return [stage.name for stage in config.stages if config.stage in (None, stage.name)]


def hardware(config: Config) -> dict[str, Any]:
    """What the figures were measured on."""
    device = resolve_device(config.device)
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor()
    )
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "fast_bf16": has_fast_bf16(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "model": config.model_name,
        "profile": config.profile,
    }


def _cpu_lines() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def preprocessing(config: Config, clips: Clips) -> dict[str, float]:
    """Frames per second of each step, on one process, over a few clips made anew in a scratch folder."""
    model = get_spec(config.model_name).model
    ids = [clip.clip_id for clip in clips["test"] or clips["train"]][:2]
    items = [item for item in make_layout(config).find(config) if item.clip_id in ids]
    settings = config.preprocess.model_copy(update={"workers": 0, "force": True})
    steps = plan_steps(model.artefacts_for(config.model), model.step_settings(config.model), settings)
    for step in steps:
        step.bind(config)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        report = Preprocessor(steps, settings, scratch, config.fps, progress=False).run(items)
        whole = time.perf_counter() - started
    frames = sum(outcome.frames for outcome in report.outcomes.values())
    return {**{name: round(rate, 1) for name, rate in report.step_rates.items()}, "all steps": round(frames / whole, 1)}


def stage_speed(config: Config, clips: Clips, name: str, scratch: Path, seconds: float) -> dict[str, Any]:
    """Items per second of the data set alone, and steps per second of the shared loop, of one stage under way."""
    stage = next(s for s in config.stages if s.name == name)
    stage = stage.model_copy(update={"init_from": ()})
    model = get_spec(config.model_name).model(config.model)
    load_experts(model, config, kinds=[stage.kind])
    loop = StageLoop(Trainer(config, model, clips, RunFolder(scratch / name)), stage, None)
    loop.skip_warm_up()
    loop.data.batches.set_position(0)
    keys = iter(loop.data.batches)
    dataset = loop.data.train
    fetch = getattr(dataset, "__getitems__", None) or (lambda batch: [dataset[key] for key in batch])
    items = rate(lambda: len(fetch(next(keys))), seconds)
    batches = iter(loop.data.loader)
    steps = rate(lambda: loop.time_step(next(batches)), seconds, after=_synchronise)
    return {
        "stage": name,
        "items_per_s": round(items, 1),
        "steps_per_s": round(steps, 3),
        "batch_size": stage.batch_size,
    }


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _random_pipeline(config: Config) -> Pipeline:
    """The configuration's model with random weights, ready to speak."""
    model = get_spec(config.model_name).model(config.model).to(resolve_device(config.device)).eval()
    model.stage = config.stages[-1] if config.stages else None
    place = Place(config.weights_dir, config.device)
    kept = {"output": config.output, "video_cache_mb": config.video_cache_mb}
    return Pipeline(model, config.model_name, None, config.preprocess.landmarks, place, **kept)


def evaluation(config: Config, clips: Clips, scratch: Path, seconds: float) -> dict[str, float]:
    """Frames per second of scoring with the configuration's metrics: real clips, which nobody has to generate."""
    clip = (clips["test"] or clips["train"])[0]
    evaluator = make_evaluator(config, _random_pipeline(config), {"test": [clip]})

    def work() -> None:
        evaluator.run([clip], scratch / "eval", rows=("real",), quiet=True)

    return {"scoring fps": round(len(clip) / best(work, seconds)[1].wall, 2)}


def generation(config: Config, clips: Clips, scratch: Path, seconds: float, exported: bool = False) -> dict[str, float]:
    """Frames per second: in torch operators alone (the networks), without and with landmarks, decoding and encoding.

    Args:
        config: the configuration.
        clips: by split.
        scratch: folder for what is written.
        seconds: time spent on each figure.
        exported: networks run as ONNX files, in float32, which have no torch operators.
    """
    clip = (clips["test"] or clips["train"])[0]
    pipeline = _random_pipeline(config)
    model = pipeline.model
    if exported:
        export_model(model, config.model_name, dict(model.named_children()), scratch / "onnx", log.debug)
        run_exported(model, config.model_name, scratch / "onnx")
    voice = Audio.load(clip.video)

    def whole(audio: Audio) -> None:
        pipeline.generate_file(Source.from_path(clip.video), audio, scratch / "whole.mp4")

    def prepared(audio: Audio) -> None:
        with torch.inference_mode():
            for _ in model.generate(Source.from_clip(clip), audio):
                pass

    audio = _as_long_as(voice, config.fps, seconds, whole)
    frames = audio.n_frames(config.fps)
    # The profiler keeps every event in memory, so it sees a short piece only.
    piece = _first_frames(audio, PROFILED_FRAMES, config.fps)
    network = {}
    if not exported:
        operators = _operator_seconds(model, Source.from_clip(clip), piece)
        network = {"network fps": round(piece.n_frames(config.fps) / operators, 2)}
    return {
        "frames": frames,
        **network,
        "prepared landmarks, no encoding fps": round(frames / best(lambda: prepared(audio), seconds)[1].wall, 2),
        "end to end fps": round(frames / best(lambda: whole(audio), seconds)[1].wall, 2),
    }


def _as_long_as(voice: Audio, fps: float, seconds: float, work: Callable[[Audio], None]) -> Audio:
    """The voice, cut so that work on it takes about `seconds`; a few frames at least, its whole length at most."""
    warm = _first_frames(voice, WARM_FRAMES, fps)
    work(warm)  # starts the detector
    started = time.perf_counter()
    work(warm)
    speed = warm.n_frames(fps) / (time.perf_counter() - started)
    return _first_frames(voice, max(WARM_FRAMES, round(speed * seconds)), fps)


def _first_frames(voice: Audio, frames: int, fps: float) -> Audio:
    return Audio(voice.samples[: samples_of(frames, fps, voice.sample_rate)], voice.sample_rate)


def _operator_seconds(model: TalkingFaceModel, source: Any, audio: Any) -> float:
    """Time inside torch operators on the device that runs them."""
    cuda = model.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with torch.inference_mode(), profile(activities=activities) as profiler:
        for _ in model.generate(source, audio):
            pass
        _synchronise()
    events = profiler.key_averages()
    micro = sum(event.self_device_time_total if cuda else event.self_cpu_time_total for event in events)
    return max(micro, 1) / 1e6


def peak_memory() -> dict[str, float]:
    """Largest resident memory of this process so far, where the system tells it, and of the GPU."""
    out: dict[str, float] = {}
    if resource is not None:
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        unit = 2**20 if platform.system() == "Darwin" else 2**10
        out["process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    if torch.cuda.is_available():
        out["gpu"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return out


def table(figures: dict[str, Any]) -> str:
    """The figures as aligned lines."""
    rows = [
        (f"{group}: {name}", value)
        for group, values in figures.items()
        if isinstance(values, dict)
        for name, value in values.items()
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
