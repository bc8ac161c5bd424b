"""Admission: every call of every protocol is let in, or refused, and counted here.

A call is named by a request id, admitted or refused, and reported to metrics and log at its end,
under the gRPC status that its exception maps to. The edges of gRPC and HTTP only translate:

    with answering(admission.open(rpc, headers)) as call:
        try:
            with admission.admitted(call, scope=scope, headers=headers, peer=peer) as room:
                ...
        except Exception as error:
            ...  # report it, in the protocol's format
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from attar.errors import AttarError, Unavailable

from .errors import code_of, field_of, reason_of
from .limits.fair_shares import ROOM, FairShares, ResponseRoom
from .limits.stream_slots import StreamSlots
from .limits.working_memory import WorkingMemory
from .observability import logs
from .observability.metrics import Metrics
from .request_context import RequestContext, request_id
from .security.access import Access, KeyMeter, Scope, bearer

if TYPE_CHECKING:
    from .observability.tracing import Tracing  # OpenTelemetry, which only some servers have

log = logging.getLogger("attar.server")

REQUEST_ID: Final = "x-request-id"
FORWARDED: Final = frozenset(("forwarded", "x-forwarded-for", "x-real-ip"))
"""What a proxy adds: who calls is then not who is connected."""
QUIET_S: Final = 0.1  # longer than a call is on its way
LINGER_S: Final = 2.0
TELL_EVERY_S: Final = 1.0


class Admission:
    """Admission, and the report of each call, for one server."""

    def __init__(
        self,
        access: Access,
        metrics: Metrics,
        *,
        max_concurrent_requests: int,
        max_streams: int,
        max_untaken_bytes: int,
        working: WorkingMemory | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        """Admit so many calls and streams at a time, until `drain`, and hold so many bytes.

        Their requests are made into what `working` has room for.
        """
        self._access = access
        self._metrics = metrics
        self._tracing = tracing
        self._calls = FairShares(
            "max_concurrent_requests", max_concurrent_requests, what="calls in flight"
        )
        self._streams = StreamSlots("max_streams", max_streams, what="streams open")
        self._untaken = FairShares(
            "max_untaken_bytes", max_untaken_bytes, what="bytes of answers not taken yet"
        )
        metrics.hold(streams=self._streams, untaken=self._untaken)
        self._working = working
        self.in_flight = 0
        self.ended = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._last = 0.0  # loop time at which a call came last
        self._crowded = Counter[str]()  # reasons of refused calls that are not logged yet
        self._logged_at = -TELL_EVERY_S  # loop time
        self.draining = asyncio.Event()

    def drain(self) -> None:
        """Refuse every new call from now on; those that were admitted go on."""
        self.draining.set()

    async def quiet(self, timeout_s: float) -> float:
        """Wait until the calls that were admitted have ended and no new one comes to be refused.

        A transport that closes sooner drops the calls that are on their way to it without a word.
        Gives what is left of `timeout_s`; callers who go on all the same get `LINGER_S` of it.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(ends):
                await self._empty.wait()
        lingers = min(ends, loop.time() + LINGER_S)
        # It waits until nothing runs, for which there is no event.
        while (left := min(lingers, self._last + QUIET_S) - loop.time()) > 0:  # noqa: ASYNC110 (no event)
            await asyncio.sleep(left)
        return max(0.0, ends - loop.time())

    def open(self, rpc: str, headers: Mapping[str, str]) -> RequestContext:
        """Name a call that has come in; `rpc` is one of few names, those of `headers` lower case.

        Its id is the caller's `x-request-id` where that is plain.
        """
        return RequestContext(rpc=rpc, request_id=request_id(headers.get(REQUEST_ID)))

    def room(self, caller: str) -> ResponseRoom:
        """Room for one answer to a caller; who takes it gives it back when the answer is taken."""
        return ResponseRoom(self._untaken, caller)

    @contextlib.contextmanager
    def passing(self, size: int, caller: str) -> Iterator[None]:
        """Hold a message of `size` bytes that another process admits; raises as Working.take."""
        if self._working is None:
            yield
            return
        self._working.take(size, caller)
        try:
            yield
        finally:
            self._working.give(size, caller)

    @contextlib.contextmanager
    def admitted(
        self,
        call: RequestContext,
        *,
        scope: Scope | None,
        headers: Mapping[str, str],
        peer: str,
        stream: bool = False,
    ) -> Iterator[ResponseRoom]:
        """Admit a call or raise what refuses it, and count its end under its status.

        `scope` is what its key needs; None is a probe's, which needs none and is always admitted.
        A caller is a key, and where there is none a `peer`. Gives the room of the answer, which is
        given back here only where there will be none.
        """
        outcome, reason, field = "OK", "", ""
        self._last = asyncio.get_running_loop().time()
        self._metrics.started()
        traced = self._tracing.begin(call, headers) if self._tracing is not None else None
        shares = self._streams if stream else self._calls
        try:
            with contextlib.ExitStack() as stack:
                caller = peer
                if scope is not None:
                    caller = self._admit(
                        call, scope, headers, peer=peer, shares=shares, stack=stack
                    )
                with self._counted(), self._room(call, caller) as room:
                    yield room
        except asyncio.CancelledError:
            outcome = reason = "CANCELLED"
            raise
        except Exception as error:
            outcome, reason = code_of(error).name, reason_of(error)
            field = field_of(error, call.fields)
            raise
        finally:
            seconds = time.perf_counter() - call.began
            self._metrics.ended(call.rpc, outcome, seconds)
            logs.ended(call, outcome, reason, seconds, field=field)
            if outcome == logs.CROWDED:
                self._tell(reason)
            if traced is not None:
                traced(outcome)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a call among those in flight."""
        self.in_flight += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.ended += 1
            if not self.in_flight:
                self._empty.set()

    @contextlib.contextmanager
    def _room(self, call: RequestContext, caller: str) -> Iterator[ResponseRoom]:
        """Room for a call's answer, which it leaves where it ends with none."""
        call.working, call.caller = self._working, caller
        room = self.room(caller)
        token = ROOM.set(room)
        try:
            yield room
        except BaseException:
            room.leave()
            raise
        finally:
            call.let_go(call.held)
            ROOM.reset(token)

    def _tell(self, reason: str) -> None:
        """Log calls that were refused for lack of room, once a second at most."""
        self._crowded[reason] += 1
        now = asyncio.get_running_loop().time()
        if now >= self._logged_at + TELL_EVERY_S:
            counts = ", ".join(f"{count} {why}" for why, count in self._crowded.items())
            log.warning("calls refused since the last line like this: %s", counts)
            self._crowded.clear()
            self._logged_at = now

    def _admit(
        self,
        call: RequestContext,
        scope: Scope,
        headers: Mapping[str, str],
        *,
        peer: str,
        shares: FairShares,
        stack: contextlib.ExitStack,
    ) -> str:
        """Let a call in until `stack` closes, or raise what refuses it; gives who the caller is."""
        caller = peer
        if not FORWARDED.isdisjoint(headers):
            peer = ""
        try:
            if self.draining.is_set():
                raise Unavailable("the server is shutting down; ask another, or retry later")
            if shares.full:  # before a key is looked at: a call that is refused costs least
                raise shares.refusal(caller)
            key = self._access.check(bearer(headers.get("authorization")), scope, peer=peer)
            if not self._access.open:
                caller = f"key {key.name}"
            call.heard = stack.enter_context(shares.held(caller))
        except AttarError as refusal:
            self._metrics.rejected(refusal.reason)
            raise
        if not self._access.open:
            call.key = key.name
            call.meter = KeyMeter(self._access, key.name)
        return caller
