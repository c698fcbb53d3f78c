"""Write the demo corpus: clips, ground truth, file lists and manifest; parallel, atomic, resumable."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from talkingface.demo.identity import build_identity
from talkingface.demo.performance import ClipDrawer, plan_clip
from talkingface.demo.portrait import list_portraits, load_portrait
from talkingface.demo.splits import check_lists, clip_id, split_corpus, write_lists
from talkingface.demo.truth import TRUTH_BYTES, save_truth
from talkingface.errors import DataError, TalkingFaceError
from talkingface.files import file_sha256, write_text
from talkingface.media import FPS, SAMPLE_RATE, VideoWriter, frame_count, write_wav
from talkingface.stored.jsons import read_json
from talkingface.workers import WorkerDied, map_in_processes

if TYPE_CHECKING:
    from talkingface.config.sections import Config, DemoConfig
    from talkingface.demo.identity import Identity

log = logging.getLogger("talkingface")

GENERATOR_VERSION = 2  # raise when the same parameters give other pixels or samples: old clips are then made anew
SUPERSAMPLE = 2
UNSEEN_CLIPS = 3


@dataclass(frozen=True)
class CorpusInfo:
    """Where the corpus lies: `root` with the clips, `filelists`, and how many clips were `made` now or `kept`."""

    root: Path
    filelists: Path
    clips: tuple[str, ...]
    splits: dict[str, list[str]]
    splits_by_identity: dict[str, list[str]]
    unseen: list[str]
    made: int
    kept: int


@dataclass(frozen=True)
class _Job:
    """One clip to make; everything its content depends on, and where it goes."""

    identity: int
    clip: int
    portrait: str
    portrait_hash: str
    frames: int
    fps: float
    size: int
    seed: int
    tts: str
    nod: bool
    mirror: bool
    target: Path

    @property
    def parameters(self) -> dict[str, Any]:
        values = asdict(self)
        del values["target"]
        values["portrait"] = Path(self.portrait).name
        return values | {"generator_version": GENERATOR_VERSION}

    @property
    def key(self) -> tuple[int, int, int]:
        return self.seed, self.identity, self.clip


def make_corpus(
    root: Path | str,
    demo: DemoConfig,
    *,
    fps: float = FPS,
    layout: str = "lrs2",
    nod: bool = False,
    filelists: Path | str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> CorpusInfo:
    """Make a corpus of synthetic talking-face clips, or complete one that is already there.

    Every clip `<identity>/<clip>` gets `.mp4`, `.wav`, `.txt` (words) and `.json` (ground truth, see `load_tracks`).
    A clip that exists with the same parameters is kept. Further people (`demo.unseen`), with `UNSEEN_CLIPS` clips each,
    stand in no list but `unseen.txt`.

    Args:
        root: folder of the videos, by convention `dataset/demo/data`.
        demo: how many people and clips, how long and large, which portraits and speech; its seed fixes everything.
        fps: frames per second; a clip has `frame_count(seconds, fps)` frames.
        layout: "lrs2" (`main/<identity>/<clip>.mp4`) or "flat" (`<identity>_<clip>.mp4`).
        nod: see `plan_clip`; keep it off in data that scores are made from.
        filelists: folder of the lists, by default `<root>/../filelist`. `train.txt`, `val.txt`, `test.txt` hold back
            clips of seen identities; `by_identity/` holds back whole identities; `unseen.txt` names the clips of the
            further people.
        workers: processes; None means one per available core.
        progress: show a progress bar.

    Raises:
        DataError: an impossible parameter or an unusable portrait.
        OutputError: the folder cannot be written.
    """
    _check(demo, fps, layout)
    root = Path(root)
    filelists = Path(filelists) if filelists is not None else root.parent / "filelist"
    names = _portrait_names(demo.portraits)
    jobs = _jobs(root, demo, names, fps, layout, nod)
    by_clip, by_identity = split_corpus(demo.identities, demo.clips, layout)
    check_lists(filelists, root, by_clip)
    todo = [job for job in jobs if not _is_current(job)]
    _run(todo, _worker_count(workers, todo), progress)
    info = CorpusInfo(
        root=root,
        filelists=filelists,
        clips=tuple(clip_id(layout, job.identity, job.clip) for job in jobs),
        splits=by_clip,
        splits_by_identity=by_identity,
        unseen=[clip_id(layout, job.identity, job.clip) for job in jobs if job.identity >= demo.identities],
        made=len(todo),
        kept=len(jobs) - len(todo),
    )
    parameters = {**demo.model_dump(), "portraits": [Path(name).name for name, _ in names]}
    _write_lists(info, parameters | {"fps": fps, "layout": layout, "nod": nod}, frame_count(demo.seconds, fps))
    return info


def _check(demo: DemoConfig, fps: float, layout: str) -> None:
    """See that the parameters can be met, beyond what their types say."""
    if fps <= 0:
        raise DataError(f"demo corpus: fps must be positive, got {fps}")
    if demo.size % 2:
        raise DataError(f"demo corpus: size must be even, got {demo.size}")
    if layout not in ("lrs2", "flat"):
        raise DataError(f"demo corpus: layout must be lrs2 or flat, got {layout}")


def _jobs(
    root: Path, demo: DemoConfig, portraits: list[tuple[str, str]], fps: float, layout: str, nod: bool
) -> list[_Job]:
    """Every clip of the corpus: those of the identities, then those of the further people."""
    counts = [demo.clips] * demo.identities + [min(UNSEEN_CLIPS, demo.clips)] * demo.unseen
    return [
        _Job(
            identity=identity,
            clip=clip,
            portrait=portraits[identity % len(portraits)][0],
            portrait_hash=portraits[identity % len(portraits)][1],
            frames=frame_count(demo.seconds, fps),
            fps=float(fps),
            size=demo.size,
            seed=demo.seed,
            tts=demo.tts,
            nod=nod,
            mirror=bool(identity // len(portraits) % 2),  # every second use of a portrait
            target=_stem(root, layout, identity, clip),
        )
        for identity, count in enumerate(counts)
        for clip in range(count)
    ]


def _write_lists(info: CorpusInfo, parameters: dict[str, Any], frames: int) -> None:
    """Write the manifest and the file lists."""
    manifest = {
        "synthetic": True,
        "note": "made by talkingface demo-data; figures on it are no evidence of model quality",
        "generator_version": GENERATOR_VERSION,
        "supersample": SUPERSAMPLE,
        "parameters": parameters,
        "frames_per_clip": frames,
        "clips": info.clips,
        "splits": info.splits,
        "splits_by_identity": info.splits_by_identity,
        "unseen": info.unseen,
    }
    write_text(info.root / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    write_lists(info.filelists, info.splits)
    write_lists(info.filelists / "by_identity", info.splits_by_identity)
    write_lists(info.filelists, {"unseen": info.unseen})


def _portrait_names(folder: Path | str | None) -> list[tuple[str, str]]:
    """(name, content hash) of the portraits; user pictures that cannot be used are left out with a warning."""
    names = list_portraits(Path(folder) if folder is not None else None)
    if folder is None:
        return [(name, "") for name in names]
    usable, reasons = [], []
    for name in names:
        try:
            load_portrait(name)
            usable.append((name, file_sha256(name)[:16]))
        except TalkingFaceError as error:
            reasons.append(str(error))
            log.warning("portrait left out: %s", error)
    if not usable:
        raise DataError(f"{folder}: none of the {len(names)} pictures can be used; first reason: {reasons[0]}")
    return usable


def _stem(root: Path, layout: str, identity: int, clip: int) -> Path:
    return (root / "main" if layout == "lrs2" else root) / clip_id(layout, identity, clip)


def _is_current(job: _Job) -> bool:
    """The json is written last, so a clip with a matching json is complete."""
    try:
        data = read_json(job.target.with_suffix(".json"), TRUTH_BYTES)
    except DataError:
        return False
    files = (job.target.with_suffix(suffix) for suffix in (".mp4", ".wav", ".txt"))
    return isinstance(data, dict) and data.get("parameters") == job.parameters and all(f.is_file() for f in files)


def _worker_count(workers: int | None, todo: list[_Job]) -> int:
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        work = sum(job.frames * job.size**2 for job in todo)
        workers = cores if work > 300 * 256**2 else 1  # starting processes takes longer than a small job
    return max(1, min(workers, len(todo)))


def _run(todo: list[_Job], workers: int, progress: bool) -> None:
    with tqdm(total=len(todo), desc="demo clips", unit="clip", disable=not progress or not todo) as bar:
        if workers == 1:
            for job in todo:
                _make_clip(job)
                bar.update()
            return

        for job, outcome in map_in_processes(_make_clip, todo, workers):
            if isinstance(outcome, WorkerDied):
                raise DataError(f"{job.target.with_suffix('.mp4')}: the process that drew it died; is memory short?")
            if isinstance(outcome, BaseException):
                raise outcome
            bar.update()


@lru_cache(maxsize=2)
def _identity(portrait: str, index: int, seed: int, size: int, mirror: bool) -> Identity:
    return build_identity(load_portrait(portrait), index, seed, size, SUPERSAMPLE, mirror)


def _make_clip(job: _Job) -> None:
    """Draw and write one clip; the json comes last and says that the rest is whole."""
    identity = _identity(job.portrait, job.identity, job.seed, job.size, job.mirror)
    performance = plan_clip(identity.voice, job.key, job.frames, job.fps, job.tts, job.nod)
    drawer = ClipDrawer(identity, performance, job.key)
    truth = job.target.with_suffix(".json")
    with contextlib.suppress(OSError):  # a folder that cannot be written is reported by the writer below
        truth.unlink()
    writer = VideoWriter(
        job.target.with_suffix(".mp4"),
        job.fps,
        (job.size, job.size),
        audio=performance.wav,
        sample_rate=SAMPLE_RATE,
        crf=18,
    )
    with writer:
        for frame in drawer:
            writer.write(frame)
    write_wav(job.target.with_suffix(".wav"), performance.wav, SAMPLE_RATE)
    write_text(job.target.with_suffix(".txt"), f"Text:  {performance.text}\n")
    facts = {"parameters": job.parameters, "text": performance.text, "size": job.size}
    save_truth(truth, drawer.tracks, drawer.lips, facts)


def ensure_demo_corpus(config: Config, redraw: bool = True) -> None:
    """Write the synthetic corpus unless it is there already with the same parameters.

    Args:
        config: the configuration.
        redraw: whether a corpus of other parameters may be replaced.

    Raises:
        DataError: the folder holds another corpus, which may not be replaced.
    """
    other = [] if redraw else _other_parameters(Path(config.data_root), config.demo)
    if other:
        raise DataError(
            f"{config.data_root}: holds a demo corpus of other settings ({', '.join(other)}), which is not drawn over"
            " here; draw the wanted one elsewhere with `demo-data` and name it with --data_root and --preprocessed_root"
        )
    make_corpus(
        config.data_root,
        config.demo,
        filelists=Path(config.train_filelist).parent if config.train_filelist else None,
        workers=config.preprocess.workers,
        progress=config.show_progress,
    )


def _other_parameters(root: Path, demo: DemoConfig) -> list[str]:
    """`seconds 1.6 instead of 4.0` for everything in which the corpus below `root`, if there is one, differs."""
    try:
        found = dict(read_json(root / "manifest.json")["parameters"])
    except (DataError, ValueError, LookupError, TypeError):
        return []
    wanted = {**demo.model_dump(), "portraits": [Path(name).name for name, _ in _portrait_names(demo.portraits)]}
    return [f"{key} {found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value]
