"""What the server counts for Prometheus, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from polytask.serving.batcher import MicroBatch

# Why a request, or a connection without one, was not answered.
Cause: TypeAlias = Literal["client gone", "too late", "queue full", "connection too slow", "too many connections"]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Requests, texts and micro-batches.

    Args:
        queued: returns how many texts wait.
    """

    def __init__(self, queued: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "polytask_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "polytask_request_seconds", "Time of a request.", ["route"], registry=self._registry, buckets=_SECONDS
        )
        self._batch_texts = Histogram(
            "polytask_batch_texts", "Texts of a micro-batch.", registry=self._registry, buckets=_SIZES
        )
        self._batch_requests = Histogram(
            "polytask_batch_requests", "Requests of a micro-batch.", registry=self._registry, buckets=_SIZES
        )
        self._batch_seconds = Histogram(
            "polytask_batch_seconds", "Time of a micro-batch.", registry=self._registry, buckets=_SECONDS
        )
        self._texts = Counter("polytask_texts", "Texts answered.", registry=self._registry)
        self._truncated = Counter(
            "polytask_truncated_texts", "Texts that were longer than the model reads.", registry=self._registry
        )
        self._dropped = Counter(
            "polytask_dropped_requests", "Requests without an answer, by cause.", ["cause"], registry=self._registry
        )
        for cause in get_args(Cause):
            self._dropped.labels(cause)
        Gauge("polytask_queued_texts", "Texts that wait.", registry=self._registry).set_function(queued)

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def ran(self, ran: MicroBatch) -> None:
        """Count a micro-batch."""
        self._batch_texts.observe(ran.texts)
        self._batch_requests.observe(ran.requests)
        self._batch_seconds.observe(ran.seconds)

    def answered(self, texts: int, truncated: int) -> None:
        """Count texts that were answered."""
        self._texts.inc(texts)
        self._truncated.inc(truncated)

    def dropped(self, cause: str) -> None:
        """Count a request, or a connection, that was not answered, by one of the causes."""
        self._dropped.labels(cause).inc()

    def exposed(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)
