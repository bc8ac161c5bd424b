"""A stopwatch: seconds by stage, of the clock and of the processor."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Seconds by stage, in order.

    The processor's are those of this process and of the processes that it started and that ended;
    other work on the machine does not stretch them.
    """

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Announce a stage and time it."""
        self.console.rule(f"[bold]{title}")
        began, cpu_began = time.perf_counter(), _cpu_seconds()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 1)
        self.cpu_seconds[name] = round(_cpu_seconds() - cpu_began, 1)
        self.console.print(f"[dim]{self.seconds[name]:.0f} s")


def _cpu_seconds() -> float:
    return sum(os.times()[:4])
