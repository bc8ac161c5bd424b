"""Statistics: what a model has done since it was loaded, counted as KServe and Triton count it."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def plus(self, seconds: float) -> "Total":
        """One more, that took so long."""
        return Total(count=self.count + 1, ns=self.ns + round(seconds * 1e9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A model's work so far: calls in the first five totals, then items and runs.

    A call counts as a success when it was answered, even if one of its items failed; its queue and
    infer times are those of `Embedded`.
    """

    success: Total = Total()
    fail: Total = Total()
    queue: Total = Total()
    tokenize: Total = Total()
    infer: Total = Total()
    inference_count: int = 0  # items that a run took
    execution_count: int = 0  # runs
    last_inference_ms: int = 0  # Unix time of the last run's end; 0: none yet
    batches: Mapping[int, Total] = field(default_factory=dict)  # runs by their number of items


class Tally:
    """A model's statistics as they grow; any thread may add to them and read them."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self._success = self._fail = self._queue = self._tokenize = self._infer = Total()
        self._items = self._runs = self._last_ms = 0
        self._batches: dict[int, Total] = {}

    def succeeded(
        self, seconds: float, *, queue_s: float, tokenize_s: float, infer_s: float
    ) -> None:
        """One call was answered, `seconds` after it came."""
        with self._lock:
            self._success = self._success.plus(seconds)
            self._queue = self._queue.plus(queue_s)
            self._tokenize = self._tokenize.plus(tokenize_s)
            self._infer = self._infer.plus(infer_s)

    def failed(self, seconds: float) -> None:
        """One call failed as a whole, or its caller left."""
        with self._lock:
            self._fail = self._fail.plus(seconds)

    def ran(self, items: int, seconds: float) -> None:
        """One run gave its rows."""
        with self._lock:
            self._runs += 1
            self._items += items
            self._last_ms = time.time_ns() // 1_000_000
            self._batches[items] = self._batches.get(items, Total()).plus(seconds)

    def read(self) -> Statistics:
        """What was counted until now, as one moment saw it."""
        with self._lock:
            return Statistics(
                success=self._success,
                fail=self._fail,
                queue=self._queue,
                tokenize=self._tokenize,
                infer=self._infer,
                inference_count=self._items,
                execution_count=self._runs,
                last_inference_ms=self._last_ms,
                batches=MappingProxyType(dict(self._batches)),
            )
