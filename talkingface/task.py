"""What one task, a model on a data set, has and lacks on this machine, and about what it costs in disk and hours."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from talkingface.clips.folder import ClipFolder, among, usable_clips
from talkingface.clips.layouts import SPLITS, make_layout
from talkingface.errors import TalkingFaceError
from talkingface.evaluation.metric import MetricContext, make_metric
from talkingface.files import check_can_be_made
from talkingface.media.probe import probe
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.borrowed import AUTO, LenderMissing, with_borrowed
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.by_converter import following_clips
from talkingface.preprocess.prepare import worker_count
from talkingface.readiness import check_origins
from talkingface.weights.runs import RunFolder

if TYPE_CHECKING:
    from talkingface.clips.layouts import ClipItem, Layout
    from talkingface.config.sections import Config
    from talkingface.plugin.configuration import LoadedConfig

LOOKED_AT = 20
"""Videos, and prepared clips, that estimates are made from."""

DEMO_BYTES_PER_FRAME = 16_100
DEMO_FRAMES_PER_SECOND = 94
"""Measured on the demo's 256 px videos with IPLAP's artefacts, one process: docs/benchmarks.md."""


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        state: `MISSING` keeps the task from being done, `absent` only a part of it.
        text: what it is about, and what to do.
    """

    state: Literal["ok", "absent", "MISSING", "about"]
    text: str


def examine(loaded: LoadedConfig) -> Iterator[Finding]:
    """Look at data, prepared clips, weights, metrics, folders; then estimate what is left to do."""
    try:
        loaded = with_borrowed(loaded)
    except LenderMissing as missing:
        made = loaded.config.prerequisites == "train"
        told = f"{missing.loan.model}, of which there is no run, is trained first" if made else str(missing)
        yield Finding("about" if made else "MISSING", told)
    except TalkingFaceError as error:
        yield Finding("MISSING", str(error))
    layout = make_layout(loaded.config)
    if layout.converter:
        with suppress(TalkingFaceError):  # told below
            loaded = following_clips(loaded)
    config = loaded.config
    items, finding = _items(config, layout)
    yield finding
    unprepared = 0
    if items:
        yield from _splits(config, layout)
        left = _unprepared(config, items)
        unprepared = sum(left.values())
        yield _prepared(config, len(items), left)
    yield from _weights(config)
    yield from _metrics(config)
    yield from _folders(config, unprepared)
    yield from _costs(config, items, unprepared)


def _items(config: Config, layout: Layout) -> tuple[list[ClipItem], Finding]:
    """The clips of the data set, and what is to be said of them."""
    try:
        items = layout.find(config)
    except TalkingFaceError as error:
        made = "drawn" if config.layout == "demo" else "converted" if layout.old_data(config) else ""
        told = f"videos: {made} by the first run" if made == "drawn" else f"clips: {made} by the first run"
        return [], Finding("absent", told) if made else Finding("MISSING", f"videos: {error}")
    if layout.converter:
        return items, Finding("ok", f"clips: {len(items)} converted, without videos")
    return items, Finding("ok", f"videos: {len(items)} named or found below {config.data_root}")


def _splits(config: Config, layout: Layout) -> Iterator[Finding]:
    for split in SPLITS:
        try:
            count, listed = len(layout.split_ids(config, split)), layout.listed_ids(config, split) is not None
            origin = "held out by their names, there is no list"
            if listed:
                origin = getattr(config, f"{split}_filelist") or "those of its dump"
            yield Finding("ok" if count else "MISSING", f"{split}: {count} clips ({origin})")
        except TalkingFaceError as error:
            yield Finding("MISSING", f"{split}: {error}")


def _unprepared(config: Config, items: Sequence[ClipItem]) -> Counter[str]:
    """Why clips are not ready for training, and how many."""
    model = get_spec(config.model_name).model
    wanted = [name for name in model.artefacts_for(config.model) if not among(name, model.trains_without)]
    root = Path(config.preprocessed_root)
    _, dropped = usable_clips((ClipFolder(root / item.clip_id, clip_id=item.clip_id) for item in items), wanted)
    return Counter(reason for _, reason in dropped)


def _prepared(config: Config, count: int, left: Counter[str]) -> Finding:
    ready = count - sum(left.values())
    reasons = "".join(f"; {n} x {reason}" for reason, n in left.most_common(3))
    return Finding("ok" if ready else "absent", f"prepared: {ready} of {count} in {config.preprocessed_root}{reasons}")


def _weights(config: Config) -> Iterator[Finding]:
    """Experts and first weights of every stage."""
    model = get_spec(config.model_name).model(config.model)
    if model.licence:
        yield Finding("ok", f"licence: what is made with these settings is {model.licence}")
    lent = {name for name, loan in model.borrows.items() if not loan.optional or config.experts.get(name) == AUTO}
    unresolved = sorted(lent - config.experts_weights.keys())  # told of before
    for stage in config.stages:
        named = [name for name in (*model.plans[stage.kind].frozen, *model.plans[stage.kind].uses)]
        try:
            load_experts(model, config, kinds=[stage.kind], held=unresolved)
            given = ", ".join(f"{name} from {config.experts[name]}" for name in named if name in model.given)
            yield Finding("ok", f"stage {stage.name}: weights{f' ({given})' if given else ': none are needed'}")
        except TalkingFaceError as error:
            yield Finding("MISSING", f"stage {stage.name}: {error}")
    try:
        check_origins(config, model, RunFolder(Path(config.saved_dir) / "none"))
    except TalkingFaceError as error:
        yield Finding("MISSING", str(error))


def _metrics(config: Config) -> Iterator[Finding]:
    """What each metric needs. Without it the figure is n/a, or an error where `evaluation.strict` is on."""
    context = MetricContext(config.saved_dir, config.dataset)
    ready = []
    for name in config.metrics or ():
        try:
            metric = make_metric(name, config.evaluation, config.weights_dir, context=context)
            if not metric.may_come_from_this_run:
                metric.prepare()
            ready.append(name)
        except TalkingFaceError as error:
            yield Finding("MISSING" if config.evaluation.strict else "absent", f"metric {name}: {error}")
    yield Finding("ok", f"metrics: {', '.join(ready) or 'none'}")


def _folders(config: Config, unprepared: int) -> Iterator[Finding]:
    for folder, needed in ((config.saved_dir, True), (config.preprocessed_root, unprepared > 0)):
        try:
            check_can_be_made(folder)
        except TalkingFaceError as error:
            yield Finding("MISSING" if needed else "absent", str(error))


def _costs(config: Config, items: Sequence[ClipItem], unprepared: int) -> Iterator[Finding]:
    """Disk and hours, from a few videos and prepared clips of this data set and from the speed of the demo."""
    if not items:
        return
    frames = _mean_frames(config, items)
    if frames is None:
        return
    yield Finding("about", f"{frames * len(items) / config.fps / 3600:.2f} hours of video, by {LOOKED_AT} of them")
    size, source = _bytes_per_frame(config)
    needed, there = frames * unprepared * size, _free(config.preprocessed_root)
    enough = needed < there
    yield Finding(
        "about" if enough else "MISSING",
        f"disk for {unprepared} clips to prepare: {needed / 1e9:.1f} GB ({size / 1000:.1f} kB a frame, {source}); free:"
        f" {there / 1e9:.0f} GB" + ("" if enough else "; name another place with --preprocessed_root"),
    )
    workers = max(1, worker_count(config.preprocess.workers, unprepared))
    hours = frames * unprepared / DEMO_FRAMES_PER_SECOND / workers / 3600
    yield Finding("about", f"preprocessing: {hours:.2f} hours with {workers} processes as fast as on the demo's videos")
    lengths = [f"{s.name} {s.max_steps or s.epochs} {'steps' if s.max_steps else 'epochs'}" for s in config.stages]
    yield Finding(
        "about",
        f"training: {', '.join(lengths)}; seconds per step here: `python run_talkingface.py benchmark"
        f" --model={config.model_name} --dataset={config.dataset} --only=training`",
    )


def _mean_frames(config: Config, items: Sequence[ClipItem]) -> float | None:
    """Frames of a clip, by a few of them spread over the list."""
    lengths = []
    for item in items[:: max(1, len(items) // LOOKED_AT)][:LOOKED_AT]:
        try:
            lengths.append(probe(item.video).duration * config.fps)
        except TalkingFaceError:
            continue
    return sum(lengths) / len(lengths) if lengths else None


def _bytes_per_frame(config: Config) -> tuple[float, str]:
    """Of prepared data, and where the figure is from."""
    sizes, frames = 0, 0
    for file in sorted(Path(config.preprocessed_root).glob("**/clip.json"))[:LOOKED_AT]:
        clip = ClipFolder(file.parent)
        if clip.status == "ok":
            sizes += sum(path.stat().st_size for path in file.parent.iterdir() if path.is_file())
            frames += len(clip)
    return (sizes / frames, "as the prepared ones") if frames else (DEMO_BYTES_PER_FRAME, "as the demo's")


def _free(folder: str) -> int:
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
