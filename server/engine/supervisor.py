"""The supervisor of a run thread: a run that hangs is given up, and a new thread starts."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from attar.errors import BackendError

from .run_thread import Lost, RunThread

T = TypeVar("T")
R = TypeVar("R")

# A thread that hangs keeps its session. A few may; then only a new process helps.
_MAX_HANGING: Final = 4


class Supervisor(Generic[T, R]):
    """One thread that calls `run` with a list of items, for a row each.

    A run that takes longer than `run_timeout_s` is given up with its thread; `renew` then runs in
    the new one, before anything else does, and makes `run` usable again.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R]],
        renew: Callable[[], None],
        *,
        run_timeout_s: float | None,
    ) -> None:
        """Have a thread that is not started yet."""
        self._run = run
        self._renew = renew
        self._run_timeout_s = run_timeout_s
        self._thread = RunThread("attar-run")
        self._hanging: list[RunThread] = []

    def start(self) -> None:
        """Take a new thread; raises RuntimeError where too many hang already."""
        self._thread = RunThread("attar-run")
        self._refuse_to_hang_more()

    def close(self) -> None:
        """Let the thread end after its run."""
        self._thread.close()

    async def attempt(self, items: list[T]) -> list[R] | BaseException:
        """Give the rows of a run, or what it raised; raises `Lost` where it takes too long."""
        return await self._thread.run(lambda: self._rows(items), timeout_s=self._run_timeout_s)

    def give_up(self) -> None:
        """Leave the thread to its run; raises RuntimeError where too many hang already."""
        self._thread.close()  # so its thread ends, should its run ever do
        self._hanging.append(self._thread)
        self._refuse_to_hang_more()

    async def renewed(self) -> BaseException | None:
        """Start a thread and make `run` usable in it; give what went wrong, if anything did."""

        def renew() -> BaseException | None:
            try:
                self._renew()
            except BaseException as error:
                return error
            return None

        self._thread = RunThread("attar-run")
        try:
            error = await self._thread.run(renew, timeout_s=self._run_timeout_s)
        except Lost as lost:
            error = lost
        if error is not None:
            self._thread.close()
        return error

    def _rows(self, items: list[T]) -> list[R] | BaseException:
        """Run one batch, in the thread, which what it raises must not end: that is a result."""
        try:
            rows = list(self._run(items))
        except BaseException as error:
            return error
        if len(rows) != len(items):
            return BackendError(
                f"a run gave {len(rows)} rows for {len(items)} items; this is a bug in attar"
            )
        return rows

    def _refuse_to_hang_more(self) -> None:
        self._hanging = [thread for thread in self._hanging if thread.alive]
        if len(self._hanging) > _MAX_HANGING:
            raise RuntimeError(f"{len(self._hanging)} runs hang; this process needs a restart")
