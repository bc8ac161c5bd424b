"""Every call as a method, declared once for `Client` and for `AsyncClient`."""

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

from attar.values import Embedded

from . import calls, embedding
from .call import Call
from .collections import Part
from .collections import upsert_all as write_all
from .embedding import EmbedStream

if TYPE_CHECKING:
    from .awaiting import AsyncClient
    from .blocking import Client

P = ParamSpec("P")
R = TypeVar("R")
Returned = TypeVar("Returned")
Awaited = TypeVar("Awaited")


class Method(Generic[P, Returned, Awaited]):
    """A function of arguments as a method: its result is of one type for each of the clients."""

    def __init__(self, make: Callable[P, Any], wrap: str) -> None:
        """Take what makes a call of the arguments, and which function of a client wraps it."""
        self._make = make
        self._wrap = wrap
        self._functions: dict[type, Callable[..., Any]] = {}
        self.__doc__ = make.__doc__

    @overload
    def __get__(
        self, client: None, owner: "type[Client]"
    ) -> Callable[Concatenate["Client", P], Returned]: ...
    @overload
    def __get__(
        self, client: None, owner: "type[AsyncClient]"
    ) -> Callable[Concatenate["AsyncClient", P], Awaited]: ...
    @overload
    def __get__(self, client: "Client", owner: "type[Client]") -> Callable[P, Returned]: ...
    @overload
    def __get__(
        self, client: "AsyncClient", owner: "type[AsyncClient]"
    ) -> Callable[P, Awaited]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        """Give the method of a client, or the function of its class."""
        if owner not in self._functions:
            function = getattr(owner, self._wrap)(self._make)
            self._functions[owner] = _described(function, self._make)
        function = self._functions[owner]
        return function if client is None else function.__get__(client, owner)


def _described(method: Callable[..., Any], make: Callable[..., Any]) -> Callable[..., Any]:
    """Give a method the name, docstring and signature of its call, for `help` and editors."""
    functools.update_wrapper(method, make, assigned=("__name__", "__doc__"))
    result = inspect.signature(method, follow_wrapped=False).return_annotation
    signature = inspect.signature(make)
    if isinstance(result, TypeVar):
        (result,) = get_args(signature.return_annotation)  # of Call[...]
    owner = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[owner, *signature.parameters.values()], return_annotation=result
    )
    return method


def unary(make: Callable[P, Call[R]]) -> Method[P, R, Awaitable[R]]:
    """Declare a method that sends one call."""
    return Method(make, "_unary")


def series(make: Callable[P, Iterator[Part]]) -> Method[P, int, Awaitable[int]]:
    """Declare a method that sends calls one after another, and gives how many points they wrote."""
    return Method(make, "_series")


def stream(
    make: Callable[P, EmbedStream],
) -> Method[P, Iterator[Embedded], AsyncIterator[Embedded]]:
    """Declare a method that opens a stream, and gives its responses."""
    return Method(make, "_stream")


class Methods:
    """The methods that both clients have."""

    info = unary(calls.info)
    models = unary(calls.models)
    load_model = unary(calls.load_model)
    unload_model = unary(calls.unload_model)
    set_variant = unary(calls.set_variant)
    embed = unary(calls.embed)
    embed_tokens = unary(calls.embed_tokens)
    embed_stream = stream(embedding.embed_stream)
    rerank = unary(calls.rerank)
    create_collection = unary(calls.create_collection)
    delete_collection = unary(calls.delete_collection)
    collection = unary(calls.collection)
    collections = unary(calls.collections)
    upsert = unary(calls.upsert)
    upsert_all = series(write_all)
    search = unary(calls.search)
    search_batch = unary(calls.search_batch)
    retrieve = unary(calls.retrieve)
    scroll = unary(calls.scroll)
    delete_points = unary(calls.delete_points)
    count = unary(calls.count)
    optimize = unary(calls.optimize)
    snapshot = unary(calls.snapshot)
    snapshots = unary(calls.snapshots)
    delete_snapshot = unary(calls.delete_snapshot)
    restore = unary(calls.restore)
    fit_anomaly = unary(calls.fit_anomaly)
    score_anomaly = unary(calls.score_anomaly)
    detector = unary(calls.detector)
    detectors = unary(calls.detectors)
    delete_detector = unary(calls.delete_detector)
    fit_classifier = unary(calls.fit_classifier)
    classify = unary(calls.classify)
    classifier = unary(calls.classifier)
    classifiers = unary(calls.classifiers)
    delete_classifier = unary(calls.delete_classifier)
