"""Stream: many requests of one call, a few of them worked on at a time, answered in their order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from attar.errors import AttarError, Unavailable

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def in_order(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Coroutine[Any, Any, Answer]],
    *,
    at_once: int,
    draining: asyncio.Event,
) -> AsyncGenerator[Answer, None]:
    """Answer each request, `at_once` of them at a time.

    Reading waits for room, which is the back-pressure, and stops when `draining` is set. `answer`
    tells its own errors in its answer. Raises what reading raises, and Unavailable after the last
    answer of a stream that draining has cut short.
    """
    answers: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    room = asyncio.Semaphore(at_once)

    async def read() -> None:
        await room.acquire()
        async for request in requests:
            answers.put_nowait(tasks.create_task(answer(request)))
            await room.acquire()

    async def read_until_draining() -> None:
        reader = tasks.create_task(read())
        drain = tasks.create_task(draining.wait())
        await asyncio.wait((reader, drain), return_when=asyncio.FIRST_COMPLETED)
        reader.cancel()
        drain.cancel()
        answers.put_nowait(None)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_until_draining())
            while (task := await answers.get()) is not None:
                yield await task
                room.release()
    except* AttarError as group:  # only reading can raise one
        raise group.exceptions[0] from None
    if draining.is_set():
        raise Unavailable(
            "the server is shutting down; what it had accepted of this stream is answered"
        )
