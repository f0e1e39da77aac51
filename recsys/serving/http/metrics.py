"""Counters of the HTTP service in the text format of Prometheus. No label holds an id."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """What one process has answered since it started."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "recsys_http_requests",
            "requests by route, method and status",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "recsys_http_request_seconds",
            "time from the head of a request to the end of its answer",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._items = Counter(
            "recsys_http_items", "items in lists, by the source that they come from", ("source",),
            registry=self._registry,
        )  # fmt: skip
        self._received = Counter(
            "recsys_http_received",
            "events and impressions received, by outcome",
            ("kind", "outcome"),
            registry=self._registry,
        )
        self._encoded = Counter(
            "recsys_http_requests_in_words",
            "requests in words, by whether their vectors were in memory (hit) or were computed (miss)",
            ("cache",),
            registry=self._registry,
        )
        self._cache = {"hit": 0, "miss": 0}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. The route is its template, such as `/items/{item}/similar`."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def listed(self, sources: list[str]) -> None:
        """Count the items of a list."""
        for source in sources:
            self._items.labels(source).inc()

    def took(self, kind: str, counts: Mapping[str, int]) -> None:
        """Count events or impressions by outcome."""
        for outcome, count in counts.items():
            self._received.labels(kind, outcome).inc(count)

    def encoded(self, hits: int, misses: int) -> None:
        """Count requests in words; both numbers are totals of the process."""
        for name, total in (("hit", hits), ("miss", misses)):
            self._encoded.labels(name).inc(total - self._cache[name])
            self._cache[name] = total

    def text(self) -> bytes:
        """Return all counters."""
        return generate_latest(self._registry)
