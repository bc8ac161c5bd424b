"""The admission factory: how the settings become keys, limits and traces of calls."""

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from .admission import Admission
from .limits.usage import Ledger
from .limits.working_memory import WorkingMemory
from .observability.metrics import Metrics
from .security.access import Access, parse_keys
from .settings import Settings

if TYPE_CHECKING:
    from .observability.tracing import Tracing


def admission(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Admission:
    """Give the admission of the settings; `stack` closes its keys and traces.

    Raises InvalidInput for keys that cannot be read, and MissingExtra for traces without
    OpenTelemetry.
    """
    return Admission(
        _access(settings, stack),
        metrics,
        max_concurrent_requests=settings.max_concurrent_requests,
        working=WorkingMemory(settings.max_working_bytes),
        max_streams=settings.max_streams,
        max_untaken_bytes=settings.max_untaken_bytes,
        tracing=_traces(stack),
    )


def _access(settings: Settings, stack: AsyncExitStack) -> Access:
    """The keys of a server, and what they have used before, which all of its workers count in."""
    access = Access(
        parse_keys(settings.keys.get_secret_value()) if settings.keys else (),
        file=settings.keys_file,
        admin=settings.admin,
        ledger=Ledger(settings.data_dir / "usage"),
    )
    stack.callback(access.close)
    return access


def _traces(stack: AsyncExitStack) -> "Tracing | None":
    """OpenTelemetry, imported only where its own variable says where to send traces."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    from .observability.tracing import Tracing

    tracing = Tracing()
    stack.push_async_callback(asyncio.to_thread, tracing.close)
    return tracing
