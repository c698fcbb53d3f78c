"""Figures for Prometheus: what was asked, what was made, how long it took, what waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from talkingface.serving.broom import stored_bytes

if TYPE_CHECKING:
    from talkingface.serving.job import Job
    from talkingface.serving.service import Service

_SECONDS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800)


class Metrics:
    """The figures of one server.

    Args:
        service: whose.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._jobs = Counter("talkingface_jobs", "Jobs that ended", ["model", "state"], registry=self._registry)
        self._frames = Counter("talkingface_frames", "Frames that were made", ["model"], registry=self._registry)
        self._seconds = Histogram(
            "talkingface_job_seconds", "Work on a video", ["model"], buckets=_SECONDS, registry=self._registry
        )
        self._requests = Counter("talkingface_requests", "Answers by status code", ["code"], registry=self._registry)
        self._registry.register(self)
        service.listeners.append(self._ended)

    def answered(self, code: int) -> None:
        """Count an answer."""
        self._requests.labels(str(code)).inc()

    def text(self) -> bytes:
        """All figures as Prometheus reads them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Figures that are looked up when they are asked for."""
        counts = self._service.store.counts()
        for state in ("queued", "running"):
            name = f"talkingface_jobs_{state}"
            yield GaugeMetricFamily(name, f"Jobs that are {state}", value=counts.get(state, 0))
        stored = stored_bytes(self._service.folder.results.iterdir())
        yield GaugeMetricFamily("talkingface_results_bytes", "Room that stored videos take", value=stored)
        restarts = sum(child.restarts for child in self._service.workers)
        yield GaugeMetricFamily("talkingface_worker_restarts", "Worker processes started anew", value=restarts)

    def _ended(self, job: Job, state: str, seconds: float) -> None:
        self._jobs.labels(job.model, state).inc()
        if state == "done":
            self._frames.labels(job.model).inc(job.frames)
            self._seconds.labels(job.model).observe(seconds)
