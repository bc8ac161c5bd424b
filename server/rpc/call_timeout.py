"""The timeout of a call: a gRPC call that waits for its caller too long is ended.

grpc.aio has no call for that. It answers each RPC in a task that another one began, which watches
for the caller's leaving; gRPC cancels the RPC once both have let go of it, and the server's own
loop has, which is when the next one has come.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

R = TypeVar("R")

_ANSWERING: Final = "_handle_exceptions"  # the coroutine in which grpc.aio calls a handler
_BEGUN_BY: Final[WeakKeyDictionary[asyncio.Task[Any], asyncio.Task[Any]]] = WeakKeyDictionary()


def note_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Note from now on which task began each one that answers an RPC."""
    loop.set_task_factory(_noting)


class Ending:
    """The end of the RPC that the current task answers, for when its caller keeps it waiting."""

    def __init__(self) -> None:
        """Let it go on for now."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an RPC is answered in a task")
        self._task: asyncio.Task[Any] | None = task
        self._timer: asyncio.TimerHandle | None = None
        task.add_done_callback(self._done)

    def expect(self, timeout_s: float) -> None:
        """End it after so long from now, and not before."""
        self.stop()
        if self._task is not None:
            self._timer = self._task.get_loop().call_later(timeout_s, self._end)

    def stop(self) -> None:
        """Let it go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def then(self, call: Callable[[], None]) -> None:
        """Call `call` when it has ended, which is when its answer was taken."""
        if self._task is not None:
            self._task.add_done_callback(lambda _task: call())

    def _end(self) -> None:
        if (task := self._task) is not None:
            task.cancel()
            if (beginner := _BEGUN_BY.get(task)) is not None:
                beginner.cancel()

    def _done(self, _task: "asyncio.Task[Any]") -> None:
        self.stop()
        self._task = None  # else the two keep each other, and the RPC, until cycles are looked for


def _noting(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, R] | Generator[Any, None, R],
    /,
    **options: Any,
) -> "asyncio.Task[R]":
    task = asyncio.Task(coroutine, loop=loop, **options)
    if getattr(coroutine, "__name__", "") == _ANSWERING:
        beginner = asyncio.current_task(loop)
        if beginner is not None:
            _BEGUN_BY[task] = beginner
    return task
