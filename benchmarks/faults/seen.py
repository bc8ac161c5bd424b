"""Seen: what one fault did to the requests around it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How many requests were sent, and what became of them; what was refused as it should is rest.

    `answered` counts right answers: `attar.load`'s numbers, or the one code that a bad request
    has. `wrong` counts other numbers, other codes and INTERNAL. `lost` counts what was accepted and
    never answered, and what was acknowledged and is gone.
    """

    requests: int
    answered: int
    wrong: int
    lost: int
    note: str


class NotRun(Exception):
    """What the fault needs is not here; the message says what."""
