"""`evaluate --self_test`: checks that whoever wants to trust the metrics on their own machine and data can run.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.config_loading import LoadedConfig, load_settings
from talkingface.data.output import atomic_output
from talkingface.errors import ConfigError, DataError, TalkingFaceError
from talkingface.evaluator.base import MetricContext, Unavailable
from talkingface.evaluator.folders import FileClip, output_folder
from talkingface.evaluator.report import one_line
from talkingface.evaluator.self_test_bench import Bench, shortened
from talkingface.evaluator.self_test_checks import Check, all_checks
from talkingface.evaluator.tracking import TrackCache, Tracker

if TYPE_CHECKING:
    from talkingface.arguments import Arguments
    from talkingface.config import Config

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

    def line(self) -> str:
        """One printed line."""
        title = self.check.title + (" (machinery)" if self.check.machinery else "")
        return f"{self.status:<7}{self.check.metric:<8}{title:<52}{self.detail}"

    def to_json(self) -> dict[str, Any]:
        """One entry of `self_test.json`."""
        check = self.check
        known = {"metric": check.metric, "title": check.title, "machinery": check.machinery}
        return {**known, "status": self.status, "detail": self.detail, "seconds": round(self.seconds, 2)}


def run_self_test(dataset: str | None, output: str, arguments: Arguments) -> int:
    """Run all checks on a few clips, print a line for each, and write `self_test.json`.

    Args:
        dataset: name of a data set; None: the demo, which is made if it is not there.
        output: folder to write to.
        arguments: the command line, for configuration keys and further files.

    Returns:
        0, or 1 if a check failed.

    Raises:
        ConfigError: an unknown key, or an option that makes no sense here.
        DataError: fewer than two clips can be used; with `evaluation.strict`, no check failed but one could not run.
        OutputError: `output` cannot be written.
    """
    from talkingface.arguments import split_files
    from talkingface.runner import limit_threads

    for option in ("model", "checkpoint"):
        if arguments[option]:
            raise ConfigError(f"--{option} does not go with --self_test, which checks the metrics and no model")
    loaded = load_settings(split_files(arguments["config_files"]), arguments.overrides, dataset or "demo")
    if arguments["print_config"]:
        print(loaded.to_yaml(with_origins=True))
        return 0
    limit_threads(loaded.config.threads)
    folder = output_folder(output)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="talkingface-") as temporary:
        bench = _bench(loaded.config, Path(temporary))
        print(f"self-test on {len(bench.clips)} clips of {loaded.config.dataset}, networks on {bench.device}")
        outcomes = list(run_checks(bench, _wanted(loaded)))
    seconds = time.monotonic() - started
    counts = Counter(outcome.status for outcome in outcomes)
    content = {
        "dataset": loaded.config.dataset,
        "clips": [clip.clip_id for clip in bench.clips],
        "device": bench.device,
        "seconds": round(seconds, 1),
        "counts": {status: counts[status] for status in (OK, FAILED, NOT_HERE)},
        "checks": [outcome.to_json() for outcome in outcomes],
    }
    with atomic_output(folder / "self_test.json") as file:
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    summary = ", ".join(f"{counts[status]} {status}" for status in (OK, FAILED, NOT_HERE))
    print(f"{summary} in {seconds:.0f} s; details in {folder / 'self_test.json'}")
    if counts[FAILED]:
        return 1
    if loaded.config.evaluation.strict and counts[NOT_HERE]:
        first = next(outcome for outcome in outcomes if outcome.status == NOT_HERE)
        raise DataError(f"{first.check.metric} could not be checked: {first.detail}")
    return 0


def run_checks(bench: Bench, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Run checks one after the other; each line is printed when it is known."""
    told: set[str] = set()
    tried: set[tuple[str, str]] = set()
    for check in checks:
        if check.fallback and (check.title, check.metric) in tried:
            continue
        outcome = _run(check, bench)
        if outcome.status != NOT_HERE:
            tried.add((check.title, check.metric))
        known = outcome.status == NOT_HERE and outcome.detail in told
        told.add(outcome.detail)
        print((replace(outcome, detail="as above") if known else outcome).line(), flush=True)
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
    from talkingface.devices import resolve_device

    tracker = Tracker(config.preprocess.landmarks)
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
    from talkingface.data.layouts import make_layout
    from talkingface.runner import ensure_demo_corpus

    if config.layout == "demo" and config.need_preprocess:
        ensure_demo_corpus(config)
    layout = make_layout(config)
    layout.find(config)  # says what is missing, and where to get it
    for clip_id in layout.split_ids(config, "test"):
        item = layout.item(Path(config.data_root), clip_id)
        yield FileClip(item.video, item, find)
