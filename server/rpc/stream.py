"""Stream: many requests of one call, a few of them worked on at a time, answered in their order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from attar.errors import AttarError, Unavailable

from ..limits.fair_shares import ROOM, ResponseRoom, room

Request = TypeVar("Request")
Response = TypeVar("Response")


async def in_order(
    requests: AsyncIterator[Request],
    respond: Callable[[Request], Coroutine[Any, Any, Response]],
    *,
    at_once: int,
    draining: asyncio.Event,
) -> AsyncGenerator[Response, None]:
    """Answer each request, `at_once` of them at a time.

    Reading waits for room, which is the back-pressure, and stops when `draining` is set. An answer
    holds its bytes until the next one is requested, which is when it was taken. `respond` tells its
    own errors in its answer. Raises what reading raises, and Unavailable after the last
    answer of a stream that draining has cut short.
    """
    responses: asyncio.Queue[tuple[ResponseRoom, asyncio.Task[Response]] | None] = asyncio.Queue()
    slots = asyncio.Semaphore(at_once)
    rooms = room()
    held: set[ResponseRoom] = set()

    async def in_room(request: Request, own: ResponseRoom) -> Response:
        ROOM.set(own)  # this task's
        try:
            return await respond(request)
        finally:
            own.reserved.set()

    async def read() -> None:
        await slots.acquire()
        async for request in requests:
            held.add(own := rooms.next())
            responses.put_nowait((own, tasks.create_task(in_room(request, own))))
            # The first in line must not wait for the bytes that a later one holds.
            await own.reserved.wait()
            await slots.acquire()

    async def read_until_draining() -> None:
        reader = tasks.create_task(read())
        drain = tasks.create_task(draining.wait())
        await asyncio.wait((reader, drain), return_when=asyncio.FIRST_COMPLETED)
        reader.cancel()
        drain.cancel()
        responses.put_nowait(None)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_until_draining())
            while (head := await responses.get()) is not None:
                own, task = head
                del head
                yield await task
                del task  # with its answer, which was taken: the next may be long in coming
                own.leave()
                held.discard(own)
                slots.release()
    except BaseExceptionGroup as group:
        raise _end(group) from None
    finally:
        for own in held:
            own.leave()
    if draining.is_set():
        raise Unavailable(
            "the server is shutting down; what it had accepted of this stream is answered"
        )


def _end(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What has ended a stream: its caller left, or reading raised an error."""
    if group.subgroup(GeneratorExit) is not None:
        return GeneratorExit()
    errors = group.subgroup(AttarError)
    return group if errors is None else errors.exceptions[0]
