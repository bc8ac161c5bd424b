"""What a test session makes once, for every process that pytest-xdist gave a part of it."""

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Value = TypeVar("Value")

_folder: list[Path] = []


def begin(factory: pytest.TempPathFactory) -> None:
    """Keep the values in the folder that all processes of the session have in common."""
    base = factory.getbasetemp()
    _folder[:] = [base.parent if "PYTEST_XDIST_WORKER" in os.environ else base]


def folder() -> Path:
    """Give that folder."""
    return _folder[0]


def once(name: str, make: Callable[[], Value]) -> Value:
    """Give the value of that name: made by the first process that needs it, read by the others.

    The name says everything that the value depends on.
    """
    path = folder() / f"{name}.pickle"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            value: Value = pickle.loads(path.read_bytes())  # noqa: S301  # this session wrote it
            return value
        value = make()
        path.write_bytes(pickle.dumps(value))
    return value
