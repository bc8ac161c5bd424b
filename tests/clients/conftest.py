"""The fixtures of every client's tests, and the counts, which go to the file ATTAR_COUNTS names."""

import json
import os
from collections.abc import Generator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from .calls import TEXTS, Client, Counts

COUNTS: dict[str, Counts] = {}


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """Give the client of the test's module, which names its package as PACKAGE."""
    return Client(COUNTS[request.module.PACKAGE])


@pytest.fixture
def texts() -> list[str]:
    """Give texts that the tiny bundle embeds, each by its own tokens."""
    return list(TEXTS)


def package_of(item: pytest.Item) -> str | None:
    """Give the package that a test is about; one of the page is about all."""
    module = item.getparent(pytest.Module)
    assert module is not None
    return getattr(module.obj, "PACKAGE", None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Begin a row for the client of a test."""
    if package := package_of(item):
        COUNTS.setdefault(package, Counts(version=version(package)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Count a test that failed, in whichever phase."""
    report: Any = yield
    if report.failed and (package := package_of(item)):
        COUNTS[package].failures += 1
    return report


def pytest_sessionfinish() -> None:
    """Write the counts."""
    counts = {package: asdict(counts) for package, counts in sorted(COUNTS.items())}
    Path(os.environ["ATTAR_COUNTS"]).write_text(json.dumps(counts), "utf-8")
