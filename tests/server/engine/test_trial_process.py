"""A trial in another process: what it says, of which bytes, and what its end means."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import attar
from attar.bundle import Bundle
from attar.errors import BundleRefused, InvalidInput, NotSupported, Unavailable
from attar.server.engine.bundle_repository import BundleLocation, Proven, Repository, look
from attar.server.engine.models import Models
from attar.server.engine.trial_process import Prover
from attar.server.settings import Settings
from benchmarks.attacks.bundles import ABORTS, ENDLESS, ENORMOUS, PANICS, Put
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.repositories import write

from ...support.models import Watch, make, until
from ...support.repositories import lines

MEMORY_BYTES: Final = Settings.model_fields["load_memory_bytes"].default
PROVER = Prover(timeout_s=60.0, memory_bytes=MEMORY_BYTES, choices={"threads": 1})


class Panic(BaseException):
    """What a library of Rust raises: no Exception."""


def repository(
    folder: Path,
    prove: Callable[[BundleLocation, str | None], Any],
    failed: Callable[[], None] = lambda: None,
    *,
    watch_s: float = 0.0,
) -> Models:
    def open_(path: Path, variant: str | None, /, *, content: str | None) -> Any:
        bundle = Bundle.open(path, content=content)
        return make(attar.load(bundle, variant=variant, threads=1), watch=Watch())

    return Models(
        repository=Repository(
            open=open_, prove=prove, failed=failed, folder=folder, watch_s=watch_s
        )
    )


async def trusted(location: BundleLocation, variant: str | None) -> Proven:
    return Proven(content=Bundle.open(location.path).content, variant=variant)


async def test_a_trial_says_what_was_tried(bundle_path: Path, tmp_path: Path) -> None:
    archive = Bundle.pack(bundle_path, tmp_path / "tiny.zip").path
    for path in (bundle_path, archive):
        proven = await PROVER(look(path), None)
        assert proven == Proven(content=Bundle.open(path).content, variant="fp32")
        assert proven.content == look(path).content


@pytest.mark.parametrize(
    ("put", "prover", "message"),
    [
        (PANICS, PROVER, "the tokenizer panics at the text 'a text'"),
        (ABORTS, PROVER, "its map of characters has 6 bytes"),
        (
            ENDLESS,
            Prover(timeout_s=3.0, memory_bytes=MEMORY_BYTES),
            "was not opened and tried within load_timeout_s, 3 s",
        ),
        (ENORMOUS, Prover(timeout_s=60.0, memory_bytes=2**29), "failed on a batch of 1"),
        (tiny_bundle, Prover(timeout_s=60.0, memory_bytes=2**20), "load_memory_bytes"),
    ],
    ids=["a panic", "a cut map", "no end", "all memory", "no memory"],
)
async def test_whatever_ends_a_trial_is_a_refusal_in_words(
    put: Put, prover: Prover, message: str, tmp_path: Path
) -> None:
    put(tmp_path / "bad.attar")
    with pytest.raises(attar.AttarError) as refused:
        await prover(look(tmp_path / "bad.attar"), None)
    assert message in str(refused.value)
    assert not isinstance(refused.value, Unavailable)


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (signal.SIGABRT, BundleRefused, "ended the process that tried it, by SIGABRT"),
        (signal.SIGSEGV, BundleRefused, "ended the process that tried it, by SIGSEGV"),
        (signal.SIGKILL, Unavailable, "was killed; is memory short? It is tried again"),
    ],
)
async def test_a_trial_that_dies_is_a_refusal_and_one_that_is_killed_is_not(
    number: signal.Signals, kind: type[attar.AttarError], message: str, tmp_path: Path
) -> None:
    ENDLESS(tmp_path / "bad.attar")
    trial = asyncio.create_task(PROVER(look(tmp_path / "bad.attar"), None))
    before = psutil.Process().children()
    await until(lambda: len(psutil.Process().children()) > len(before))
    (child,) = set(psutil.Process().children()) - set(before)
    child.send_signal(number)
    with pytest.raises(kind, match=message.replace("?", r"\?")):
        await trial


async def test_a_variant_that_there_is_not_is_refused_by_a_trial(bundle_path: Path) -> None:
    with pytest.raises(attar.NotFound, match="no variant 'int2'"):
        await PROVER(look(bundle_path), "int2")


async def test_what_runs_elsewhere_is_tried_with_the_reference(bundle_path: Path) -> None:
    elsewhere = Prover(
        timeout_s=60.0, memory_bytes=MEMORY_BYTES, choices={"provider": "tensorrt"}, runs=False
    )
    proven = await elsewhere(look(bundle_path), "another")
    assert proven == Proven(content=Bundle.open(bundle_path).content, variant="another")
    with pytest.raises(NotSupported, match="TensorrtExecutionProvider"):
        await Prover(timeout_s=60.0, memory_bytes=MEMORY_BYTES, choices={"provider": "tensorrt"})(
            look(bundle_path), None
        )


async def test_several_servers_try_a_bundle_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    shared = Prover(
        timeout_s=60.0, memory_bytes=MEMORY_BYTES, choices={"threads": 1}, ledger=ledger
    )
    tiny_bundle(tmp_path / "good.attar")
    PANICS(tmp_path / "bad.attar")
    places = [look(tmp_path / name) for name in ("good.attar", "bad.attar")]

    both = await asyncio.gather(
        *(shared(location, None) for location in places * 2), return_exceptions=True
    )
    for name in ("good.attar", "bad.attar"):
        shutil.rmtree(tmp_path / name)  # a second trial would not find it
    again = await asyncio.gather(
        *(shared(location, None) for location in places), return_exceptions=True
    )

    good, bad = again
    assert both[0] == both[2] == good == Proven(content=places[0].content, variant="fp32")
    assert isinstance(bad, BundleRefused)
    assert str(both[1]) == str(both[3]) == str(bad)


async def test_a_bundle_that_is_changed_after_its_trial_is_not_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")

    async def prove(location: BundleLocation, variant: str | None) -> Proven:
        proven = await trusted(location, variant)
        if (await asyncio.to_thread(Bundle.open, path)).manifest.version == "1":
            write(path, version="2", seed=1)
        return proven

    models = repository(tmp_path, prove)
    await models.start()
    assert lines(models) == [("tiny", "1", "UNAVAILABLE")]
    assert "it was changed meanwhile; load it again" in models.index()[0].reason
    await models.refresh()
    assert lines(models) == [("tiny", "2", "READY")]
    await models.close(drain=False)


async def test_a_bundle_refused_while_another_lay_in_its_place_is_tried_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "models"
    place = write(folder / "tiny.attar")

    async def prove(location: BundleLocation, variant: str | None) -> Proven:
        if not (tmp_path / "other").exists():
            return await trusted(location, variant)
        place.rename(tmp_path / "own")
        (tmp_path / "other").rename(place)
        place.rename(tmp_path / "gone")
        (tmp_path / "own").rename(place)
        raise BundleRefused("unloadable", "of the other")

    write(tmp_path / "other")
    models = repository(folder, prove)
    await models.start()
    assert lines(models) == [("tiny", "1", "UNAVAILABLE")]

    await models.refresh()

    assert lines(models) == [("tiny", "1", "READY")]
    await models.close(drain=False)


async def test_a_trial_that_was_killed_is_tried_three_times(tmp_path: Path) -> None:
    write(tmp_path / "tiny.attar")
    tries = []

    async def prove(location: BundleLocation, _variant: str | None) -> Proven:
        tries.append(location.name)
        raise Unavailable("the process was killed")

    models = repository(tmp_path, prove)
    await models.start()
    for _ in range(5):
        await models.refresh()
    assert len(tries) == 3
    write(tmp_path / "tiny.attar", version="2")
    await models.refresh()
    assert len(tries) == 4
    await models.close(drain=False)


async def test_a_panic_of_a_bundle_is_its_own_refusal(tmp_path: Path) -> None:
    write(tmp_path / "bad.attar", name="bad")
    write(tmp_path / "tiny.attar")

    async def prove(location: BundleLocation, variant: str | None) -> Proven:
        if location.name == "bad":
            raise Panic("index out of bounds")
        return await trusted(location, variant)

    models = repository(tmp_path, prove)
    await models.start()
    assert lines(models) == [("bad", "1", "UNAVAILABLE"), ("tiny", "1", "READY")]
    assert models.index()[0].reason.startswith("bad.attar cannot be opened: Panic: index out of")
    with pytest.raises(BundleRefused) as refused:
        await models.load("bad")
    assert str(tmp_path) not in str(refused.value), "the message shows the bundle's path"
    await models.close(drain=False)


class Cursed(type(Path())):  # type: ignore[misc]
    """A folder whose every third look panics."""

    looks = 0

    def iterdir(self) -> Any:
        Cursed.looks += 1
        if Cursed.looks % 3 == 2:
            raise Panic("a look")
        return Path(self).iterdir()


async def test_a_watch_goes_on_whatever_a_look_meets(tmp_path: Path) -> None:
    failed: list[bool] = []
    models = repository(Cursed(tmp_path), trusted, lambda: failed.append(True), watch_s=0.02)
    await models.start()
    await until(lambda: len(failed) > 1)
    write(tmp_path / "tiny.attar")
    await until(lambda: lines(models) == [("tiny", "1", "READY")])
    await models.close(drain=False)


async def test_a_name_that_is_no_utf_8_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.attar")).mkdir()
    write(tmp_path / "tiny.attar")
    models = repository(tmp_path, trusted)
    await models.start()
    assert ("tiny", "1", "READY") in lines(models)
    (other,) = (one for one in models.index() if one.name != "tiny")
    assert "\ufffd" in other.name or "?" in other.name
    other.reason.encode()
    await models.close(drain=False)


async def test_a_load_that_never_ends_holds_up_no_other_and_is_given_up(tmp_path: Path) -> None:
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def prove(location: BundleLocation, variant: str | None) -> Proven:
        if location.name == "bad":
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                given_up.set()
                raise
        return await trusted(location, variant)

    write(tmp_path / "tiny.attar")
    models = repository(tmp_path, prove, watch_s=0.02)
    await models.start()
    write(tmp_path / "bad.attar", name="bad")
    await begun.wait()
    loading = asyncio.create_task(models.load("bad"))
    await models.set_variant("tiny", "int8")
    assert models["tiny"].encoder.variant.name == "int8"
    write(tmp_path / "other.attar", name="other")
    await until(lambda: ("other", "1", "READY") in lines(models))
    assert ("bad", "1", "LOADING") in lines(models)
    await models.unload("bad")
    await given_up.wait()
    with pytest.raises(Unavailable, match="or unloaded, while it was loaded"):
        await loading
    assert ("bad", "1", "UNAVAILABLE") in lines(models)
    given_up.clear()
    loading = asyncio.create_task(models.load("bad"))
    await asyncio.sleep(0.05)
    await models.close(drain=True)
    await given_up.wait()
    with pytest.raises(Unavailable):
        await loading


async def test_two_bundles_of_one_name_that_load_at_once_do_not_both_serve(tmp_path: Path) -> None:
    write(tmp_path / "one.attar")
    write(tmp_path / "two.attar", seed=1)
    models = repository(tmp_path, trusted)
    await models.start()
    states = sorted(state for _, _, state in lines(models))
    assert states == ["READY", "UNAVAILABLE"]
    (reason,) = (one.reason for one in models.index() if one.reason)
    assert "two bundles are named 'tiny'" in reason
    with pytest.raises(InvalidInput, match="two bundles are named"):
        await models.load("tiny")
    await models.close(drain=False)


def test_sigterm_ends_a_server_that_is_starting(tmp_path: Path) -> None:
    ENDLESS(tmp_path / "bad.attar")
    command = [sys.executable, "-m", "attar.server", str(tmp_path / "bad.attar")]
    own = ["--port=0", "--http-port=off", "--metrics-port=off", "--threads=1"]
    with subprocess.Popen([*command, *own, "--data-dir", str(tmp_path / "data")]) as server:
        process = psutil.Process(server.pid)
        while not (children := process.children()):
            assert server.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    _, left = psutil.wait_procs(children, timeout=5)
    assert not left
