"""A failed connection is reported with its likely cause, in one line."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from attar import AsyncClient, AttarError, Client, InvalidInput, NotFound, Tls, Unavailable
from benchmarks.hostile.connections import CASES, TARGETS, Case, world
from benchmarks.support.servers import free_port, serving, settings

World = tuple[Mapping[str, str], Mapping[str, Tls]]
PROXIED = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture(scope="module")
def servers(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(bundle_path, tmp_path_factory.mktemp("servers")) as targets:
        yield targets


def proxies(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in PROXIED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_server_of_another_protocol_is_reported_with_what_it_may_be(
    case: Case, servers: World
) -> None:
    targets, trusted = servers
    target, tls = targets[case.server], trusted.get(case.tls)

    with Client(target, tls=tls) as client, pytest.raises(Unavailable) as refusal:
        client.info(deadline_s=3)

    assert target in str(refusal.value)
    for text in case.refusal:
        assert text in str(refusal.value)


@pytest.mark.parametrize("target", TARGETS, ids=repr)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_target_is_refused_before_a_call(target: Any, kind: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        kind(target)

    for text in TARGETS[target]:
        assert text in str(refusal.value)


@pytest.mark.parametrize("name", ["dns:///{}", "{}", "ipv4:{}"])
def test_grpcs_own_names_are_targets(name: str, servers: World) -> None:
    with Client(name.format(servers[0]["clear"])) as client:
        assert client.models()


def test_a_proxy_does_not_stand_between_a_client_and_its_own_machine(
    servers: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies(monkeypatch, http_proxy=f"http://127.0.0.1:{free_port()}")

    with Client(servers[0]["clear"]) as client:
        assert client.models()


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_that_a_call_went_to_is_named_and_not_quoted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies(monkeypatch, **{name: f"http://me:secret@127.0.0.1:{free_port()}"})

    with Client("attar.invalid:8001") as client, pytest.raises(Unavailable) as refusal:
        client.info(deadline_s=3)

    assert f"{name} is set, so the call went to that proxy unless no_proxy" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_request_id_is_reported_only_where_a_server_may_have_it(servers: World) -> None:
    with Client(servers[0]["clear"]) as client, pytest.raises(NotFound) as answered:
        client.count("none")
    with Client(servers[0]["nothing"]) as client, pytest.raises(Unavailable) as missing:
        client.count("none")

    assert re.match(r"request id [0-9a-f]{32}, as in the server's log", answered.value.__notes__[0])
    assert not hasattr(missing.value, "__notes__")


@pytest.mark.parametrize("call", ["client.info()", "list(client.embed_stream([['a']]))"])
def test_an_error_that_nobody_catches_shows_no_inside_of_grpc(call: str, servers: World) -> None:
    code = f"import attar\nwith attar.Client({servers[0]['nothing']!r}) as client:\n    {call}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "no server answers at" in done.stderr.splitlines()[-1]
    assert not re.search(r"RpcError|grpc/|direct cause|During handling", done.stderr)


async def test_the_async_client_says_the_same(servers: World) -> None:
    async with AsyncClient(servers[0]["TLS"]) as client:
        with pytest.raises(AttarError, match="if it speaks TLS, give tls=Tls"):
            await client.info(deadline_s=3)


def misused(folder: Path) -> dict[str, tuple[Callable[[str], Any], str]]:
    """Give what a client may be made of by mistake, and the text of the refusal."""
    (folder / "text.pem").write_text("hello", "utf-8")
    text = folder / "text.pem"
    return {
        "tls as a switch": (lambda at: Client(at, tls=True), "tls is an attar.Tls.*got True"),  # type: ignore[arg-type]
        "tls as a path": (lambda at: AsyncClient(at, tls="ca.pem"), "tls is an attar.Tls"),  # type: ignore[arg-type]
        "a key of numbers": (lambda at: Client(at, key=3), "the key is a int; give text"),  # type: ignore[arg-type]
        "a key of bytes": (lambda at: Client(at, key=b"k"), "the key is a bytes; give text"),  # type: ignore[arg-type]
        "an empty key": (lambda at: Client(at, key=""), "the key is empty"),
        "a key with its line's end": (lambda at: Client(at, key="k\n"), "no header carries"),
        "a text as an authority": (lambda at: Client(at, tls=Tls(ca=text)), "is no PEM file"),
        "a text as a certificate": (
            lambda at: Client(at, tls=Tls(cert=text, key=text)),
            "text.pem is no PEM file",
        ),
        "a path with NUL": (lambda at: Client(at, tls=Tls(ca="a\0b")), "cannot read a"),
        "a folder as an authority": (lambda at: Client(at, tls=Tls(ca=folder)), "Is a directory"),
    }


def test_what_no_client_can_be_made_of_is_refused_by_name(tmp_path: Path) -> None:
    for name, (make, words) in misused(tmp_path).items():
        with pytest.raises(InvalidInput) as refusal:
            make("127.0.0.1:8001")
        assert re.search(words, str(refusal.value)), name


def test_a_closed_client_says_that_it_is(servers: World) -> None:
    client = Client(servers[0]["clear"])
    client.close()
    client.close()

    with pytest.raises(InvalidInput, match="this client is closed; make another"):
        client.models()
    with pytest.raises(InvalidInput, match="this client is closed; make another"):
        list(client.embed_stream([["the cat"]]))


def test_an_async_client_is_made_anywhere_and_used_in_one_loop(servers: World) -> None:
    client = AsyncClient(servers[0]["clear"])

    async def ask() -> Any:
        return await client.models()

    async def close() -> None:
        await client.close()
        with pytest.raises(InvalidInput, match="this client is closed; make another"):
            await client.models()

    with asyncio.Runner() as runner:
        assert runner.run(ask())
        with asyncio.Runner() as other, pytest.raises(InvalidInput, match="another event loop"):
            other.run(ask())
        assert runner.run(ask())
        runner.run(close())


def test_a_triton_server_on_this_machine_is_reached_past_a_proxy(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies(monkeypatch, http_proxy=f"http://127.0.0.1:{free_port()}")
    nobody = f"127.0.0.1:{free_port()}"

    with (
        pytest.raises(Unavailable, match=re.escape(nobody)) as refusal,
        serving(settings(bundle_path, data_dir=tmp_path, triton=nobody)),
    ):
        pass

    assert nobody.rpartition(":")[2] in str(refusal.value).partition("addresses")[2]
