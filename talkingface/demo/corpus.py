"""Write the demo corpus: clips, ground truth, file lists and manifest; parallel, atomic, resumable."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from tqdm import tqdm

from talkingface.demo.identity import build_identity
from talkingface.demo.performance import ClipDrawer, plan_clip
from talkingface.demo.portrait import list_portraits, load_portrait
from talkingface.demo.splits import check_lists, clip_id, split_corpus, write_lists
from talkingface.demo.truth import save_truth
from talkingface.errors import DataError, TalkingFaceError
from talkingface.files import file_sha256, write_text
from talkingface.media import SAMPLE_RATE, VideoWriter, frame_count, write_wav

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.demo.identity import Identity

GENERATOR_VERSION = 2  # raise when the same parameters give other pixels or samples: old clips are then made anew
SUPERSAMPLE = 2
UNSEEN_CLIPS = 3
log = logging.getLogger("talkingface")


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
    *,
    identities: int = 6,
    clips: int = 7,
    unseen: int = 0,
    seconds: float = 4.0,
    fps: float = 25,
    size: int = 256,
    seed: int = 7,
    tts: str = "formant",
    layout: str = "lrs2",
    portraits: Path | str | None = None,
    workers: int | None = None,
    nod: bool = False,
    progress: bool = True,
    filelists: Path | str | None = None,
) -> CorpusInfo:
    """Make a corpus of synthetic talking-face clips, or complete one that is already there.

    Every clip `<identity>/<clip>` gets `.mp4`, `.wav`, `.txt` (words) and `.json` (ground truth, see `load_tracks`).
    A clip that exists with the same parameters is kept.

    Args:
        root: folder of the videos, by convention `dataset/demo/data`.
        identities: number of synthetic people.
        clips: clips per identity.
        unseen: further people, with `UNSEEN_CLIPS` clips each, who stand in no list but `unseen.txt`.
        seconds: length of a clip; it has `frame_count(seconds, fps)` frames.
        fps: frames per second.
        size: side of the square frames in pixels, even, at least 64.
        seed: fixes everything.
        tts: "formant" (built in) or "espeak" (optional package).
        layout: "lrs2" (`main/<identity>/<clip>.mp4`) or "flat" (`<identity>_<clip>.mp4`).
        portraits: folder of pictures to use instead of the built-in portraits (needs MediaPipe).
        workers: processes; None means one per available core.
        nod: see `plan_clip`; keep it off in data that scores are made from.
        progress: show a progress bar.
        filelists: folder of the lists, by default `<root>/../filelist`. `train.txt`, `val.txt`, `test.txt` hold back
            clips of seen identities; `by_identity/` holds back whole identities; `unseen.txt` names the clips of the
            further people.

    Raises:
        DataError: an impossible parameter or an unusable portrait.
        OutputError: the folder cannot be written.
    """
    _check(identities, clips, unseen, seconds, fps, size, tts, layout)
    root = Path(root)
    filelists = Path(filelists) if filelists is not None else root.parent / "filelist"
    names = _portrait_names(portraits)
    frames = frame_count(seconds, fps)
    jobs = [
        _Job(
            *(i, c, names[i % len(names)][0], names[i % len(names)][1], frames, float(fps), size, seed, tts, nod),
            mirror=bool(i // len(names) % 2),  # every second use of a portrait
            target=_stem(root, layout, i, c),
        )
        for i, count in enumerate([clips] * identities + [min(UNSEEN_CLIPS, clips)] * unseen)
        for c in range(count)
    ]
    by_clip, by_identity = split_corpus(identities, clips, layout)
    check_lists(filelists, root, by_clip)
    todo = [job for job in jobs if not _is_current(job)]
    _run(todo, _worker_count(workers, todo), progress)
    ids = tuple(clip_id(layout, job.identity, job.clip) for job in jobs)
    strangers = [clip_id(layout, job.identity, job.clip) for job in jobs if job.identity >= identities]
    parameters = {"identities": identities, "clips": clips, "unseen": unseen, "seconds": seconds, "fps": fps}
    parameters |= {"size": size, "seed": seed, "tts": tts, "layout": layout, "nod": nod}
    parameters["portraits"] = [Path(name).name for name, _ in names]
    manifest = {
        "synthetic": True,
        "note": "made by talkingface demo-data; figures on it are no evidence of model quality",
        "generator_version": GENERATOR_VERSION,
        "supersample": SUPERSAMPLE,
        "parameters": parameters,
        "frames_per_clip": frames,
        "clips": ids,
        "splits": by_clip,
        "splits_by_identity": by_identity,
        "unseen": strangers,
    }
    write_text(root / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    write_lists(filelists, by_clip)
    write_lists(filelists / "by_identity", by_identity)
    write_lists(filelists, {"unseen": strangers})
    return CorpusInfo(root, filelists, ids, by_clip, by_identity, strangers, made=len(todo), kept=len(jobs) - len(todo))


def _check(
    identities: int, clips: int, unseen: int, seconds: float, fps: float, size: int, tts: str, layout: str
) -> None:
    if identities < 1 or clips < 1 or unseen < 0:
        raise DataError(
            f"demo corpus: identities and clips must be at least 1, got {identities} and {clips};"
            f" unseen at least 0, got {unseen}"
        )
    if not (seconds > 0 and fps > 0):
        raise DataError(f"demo corpus: seconds and fps must be positive, got {seconds} and {fps}")
    if size < 64 or size % 2:
        raise DataError(f"demo corpus: size must be even and at least 64 pixels, got {size}")
    if tts not in ("formant", "espeak"):
        raise DataError(f"demo corpus: tts must be formant or espeak, got {tts}")
    if layout not in ("lrs2", "flat"):
        raise DataError(f"demo corpus: layout must be lrs2 or flat, got {layout}")


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
        data = json.loads(job.target.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = (job.target.with_suffix(suffix) for suffix in (".mp4", ".wav", ".txt"))
    return data.get("parameters") == job.parameters and all(f.is_file() for f in files)


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

        # spawn: forking a process that holds torch or MediaPipe threads can hang
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_single_thread) as pool:
            futures = [pool.submit(_make_clip, job) for job in todo]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _single_thread() -> None:
    """Workers fill the cores by themselves; threads inside each would only get in each other's way."""
    cv2.setNumThreads(1)


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


def ensure_demo_corpus(config: Config) -> None:
    """Write the synthetic corpus unless it is there already with the same parameters."""
    pass

    root = Path(config.data_root)
    demo = config.demo
    make_corpus(
        root,
        identities=demo.identities,
        clips=demo.clips,
        unseen=demo.unseen,
        seconds=demo.seconds,
        fps=25,
        size=demo.size,
        seed=demo.seed,
        tts=demo.tts,
        portraits=Path(demo.portraits) if demo.portraits else None,
        filelists=Path(config.train_filelist).parent if config.train_filelist else None,
        workers=config.preprocess.workers,
        progress=config.show_progress,
    )
