"""Linearizability: whether what overlapping calls came to could have come of one after another.

A history is linearizable when its calls can be put in an order in which no call comes before one
that had ended when it began, and in which each came to what it would have come to alone (Herlihy
and Wing, 1990). The order is looked for as Wing and Gong do ("Testing and Verifying Concurrent
Objects", 1993), with Lowe's memory of what was tried ("Testing for linearizability", 2017): what
can still follow depends on nothing but which calls are left and the state they meet.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Done:
    """One call: what was asked, what it came to, and when it began and ended (ns, one clock)."""

    request: tuple[Hashable, ...]
    result: Hashable
    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Model(Generic[S]):
    """What calls do one after another.

    `after` gives the states that a call which came to its result may leave; none where it could not
    come to that, and several where the result does not tell whether the call was carried out.
    """

    initial: S
    after: Callable[[S, Done], Iterable[S]]


def linearizable(history: Sequence[Done], model: Model[S]) -> bool:
    """Whether some order of the calls explains all results."""
    seen: set[tuple[frozenset[int], S]] = set()
    todo: list[tuple[frozenset[int], S]] = [(frozenset(range(len(history))), model.initial)]
    while todo:
        left, state = todo.pop()
        if not left:
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        first_end = min(history[i].ended_ns for i in left)
        for i in left:
            if history[i].began_ns <= first_end:  # nothing that is left had ended before
                todo += [(left - {i}, after) for after in model.after(state, history[i])]
    return False
