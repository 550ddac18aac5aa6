"""Prometheus metrics of the server, in a separate registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from polytask.serving.batcher import MicroBatch

# Reasons why a request, or a connection without one, got no response.
Cause: TypeAlias = Literal["client gone", "too late", "queue full", "connection too slow", "too many connections"]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Requests, texts and micro-batches.

    Args:
        queued: returns the number of waiting texts.
    """

    def __init__(self, queued: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "polytask_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "polytask_request_seconds", "Duration of a request.", ["route"], registry=self._registry, buckets=_SECONDS
        )
        self._batch_texts = Histogram(
            "polytask_batch_texts", "Number of texts in a micro-batch.", registry=self._registry, buckets=_SIZES
        )
        self._batch_requests = Histogram(
            "polytask_batch_requests", "Number of requests in a micro-batch.", registry=self._registry, buckets=_SIZES
        )
        self._batch_seconds = Histogram(
            "polytask_batch_seconds", "Duration of a micro-batch.", registry=self._registry, buckets=_SECONDS
        )
        self._texts = Counter("polytask_texts", "Predicted texts.", registry=self._registry)
        self._truncated = Counter(
            "polytask_truncated_texts", "Texts that were longer than the model reads.", registry=self._registry
        )
        self._dropped = Counter(
            "polytask_dropped_requests", "Requests without a response, by cause.", ["cause"], registry=self._registry
        )
        for cause in get_args(Cause):
            self._dropped.labels(cause)
        Gauge("polytask_queued_texts", "Waiting texts.", registry=self._registry).set_function(queued)

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
        """Count predicted texts."""
        self._texts.inc(texts)
        self._truncated.inc(truncated)

    def dropped(self, cause: str) -> None:
        """Count a request or connection without a response, by cause."""
        self._dropped.labels(cause).inc()

    def exposed(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)
