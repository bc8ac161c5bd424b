"""Access: who gets in, with what, how often; over a real channel."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import attar
from attar import Client
from attar.errors import InvalidInput, PermissionDenied, RateLimited, Unauthenticated
from attar.server.rpc.methods import RPCS, SCOPES, scope_of
from attar.server.security.access import Access, bearer, is_local, parse_keys, read_keys
from benchmarks.support.servers import serving, settings

from ...support.api_keys import KEYS, READER, SLOW, WRITER, write_keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return write_keys(tmp_path)


@pytest.fixture
def target(bundle_path: Path, tmp_path: Path, keys_file: Path) -> Iterator[str]:
    chosen = settings(bundle_path, data_dir=tmp_path / "data", keys_file=keys_file)
    with serving(chosen) as address:
        yield address


def test_every_call_has_a_scope_and_every_scope_a_call() -> None:
    reflection = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

    undeclared = set(RPCS) - SCOPES.keys()
    assert not undeclared, "declare `option (attar.v1.scope)` in its .proto file"
    assert {rpc for rpc in SCOPES if rpc.startswith("attar.")} <= set(RPCS)
    assert SCOPES[reflection] == "infer"


def test_a_call_without_a_declared_scope_is_for_administrators() -> None:
    assert scope_of("attar.v1.Collections/NotDeclared") == "admin"


def test_a_key_opens_what_its_scopes_say(target: str) -> None:
    with Client(target, key=READER) as reader, Client(target, key=WRITER) as writer:
        writer.create_collection("docs")
        writer.upsert("docs", [1], ["the cat"])
        assert reader.search("docs", ["the cat"])[0][0].id == 1
        with pytest.raises(PermissionDenied, match=r"reader has the scope infer, .* needs write"):
            reader.delete_collection("docs")


@pytest.mark.parametrize("key", [None, "nobody-knows-this-one", READER + "x", READER[:-1]])
def test_without_a_key_that_is_known_nothing_opens(target: str, key: str | None) -> None:
    with Client(target, key=key) as client, pytest.raises(Unauthenticated):
        client.info()


def test_probes_need_no_key_and_reflection_does(target: str) -> None:
    def services(*metadata: tuple[str, str]) -> Any:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        return list(reflection.ServerReflectionInfo(iter([ask]), metadata=metadata))

    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        state = health.Check(health_pb2.HealthCheckRequest()).status
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            services()
        (answer,) = services(("authorization", f"Bearer {READER}"))

    error: Any = refused.value
    assert state == health_pb2.HealthCheckResponse.SERVING
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert answer.list_services_response.service


def test_reflection_can_be_turned_off(bundle_path: Path, tmp_path: Path) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path, reflection=False)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    with serving(chosen) as target, grpc.insecure_channel(target) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            list(reflection.ServerReflectionInfo(iter([ask])))

    error: Any = refused.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_key_that_has_used_its_rate_gets_retry_after(target: str) -> None:
    with Client(target, key=SLOW) as client:
        client.info(deadline_s=5)
        with pytest.raises(RateLimited, match=r"slow may send 0.01 requests a second; retry in"):
            client.info(deadline_s=5)


def test_a_quota_counts_what_is_embedded_and_refuses_before_any_work(
    bundle_path: Path, tmp_path: Path
) -> None:
    path = write_keys(tmp_path, KEYS.replace("requests_per_s = 0.01", ""))
    chosen = settings(bundle_path, data_dir=tmp_path, keys_file=path)
    with serving(chosen) as target, Client(target, key=SLOW) as client:
        client.embed(["the cat", "sun"])
        with pytest.raises(RateLimited, match=r"has used 2 of 3 items a day, .* request has 2"):
            client.embed(["the cat", "sun"], deadline_s=5)
        assert len(client.embed(["the cat"])) == 1


def test_keys_are_read_again_when_their_file_changes(target: str, keys_file: Path) -> None:
    later = "later-0123456789ab"
    keys_file.write_text(KEYS.replace(READER, later), "utf-8")
    with Client(target, key=later) as client, Client(target, key=READER) as old:
        deadline = time.monotonic() + 20
        while True:
            try:
                client.info()
                break
            except Unauthenticated:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with pytest.raises(Unauthenticated):
            old.info()


def test_a_keys_file_that_goes_bad_leaves_the_keys_as_they_were(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    access = Access(file=keys_file, now=lambda: now[0])
    keys_file.write_text(f'[[keys]]\nname = "{READER}', "utf-8")
    now[0] += 60

    assert access.check(READER, "infer", peer="test").name == "reader"
    assert "the keys stay as they were" in caplog.text
    assert READER not in caplog.text


def test_guessed_keys_are_logged_and_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    access = Access(parse_keys(f"a:infer:{READER}"), now=lambda: now[0])
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            access.check("a-guess", "infer", peer="here")
        now[0] += 0.03

    assert len(caplog.records) == 3
    assert "with an unknown key, the last from here" in caplog.text
    assert "a-guess" not in caplog.text


def test_keys_from_the_environment_open_too(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTAR_KEYS", f"a:infer+write:{READER} b:admin:{WRITER}")
    with serving(settings(bundle_path, data_dir=tmp_path)) as target:
        with Client(target, key=READER) as client:
            assert client.info().models
        with Client(target, key=WRITER) as client, pytest.raises(PermissionDenied, match="admin"):
            client.info()


def test_the_request_id_comes_back_and_names_the_error(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        call: Any = channel.unary_unary("/attar.v1.Info/GetInfo")
        metadata = [("authorization", f"Bearer {READER}"), ("x-request-id", "mine/7")]
        _, done = call.with_call(b"", metadata=metadata)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", metadata=[("x-request-id", "a b c")])
    with Client(target) as client, pytest.raises(Unauthenticated) as typed:
        client.info()

    error: Any = refused.value
    assert ("x-request-id", "mine/7") in done.trailing_metadata()
    (made,) = [value for key, value in error.trailing_metadata() if key == "x-request-id"]
    assert len(made) == 32
    assert typed.value.__notes__[0].startswith("request id ")


BAD = [
    ("", "must have [[keys]] tables"),
    ("keys = 3", "must have [[keys]] tables"),
    ("port = 3\n" + KEYS, "and nothing else"),
    ("[[keys]\nname", "is not TOML (at line 1"),
    ('[[keys]]\nname = "a"\nscopes = ["infer"]', "key 1: sha256 Field required"),
    (f'[[keys]]\nname = "a"\nkey = "{READER}"\nscopes = []', "scopes "),
    (f'[[keys]]\nname = "a"\nkey = "{READER}"\nscopes = ["root"]', "'infer', 'write' or 'admin'"),
    ('[[keys]]\nname = "a"\nkey = "short"\nscopes = ["infer"]', "16 or more printable ASCII"),
    (f'[[keys]]\nname = "a b"\nkey = "{READER}"\nscopes = ["infer"]', "name "),
    (f'[[keys]]\nname = "a"\nkey = "{READER}"\nscopes = ["infer"]\nrate = 1', "rate Extra"),
    (f'[[keys]]\nname = "a"\nkey = "{READER}"\nscopes = ["infer"]\nrequests_per_s = 0', "than 0"),
    (f'[[keys]]\nname = "a"\nkey = "{READER}"\nsha256 = "b"\nscopes = ["infer"]', "both key and"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_keys_file_is_refused_by_name_and_quotes_no_key(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput) as refused:
        read_keys(path)

    assert str(path) in str(refused.value)
    assert message in str(refused.value)
    assert READER not in str(refused.value)
    assert "short" not in str(refused.value)


def test_the_documentations_keys_file_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text("utf-8")
    (text,) = re.findall(r"^```toml\n(\[\[keys\]\].*?)^```", page, re.MULTILINE | re.DOTALL)
    (path := tmp_path / "keys.toml").write_text(text, "utf-8")

    indexer, website = read_keys(path)
    assert indexer.scopes == {"infer", "write"}
    assert website.items_per_day == 5_000_000


def test_two_keys_of_one_name_or_one_secret_are_refused() -> None:
    one, other, twin = parse_keys(f"a:infer:{READER} b:infer:{WRITER} c:infer:{READER}")

    with pytest.raises(InvalidInput, match="two keys are named 'a'"):
        Access([one, other, one])
    with pytest.raises(InvalidInput, match="'c' is another's too"):
        Access([one, other, twin])


@pytest.mark.parametrize("text", ["a", "a:infer", "a:infer:", f"a:root:{READER}", "a:infer:x"])
def test_a_bad_entry_in_the_environment_is_refused_and_quotes_no_key(text: str) -> None:
    with pytest.raises(InvalidInput, match="ATTAR_KEYS: entry 1") as refused:
        parse_keys(text)
    assert READER not in str(refused.value)


def test_a_keys_file_that_everybody_can_read_is_warned_of(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_keys(keys_file)
    assert not caplog.records

    keys_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        read_keys(keys_file)
    assert "chmod 600" in caplog.text


def test_no_repr_shows_a_key_or_its_digest() -> None:
    (key,) = parse_keys(f"a:infer:{READER}")

    assert READER not in repr(key)
    assert key.sha256 not in repr(key)


@pytest.mark.parametrize(
    ("header", "key"),
    [(None, None), ("", None), ("Bearer", None), ("Basic abc", None), ("bearer  abc ", "abc")],
)
def test_a_bearer_header_holds_the_key(header: str | None, key: str | None) -> None:
    assert bearer(header) == key


def test_a_key_in_the_clear_to_another_host_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="goes to example.org:8001 in the clear"):
        Client("example.org:8001", key=READER).close()
    for target in ("localhost:1", "127.0.0.1:1", "[::1]:1"):
        attar.Client(target, key=READER).close()


def test_access_without_keys_is_open() -> None:
    access = Access()

    assert access.open
    assert access.check(None, "write", peer="ipv4:192.168.1.7:5").name == "anybody"
    assert access.check(None, "admin", peer="127.0.0.1").name == "anybody"


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("ipv4:127.0.0.1:40000", True),
        ("ipv6:[::1]:40000", True),
        ("ipv6:%5B::1%5D:40000", True),
        ("ipv6:[::ffff:127.0.0.1]:40000", True),
        ("", False),
        ("unix:", False),
        ("0.0.0.0", False),
        ("192.168.1.7", False),
        ("ipv4:192.168.1.7:127", False),
        ("ipv6:[fe80::1%25eth0]:40000", False),
        ("ipv6:[::ffff:192.168.1.7]:40000", False),
        ("localhost", False),
    ],
)
def test_without_keys_only_this_machine_changes_the_server(peer: str, local: bool) -> None:
    assert is_local(peer) is local
    if not local:
        with pytest.raises(PermissionDenied, match="comes from another machine"):
            Access().check(None, "admin", peer=peer)


def test_admin_that_is_off_is_nobody_s() -> None:
    access = Access(parse_keys(f"a:admin:{READER}"), admin=False)

    for token, one in ((READER, access), (None, Access(admin=False))):
        with pytest.raises(PermissionDenied, match="admin is off here"):
            one.check(token, "admin", peer="127.0.0.1")
