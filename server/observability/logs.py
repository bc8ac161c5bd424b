"""Logs: one line a record, as text or as JSON, and what callers send in none of them.

An exception's message may quote a payload, so of an exception only its type and its frames are
written, by any logger.
"""

import asyncio
import json
import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal

from ..request_context import RequestContext

Format = Literal["text", "json"]
log = logging.getLogger("attar.server")
calls = logging.getLogger("attar.server.calls")
CROWDED: Final = "RESOURCE_EXHAUSTED"
_FIELDS: Final = "attar_fields"
# What moves a cursor, turns the direction of writing or breaks a line.
_CONTROL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def configure(kind: Format, level: str) -> None:
    """Send every record to standard error in this format; `level` is for attar's own loggers."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if kind == "json" else Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("attar").setLevel(level.upper())


def ended(
    call: RequestContext, outcome: str, reason: str, seconds: float, *, field: str = ""
) -> None:
    """Write how a call ended, and the request field that was at fault, never its value.

    At debug when it went well, for one line costs what a call does; and when it was refused for
    want of room, for then there is least time: admission logs those together.
    """
    level = logging.DEBUG if outcome in ("OK", CROWDED) else logging.INFO
    if not calls.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "rpc": call.rpc,
        "outcome": outcome,
        "reason": reason,
        "field": field,
        "key": call.key,
        "items": call.items,
        "tokens": call.tokens,
        "seconds": round(seconds, 6),
        **{f"{name}_s": round(spent, 6) for name, spent in call.seconds.items()},
    }
    fields = {name: value for name, value in fields.items() if value != ""}
    calls.log(level, "call", extra={_FIELDS: fields})


def plain(text: str) -> str:
    """The text with its control characters escaped, so that it stays on its line."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def lineage(error: BaseException) -> str:
    """The types of an exception and of what caused it, without their messages."""
    names = []
    cause: BaseException | None = error
    while cause is not None:
        names.append(type(cause).__qualname__)
        cause = cause.__cause__ or cause.__context__
    return " from ".join(names)


def wordless(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """A loop's exception handler that quotes no exception, as asyncio's own does."""
    error = context.get("exception")
    message = str(context.get("message", "an unhandled event")).partition("\n")[0]
    log.error("%s", message, exc_info=error, extra={_FIELDS: {"loop": type(loop).__name__}})


class Text(logging.Formatter):
    """Time, level, message, and `name=value` for a call's fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The whole of it: further lines are indented, so that none looks like another record."""
        return "\n    ".join(map(plain, super().format(record).split("\n")))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The line before any frames."""
        fields = getattr(record, _FIELDS, {})
        return " ".join([super().formatMessage(record), *(f"{k}={v}" for k, v in fields.items())])

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's name)
        """Types and frames, without words."""
        return _frames(ei)


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and a call's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": "\n".join(map(plain, record.getMessage().split("\n"))),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _frames(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _frames(
    raised: tuple[type[BaseException] | None, BaseException | None, TracebackType | None],
) -> str:
    _, error, trace = raised
    frames = "".join(traceback.format_tb(trace))
    return f"{lineage(error) if error else ''}\n{frames}".rstrip()
