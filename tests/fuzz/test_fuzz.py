"""Files damaged at random: every one is used, or refused in one line; none takes a crash, much memory, or for ever.

pytest -n 0 tests/fuzz --cases=5000                                    more of them
pytest -n 0 tests/fuzz --cases=1 --fuzz-seed=SEED -k SUBJECT           one again
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import ROOT, TESTS
from helpers.fuzz_subjects import SUBJECTS, Subject
from helpers.fuzzing import Case, intact_seconds, run_case
from talkingface.errors import DataError

BATCH = 100  # cases of one process, where native code may end it


@pytest.mark.parametrize("name", SUBJECTS)
def test_damaged_files_are_used_or_refused_in_one_line(request, tmp_path, monkeypatch, name):
    first, cases = request.config.getoption("--fuzz-seed"), request.config.getoption("--cases")
    count = max(1, -(-cases // len(SUBJECTS))) if cases > 1 else 1
    subject, sample, place = SUBJECTS[name], tmp_path / "sample", tmp_path / "place"
    sample.mkdir(), place.mkdir()
    subject.make(sample)
    monkeypatch.chdir(place)  # what is written beside the caller is found, too
    run = in_processes if subject.native else here
    wrong = [case for case in run(subject, sample, place, range(first, first + count)) if case.wrong]
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert not list(place.iterdir())


def here(subject: Subject, sample: Path, place: Path, seeds: range) -> list[Case]:
    seconds = intact_seconds(subject, sample, place)
    return [run_case(subject, sample, place, seed, seconds) for seed in seeds]


def in_processes(subject: Subject, sample: Path, place: Path, seeds: range) -> list[Case]:
    """The same in processes that may die; the next one goes on behind the case that ended the last."""
    cases: list[Case] = []
    left = list(seeds)
    while left:
        command = [sys.executable, "-m", "helpers.fuzzing", subject.name, str(sample), str(place)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)]), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, *map(str, left[:BATCH])], env=env, capture_output=True, text=True, cwd=sample)
        ended = [line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith("end ")]
        cases += [Case(subject.name, int(seed), json.loads(wrong)) for _, seed, wrong in ended]
        assert ended or done.returncode, done.stderr
        begun = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("begin ")]
        assert begun, done.stderr
        if done.returncode:
            cases.append(Case(subject.name, begun[-1], f"the process died ({done.returncode}): {done.stderr[-300:]}"))
            shutil.rmtree(place)
            place.mkdir()
        left = left[left.index(begun[-1]) + 1 :]
    return cases


class Bad(Subject):
    """A reader that does all that a reader must not do, one thing for each seed."""

    name = "bad"

    def make(self, folder: Path) -> None:
        (folder / "a.txt").write_text("0")

    def damage(self, folder: Path, rng) -> None:
        self.fault = next(self.faults)

    def use(self, folder: Path) -> None:
        getattr(self, "fault", lambda _: None)(folder)


def spend(_: Path) -> None:
    begun = time.process_time()
    while time.process_time() - begun < 0.2:
        pass


FAULTS = {
    "KeyError": lambda _: {}["x"],
    "SystemExit": lambda _: sys.exit(3),
    "outside its folder": lambda folder: (folder.parent / "left").write_text("x"),
    "times as long": spend,
    "MiB": lambda _: bytearray(2**21),
    "without a word": lambda _: raise_(DataError("")),
    "": lambda _: raise_(DataError("refused")),
}


def raise_(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("said", FAULTS)
def test_the_harness_finds_every_kind_of_fault(tmp_path, monkeypatch, said):
    bad, sample, place = Bad(), tmp_path / "sample", tmp_path / "place"
    sample.mkdir(), place.mkdir()
    bad.make(sample)
    bad.faults = iter([FAULTS[said]])
    monkeypatch.setattr("helpers.fuzzing.SLOWER", 2)
    peaks = iter([0, 2**31 if said == "MiB" else 0])
    monkeypatch.setattr("helpers.fuzzing._peak", lambda: next(peaks))
    case = run_case(bad, sample, place, 7, 0.01)
    assert said in case.wrong and bool(case.wrong) == bool(said)
    if said:
        assert "--fuzz-seed=7 -k bad" in str(case)


def test_a_case_that_ends_its_process_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TALKINGFACE_FUZZ_DIES_AT", "1")
    sample, place = tmp_path / "sample", tmp_path / "place"
    sample.mkdir(), place.mkdir()
    SUBJECTS["list"].make(sample)
    cases = in_processes(SUBJECTS["list"], sample, place, range(3))
    assert [(case.seed, case.wrong[:16]) for case in cases] == [(0, ""), (1, "the process died"), (2, "")]
    assert not list(place.iterdir())
