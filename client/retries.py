"""Failed calls: their typed errors, and when they are sent again."""

import random
import time
from typing import Any, Final

import grpc
from google.rpc.status_pb2 import Status

from attar.errors import (
    AttarError,
    DeadlineExceeded,
    InvalidInput,
    NotSupported,
    Overloaded,
    Unavailable,
)
from attar.target import Target

from .call import Call, error_from, retry_after
from .connection import REQUEST_ID, Metadata

ATTEMPTS: Final = 4
"""How often a call is sent that finds no server."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
"""Before its jitter of up to a half; a longer pause that the server names is waited for."""
_DOUBLINGS: Final = 10  # beyond them the pause is the longest
# How gRPC, in C, Go and Node, and in Java, says that a message is beyond a limit: no wait helps.
_TOO_LARGE: Final = ("larger than max", "exceeds maximum size")


class Attempts:
    """How long one call may take, and when it is sent again."""

    def __init__(self, call: Call[Any]) -> None:
        self._repeatable = call.repeatable
        self._ends = time.monotonic() + call.deadline_s
        self._failed = 0
        self._unreached = 0  # of those, the failures that are no refusal of a busy server

    @property
    def left_s(self) -> float:
        """Seconds until its deadline."""
        return self._ends - time.monotonic()

    def pause(self, error: AttarError, delay: float | None) -> float | None:
        """Seconds to wait after a failure, at least the server's `delay`; None to give up.

        They grow, since refused callers send everything again, and have jitter, so that callers
        spread: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
        """
        self._failed += 1
        self._unreached += not isinstance(error, Overloaded)
        if delay is None or not self._repeatable or self._unreached >= ATTEMPTS:
            return None
        left = self.left_s
        grown = min(FIRST_PAUSE_S * 2.0 ** min(self._failed - 1, _DOUBLINGS), LONGEST_PAUSE_S)
        spread: float = random.uniform(1, 1.5)
        # What is left is halved, and not slept through: the server may be free before its end.
        pause: float = max(delay, min(max(delay, grown) * spread, left / 2))
        # An attempt that the deadline cuts off would hide why the server refuses.
        return pause if left - pause >= FIRST_PAUSE_S else None


def explain(
    failure: Any, target: Target, metadata: Metadata, *, hint: str = ""
) -> tuple[AttarError, float | None]:
    """Give the typed error of a failed call, and the seconds to its next attempt, if any.

    gRPC's own error is not kept as its cause: it says nothing more, in 25 lines.
    """
    error, delay, reached = _typed(failure, target)
    if hint and isinstance(error, DeadlineExceeded):
        error = DeadlineExceeded(f"{error}, {hint}")
    if reached:
        error.add_note(f"request id {dict(metadata)[REQUEST_ID]}, as in the server's log")
    return error, delay


def _typed(failure: Any, target: Target) -> tuple[AttarError, float | None, bool]:
    """Give the error, seconds to the next attempt, and whether a server may have seen the call."""
    code, text = failure.code(), failure.details() or ""
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            return error_from(status), retry_after(status), True
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(target.explain(text)), FIRST_PAUSE_S, False
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"no answer from {target} within the deadline; give a longer deadline_s"
            return DeadlineExceeded(message), None, True
        case grpc.StatusCode.RESOURCE_EXHAUSTED if any(phrase in text for phrase in _TOO_LARGE):
            message = (
                f"{text}; send fewer items in a call (info().limits tells what {target} takes)"
            )
            return InvalidInput(message), None, True
        case grpc.StatusCode.RESOURCE_EXHAUSTED:  # gRPC's own refusal, or a proxy's
            return Overloaded(f"{target} is busy: {text}; retry later"), FIRST_PAUSE_S, True
        case grpc.StatusCode.CANCELLED:
            # Not by this client, whose own cancelling raises another exception.
            message = f"{target} went away before it answered; ask again, or another"
            return Unavailable(message), FIRST_PAUSE_S, True
        case grpc.StatusCode.UNIMPLEMENTED:
            message = f"{target} has no such call ({text}); is it attar, and not an older one?"
            return NotSupported(message), None, True
        case _:
            return AttarError(f"{target} answered {code.name}: {text}"), None, True
