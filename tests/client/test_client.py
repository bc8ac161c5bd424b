"""The client's promises, against real servers: attar's own, and small gRPC ones that misbehave."""

import asyncio
import inspect
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

import attar
from attar import AsyncClient, Client
from attar.client import calls
from attar.errors import Overloaded
from attar.server.errors import to_status
from attar.v1 import collections_pb2, info_pb2
from attar.values import Indexed, SearchResults
from benchmarks.support.bundles import tiny_tensor_bundle
from benchmarks.support.servers import free_port, serving, settings


@pytest.fixture(scope="module")
def target(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    chosen = settings(
        bundle_path,
        data_dir=tmp_path_factory.mktemp("data"),
        max_items=20,
        max_message_bytes=2**16,
    )
    with serving(chosen) as address:
        yield address


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as found:
        yield found


class Failing(grpc.GenericRpcHandler):
    """Answers every call as `answer` says, and counts them by name."""

    def __init__(self, respond: Callable[[int, Any], bytes]) -> None:
        self.calls: list[str] = []
        self._respond = respond

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = str(handler_call_details.method)

        def behave(_request: bytes, context: Any) -> bytes:
            self.calls.append(name.rpartition("/")[2])
            return self._respond(len(self.calls), context)

        return grpc.unary_unary_rpc_method_handler(behave)


@contextmanager
def failing(respond: Callable[[int, Any], bytes]) -> Iterator[tuple[Failing, str]]:
    """Run a gRPC server that answers every call so; gives it and its address."""
    handler = Failing(respond)
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def refuse(error: Exception) -> Callable[[int, Any], bytes]:
    """Abort every call as attar's server does."""

    def answer(_attempt: int, context: Any) -> bytes:
        status = to_status(error)
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, status.message)
        raise AssertionError

    return answer


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert public(Client).keys() == public(AsyncClient).keys()
    for name, method in public(Client).items():
        ours = [p.replace(annotation="") for p in inspect.signature(method).parameters.values()]
        other = inspect.signature(public(AsyncClient)[name]).parameters.values()
        assert ours == [p.replace(annotation="") for p in other], name


def test_every_method_says_what_it_gives() -> None:
    for kind in (Client, AsyncClient):
        for name, method in public(kind).items():
            assert method.__doc__, name


def test_the_wire_and_the_client_share_their_calls(client: Client) -> None:
    client.create_collection("notes", dims=16)
    written = client.upsert(
        "notes",
        [7, "c0ffee00-0000-4000-8000-000000000000"],
        ["the cat", "the sun"],
        payloads=[{"a": 1, "deep": {"list": [1, 2.5, None, True, "x"]}}, {"a": 2}],
    )
    assert written.errors == (None, None)
    assert client.count("notes") == 2
    assert client.count("notes", filter={"a": [1, 3]}) == 1

    (hits,) = client.search("notes", ["the cat"], filter={"a": 1}).hits
    assert [hit.id for hit in hits] == [7]
    assert hits[0].payload == {"a": 1, "deep": {"list": [1, 2.5, None, True, "x"]}}
    assert client.search("notes", ["the cat"], with_payload=False)[0][0].payload == {}

    first, second = client.retrieve(
        "notes",
        [*(hit.id for hit in hits), 99, "c0ffee00-0000-4000-8000-000000000000"],
        with_vectors=True,
    )
    assert (first.id, second.payload) == (7, {"a": 2})
    assert first.vector is not None
    np.testing.assert_allclose(first.vector, client.embed(["the cat"]).vectors[0], atol=1e-6)

    client.delete_points("notes", [7])
    assert client.collection("notes").points == 1
    assert "notes" in [one.name for one in client.collections()]
    client.delete_collection("notes")
    assert "notes" not in [one.name for one in client.collections()]


def test_detectors_and_classifiers_come_and_go(client: Client) -> None:
    ordinary = [f"the cat sat on {i}" for i in range(20)]
    detector = client.fit_anomaly("normal", ordinary, target_fpr=0.2, neighbours=3)
    scored = client.score_anomaly("normal", ["the cat sat on 3", "blue sky"])
    assert scored.anomalies.tolist() == [s > detector.threshold for s in scored.scores.tolist()]
    assert client.detector("normal") == detector
    client.delete_detector("normal")
    assert client.detectors() == ()

    classifier = client.fit_classifier("topics", ["cat", "dog", "sun", "sky"], ["a", "a", "s", "s"])
    found = client.classify("topics", ["cat", "sky"])
    assert set(found.labels) <= set(classifier.labels)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-6)
    assert client.classifier("topics") == classifier
    client.delete_classifier("topics")
    assert client.classifiers() == ()


@pytest.mark.parametrize("encoding", ["f32", "f16", "int8", "binary"])
def test_every_encoding_arrives_as_the_runtime_writes_it(
    encoding: Any, client: Client, bundle_path: Path
) -> None:
    words = ["the cat", "sun", ""]
    local = attar.load(bundle_path, threads=1)
    try:
        expected = local.embed(words, encoding=encoding)
    except attar.NotSupported:
        with pytest.raises(attar.NotSupported):
            client.embed(words, encoding=encoding)
        return
    found = client.embed(words, encoding=encoding)

    assert found.vectors.dtype == expected.vectors.dtype
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert (len(found), found.encoding) == (3, encoding)
    assert np.asarray(found) is not None


def test_a_failed_item_raises_unless_partial_is_set(client: Client) -> None:
    words = ["the cat", "cat " * 99]
    with pytest.raises(attar.InputTooLong, match="item 1 has"):
        client.embed(words, truncation="error")

    found = client.embed(words, truncation="error", partial=True)
    assert found.errors[0] is None
    assert isinstance(found.errors[1], attar.InputTooLong)


def test_any_number_of_points_is_written_in_batches(client: Client) -> None:
    client.create_collection("many")
    points = ((i, f"the cat {i}", {"i": i}) for i in range(45))

    assert client.upsert_all("many", points, batch_size=20) == 45
    assert client.count("many") == 45


def test_arrays_are_written_in_batches_too(tmp_path: Path) -> None:
    image = tiny_tensor_bundle(tmp_path / "image.attar")
    images = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    points: list[tuple[int, NDArray[Any], dict[str, Any]]] = [
        (i, one, {}) for i, one in enumerate(images)
    ]
    with serving(settings(image, data_dir=tmp_path / "data")) as address, Client(address) as client:
        client.create_collection("images")

        assert client.upsert_all("images", points, batch_size=2) == 5
        assert client.search("images", images[3:4], limit=1)[0][0].id == 3
        with pytest.raises(attar.ShapeError, match=r"item 1 of a call is \(8, 8\)"):
            client.upsert_all("images", [points[0], (1, images[1, 0], {})])
        with pytest.raises(attar.InvalidInput, match="batch_size is 0"):
            client.upsert_all("images", points, batch_size=0)


def test_an_upsert_that_meets_its_deadline_names_what_sends_less_a_call(client: Client) -> None:
    client.create_collection("late")
    with pytest.raises(attar.DeadlineExceeded, match="fewer points a call, as upsert_all does"):
        client.upsert("late", [1], ["the cat"], deadline_s=1e-4)


def test_help_says_what_a_method_returns() -> None:
    assert inspect.signature(Client.search).return_annotation is SearchResults
    assert inspect.signature(AsyncClient.models).return_annotation == tuple[Indexed, ...]


def test_a_stream_gives_each_batch_in_order(client: Client) -> None:
    batches = [["cat"] * (1 + i % 3) for i in range(20)]

    assert [len(e) for e in client.embed_stream(batches)] == [len(batch) for batch in batches]


def test_a_bad_batch_ends_a_stream_unless_partial_is_set(client: Client) -> None:
    batches = [["cat"], ["cat"] * 21, ["sun"]]
    with pytest.raises(attar.InvalidInput, match="21 items; a request takes 20"):
        list(client.embed_stream(batches))

    first, second, third = client.embed_stream(batches, partial=True)
    assert (first.errors, third.errors) == ((None,), (None,))
    assert len(second) == 21
    assert isinstance(second.errors[20], attar.InvalidInput)


def test_an_error_of_the_callers_own_batches_reaches_the_caller(client: Client) -> None:
    def batches() -> Iterator[list[str]]:
        yield ["cat"]
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        list(client.embed_stream(batches()))


def test_a_stream_that_is_left_early_does_no_harm(client: Client) -> None:
    stream = client.embed_stream(["cat"] for _ in range(1000))

    assert len(next(iter(stream))) == 1
    del stream
    assert len(client.embed(["cat"])) == 1


async def test_the_async_client_does_the_same(target: str) -> None:
    async with AsyncClient(target) as client:
        await client.create_collection("async")
        assert (
            await client.upsert_all("async", ((i, "cat", {}) for i in range(5)), batch_size=2) == 5
        )
        assert (await client.search("async", ["cat"], limit=2))[0][0].score == pytest.approx(1)
        assert [len(e) async for e in client.embed_stream([["cat"], ["sun", "sky"]])] == [1, 2]

        async def batches() -> Any:
            yield ["cat"]
            raise OSError("the file is gone")

        with pytest.raises(OSError, match="the file is gone"):
            _ = [len(e) async for e in client.embed_stream(batches())]
        with pytest.raises(attar.NotFound, match="no collection 'none'"):
            await client.count("none")


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda c: c.embed(["cat"], model="none"), attar.NotFound, "no model 'none'"),
        (lambda c: c.embed(["cat"], dims=5), attar.InvalidInput, "dims must be one that tiny"),
        (lambda c: c.embed("cat"), attar.InvalidInput, "wrap it in a list"),
        (lambda c: c.embed([7]), attar.InvalidInput, "item 0 must be a string; got int"),
        (lambda c: c.embed(["x"], role="answer"), attar.InvalidInput, "must be one of passage"),
        (lambda c: c.embed(["x"], dims=-1), attar.InvalidInput, "dims is -1"),
        (lambda c: c.embed(["x"], deadline_s=0), attar.InvalidInput, "deadline_s is 0"),
        (lambda c: c.embed(["x" * 2**16]), attar.InvalidInput, "send fewer items in a call"),
        (lambda c: c.upsert("none", [-1], ["x"]), attar.InvalidInput, r"ids\[0\] is -1"),
        (lambda c: c.upsert("none", [1.5], ["x"]), attar.InvalidInput, r"ids\[0\] is 1.5"),
        (lambda c: c.upsert("none", [1]), attar.InvalidInput, "either items or vectors"),
        (lambda c: c.fit_anomaly("none"), attar.InvalidInput, "either items or collection"),
        (
            lambda c: c.upsert("none", [1], ["x"], payloads=[{"a": 2**60}]),
            attar.InvalidInput,
            "beyond 2",
        ),
        (
            lambda c: c.upsert("none", [1], ["x"], payloads=[{"a": {1}}]),
            attar.InvalidInput,
            r"payloads\[0\]\['a'\] is \{1\}, a set",
        ),
    ],
)
def test_errors_are_the_librarys_own_and_say_what_to_do(
    ask: Callable[[Client], Any], kind: type[Exception], message: str, client: Client
) -> None:
    with pytest.raises(kind, match=message):
        ask(client)


def test_a_missing_server_is_named_with_the_way_to_start_one() -> None:
    target = f"127.0.0.1:{free_port()}"
    with (
        Client(target) as client,
        pytest.raises(attar.Unavailable, match=rf"no server answers at {target} .*`attar serve"),
    ):
        client.info(deadline_s=5)


def test_a_passed_deadline_is_reported_as_deadline_exceeded() -> None:
    def hang(_attempt: int, context: Any) -> bytes:
        while context.is_active():
            pass
        return b""

    with (
        failing(hang) as (_, target),
        Client(target) as client,
        pytest.raises(attar.DeadlineExceeded, match="give a longer deadline_s"),
    ):
        client.embed(["cat"], deadline_s=0.2)


def test_what_is_safe_is_sent_again_until_it_is_answered() -> None:
    def answer(attempt: int, context: Any) -> bytes:
        if attempt < calls_needed:
            return refuse(Overloaded("busy"))(attempt, context)
        return info_pb2.GetInfoResponse(server_version="9").SerializeToString()

    calls_needed = 3
    with failing(answer) as (server, target), Client(target) as client:
        assert client.info().version == "9"
    assert server.calls == ["GetInfo"] * 3


def test_a_call_that_finds_no_server_is_sent_a_few_times() -> None:
    def leave(_attempt: int, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        raise AssertionError

    with failing(leave) as (server, target), Client(target) as client:
        with pytest.raises(attar.Unavailable, match="gone"):
            client.embed(["cat"])
        with pytest.raises(attar.Unavailable):
            client.upsert("c", [1], ["cat"])
    assert server.calls == ["Embed"] * 4 + ["Upsert"] * 4


def bare(message: str) -> Callable[[int, Any], bytes]:
    """Abort every call as gRPC itself does, or a proxy, with no time to retry."""

    def answer(_attempt: int, context: Any) -> bytes:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        raise AssertionError

    return answer


BUSY = pytest.mark.parametrize(
    "refusal",
    [
        refuse(Overloaded("busy")),
        refuse(attar.RateLimited("spent", 0.01)),
        bare("too many pending requests"),
    ],
    ids=["a full queue", "a rate", "no time to retry"],
)


@BUSY
def test_a_call_to_a_busy_server_is_retried_until_it_succeeds(
    refusal: Callable[[int, Any], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.client.retries.LONGEST_PAUSE_S", 0.02)

    def answer(attempt: int, context: Any) -> bytes:
        if attempt < 9:
            return refusal(attempt, context)
        return info_pb2.GetInfoResponse(server_version="9").SerializeToString()

    with failing(answer) as (server, target), Client(target) as client:
        assert client.info().version == "9"
    assert server.calls == ["GetInfo"] * 9


@BUSY
def test_a_call_to_a_busy_server_is_retried_until_the_deadline(
    refusal: Callable[[int, Any], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.client.retries.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("attar.client.retries.LONGEST_PAUSE_S", 0.04)
    with failing(refusal) as (server, target), Client(target) as client:
        began = time.monotonic()
        with pytest.raises(attar.Overloaded):
            client.embed(["cat"], deadline_s=1)
        took_s = time.monotonic() - began
    assert len(server.calls) > 4
    assert took_s < 60  # one that waits on goes on for ever


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (refuse(attar.RateLimited("the day's quota is used up", 3600)), attar.RateLimited),
        (refuse(attar.DiskFull("too little room")), attar.DiskFull),
        (refuse(attar.InvalidInput("larger than max_working_bytes")), attar.InvalidInput),
        (bare("SERVER: Received message larger than max (9 vs. 4)"), attar.InvalidInput),
        (bare("gRPC message exceeds maximum size 4: 9"), attar.InvalidInput),
    ],
    ids=["a day's quota", "a full disk", "a limit", "a limit of gRPC", "a limit of gRPC in Java"],
)
def test_what_no_wait_within_the_deadline_helps_is_sent_once(
    refusal: Callable[[int, Any], bytes], kind: type[Exception]
) -> None:
    with failing(refusal) as (server, target), Client(target) as client, pytest.raises(kind):
        client.embed(["cat"])
    assert server.calls == ["Embed"]


def test_a_client_that_is_closed_ends_the_pauses_of_its_calls() -> None:
    with failing(refuse(attar.RateLimited("spent", 20))) as (server, target):
        client = Client(target)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.embed, ["cat"])
            while not server.calls:
                time.sleep(0.001)
            client.close()
            with pytest.raises((attar.InvalidInput, attar.Unavailable)):
                asked.result(timeout=15)
    assert server.calls == ["Embed"]


@pytest.mark.parametrize("quantity", ["requests", "items"])
def test_callers_beyond_a_rate_are_all_answered_in_the_end(
    quantity: str, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.client.retries.LONGEST_PAUSE_S", 0.2)
    key, keys = "0123456789abcdef", tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "a"\nkey = "{key}"\nscopes = ["infer"]\n{quantity}_per_s = 16\n'
    )
    keys.chmod(0o600)
    chosen = settings(bundle_path, data_dir=tmp_path / "data", keys_file=keys)
    with serving(chosen) as target, Client(target, key=key) as client, ThreadPoolExecutor(32) as it:
        answers = [*it.map(lambda _: client.embed(["the cat"], deadline_s=60), range(32))]
    assert len({answer.vectors.tobytes() for answer in answers}) == 1


async def test_large_calls_at_once_are_all_answered_where_few_have_room(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.client.retries.LONGEST_PAUSE_S", 0.1)
    texts = ["the cat sat on the mat"] * 200
    chosen = settings(bundle_path, data_dir=tmp_path / "data", max_working_bytes=2**18)
    with serving(chosen) as target:
        async with AsyncClient(target) as client:
            calls = [client.embed(texts, deadline_s=60) for _ in range(24)]
            answers = await asyncio.gather(*calls)
    assert len({answer.vectors.tobytes() for answer in answers}) == 1


def test_the_deadline_bounds_the_attempts() -> None:
    with (
        failing(refuse(attar.Unavailable("draining"))) as (server, target),
        Client(target) as client,
        pytest.raises(attar.Unavailable, match="draining"),
    ):
        client.embed(["cat"], deadline_s=0.5)  # the server asks for a second
    assert server.calls == ["Embed"]


def test_what_is_not_safe_is_sent_once() -> None:
    with failing(refuse(Overloaded("busy"))) as (server, target), Client(target) as client:
        once: list[Callable[[], Any]] = [
            lambda: client.create_collection("c"),
            lambda: client.delete_collection("c"),
            lambda: client.delete_points("c", [1]),
            lambda: client.fit_anomaly("d", ["cat"]),
            lambda: client.delete_detector("d"),
            lambda: client.fit_classifier("k", ["cat"], ["a"]),
            lambda: client.delete_classifier("k"),
        ]
        for ask in once:
            with pytest.raises(attar.Overloaded):
                ask()
    assert server.calls == ["Create", "Delete", "DeletePoints", "Fit", "Delete", "Fit", "Delete"]


def test_what_would_fail_again_is_sent_once() -> None:
    with (
        failing(refuse(attar.NotFound("no model"))) as (server, target),
        Client(target) as client,
        pytest.raises(attar.NotFound),
    ):
        client.embed(["cat"])
    assert server.calls == ["Embed"]


async def test_a_call_that_a_server_dropped_and_never_took_is_unavailable() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with ThreadPoolExecutor(1) as pool, Client(f"127.0.0.1:{port}") as client:
        asked = pool.submit(client.create_collection, "docs")
        time.sleep(0.5)  # noqa: ASYNC251 (so busy that it takes no call)
        await server.stop(None)
        with pytest.raises(attar.Unavailable, match="went away before it answered"):
            await asyncio.wrap_future(asked)


def test_another_kind_of_server_is_distinguished_from_attar() -> None:
    def unknown(_attempt: int, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        raise AssertionError

    with (
        failing(unknown) as (_, target),
        Client(target) as client,
        pytest.raises(attar.NotSupported, match="is it attar, and not an older one"),
    ):
        client.info()


async def test_the_async_client_retries_as_the_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.client.retries.LONGEST_PAUSE_S", 0.1)
    with failing(refuse(Overloaded("busy"))) as (server, target):
        async with AsyncClient(target) as client:
            with pytest.raises(attar.Overloaded):
                await client.embed(["cat"], deadline_s=1)
            embedded = len(server.calls)
            with pytest.raises(attar.Overloaded):
                await client.create_collection("c")
    assert embedded > 4
    assert server.calls == ["Embed"] * embedded + ["Create"]


def test_without_grpc_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["grpc"] = None
import attar
try:
    attar.Client
except attar.MissingExtra as error:
    assert "pip install 'attar[client]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_calls_are_plain_values() -> None:
    call = calls.search("docs", ["cat"], limit=3)

    assert isinstance(call.request, collections_pb2.SearchRequest)
    assert (call.rpc, call.repeatable) == ("/attar.v1.Collections/Search", True)
