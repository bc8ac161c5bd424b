"""The fit queue: one fit at a time, in a thread, for as long as its caller stays."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from attar.errors import Cancelled

H = TypeVar("H")


class FitQueue:
    """The turns of a server's fits: the memory and the core that they take are those of one."""

    def __init__(self) -> None:
        """Fit nothing yet."""
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for those that came first, in their order; who leaves while waiting is out of it."""
        async with self._turn:
            yield

    async def run(self, fit: Callable[[Callable[[], None]], H]) -> H:
        """Give what `fit` returns; what it is given raises Cancelled once the caller has left.

        A fit whose caller leaves is awaited until then, so that the next one's turn comes after it.
        """
        left = threading.Event()

        def refuse_left() -> None:
            if left.is_set():
                raise Cancelled("the caller left")

        job = asyncio.ensure_future(asyncio.to_thread(fit, refuse_left))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            left.set()
            await asyncio.wait((job,))
            job.exception()
            raise
