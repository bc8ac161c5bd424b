"""Shares: nobody holds all of a limit, and what is held is what was taken and not given back."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import Overloaded
from attar.server.limits.fair_shares import SHORT_BYTES, FairShares, ResponseRoom, origin

CALLERS = st.sampled_from("abcd")
LIMITS = st.integers(1, 40)


def shares(limit: int) -> FairShares:
    return FairShares("max_calls", limit, what="calls")


@given(limit=LIMITS, steps=st.lists(st.tuples(CALLERS, st.integers(1, 12), st.booleans())))
def test_a_caller_takes_more_exactly_while_it_has_no_more_than_is_free(
    limit: int, steps: list[tuple[str, int, bool]]
) -> None:
    shared = shares(limit)
    held = Counter[str]()
    for caller, amount, gives in steps:
        if gives and held[caller] >= amount:
            shared.give(caller, amount)
            held[caller] -= amount
            continue
        fits = held[caller] + amount <= limit - held.total() or not held.total()
        assert shared.take(caller, amount) == fits
        held[caller] += amount if fits else 0
        assert shared.total == held.total()


@given(limit=LIMITS, others=st.integers(0, 6))
def test_each_of_several_reaches_an_equal_part_and_one_part_stays_free(
    limit: int, others: int
) -> None:
    shared = shares(limit)
    held = Counter[int]()
    while taken := [caller for caller in range(others + 1) if shared.take(str(caller))]:
        held.update(taken)

    assert max(held.values()) - min(held[caller] for caller in range(others + 1)) <= 1
    assert limit - held.total() >= min(held.values()) - 1
    assert limit == 1 or shared.full == (others + 1 >= limit)


def test_a_refusal_names_the_setting_its_value_and_what_is_held() -> None:
    shared = shares(2 * SHORT_BYTES)
    shared.take("a", SHORT_BYTES)

    words = r"has 65536 calls and all callers 65536, of max_calls, 131072; .* retry"
    with pytest.raises(Overloaded, match=words):
        ResponseRoom(shared, "a").settle(SHORT_BYTES + 1)


def test_a_short_answer_is_never_refused_and_is_counted() -> None:
    shared = shares(SHORT_BYTES)
    shared.take("a", SHORT_BYTES)

    room = ResponseRoom(shared, "a")
    room.settle(SHORT_BYTES)
    assert shared.total == 2 * SHORT_BYTES
    room.leave()
    assert shared.total == SHORT_BYTES


def test_what_is_larger_than_the_limit_is_held_by_one_at_a_time() -> None:
    size = SHORT_BYTES + 9
    shared = shares(4)
    first, second = ResponseRoom(shared, "a"), ResponseRoom(shared, "b")
    first.settle(size)
    with pytest.raises(Overloaded):
        second.settle(size)
    first.settle(size + 3)  # as it turned out
    first.leave()
    second.settle(size)

    assert shared.total == size


def test_an_answer_that_is_smaller_than_was_thought_gives_the_rest_back() -> None:
    shared = shares(10)
    room = ResponseRoom(shared, "a")
    room.settle(5)
    room.settle(2)

    assert shared.total == 2
    room.leave()
    room.leave()
    assert shared.total == 0


async def test_the_answers_of_a_stream_wait_for_room() -> None:
    shared = shares(4)
    first = ResponseRoom(shared, "a").next()
    second = first.next()
    await first.take(2)
    waits = asyncio.create_task(second.take(2))
    await asyncio.sleep(0)

    assert not second.reserved.is_set()
    first.leave()
    await waits
    assert shared.total == 2


@pytest.mark.parametrize(
    ("caller", "comes_from"),
    [
        ("ipv4:10.1.2.3:50000", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("ipv6:%5B::ffff:10.1.2.3%5D:7", "10.1.2.3"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:7", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("key 10.1.2.3", "key 10.1.2.3"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_connections_and_requests_of_one_address_come_from_one_place(
    caller: str, comes_from: str
) -> None:
    assert origin(caller) == comes_from


def test_all_connections_of_one_address_leave_a_ninth_to_others() -> None:
    shared = shares(900)
    for connection in range(2000):
        shared.take(f"ipv4:10.1.2.3:{connection}")

    assert shared.total == 800
    assert shared.take("ipv4:10.1.2.4:1", 50)
