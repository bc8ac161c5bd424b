"""Attacks on what a key may use: by other protocols, streams, workers, restarts, and clocks."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from attar import Client
from attar.errors import AttarError, BackendError, InvalidInput, RateLimited

from ..faults.ground import Server, served
from ..support.bundles import tiny_bundle
from .ground import Attack, Outcome, attacked

HONEST: Final = "honest-0123456789"
LIMITED: Final = "limited-0123456789"
QUOTA: Final = 40
TEXTS: Final = ["the cat", "the sun"]  # of each request, which may be one item too many
MESSAGES: Final = 60


def every_protocol(folder: Path) -> Outcome:
    """Spend one quota by every protocol and kind of call in turn, until each of them is refused."""
    keys = _keys(folder, f"items_per_day = {QUOTA}")
    with (
        attacked(folder, "--keys-file", keys, key=HONEST) as server,
        _ways(server.server) as ways,
    ):
        counted = dict.fromkeys(ways, 0)
        with Client(server.server.target, key=HONEST) as honest:
            honest.create_collection("notes")
            honest.upsert("notes", [1, 2], TEXTS)
        for _ in range(QUOTA):
            for way, call in ways.items():
                counted[way] += len(TEXTS) if call() else 0
        spent = sum(counted.values())
        held = spent == QUOTA and all(counted[way] for way in ways) and not any(_all(ways))
        return server.outcome(held=held, note=f"{spent} items of {QUOTA}: {counted}")


def stream_of_messages(folder: Path) -> Outcome:
    """Send many messages on one stream of a key that may send few requests a second."""
    rate = 5
    with attacked(
        folder, "--keys-file", _keys(folder, f"requests_per_s = {rate}"), key=HONEST
    ) as server:
        began = time.monotonic()
        with Client(server.server.target, key=LIMITED) as client:
            answered = _count_answers(client, MESSAGES)
        allowed = rate + rate * (time.monotonic() - began) + 1
        held = rate <= answered <= allowed
        return server.outcome(
            held=held, note=f"{answered} of {MESSAGES} messages answered, {allowed:.0f} allowed"
        )


def long_texts(folder: Path) -> Outcome:
    """Count few items that have many tokens, against a quota of tokens."""
    quota = 200
    with attacked(
        folder, "--keys-file", _keys(folder, f"tokens_per_day = {quota}"), key=HONEST
    ) as server:
        tokens, refused = 0, 0
        with Client(server.server.target, key=LIMITED) as client:
            for _ in range(quota):
                try:
                    tokens += sum(client.embed(["the cat sat on the mat"]).tokens)
                except RateLimited:
                    refused += 1
                    if refused > 3:
                        break
        held = refused > 3 and quota - 8 < tokens <= quota  # the last text did not fit
        return server.outcome(held=held, note=f"{tokens} tokens of {quota}, then refused")


def work_of_refused_calls(folder: Path) -> Outcome:
    """Have good items prepared without a count, by calls that one bad item in them fails."""
    bad = [*TEXTS, "rain", "the cat " * 300]
    with (
        attacked(
            folder, "--keys-file", _keys(folder, f"items_per_day = {QUOTA}"), key=HONEST
        ) as server,
        Client(server.server.target, key=LIMITED) as client,
    ):
        with Client(server.server.target, key=HONEST) as honest:
            honest.create_collection("notes")
        ways: dict[str, Callable[[], bool]] = {
            "Upsert": lambda: _worked(
                lambda: client.upsert(
                    "notes", range(4), bad, truncation="error", all_or_nothing=True
                )
            ),
            "Anomaly/Fit": lambda: _worked(
                lambda: client.fit_anomaly(
                    "normal", bad, neighbours=1, target_fpr=0.9, truncation="error"
                )
            ),
            "OpenAI": lambda: (
                _posted(server.server, "/v1/embeddings", {"model": "tiny", "input": bad}) == 400
            ),
        }
        counted = dict.fromkeys(ways, 0)
        for _ in range(QUOTA):
            for way, call in ways.items():
                counted[way] += len(bad) if call() else 0
        spent = sum(counted.values())
        held = spent == QUOTA and all(counted.values())
        return server.outcome(held=held, note=f"{spent} items of {QUOTA} for nothing: {counted}")


def workers_and_a_kill(folder: Path) -> Outcome:
    """Spend a quota on two workers, kill all of them, and try again with what starts then."""
    bundle = tiny_bundle(folder / "tiny.attar")
    arguments = ("--keys-file", _keys(folder, f"items_per_day = {QUOTA}"))
    with served(folder, bundle, *arguments, "--workers", 2, "--metrics-port=off") as server:
        answered = [0, 0]

        def call(caller: int) -> None:
            for _ in range(QUOTA):  # a connection each, so that both workers have some
                answered[caller] += _count(server)

        callers = [threading.Thread(target=call, args=(number,)) for number in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        peak_mb = server.rss_mb
        server.process.send_signal(signal.SIGKILL)
        server.ended()
    with served(folder, bundle, *arguments) as server:
        after = sum(_count(server) for _ in range(3))
        rotated = _keys(folder, f"items_per_day = {QUOTA}\nitems_per_s = 1000.0")
        arguments = ("--keys-file", rotated)
    with served(folder, bundle, *arguments) as server:
        after += sum(_count(server) for _ in range(3))
    spent = sum(answered)
    return Outcome(
        held=spent == QUOTA and after == 0,
        peak_mb=peak_mb,
        others_p99_ms=None,
        note=f"{spent} items of {QUOTA} by two workers, {after} after a kill and another limit",
    )


def keys_rotated(folder: Path) -> Outcome:
    """Write the keys anew many times, once badly, while an honest key calls and another guesses."""
    keys = _keys(folder, f"items_per_day = {QUOTA}")
    with attacked(folder, "--keys-file", keys, key=HONEST) as server:
        spent, refused = 0, 0
        for number in range(6):
            _keys(folder, f"items_per_day = {QUOTA + number % 2}", name=f"other{number}")
            if is_bad := number == 3:
                keys.write_text("[[keys]]\nname =", "utf-8")
            # The file is looked at once a second.
            ends = time.monotonic() + (1.3 if is_bad else 0.4)
            while time.monotonic() < ends:
                got = _count(server.server)
                spent, refused = spent + got, refused + (not got)
        for _ in range(QUOTA + 2):
            got = _count(server.server)
            spent, refused = spent + got, refused + (not got)
        log = server.server.log.read_text("utf-8")
        logged = "the keys stay as they were" in log and HONEST not in log and LIMITED not in log
        held = QUOTA <= spent <= QUOTA + 1 and refused > 0 and logged
        note = f"{spent} items of {QUOTA}, {refused} refused, over 6 rewritten files"
        return server.outcome(held=held, note=note)


def _keys(folder: Path, limits: str, *, name: str = "other") -> Path:
    tables = (
        ("honest", HONEST, '["infer", "write"]', ""),
        ("limited", LIMITED, '["infer", "write"]', limits),
        (name, f"{name}-0123456789abcdef", '["infer"]', ""),
    )
    text = "".join(
        f'[[keys]]\nname = "{of}"\nkey = "{key}"\nscopes = {scopes}\n{more}\n'
        for of, key, scopes, more in tables
    )
    (partial := folder / "keys.partial").write_text(text, "utf-8")
    partial.chmod(0o600)
    return partial.replace(folder / "keys.toml")


@contextmanager
def _ways(server: Server) -> Iterator[dict[str, Callable[[], bool]]]:
    """Calls of TEXTS, or of as many vectors or points; each says whether it was let in."""
    with Client(server.target, key=HONEST) as honest:
        embedded = honest.embed(TEXTS)
    with Client(server.target, key=LIMITED) as client:
        yield _calls(server, client, embedded)


def _calls(server: Server, client: Client, embedded: Any) -> dict[str, Callable[[], bool]]:
    def over_http(path: str, body: Any) -> bool:
        return _posted(server, path, body) == 200

    return {
        "Embed": lambda: _let_in(lambda: client.embed(TEXTS)),
        "EmbedStream": lambda: _let_in(lambda: list(client.embed_stream([TEXTS]))),
        "Search, texts": lambda: _let_in(lambda: client.search("notes", TEXTS)),
        "Search, by a model": lambda: _let_in(lambda: client.search("notes", TEXTS, model="tiny")),
        "Search, vectors": lambda: _let_in(
            lambda: client.search(
                "notes", vectors=embedded.vectors, fingerprint=embedded.fingerprint
            )
        ),
        "Search, ids": lambda: _let_in(lambda: client.search("notes", ids=[1, 2])),
        "Upsert, vectors": lambda: _let_in(lambda: _upsert(client, embedded)),
        "KServe, gRPC": lambda: _let_in(lambda: _infer(server)),
        "KServe, HTTP": lambda: over_http(
            "/v2/models/tiny/infer",
            {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}]},
        ),
        "OpenAI": lambda: over_http("/v1/embeddings", {"model": "tiny", "input": TEXTS}),
    }


def _upsert(client: Client, embedded: Any) -> None:
    vectors: NDArray[np.float32] = embedded.vectors
    client.upsert("notes", [1, 2], vectors=vectors, fingerprint=embedded.fingerprint)


def _infer(server: Server) -> None:
    texts = triton.InferInput("text", [len(TEXTS)], "BYTES")
    texts.set_data_from_numpy(np.array(TEXTS, np.object_))
    with triton.InferenceServerClient(server.target) as client:
        client.infer("tiny", [texts], headers={"authorization": f"Bearer {LIMITED}"})


def _let_in(call: Callable[[], object]) -> bool:
    try:
        call()
    except RateLimited:
        return False
    except triton.InferenceServerException as error:
        if "items a day" not in str(error):
            raise
        return False
    return True


def _worked(call: Callable[[], object]) -> bool:
    """Whether a call was refused for its items, and not before they were looked at."""
    try:
        call()
    except InvalidInput:
        return True
    except RateLimited:
        return False
    return False


def _all(ways: dict[str, Callable[[], bool]]) -> Iterator[bool]:
    yield from (call() for call in ways.values())


def _count_answers(client: Client, messages: int) -> int:
    """How many of so many messages of one stream are answered, and not refused."""
    count = 0
    try:
        for embedded in client.embed_stream([TEXTS] * messages, partial=True):
            count += not any(embedded.errors)
    except AttarError:
        return count
    return count


def _count(server: Server) -> int:
    """1 where one item of the limited key is answered over a connection of its own, 0 where not."""
    return int(_posted(server, "/v1/embeddings", {"model": "tiny", "input": "the cat"}) == 200)


def _posted(server: Server, path: str, body: Any) -> int:
    """The status of an answer, 200, 400 or 429."""
    headers = {"authorization": f"Bearer {LIMITED}", "content-type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", server.http_port, timeout=60)) as connection:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status not in (200, 400, 429):
            raise BackendError(f"{answer.status} {answer.read()[:200]!r}")
        return answer.status


ATTACKS: Final = (
    Attack("a quota by every protocol", every_protocol),
    Attack("a rate on one stream", stream_of_messages),
    Attack("tokens in few items", long_texts),
    Attack("work of refused calls", work_of_refused_calls),
    Attack("a quota by workers and a restart", workers_and_a_kill),
    Attack("keys rotated under load", keys_rotated),
)
