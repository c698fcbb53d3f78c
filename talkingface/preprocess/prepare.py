"""Preprocessing: from a data set's videos to prepared clips.

`ensure` is what a run calls: it finds the clips, sees what a model needs, and makes only what is missing or outdated.
Every clip ends as `ok`, `rejected: reason` (readable, but not usable) or `failed: error` in its `clip.json`; one clip's
failure does not stop the others. What ends a run is what would befall every clip: a missing detector, a full disk, a
read-only folder.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from talkingface.clips.folder import ClipFolder, among, usable_clips
from talkingface.clips.layouts import ClipItem, Layout, make_layout
from talkingface.clips.prepared import conversion_advice, prepared_ids
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import DataError, OutputError
from talkingface.files import writable_folder
from talkingface.preprocess.at_work import deaths, forget
from talkingface.preprocess.clip import CRASH, current_outcome, prepare_clip, record_crash, record_failure
from talkingface.preprocess.cluster import map_on_ray
from talkingface.preprocess.filters.sync_plot import FILE as SYNC_FILE
from talkingface.preprocess.filters.sync_plot import report_sync
from talkingface.preprocess.job import Job
from talkingface.preprocess.manifest import FILE as MANIFEST
from talkingface.preprocess.manifest import write_manifest
from talkingface.preprocess.outcome import ABORT, FAILED, OK, REJECTED, Outcome
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.rejections import write_rejections
from talkingface.preprocess.report import Report
from talkingface.preprocess.shards import in_shard, merged
from talkingface.preprocess.step import CACHE_BYTES, TOTAL_CACHE_BYTES, Step
from talkingface.workers import WorkerDied, map_in_processes, one_thread, unsendable

if TYPE_CHECKING:
    from talkingface.config.sections import Config

log = logging.getLogger("talkingface")

MOST_CRASHES = 5  # of the first clips, all of them: then it is not the clips
_ALL_CRASH = (
    f"the first {MOST_CRASHES} clips all ended the process that worked on them: rather the installation or the memory"
    " than the clips; `doctor` looks at the installation, --preprocess.retry_crashed=True tries these clips again"
)


class Preprocessor:
    """Runs steps over clips.

    Args:
        steps: in an order that satisfies their needs (see `plan_steps`).
        settings: `preprocess:` of the configuration.
        root: folder of the prepared clips.
        fps: frame rate of all artefacts.
        progress: show a progress bar.
        optional: artefacts that clips converted from older code may lack.
        on_gpu: steps that run a network do so on a GPU, and have the main process for themselves: see `phases`.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        settings: PreprocessConfig,
        root: str | os.PathLike[str],
        fps: float = 25.0,
        progress: bool = True,
        optional: Sequence[str] = (),
        on_gpu: bool = False,
    ):
        self.job = Job(Path(root), tuple(steps), settings, fps, settings.force, optional=tuple(optional))
        self.progress = progress
        self.phases = phases(steps, settings.workers, on_gpu)

    def run(self, items: Sequence[ClipItem]) -> Report:
        """Prepare the clips; only what is missing or outdated is made.

        Raises:
            OutputError: the folder cannot be written or the disk is full.
            DataError: a step cannot work at all, for instance because its detector is missing.
        """
        whole = Report()
        for number, (steps, workers) in enumerate(self.phases):
            once, earlier = copy(self), self.phases[number - 1][0] if number else ()
            once.job = replace(
                self.job,
                steps=tuple(steps),
                settings=self.job.settings.model_copy(update={"workers": workers}),
                spared=frozenset(step.artefact for step in earlier),
            )
            # What failed is not tried again: here its crash would end the main process.
            whole.go_on(once._pass(items, whole.with_status(FAILED)))
        self._write_lists(whole)
        return whole

    def merge(self, items: Sequence[ClipItem]) -> Report:
        """What other processes have made of the clips, shard by shard; only what tells of all clips is written.

        Raises:
            DataError: clips are not done yet.
        """
        report = merged(items, self.job)
        self._write_lists(report, anew=True)
        return report

    def _write_lists(self, report: Report, anew: bool = False) -> None:
        """What tells of all clips; a shard, which does not know the others, leaves it to the merge."""
        if self.job.settings.shard is not None or not report.outcomes:
            return
        write_rejections(report.outcomes.values(), self.job.root)
        if anew or report.worked or not (self.job.root / MANIFEST).is_file():
            write_manifest(report.outcomes.values(), self.job.root)
        self._report_sync(report, anew)

    def _pass(self, items: Sequence[ClipItem], given_up: Mapping[str, Outcome]) -> Report:
        """Prepare the clips, but for those that an earlier pass has given up, with the steps of this one."""
        started = time.perf_counter()
        known = {item.clip_id: given_up.get(item.clip_id) or current_outcome(item, self.job) for item in items}
        todo = [item for item in items if known[item.clip_id] is None]
        _report_passed_over(known)
        self._report_other_weights(todo)
        if todo:
            writable_folder(self.job.root)
        fresh = {outcome.clip_id: outcome for outcome in self._work(todo)}
        report = Report()
        for item in items:
            report.add(known[item.clip_id] or fresh[item.clip_id])
        report.worked, report.seconds = len(todo), time.perf_counter() - started
        if todo:
            log.info("preprocessing: %s", report.table())
        return report

    def _report_other_weights(self, todo: Sequence[ClipItem]) -> None:
        """Say how many clips have parts that other weights made."""
        for step in self.job.steps:
            if not step.runs_network:
                continue
            clips = (ClipFolder(self.job.root / item.clip_id, clip_id=item.clip_id) for item in todo)
            made = Counter(clip.record(step.artefact).get("params", {}).get("weights") for clip in clips)
            for weights, count in made.most_common():
                if weights not in (None, step.params["weights"]):
                    now = step.params["weights"]
                    log.info("%d clips outdated: %s made by weights %s, now %s", count, step.artefact, weights, now)

    def _report_sync(self, report: Report, anew: bool) -> None:
        """Histograms of filter `sync`, when it is on and there is something new."""
        limits = [step.limits for step in self.job.steps if step.artefact == "sync"]
        if limits and (anew or report.worked or not (self.job.root / SYNC_FILE).is_file()):
            report_sync(report.outcomes.values(), self.job.root, limits[0])

    def _work(self, items: Sequence[ClipItem]) -> Iterable[Outcome]:
        bar = tqdm(total=len(items), desc="preprocess", unit="clip", disable=not self.progress or not items)
        counts: Counter[str] = Counter()
        with bar:
            for outcome in self._outcomes(items):
                if outcome.status == ABORT:
                    raise (OutputError if outcome.output_error else DataError)(outcome.reason)
                counts[outcome.status] += 1
                bar.set_postfix(counts, refresh=False)
                bar.update()
                yield outcome

    def _outcomes(self, items: Sequence[ClipItem]) -> Iterable[Outcome]:
        """Work on the clips, in worker processes unless none are wanted, or a step cannot be sent to one.

        Without them, a clip that was at work when an earlier run died still gets a process of its own.
        """
        workers = worker_count(self.job.settings.workers, len(items))
        job = replace(self.job, cache_bytes=cache_budget(workers))
        work: Callable[[ClipItem], Outcome] = partial(prepare_clip, job=job)
        apart = items if workers else [item for item in items if self._began(item)]
        if apart and (reason := unsendable(work)):
            log.warning("this process does the work: a step cannot be sent to another one (%s)", reason)
            apart = []
        left = {item.clip_id: item for item in items}
        for outcome in self._in_processes(work, apart, max(1, workers)):
            del left[outcome.clip_id]
            yield outcome
        for item in left.values():
            with one_thread():
                outcome = work(item)
            yield outcome

    def _in_processes(
        self, work: Callable[[ClipItem], Outcome], items: Sequence[ClipItem], workers: int
    ) -> Iterator[Outcome]:
        """Outcomes of clips worked on in worker processes; ends early where no process can be started here."""
        crashed = answered = 0
        for item, result in self._answers(work, items, workers):
            if isinstance(result, Outcome):
                answered += 1
                yield result
            elif not isinstance(result, WorkerDied):
                raise result
            elif self._began(item):
                crashed += 1
                yield record_crash(item, self.job)
                if crashed == MOST_CRASHES and not answered:
                    raise DataError(_ALL_CRASH)
            elif workers == 1 and self.job.settings.executor == "local":
                # It died before it began. A script without `if __name__ == "__main__":` is run again by each process.
                log.warning("no worker process can be started here, so this process does the work")
                return
            else:
                yield record_failure(item, self.job, str(result))

    def _answers(
        self, work: Callable[[ClipItem], Outcome], items: Sequence[ClipItem], workers: int
    ) -> Iterator[tuple[ClipItem, Any]]:
        """What the executor's processes answer, in order of completion."""
        settings, root = self.job.settings, self.job.root
        if settings.executor == "local" or settings.workers == 0 or not items:
            return map_in_processes(work, items, workers, self._began)
        return map_on_ray(
            work, items, settings.ray_address, settings.workers, root, lambda item: forget(root / item.clip_id)
        )

    def _began(self, item: ClipItem) -> bool:
        return deaths(self.job.root / item.clip_id) > 0


def _report_passed_over(known: Mapping[str, Outcome | None]) -> None:
    """Say which clips are not tried because their work has ended a process."""
    names = [name for name, outcome in known.items() if outcome and outcome.reason == CRASH]
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        log.warning(
            "%d clips are passed over, whose work ended its process in an earlier run (%s);"
            " --preprocess.retry_crashed=True tries them again",
            len(names),
            shown,
        )


def worker_count(wanted: int | None, items: int) -> int:
    """Processes to use: as many as asked for, else one per core, but no second one that would get under four clips.

    One is still a process of its own: a crash in native code ends it, not the command.
    """
    if wanted is not None:
        return min(wanted, items)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, max(1, items // 4), items)


def cache_budget(workers: int) -> int:
    """Bytes of decoded frames that each of `workers` processes may keep."""
    return min(CACHE_BYTES, TOTAL_CACHE_BYTES // max(1, workers))


def ensure(
    config: Config,
    model_cls: Any,
    model_config: Any = None,
    force: bool = False,
    artefacts: Sequence[str] | None = None,
    merge: bool = False,
) -> Report:
    """Make sure that every clip of the data set has what a model needs.

    Args:
        config: the resolved configuration.
        model_cls: model class; its `artefacts_for` and `step_settings` say what is needed, and `trains_without` what is
            not asked of clips that have no video.
        model_config: the model's configuration; default `config.model`.
        force: make everything again.
        artefacts: make these alone (and what they need) and leave the others as they are, for example the faces that a
            model was trained on while its evaluation asks for other settings; default all of the model's.
        merge: make nothing: put together what the processes of all shards have made.

    Returns:
        The report; `need_preprocess: false`, or videos that are gone beside prepared clips, only read what is there.
        Clips converted from older code get what can be made without a video.

    Raises:
        DataError: the data are missing, or no clip is usable (a shard does not judge that); with `merge`: clips are not
            done yet.
        OutputError: the result cannot be written.
    """
    model_config = config.model if model_config is None else model_config
    settings = config.preprocess.model_copy(update={"force": force or config.preprocess.force})
    wanted = model_cls.artefacts_for(model_config) if artefacts is None else artefacts
    steps = plan_steps(wanted, model_cls.step_settings(model_config), settings)
    layout = make_layout(config)
    layout.check_lists(config)
    try:
        items = layout.find(config)
        if advice := conversion_advice(config.preprocessed_root):
            log.warning("%s; clips are prepared from the videos in %s instead", advice, config.data_root)
    except DataError as missing:
        if not prepared_ids(config.preprocessed_root):
            raise
        log.warning("working on the prepared clips in %s alone: %s", config.preprocessed_root, missing)
        items = None
    for step in steps:
        step.bind(config)

    runner = Preprocessor(
        steps,
        settings,
        config.preprocessed_root,
        config.fps,
        config.show_progress,
        [step.artefact for step in steps if among(step.artefact, model_cls.trains_without)],
        _on_gpu(steps, config.device),
    )
    work = runner.merge if merge else runner.run
    if items is not None and config.need_preprocess:
        report = work(in_shard(items, settings.shard))
    else:
        needed = [step.artefact for step in steps if not step.for_filters]
        needed = [name for name in needed if not among(name, model_cls.trains_without)]
        report = prepared_report(config, layout, needed)
    if items is None and config.need_preprocess:
        orphans = _converted(config, layout, report.outcomes)
        for outcome in work(in_shard(orphans, settings.shard)).outcomes.values():
            report.add(outcome)
    if not report.ok_ids and settings.shard is None:
        raise DataError(f"{config.data_root}: no clip can be used: {report.reasons()}")
    return report


def _on_gpu(steps: Sequence[Step], device: str) -> bool:
    """Whether there are steps that run a network where the device is, and where that would be."""
    if not any(map(_runs_on_device, steps)):
        return False
    from talkingface.devices import resolve_device  # here, since it brings torch, which other steps do without

    return resolve_device(device).type != "cpu"


def _runs_on_device(step: Step) -> bool:
    return step.runs_network and not step.on_cpu


def phases(steps: Sequence[Step], workers: int | None, on_gpu: bool) -> list[tuple[list[Step], int | None]]:
    """Steps and worker processes of the passes over the clips, one after the other; each pass repeats those before.

    On a GPU, steps that run a network there have the main process for themselves: every worker would hold a network of
    its own. What they need is made before, and what needs them afterwards, both by the workers.
    """
    if not (on_gpu and any(map(_runs_on_device, steps))):
        return [(list(steps), workers)]
    behind: set[str] = set()  # what needs a network step, directly or not
    for step in steps:  # each comes after what it needs
        needs = {other.artefact for other in steps if _runs_on_device(other)} | behind
        if not _runs_on_device(step) and needs & set(step.needs):
            behind.add(step.artefact)
    middle = [step for step in steps if step.artefact not in behind]
    first = [step for step in middle if not _runs_on_device(step)]
    return [(first, workers), (middle, 0), *([(list(steps), workers)] if behind else [])]


def prepared_report(config: Config, layout: Layout, artefacts: Sequence[str]) -> Report:
    """What is on disk already, without looking at the videos."""
    root = Path(config.preprocessed_root)
    try:
        ids = layout.known_ids(config)
    except DataError:
        ids = prepared_ids(root)
    clips = [ClipFolder(root / clip_id, clip_id=clip_id) for clip_id in ids]
    kept, dropped = usable_clips(clips, artefacts)
    reasons: Mapping[str, str] = dict(dropped)
    good = {clip.clip_id for clip in kept}
    report = Report()
    for clip in clips:
        status = OK if clip.clip_id in good else REJECTED if clip.status == REJECTED else FAILED
        report.add(Outcome(clip.clip_id, status, reasons.get(clip.clip_id, ""), frames=len(clip)))
    return report


def _converted(config: Config, layout: Layout, ids: Iterable[str]) -> list[ClipItem]:
    """Those of the clips that were converted from older code, with the place where their video is not."""
    clips = [ClipFolder(Path(config.preprocessed_root) / clip_id, clip_id=clip_id) for clip_id in ids]
    return [layout.item(Path(config.data_root), clip.clip_id) for clip in clips if clip.imported]
