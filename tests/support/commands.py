"""The command as a person at a terminal meets it: what it printed and the status it left with."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the command."""

    status: int
    out: str
    err: str


Attar = Callable[..., Ran]
"""The fixture `attar_` of conftest.py: `attar_("inspect", path)` runs `attar inspect PATH`."""
