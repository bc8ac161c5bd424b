"""Calls of one collection at a time are as if each were alone, whatever overlaps."""

import itertools
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import attar
from attar import Client
from attar.errors import AlreadyExists, NotFound, Replaced
from benchmarks.attacks.linearizability import Done, Model, linearizable
from benchmarks.support import servers
from benchmarks.support.bundles import tiny_bundle

# ------------------------------------------------------------------------------ the checker


def register(state: int, done: Done) -> list[int]:
    """A number that is read, or written."""
    kind, *value = done.request
    if kind == "write":
        return [int(str(value[0]))]
    return [state] if done.result == state else []


def by_every_order(history: Sequence[Done]) -> bool:
    """Try all orders: the definition itself."""
    for order in itertools.permutations(history):
        if any(b.ended_ns < a.began_ns for a, b in itertools.combinations(order, 2)):
            continue
        state = 0
        for done in order:
            after = register(state, done)
            if not after:
                break
            state = after[0]
        else:
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> list[Done]:
    history = []
    for _ in range(draw(st.integers(1, 6))):
        began = draw(st.integers(0, 12))
        value = draw(st.integers(0, 2))
        request = draw(st.sampled_from([("read",), ("write", value)]))
        history.append(Done(request, value, began, began + draw(st.integers(1, 6))))
    return history


@given(histories())
@settings(max_examples=300)
def test_the_checker_says_what_every_order_says(history: list[Done]) -> None:
    assert linearizable(history, Model(0, register)) == by_every_order(history)


# ------------------------------------------------------------------------------ collections

WORDS: Final = ("cat", "dog", "sun", "rain")
MODELS: Final = ("one", "two")  # of two spaces, as wide as each other
Points: TypeAlias = frozenset[tuple[int, str]]
FOREIGN: Final = "a vector of another space"
NOTHING: Final[Points] = frozenset()
MANY: Final = tuple(range(200))  # points, which take a while to embed


@dataclass(frozen=True)
class State:
    """A name: the space and the points it has, if it is taken, and the snapshots of it."""

    space: str | None = None
    points: Points = NOTHING
    kept: frozenset[tuple[str, str, Points]] = frozenset()


def after(state: State, done: Done) -> list[State]:
    """What docs/serving.md promises of each call."""
    kind, *given_ = done.request
    result = done.result
    if result == "Replaced":  # nothing was done
        return [state]
    if kind == "restore":
        return [
            replace(state, space=space, points=points)
            for snapshot, space, points in state.kept
            if (snapshot, (space, len(points))) == (given_[0], result)
        ]
    if kind == "create":
        expected = "" if state.space is None else "AlreadyExists"
        made = replace(state, space=str(given_[0]), points=NOTHING) if not expected else state
        return [made] if result == expected else []
    if state.space is None:
        return [state] if result == "NotFound" else []
    return _of_what_is_there(state, state.space, done)


def _of_what_is_there(state: State, space: str, done: Done) -> list[State]:
    kind, *given_ = done.request
    if kind == "snapshot":
        kept = {*state.kept, (str(done.result), space, state.points)}
        return [replace(state, kept=frozenset(kept))] if done.result != "NotFound" else []
    expected: Hashable = ""
    match kind:
        case "delete":
            state = replace(state, space=None, points=NOTHING)
        case "upsert":
            ids, word = given_
            state, expected = replace(state, points=_with(state.points, ids, word)), space
        case "remove":
            state = replace(state, points=_with(state.points, given_[0], None))
        case "describe":
            expected = (space, len(state.points))
        case _:
            expected = (space, state.points)
    return [state] if done.result == expected else []


def _with(points: Points, ids: Any, word: Any) -> Points:
    others = {point for point in points if point[0] not in ids}
    return frozenset(others if word is None else others | {(i, word) for i in ids})


def text(word: str, point: int) -> str:
    return f"{word} {' '.join(str(point))}"


@dataclass
class Served:
    """A server of two models, and what each text is in each space."""

    target: str
    spaces: dict[str, str]  # names of models by fingerprint
    vectors: dict[str, dict[tuple[str, int], Any]]  # by model, then by word and point
    names: Iterator[int] = field(default_factory=itertools.count)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("linear")
    spaces, vectors, paths = {}, {}, []
    for seed, name in enumerate(MODELS):
        paths.append(tiny_bundle(folder / f"{name}.attar", name=name, seed=seed))
        points = [(word, i) for word in WORDS for i in MANY]
        embedded = attar.load(paths[-1], threads=1).embed([text(*point) for point in points])
        spaces[embedded.fingerprint] = name
        vectors[name] = dict(zip(points, embedded.vectors, strict=True))
    chosen = servers.settings(*paths, data_dir=folder / "data", max_batch_tokens=16)
    with servers.serving(chosen) as target:
        yield Served(target, spaces, vectors)


class Caller:
    """One caller of one collection; its calls and what they came to."""

    def __init__(self, served: Served, client: Client, name: str, kept: list[str]) -> None:
        """Call `client` for `name`; `kept` are the snapshots that all callers know."""
        self._served, self._client, self._name, self._kept = served, client, name, kept
        self.history: list[Done] = []

    def call(self, request: tuple[Any, ...]) -> None:
        """Make a call and remember it."""
        if request[0] == "restore":
            if not self._kept:
                return
            request = ("restore", self._kept[-1])
        began = time.monotonic_ns()
        try:
            result = self._send(*request)
        except (NotFound, AlreadyExists, Replaced) as error:
            result = type(error).__name__
        self.history.append(Done(request, result, began, time.monotonic_ns()))

    def _send(self, kind: str, *given_: Any) -> Hashable:
        client, name, space = self._client, self._name, self._served.spaces
        match kind:
            case "create":
                client.create_collection(name, model=given_[0])
            case "delete":
                client.delete_collection(name)
            case "upsert":
                ids, word = given_
                payloads, texts = [{"word": word}] * len(ids), [text(word, i) for i in ids]
                return space[client.upsert(name, ids, texts, payloads=payloads).fingerprint]
            case "remove":
                client.delete_points(name, given_[0])
            case "snapshot":
                self._kept.append(snapshot := client.snapshot(name).id)
                return snapshot
            case "restore":
                made = client.restore(name, given_[0], replace=True)
                return space[made.fingerprint], made.points
            case "describe":
                info = client.collection(name)
                return space[info.fingerprint], info.points
            case "search":
                return self._searched(given_[0])
            case "read":
                page = client.scroll(name, limit=1000, with_vectors=True)
                model = space[page.fingerprint]
                return model, frozenset(
                    (int(point.id), self._word(model, point)) for point in page.points
                )
        return ""

    def _searched(self, word: str) -> Hashable:
        found = self._client.search(
            self._name, [text(word, 0)], limit=1000, exact=True, role="passage"
        )
        model = self._served.spaces[found.fingerprint]
        vectors = self._served.vectors[model]
        points = set()
        for hit in found[0]:
            stored = str((hit.payload or {})["word"])
            score = float(vectors[word, 0] @ vectors[stored, int(hit.id)])
            points.add((int(hit.id), stored if abs(score - hit.score) < 1e-4 else FOREIGN))
        return model, frozenset(points)

    def _word(self, model: str, point: Any) -> str:
        word = str(point.payload["word"])
        right = self._served.vectors[model][word, int(point.id)]
        return word if np.allclose(point.vector, right, atol=1e-5) else FOREIGN


IDS: Final = st.sampled_from([(0,), (0, 1), (1, 2, 3), MANY])
CALLS: Final = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(MODELS)),
    st.just(("delete",)),
    st.tuples(st.just("upsert"), IDS, st.sampled_from(WORDS)),
    st.tuples(st.just("upsert"), IDS, st.sampled_from(WORDS)),
    st.tuples(st.just("remove"), IDS),
    st.tuples(st.just("search"), st.sampled_from(WORDS)),
    st.just(("read",)),
    st.just(("describe",)),
)
PROGRAMS: Final = st.lists(st.lists(CALLS, min_size=3, max_size=6), min_size=3, max_size=3)
WRITER: Final[tuple[Any, ...]] = (("create", "one"), ("upsert", (0, 1), "cat"))
REPLACED: Final[list[list[tuple[Any, ...]]]] = [
    [("upsert", MANY, "cat")] * 4,
    [("delete",), ("create", "two"), ("delete",), ("create", "one")] * 2,
    [("search", "sun"), ("read",), ("remove", (0,)), ("describe",)] * 2,
]
KEPT: Final[list[list[tuple[Any, ...]]]] = [
    [("snapshot",), ("upsert", MANY, "cat"), ("restore",), ("read",)],
    [("upsert", (0, 1), "dog"), ("upsert", MANY, "sun"), ("delete",), ("create", "two"), ("read",)],
    [("describe",), ("remove", (0,)), ("search", "rain"), ("upsert", MANY, "rain"), ("read",)],
]


def run(served: Served, programs: Sequence[Sequence[tuple[Any, ...]]]) -> list[Done]:
    """Run each program in a thread of its own; give the calls of all."""
    kept: list[str] = []
    name = f"c{next(served.names)}"
    with Client(served.target) as client:
        first = Caller(served, client, name, kept)
        for request in WRITER:
            first.call(request)
        callers = [Caller(served, client, name, kept) for _ in programs]
        failures: list[BaseException] = []

        def work(caller: Caller, program: Sequence[tuple[Any, ...]]) -> None:
            try:
                for request in program:
                    caller.call(request)
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=work, args=pair) for pair in zip(callers, programs, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with suppress(NotFound):
            client.delete_collection(name)
    if failures:
        raise failures[0]
    return [done for caller in (first, *callers) for done in caller.history]


def shown(history: Sequence[Done]) -> str:
    return "\n".join(map(str, sorted(history, key=lambda done: done.began_ns)))


FEW: Final = settings(
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@given(programs=PROGRAMS)
@example(programs=REPLACED)
@settings(FEW, max_examples=5)
def test_calls_that_overlap_are_as_if_one_came_after_another(
    programs: list[list[tuple[Any, ...]]], served: Served
) -> None:
    history = run(served, programs)

    assert linearizable(history, Model(State(), after)), shown(history)


def test_a_snapshot_and_a_restore_among_them_too(served: Served) -> None:
    history = run(served, KEPT)

    assert any(done.request[0] == "restore" for done in history)
    assert linearizable(history, Model(State(), after)), shown(history)


UPSERT: Final = Done(("upsert", (0,), "cat"), "one", 4, 20)
CREATED: Final = Done(("create", "one"), "", 0, 2)
DELETED: Final = Done(("delete",), "", 5, 6)
AGAIN: Final = Done(("create", "two"), "", 7, 8)
READ: Final = ("read",)


@pytest.mark.parametrize(
    ("history", "holds"),
    [
        ((CREATED, UPSERT, DELETED, AGAIN), True),
        (
            (CREATED, UPSERT, DELETED, AGAIN, Done(READ, ("two", frozenset({(0, "cat")})), 21, 22)),
            False,
        ),
        ((CREATED, UPSERT, Done(READ, ("one", frozenset()), 21, 22)), False),
        ((CREATED, UPSERT, Done(READ, ("one", frozenset({(0, FOREIGN)})), 21, 22)), False),
        ((CREATED, UPSERT, Done(READ, ("one", frozenset()), 5, 6)), True),
        ((CREATED, DELETED, Done(READ, ("one", frozenset()), 7, 8)), False),
    ],
    ids=[
        "an upsert before its collection is deleted",
        "an upsert into the successor",
        "a lost upsert",
        "a vector of another space",
        "a read before an upsert that overlaps it",
        "a read of what is deleted",
    ],
)
def test_what_the_collections_must_not_do_is_no_order_of_calls(
    history: tuple[Done, ...],
    holds: bool,
) -> None:
    assert linearizable(history, Model(State(), after)) == holds
