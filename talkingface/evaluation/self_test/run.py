"""Checks that whoever wants to trust the metrics on their own machine and data can run.

Takes a few test clips of a data set, moves and swaps their sound, freezes and copies their pictures, and sees that
every metric answers as it must. Metrics whose weights are missing read n/a.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.clips.layouts import make_layout
from talkingface.demo.corpus import ensure_demo_corpus
from talkingface.devices import resolve_device
from talkingface.errors import ConfigError, DataError, TalkingFaceError, Unavailable
from talkingface.evaluation.folders import FileClip
from talkingface.evaluation.metric import MetricContext
from talkingface.evaluation.report.result import one_line
from talkingface.evaluation.self_test.bench import Bench, shortened
from talkingface.evaluation.self_test.checks import Check, all_checks
from talkingface.evaluation.tracking import TrackCache, Tracker
from talkingface.faces.detectors import Place
from talkingface.files import write_text
from talkingface.plugin.configuration import LoadedConfig

if TYPE_CHECKING:
    from talkingface.config.sections import Config

log = logging.getLogger("talkingface")

CLIPS = 4
LONGEST = 125
"""Frames of a clip that are looked at."""
OK, FAILED, NOT_HERE = "ok", "FAILED", "n/a"


@dataclass(frozen=True)
class Outcome:
    """What became of one check: `status` is ok, FAILED or n/a; `detail` says what was found, or why."""

    check: Check
    status: str
    detail: str
    seconds: float

    @property
    def not_here(self) -> bool:
        """Whether the check could not be run."""
        return self.status == NOT_HERE

    def line(self, detail: str | None = None) -> str:
        """One printed line, with other words for `detail` if given."""
        title = self.check.title + (" (machinery)" if self.check.machinery else "")
        return f"{self.status:<7}{self.check.metric:<8}{title:<52}{self.detail if detail is None else detail}"

    def to_json(self) -> dict[str, Any]:
        """One entry of `self_test.json`."""
        check = self.check
        known = {"metric": check.metric, "title": check.title, "machinery": check.machinery}
        return {**known, "status": self.status, "detail": self.detail, "seconds": round(self.seconds, 2)}


class SelfTest:
    """One self-test: what it works on, and what it has found so far.

    Args:
        dataset: name of the data set.
        bench: its clips, and the tools.
        checks: what is to be checked.
        started: when work began, by the monotonic clock; choosing the clips takes its time too.

    Attributes:
        dataset: as above.
        clips: names of the clips.
        device: where networks run.
        outcomes: of the checks that were run so far.
    """

    def __init__(self, dataset: str, bench: Bench, checks: Sequence[Check], started: float) -> None:
        self.dataset = dataset
        self.clips = [clip.clip_id for clip in bench.clips]
        self.device = bench.device
        self.outcomes: list[Outcome] = []
        self._bench = bench
        self._checks = checks
        self._started = started
        self._seconds = 0.0

    def run(self) -> Iterator[Outcome]:
        """Run the checks one after the other; each outcome is given when it is known."""
        for outcome in run_checks(self._bench, self._checks):
            self.outcomes.append(outcome)
            yield outcome
        self._seconds = time.monotonic() - self._started

    @property
    def counts(self) -> dict[str, int]:
        """How many checks are ok, FAILED and n/a."""
        found = Counter(outcome.status for outcome in self.outcomes)
        return {status: found[status] for status in (OK, FAILED, NOT_HERE)}

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return self.counts[FAILED] > 0

    def require_all(self) -> None:
        """See that every check could be run.

        Raises:
            DataError: one could not, with its reason.
        """
        for outcome in self.outcomes:
            if outcome.not_here:
                raise DataError(f"{outcome.check.metric} could not be checked: {outcome.detail}")

    def summary(self) -> str:
        """Counts and time in one line."""
        return ", ".join(f"{count} {status}" for status, count in self.counts.items()) + f" in {self._seconds:.0f} s"

    def write(self, file: Path) -> None:
        """Write `self_test.json`.

        Raises:
            OutputError: it cannot be written.
        """
        content = {
            "dataset": self.dataset,
            "clips": self.clips,
            "device": self.device,
            "seconds": round(self._seconds, 1),
            "counts": self.counts,
            "checks": [outcome.to_json() for outcome in self.outcomes],
        }
        write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def open_self_test(loaded: LoadedConfig) -> Iterator[SelfTest]:
    """A self-test on clips of the configuration's data set; its temporary files go when it is left.

    Raises:
        ConfigError: there is no check of the metrics that the user asked for.
        DataError: fewer than two clips can be used.
    """
    checks, started = _wanted(loaded), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="talkingface-") as folder:
        yield SelfTest(loaded.config.dataset, _bench(loaded.config, Path(folder)), checks, started)


def run_checks(bench: Bench, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Run checks one after the other; a fallback only where the check it stands for could not be run."""
    tried: set[tuple[str, str]] = set()
    for check in checks:
        if check.fallback and (check.title, check.metric) in tried:
            continue
        outcome = _run(check, bench)
        if not outcome.not_here:
            tried.add((check.title, check.metric))
        yield outcome


def _run(check: Check, bench: Bench) -> Outcome:
    started, level = time.monotonic(), log.level
    log.setLevel(logging.ERROR)  # random weights are announced as unpublished, which is the point
    try:
        status, detail = OK, check.run(bench)
    except Unavailable as error:
        status, detail = NOT_HERE, one_line(error)
    except Exception as error:  # whatever goes wrong is what the check was for
        status, detail = FAILED, one_line(error)
    finally:
        log.setLevel(level)
    return Outcome(check, status, detail, time.monotonic() - started)


def _wanted(loaded: LoadedConfig) -> list[Check]:
    """The checks of all metrics, or of those that the user asked for."""
    if not loaded.asked("metrics"):
        return all_checks()
    names = {name.upper() for name in loaded.config.metrics}
    found = [check for check in all_checks() if check.metric in names]
    if not found:
        raise ConfigError(f"--metrics={', '.join(sorted(names))}: the self-test has no check of these")
    return found


def _bench(config: Config, folder: Path) -> Bench:
    tracker = Tracker(config.preprocess.landmarks, place=Place(config.weights_dir, config.device))
    tracker.prepare()
    find = TrackCache(tracker, folder)
    clips = usable_clips(config, find, folder)
    device = str(resolve_device(config.device))
    context = MetricContext(config.saved_dir, config.dataset)
    settings = config.evaluation.model_copy(update={"lse_protocol": "clip"})  # tracks need longer clips than these
    return Bench(clips, settings, config.weights_dir, device, find, folder, context)


def usable_clips(config: Config, find: TrackCache, folder: Path) -> list[FileClip]:
    """Test clips that have a face and a sound; of long ones the beginning.

    Args:
        config: names the data set; the demo corpus is made if it is not there.
        find: finds landmarks.
        folder: where shortened clips go.

    Raises:
        DataError: fewer than two.
    """
    wanted = max(2, config.evaluation.max_clips or CLIPS)
    found: list[FileClip] = []
    reasons = []
    for index, clip in enumerate(_test_clips(config, find)):
        try:
            short = clip if len(clip) <= LONGEST else shortened(clip, folder / f"clip{index}.mp4", LONGEST)
            short.audio()
            short.track()
        except TalkingFaceError as error:
            reasons.append(one_line(error))
            continue
        found.append(short)
        if len(found) == wanted:
            break
    if len(found) < 2:
        why = f"; the first reason: {reasons[0]}" if reasons else ""
        raise DataError(f"the self-test needs two test clips with face and sound, here are {len(found)}{why}")
    return found


def _test_clips(config: Config, find: TrackCache) -> Iterator[FileClip]:
    if config.layout == "demo" and config.need_preprocess:
        ensure_demo_corpus(config)
    layout = make_layout(config)
    layout.find(config)  # says what is missing, and where to get it
    for clip_id in layout.split_ids(config, "test"):
        item = layout.item(Path(config.data_root), clip_id)
        yield FileClip(item.video, item, find)
