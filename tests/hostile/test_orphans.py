"""What has lost its model is reported in the log, in the index and by its own calls."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attar import Client
from benchmarks.hostile.orphans import CASES, USES, Case, keep
from benchmarks.support.repositories import write
from benchmarks.support.servers import serving, settings


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path / "models" / "tiny.attar")
    return tmp_path / "models"


@pytest.fixture
def client(repository: Path, tmp_path: Path) -> Iterator[Client]:
    chosen = settings(model_repository=repository, data_dir=tmp_path / "data", watch_s=0.02)
    with serving(chosen) as target, Client(target) as client:
        keep(client)
        yield client


def until(holds: Callable[[], Any]) -> None:
    ends = time.monotonic() + 60  # a model loads in a child process, next to other tests
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def index(client: Client) -> list[tuple[str, str, str, str]]:
    return [(one.name, one.version, one.state, one.reason) for one in client.models()]


def missed(client: Client) -> list[str]:
    """The lines of the index for what is not served in a space that something needs."""
    return [reason for _, _, state, reason in index(client) if "not served in the space" in reason]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_model_that_goes_is_missed_by_name_and_one_that_stays_serves(
    case: Case, client: Client, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = index(client)
    uses = {name: use(client) for name, use in USES.items()}
    caplog.set_level(logging.WARNING, "attar.server")

    case.change(repository, client)
    until(lambda: index(client) != before)

    if case.error is None:
        assert missed(client) == []
        for name, use in USES.items():
            assert str(use(client)) == str(uses[name])
        return
    until(lambda: missed(client))
    (reason,) = missed(client)
    for name, use in USES.items():
        assert name in reason
        with pytest.raises(case.error) as refusal:
            use(client)
        for text in (name, *case.refusal):
            assert text in str(refusal.value)
    until(lambda: sum("without its model" in line for line in caplog.messages) == len(USES))


def test_a_model_that_comes_back_is_missed_no_more(
    client: Client, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "attar.server")
    write(repository / "tiny.attar", version="2", seed=1)
    until(lambda: missed(client))
    until(lambda: any("without its model" in line for line in caplog.messages))

    write(repository / "tiny.attar", version="3")
    until(lambda: not missed(client))

    assert [hit.score for hit in client.search("docs", ["the cat"], limit=1)[0]]
    until(lambda: any("collection docs has its model again" in line for line in caplog.messages))


def test_what_was_deleted_misses_nothing(client: Client, repository: Path) -> None:
    write(repository / "tiny.attar", name="other", seed=1)
    until(lambda: missed(client))

    client.delete_collection("docs")
    client.delete_detector("normal")
    assert missed(client)[0].endswith("needed by classifier topics")
    client.delete_classifier("topics")

    assert missed(client) == []


def test_a_server_that_starts_without_a_model_of_what_it_keeps_says_so(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen: dict[str, Any] = {"data_dir": tmp_path / "data", "watch_s": 0}
    with serving(settings(repository / "tiny.attar", **chosen)) as target, Client(target) as client:
        keep(client)
    other = write(tmp_path / "other.attar", name="other", seed=1)

    with serving(settings(other, **chosen)) as target, Client(target) as client:
        assert "collection docs, detector normal, classifier topics" in missed(client)[0]
        until(lambda: sum("without its model" in line for line in caplog.messages) == len(USES))
