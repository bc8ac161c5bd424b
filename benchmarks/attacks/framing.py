"""Attacks on HTTP's framing: requests that a proxy and the server may divide differently."""

from pathlib import Path
from typing import Final

from ..hostile.http import HEADERS, TARGETS, closes, send
from .ground import Attack, Outcome, attacked


def ambiguous_requests(folder: Path) -> Outcome:
    """Send two lengths, a length next to chunks, long heads and odd targets, each on a connection.

    One after which nothing can be trusted must be closed.
    """
    with attacked(folder, "--max-message-bytes", 65536) as server:
        address = ("127.0.0.1", server.server.http_port)
        cases = [case for case in (*TARGETS, *HEADERS) if not case.headers]
        wrong = [case.name for case in cases if send(address, case.request).status != case.status]
        last = [case for case in cases if case.closes]
        wrong += [f"{case.name} stays open" for case in last if not closes(address, case.request)]
        note = f"{len(cases)} requests, {len(last)} of which end their connection; wrong: {wrong}"
        return server.outcome(held=not wrong, note=note)


ATTACKS: Final = (Attack("requests that a proxy may divide differently", ambiguous_requests),)
