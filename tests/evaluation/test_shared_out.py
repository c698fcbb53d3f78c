"""Several processes share the clips of an evaluation: the report is that of one which scores all of them."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from helpers.toy_evaluation import ToyPipeline, setup
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.metric import Metric
from talkingface.evaluation.metrics.csim import CSIM, AllPairs
from talkingface.evaluation.metrics.fid import FID
from talkingface.evaluation.metrics.frechet import FrechetSums
from talkingface.team import Team

METRICS = ("SSIM", "PSNR", "MOUTH", "JITTER")
ROWS = ("generated", "real", "still", "shuffled")


class Meeting:
    """Where threads that stand for processes exchange values, which travel as bytes."""

    def __init__(self, size: int) -> None:
        self.values: list[bytes] = [b""] * size
        self.barrier = threading.Barrier(size, timeout=120)

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = pickle.dumps(value)
        self.barrier.wait()
        values = [pickle.loads(part) for part in self.values]
        self.barrier.wait()
        return values


@dataclass(frozen=True)
class Side(Team):
    meeting: Meeting | None = None

    def gather(self, value: Any) -> list[Any]:
        return self.meeting.gather(self.rank, value)


def run(clips, out, team: Team) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    pipeline = ToyPipeline(fail=("ann/two",))
    evaluator = Evaluator(pipeline, setup(METRICS, rows=ROWS, html=False, samples=0))
    evaluator.team = team
    return evaluator.run(clips, out).content, pipeline.asked


def test_two_processes_write_the_report_of_one_and_each_makes_a_share(clips, tmp_path):
    alone, asked = run(clips, tmp_path / "one", Team())
    meeting = Meeting(2)
    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(run, clips, tmp_path / "two", Side(rank, 2, meeting)) for rank in range(2)]
        (first, made), (second, others) = (side.result() for side in sides)
    assert sorted([*made, *others]) == sorted(asked) and made and others
    for content in (alone, first):
        del content["date"]
    assert first == alone and second["rows"] == alone["rows"]
    assert alone["rows"]["generated"]["clips"] == 2 and len(alone["skipped"]) == 1
    written = json.loads((tmp_path / "two/metrics.json").read_text())
    assert written["details"] == json.loads((tmp_path / "one/metrics.json").read_text())["details"]


def test_sums_over_all_pictures_are_added_up():
    features = torch.rand(24, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).chunk(4)

    def seen(*clips: int) -> FID:
        metric = FID()
        metric._network, metric._sums, metric._images = object(), FrechetSums(4), {}
        for clip in clips:
            metric._sums.update(features[clip], real=True)
            metric._sums.update(features[clip].square(), real=False)
            metric._clips.append(({}, {}))
            metric._names.append(str(clip))
            metric._only_real, metric._row = False, "generated"
        return metric

    whole, halves = seen(0, 1, 2, 3), [seen(0, 2), seen(1, 3)]
    order = {str(clip): clip for clip in range(4)}
    parts = [half.part() for half in halves]
    for half in halves:
        half.join(parts, order)
        assert half.compute()["fid"] == pytest.approx(whole.compute()["fid"], rel=1e-9)
        assert half.scored() == {"fid": 4} and half._images["generated"] == {"generated": 24, "real": 24}


def test_pairs_of_faces_and_how_they_were_cut_are_added_up():
    metric, other = CSIM(), CSIM()
    faces = torch.rand(8, 16, generator=torch.Generator().manual_seed(1))
    whole = AllPairs()
    for part, rows in ((metric, faces[:3]), (other, faces[3:])):
        part._network = object()
        part.prepare()
        part._cut_at["aligned"] += 1
        part._pairs = AllPairs()
        part._pairs.add(rows, rows.flip(1))
        whole.add(rows, rows.flip(1))
    metric.join([metric.part(), other.part()], {})
    assert metric._pairs.mean() == pytest.approx(whole.mean()) and metric._cut_at == {"aligned": 2}
    metric.reset()
    metric.join([metric.part(), metric.part()], {})
    assert metric._cut_at == {"aligned": 2}, "those of earlier rows are known to all"


def test_a_metric_that_sums_up_by_itself_and_does_not_say_what_is_not_shared_out():
    class Own(Metric):
        def score(self, sample):
            return {}

        def compute(self):
            return {"own": 1.0}

    assert not Own.shareable() and FID.shareable() and CSIM.shareable()
