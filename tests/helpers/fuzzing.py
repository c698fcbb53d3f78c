"""Running the cases of `fuzz_subjects`, and seeing what is left of each.

    python -m helpers.fuzzing SUBJECT SAMPLE PLACE SEED ...   (in tests/)

runs cases of a subject whose readers are native code, in a process that may die; see `tests/fuzz/test_fuzz.py`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.fuzz_subjects import SUBJECTS, Subject
from talkingface.errors import TalkingFaceError

MOST_MEMORY = 512 * 2**20  # bytes by which one case may raise the peak of its process
SLOWER = 50  # times the intact sample, which takes at least `LEAST_SECONDS`
LEAST_SECONDS = 0.05


@dataclass
class Case:
    """One damaged sample: what went wrong with it, empty if nothing did."""

    subject: str
    seed: int
    wrong: str = ""

    def __str__(self) -> str:
        again = f"pytest -n 0 tests/fuzz --cases=1 --fuzz-seed={self.seed} -k {self.subject}"
        return f"{self.subject}, seed {self.seed}: {self.wrong}\n    again: {again}"


def run_case(subject: Subject, sample: Path, place: Path, seed: int, seconds: float) -> Case:
    """Damage a copy of the sample in `place`, use it, and see what is left."""
    case, folder = Case(subject.name, seed), place / "case"
    shutil.copytree(sample, folder)
    subject.damage(folder, np.random.default_rng(seed))
    peak, started = _peak(), time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.use(folder)
    except TalkingFaceError as error:
        if not str(error).strip():
            case.wrong = "an error without a word"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        case.wrong = f"{type(error).__name__}: {str(error)[:300]} ({where.filename}:{where.lineno})"
    spent, grown = time.process_time() - started, _peak() - peak
    if not case.wrong and spent > SLOWER * max(seconds, LEAST_SECONDS):
        case.wrong = f"takes {spent:.1f} s, {spent / seconds:.0f} times as long as the intact sample"
    if not case.wrong and grown > MOST_MEMORY:
        case.wrong = f"takes {grown / 2**20:.0f} MiB"
    shutil.rmtree(folder)
    if not case.wrong and (left := [path.name for path in place.iterdir()]):
        case.wrong = f"leaves {', '.join(left)} outside its folder"
    return case


def intact_seconds(subject: Subject, sample: Path, place: Path) -> float:
    """CPU time of using the intact sample, the second time: the first imports what it needs."""
    for _ in range(2):
        shutil.copytree(sample, place / "case")
        started = time.process_time()
        subject.use(place / "case")
        seconds = time.process_time() - started
        shutil.rmtree(place / "case")
    return seconds


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: Sequence[str]) -> None:
    """Run cases, one line each: the seed before it begins, then what was wrong."""
    subject, sample, place = SUBJECTS[arguments[0]], Path(arguments[1]), Path(arguments[2])
    seconds = intact_seconds(subject, sample, place)
    for seed in map(int, arguments[3:]):
        print(f"begin {seed}", flush=True)
        if str(seed) == os.environ.get("TALKINGFACE_FUZZ_DIES_AT"):  # to see that it would be noticed
            os.abort()
        case = run_case(subject, sample, place, seed, seconds)
        print(f"end {seed} {json.dumps(case.wrong)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
