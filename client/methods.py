"""Every call as a method, declared once for `Client` and for `AsyncClient`."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

from . import calls
from .call import Call

if TYPE_CHECKING:
    from .awaiting import AsyncClient
    from .blocking import Client

P = ParamSpec("P")
R = TypeVar("R")


class Method(Generic[P, R]):
    """A call as a method with its arguments: `Client` gives the result, `AsyncClient` awaits it."""

    def __init__(self, make: Callable[P, Call[R]]) -> None:
        """Take the function that makes the call."""
        self._make = make
        self._functions: dict[type, Callable[..., Any]] = {}
        self.__doc__ = make.__doc__

    @overload
    def __get__(
        self, client: None, owner: "type[Client]"
    ) -> Callable[Concatenate["Client", P], R]: ...
    @overload
    def __get__(
        self, client: None, owner: "type[AsyncClient]"
    ) -> Callable[Concatenate["AsyncClient", P], Awaitable[R]]: ...
    @overload
    def __get__(self, client: "Client", owner: "type[Client]") -> Callable[P, R]: ...
    @overload
    def __get__(
        self, client: "AsyncClient", owner: "type[AsyncClient]"
    ) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        """Give the method of a client, or the function of its class."""
        if owner not in self._functions:
            function = owner._method(self._make)  # noqa: SLF001 (the clients' own)
            self._functions[owner] = _described(function, self._make)
        function = self._functions[owner]
        return function if client is None else function.__get__(client, owner)


def _described(method: Callable[..., Any], make: Callable[..., Any]) -> Callable[..., Any]:
    """Give a method the name, docstring and signature of its call, for `help` and editors."""
    functools.update_wrapper(method, make, assigned=("__name__", "__doc__"))
    signature = inspect.signature(make)
    owner = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    (result,) = get_args(signature.return_annotation)  # of Call[...]
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[owner, *signature.parameters.values()], return_annotation=result
    )
    return method


class Methods:
    """The methods that both clients have."""

    info = Method(calls.info)
    models = Method(calls.models)
    load_model = Method(calls.load_model)
    unload_model = Method(calls.unload_model)
    set_variant = Method(calls.set_variant)
    embed = Method(calls.embed)
    create_collection = Method(calls.create_collection)
    delete_collection = Method(calls.delete_collection)
    collection = Method(calls.collection)
    collections = Method(calls.collections)
    upsert = Method(calls.upsert)
    search = Method(calls.search)
    search_batch = Method(calls.search_batch)
    retrieve = Method(calls.retrieve)
    scroll = Method(calls.scroll)
    delete_points = Method(calls.delete_points)
    count = Method(calls.count)
    optimize = Method(calls.optimize)
    snapshot = Method(calls.snapshot)
    snapshots = Method(calls.snapshots)
    delete_snapshot = Method(calls.delete_snapshot)
    restore = Method(calls.restore)
    fit_anomaly = Method(calls.fit_anomaly)
    score_anomaly = Method(calls.score_anomaly)
    detector = Method(calls.detector)
    detectors = Method(calls.detectors)
    delete_detector = Method(calls.delete_detector)
    fit_classifier = Method(calls.fit_classifier)
    classify = Method(calls.classify)
    classifier = Method(calls.classifier)
    classifiers = Method(calls.classifiers)
    delete_classifier = Method(calls.delete_classifier)
