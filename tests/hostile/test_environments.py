"""What an orchestrator sets configures nothing, and what nobody reads is refused."""

import os
import re
from pathlib import Path

import pytest

from attar.errors import InvalidInput
from attar.server.settings import read
from benchmarks.hostile.environments import CASES, NOT_TRAINED, TRAINED, Case, service
from benchmarks.support.servers import process

from ..support.commands import Attar, Ran


@pytest.fixture(autouse=True)
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("ATTAR_", "SLURM_")) or name.endswith("WORLD_SIZE"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_environment_gives_its_settings_or_is_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.variables.items():
        monkeypatch.setenv(name, value)

    if case.refused:
        with pytest.raises(InvalidInput) as refusal:
            read(["x.attar"])
        for words in case.refused:
            assert words in str(refusal.value)
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


def test_a_server_next_to_a_service_called_attar_starts_and_says_what_it_ignored(
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


def pretrain(attar_: Attar, out: Path) -> Ran:
    return attar_(
        *("pretrain", "image/vicreg", "--out", out, "--steps", 1),
        *("--set", "dim=8", "--set", "batch_size=8"),
    )


@pytest.mark.parametrize("name", TRAINED)
def test_one_process_trains_alone_whatever_started_it(
    name: str, attar_: Attar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in TRAINED[name].items():
        monkeypatch.setenv(variable, value)

    ran = pretrain(attar_, tmp_path / "out")

    assert ran.status == 0, ran.err


@pytest.mark.parametrize("name", NOT_TRAINED)
def test_processes_that_torchrun_did_not_start_are_refused(
    name: str, attar_: Attar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, words = NOT_TRAINED[name]
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)

    ran = pretrain(attar_, tmp_path / "out")

    assert (ran.status, ran.err.count("\n")) == (2, 1)
    for word in words:
        assert word in ran.err


UNWRITABLE = {
    "a file as the data folder": (["--data-dir", "FOLDER/file"], "data_dir .*file is no folder"),
    "a data folder in a file": (["--data-dir", "FOLDER/file/x"], "data_dir .*file is no folder"),
    "a ready file in no folder": (["--ready-file", "FOLDER/none/port"], "ready_file .*none/port"),
    "a folder as the ready file": (["--ready-file", "FOLDER"], "ready_file .* is a folder"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_a_server_cannot_write_is_refused_before_a_bundle_is_read(
    name: str, attar_: Attar, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    options, words = UNWRITABLE[name]
    given = [option.replace("FOLDER", str(tmp_path)) for option in options]

    ran = attar_("serve", tmp_path / "no.attar", "--port", 0, "--data-dir", tmp_path / "d", *given)

    assert ran.status == 2
    assert re.search(f"^attar: .*{words}", ran.err.splitlines()[-1])


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-5"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ],
)
def test_a_variable_of_opentelemetry_that_is_none_is_one_line(
    variable: str,
    value: str,
    attar_: Attar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, value)

    ran = attar_("serve", tmp_path / "no.attar", "--port", 0, "--data-dir", tmp_path)

    assert ran.status == 2
    assert ran.err.splitlines()[-1].startswith("attar: ")
    assert "OTEL_" in ran.err.splitlines()[-1]
