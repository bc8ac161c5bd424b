"""Nothing leaves the machine: no command and no program of attar's writes home or calls anybody."""

import re
from pathlib import Path

import pytest

from attar.cli.app import app
from benchmarks.hostile.network import CASES, Case, program, training, watched


@pytest.mark.timeout(600)  # torch is imported anew
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=[pytest.mark.slow] * (case.make is training))
        for case in CASES
    ],
)
def test_it_leaves_an_empty_home_empty_and_goes_to_no_host(case: Case, tmp_path: Path) -> None:
    seen = watched(case, tmp_path)

    assert seen.status == 0, seen.output
    assert (seen.files, seen.hosts) == ((), ())


def test_every_command_has_a_row() -> None:
    words = {word for case in CASES for word in re.findall(r"[a-z-]+", case.name)}
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]

    assert commands <= words


def test_onnx_runtimes_reports_can_be_switched_on(tmp_path: Path) -> None:
    """The same watch sees them, so it would see them above, too."""
    case = next(case for case in CASES if case.name == "attar.load")

    seen = watched(case, tmp_path, ORT_DISABLE_TELEMETRY="0")

    assert seen.status == 0
    assert any("onnxruntime" in name for name in seen.files)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.getaddrinfo('attar.invalid', 80)",
        "import socket; socket.socket().connect_ex(('192.0.2.1', 9))",
        "import urllib.request as r; r.urlopen('http://attar.invalid/', timeout=5)",
        "import os; os.fork() or __import__('socket').gethostbyname('attar.invalid')",
    ],
    ids=["a look-up", "a connection", "a request by the proxy", "a child's look-up"],
)
def test_the_watch_sees(code: str, tmp_path: Path) -> None:
    seen = watched(Case("a visitor", lambda _: program(code)), tmp_path)

    assert seen.hosts
