"""What an orchestrator sets configures nothing, and what nobody reads is refused."""

import os
from pathlib import Path

import pytest

from attar.errors import InvalidInput
from attar.server.settings import read

from ..servers import process
from .environments import CASES, Case, service


@pytest.fixture(autouse=True)
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("ATTAR_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_environment_gives_its_settings_or_is_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.given.items():
        monkeypatch.setenv(name, value)

    if case.refused:
        with pytest.raises(InvalidInput) as told:
            read(["x.attar"])
        for words in case.refused:
            assert words in str(told.value)
    else:
        found = read(["x.attar"])
        assert {name: getattr(found, name) for name in case.settings} == case.settings


def test_an_empty_flag_and_an_empty_key_are_refused_as_an_empty_variable_is(tmp_path: Path) -> None:
    file = tmp_path / "attar.toml"
    file.write_text('keys_file = ""\n', "utf-8")

    for arguments, name in (
        (["x.attar", "--keys-file", ""], "--keys-file"),
        (["x.attar", "--keys-file="], "--keys-file"),
        ([""], "BUNDLE"),
        (["x.attar", "--config", str(file)], "keys_file"),
    ):
        with pytest.raises(InvalidInput, match=f"^{name} is empty; give it a value"):
            read(arguments)


def test_a_settings_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "attar.toml"
    file.write_text("port = 9000\n", "utf-8-sig")

    assert read(["x.attar", "--config", str(file)]).port == 9000


def test_a_server_beside_a_service_called_attar_starts_and_says_what_it_passed_over(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service("attar", 50051).items():
        monkeypatch.setenv(name, value)
    options = ("--port=0", "--metrics-port=off", "--threads=1", f"--data-dir={tmp_path}")

    with process(str(bundle_path), *options, ready_file=tmp_path / "ready") as (server, _):
        server.terminate()
        _, log = server.communicate()

    assert server.returncode == 0
    assert "ATTAR_PORT, ATTAR_PORT_50051_TCP" in log
    assert "from a service called attar, and no settings; enableServiceLinks: false" in log
