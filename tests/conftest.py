"""What many tests need: one tiny bundle, made once, and the command."""

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import onnxruntime
import pytest
from hypothesis import HealthCheck, settings

from attar.cli import console
from attar.cli.main import main
from benchmarks.support.bundles import tiny_bundle

from .support import session_cache
from .support.commands import Attar, Ran

collect_ignore = ["clients"]  # in an environment of their own: `make clients`

MANY: Final = 60  # tests of a file, which take a while together
LONG: Final = frozenset({"attacks", "cli", "export", "training", "test_evaluator_parity.py"})
"""Folders and a file whose tests train, export or start servers: seconds each."""

# A law holds on a busy machine too, so time does not judge it.
settings.register_profile(
    "attar", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("attar")


class OneThread(onnxruntime.SessionOptions):  # type: ignore[misc]  # untyped
    """Options of a session that computes with one thread, unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_op_num_threads = 1


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the selection leaves out."""
    out = {
        "claims": "`make claims` trains the recipes to the end",
        "slow": "`make slow` runs the tests that take more than ten seconds",
    }
    chosen = config.getoption("markexpr")
    return [
        f"without the marker {mark}: {command}"
        for mark, command in out.items()
        if f"not {mark}" in chosen
    ]


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Let a process of pytest-xdist tell how many tests it leaves out."""
    config = items[0].config
    if hasattr(config, "workeroutput"):
        count = config.workeroutput.get("left_out", 0) + len(items)
        config.workeroutput["left_out"] = count


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Let the closing line have that number, which is the same of each process."""
    count = getattr(node, "workeroutput", {}).get("left_out", 0)
    reporter = node.config.pluginmanager.get_plugin("terminalreporter")
    reporter.stats["deselected"] = [SimpleNamespace()] * count


def pytest_collection() -> None:
    """Collect no garbage while the tests are: nearly all that is imported lives to the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Take what was imported out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first: pytest-xdist gives whole files, so the last should be short.

    First come those of `LONG`, then those with many tests. Within each part the order stays random.
    """
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (_part(item.path) not in LONG, tests[item.path] < MANY))


def _part(path: Path) -> str:
    """Give the folder of the tests that a file is in, or the file itself."""
    here = Path(__file__).parent
    return path.relative_to(here).parts[0] if path.is_relative_to(here) else ""


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the processes of the session share what is slow to make."""
    session_cache.begin(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def _known_trials(_session_cache: None) -> Iterator[None]:
    """Let the servers of these processes try equal bundles once, where any test imports them."""
    factory = sys.modules.get("attar.server.model_factory")
    if factory is None:
        yield
        return
    from .support import trials  # it imports the server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "Prover", trials.prover)
        yield


@pytest.fixture(scope="session", autouse=True)
def _measured_here() -> Iterator[None]:
    """Let exports start no process to measure a variant, where any test imports what starts it."""
    measure = sys.modules.get("attar.export.measure")
    if measure is None:
        yield
        return
    from .support import measures  # it imports torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "in_a_process", measures.here)
        patch.setattr(measure, "LATENCY_SECONDS", measures.SECONDS)
        yield


@pytest.fixture(scope="session", autouse=True)
def _traced_once(_session_cache: None) -> Iterator[None]:
    """Trace a structure of modules once, where any test imports what exports them."""
    if "attar.export.graph" not in sys.modules:
        yield
        return
    import torch.onnx
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from .support import traced

    with pytest.MonkeyPatch.context() as patch:
        # It reads the source of hundreds of functions for each trace.
        patch.setattr(
            ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib))
        )
        patch.setattr(torch.onnx, "export", traced.export)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Let ONNX Runtime compute with one thread, which OMP_NUM_THREADS does not tell it.

    More would wait for work in a loop, on cores that the other processes of the tests need.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "SessionOptions", OneThread)
        yield


@pytest.fixture(scope="session", autouse=True)
def _callbacks_known() -> Iterator[None]:
    """Look once which packages bring callbacks: Fabric reads all their metadata for each run."""
    registry = sys.modules.get("lightning_fabric.utilities.registry")
    if registry is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", cache(registry.entry_points))
        yield


@pytest.fixture
def in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports measure a variant in a new process, as they do outside the tests."""
    from attar.export import measure

    from .support import measures

    monkeypatch.setattr(measure, "in_a_process", measures.IN_A_PROCESS)


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a text bundle folder to read; a test that changes it makes its own."""
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.attar")


@pytest.fixture
def attar_(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Attar:
    """Give the command as a function of its arguments."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["attar", *map(str, arguments)])
        # A narrow terminal would cut what tests look for; where the console is there already, it
        # has its width.
        monkeypatch.setenv("COLUMNS", "250")
        monkeypatch.setattr(console.console, "width", 250)
        status: object = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
        out, err = capfd.readouterr()
        assert isinstance(status, int)
        return Ran(status, out, err)

    return run
