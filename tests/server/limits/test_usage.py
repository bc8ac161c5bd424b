"""Usage: limits are exact in every process, for any clock, and after any restart."""

import fcntl
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import RateLimited, Unauthenticated, Unavailable
from attar.server.limits.usage import Ledger, Usage
from attar.server.security.access import Access, Key, parse_keys, use

SECRET = "reader-0123456789"  # noqa: S105 (a test's)
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def key(**limits: Any) -> Key:
    return Key(name="a", sha256="0" * 64, scopes=frozenset({"infer"}), **limits)


def access(path: Path, now: Sequence[float], clock: Sequence[datetime], **limits: Any) -> Access:
    """Give a worker's access to a key with limits; the last of `now` and `clock` is the time."""
    (one,) = parse_keys(f"a:infer:{SECRET}")
    limited = Key(**{**one.model_dump(), **limits})
    return Access([limited], ledger=Ledger(path), now=lambda: now[-1], clock=lambda: clock[-1])


@given(
    rate=st.floats(0.5, 100),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50)), max_size=50),
)
def test_a_rate_lets_through_its_rate_and_one_burst(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    """Beyond the last request, which may leave a debt, never more than the rate gives."""
    used, one, now, taken, before_last = Usage(), key(items_per_s=rate), 0.0, 0, 0
    for pause, amount in steps:
        now += pause
        try:
            use(one, used, (0, amount, 0), now=now, clock=NOON)
        except RateLimited:
            continue
        before_last, taken = taken, taken + amount

    assert before_last <= max(1.0, rate) + rate * now + 1e-6


@given(rate=st.floats(0.5, 100), amounts=st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_a_caller_who_waits_for_retry_after_is_admitted(rate: float, amounts: list[int]) -> None:
    used, one, now = Usage(), key(tokens_per_s=rate), 0.0
    for amount in amounts:
        try:
            use(one, used, (0, 0, amount), now=now, clock=NOON)
        except RateLimited as refused:
            now += refused.retry_after_s + 1e-6
            use(one, used, (0, 0, amount), now=now, clock=NOON)


def test_a_quota_begins_again_with_the_day() -> None:
    used, one = Usage(), key(items_per_day=5)
    evening = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)

    use(one, used, (1, 5, 0), now=0.0, clock=evening)
    with pytest.raises(RateLimited, match="has used 5 of 5 items a day") as refused:
        use(one, used, (1, 1, 0), now=0.0, clock=evening)
    use(one, used, (1, 5, 0), now=0.0, clock=datetime(2026, 2, 1, 0, 1, tzinfo=UTC))

    assert refused.value.retry_after_s == 3600


def test_tokens_have_a_rate_and_a_quota_of_their_own() -> None:
    used, one = Usage(), key(tokens_per_s=10, tokens_per_day=25)

    use(one, used, (1, 1, 10), now=0.0, clock=NOON)
    with pytest.raises(RateLimited, match=r"may send 10 tokens a second; retry in 1 s"):
        use(one, used, (1, 1, 10), now=0.0, clock=NOON)
    use(one, used, (1, 1, 10), now=1.0, clock=NOON)
    with pytest.raises(RateLimited, match=r"has used 20 of 25 tokens a day, .* request has 6"):
        use(one, used, (1, 1, 6), now=9.0, clock=NOON)
    use(one, used, (1, 1, 5), now=9.0, clock=NOON)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # the worker that counts
        st.booleans(),  # whether it is a new process
        st.integers(1, 4),  # items
        st.sampled_from((0.0, 0.25, 1.0, 3600.0, 86_400.0)),  # seconds later
        st.sampled_from((0, 0, 0, 1, -1, 3650, -3650)),  # days that the clock jumps
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(steps=STEPS)
def test_workers_together_never_pass_a_quota_however_they_alternate_and_the_clock_jumps(
    steps: list[tuple[int, bool, int, float, int]],
) -> None:
    """One quota at most for each date later than all before it, and for each 24 hours."""
    quota, now, clock = 10, [0.0], [NOON]
    latest, dates, taken = date.min, 0, 0  # the oracle's
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usage"
        workers = [access(path, now, clock, items_per_day=quota) for _ in range(3)]
        for worker, restarted, items, later, jump in steps:
            now.append(now[-1] + later)
            clock.append(clock[-1] + timedelta(seconds=later, days=jump))
            if restarted:
                workers[worker] = access(path, now, clock, items_per_day=quota)
            if clock[-1].date() > latest:
                latest, dates = clock[-1].date(), dates + 1
            try:
                workers[worker].take("a", items=items)
            except RateLimited:
                assert taken + items > quota, "the first quota is whole"
            else:
                taken += items
            assert taken <= quota * (dates + now[-1] // 86_400)


@settings(deadline=None, max_examples=40)
@given(
    items=st.lists(st.integers(1, 7), max_size=30), workers=st.lists(st.integers(0, 2), min_size=30)
)
def test_a_quota_is_exact_where_requests_come_one_after_another(
    items: list[int], workers: list[int]
) -> None:
    left, answered, expected = 20, list[bool](), list[bool]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usage"
        several = [access(path, [0.0], [NOON], items_per_day=left) for _ in range(3)]
        for amount, worker in zip(items, workers, strict=False):
            expected.append(amount <= left)
            left -= amount if amount <= left else 0
            try:
                several[worker].take("a", items=amount)
                answered.append(True)
            except RateLimited:
                answered.append(False)

    assert answered == expected


def _take_many(path: str, count: int, taken: Any) -> None:
    own = access(Path(path), [0.0], [NOON], items_per_day=300, requests_per_s=1e6)
    for _ in range(count):
        try:
            own.take("a", items=1)
        except RateLimited:
            continue
        except Unavailable:  # it waited too long for the lock: not counted, and not let through
            continue
        with taken.get_lock():
            taken.value += 1


def test_processes_at_once_let_through_no_more_than_the_quota(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Value("i", 0)
    arguments = (str(tmp_path / "usage"), 200, taken)
    processes = [context.Process(target=_take_many, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert taken.value == 300


def test_what_was_used_is_there_after_a_restart_and_with_other_limits(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    access(path, [5.0], [NOON], items_per_day=10, items_per_s=5).take("a", items=5)

    again = access(path, [5.0], [NOON], items_per_day=12, items_per_s=5)
    with pytest.raises(RateLimited, match="5 items a second; retry in 1 s"):
        again.take("a", items=5)
    with pytest.raises(RateLimited, match="has used 5 of 12 items a day"):
        again.take("a", items=8)
    # Seconds since the machine was started begin anew with it.
    access(path, [1.0], [NOON], items_per_day=12).take("a", items=7)


def test_a_key_that_was_taken_away_has_nothing_left(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    line = '[[keys]]\nname = "{}"\nkey = "{}"\nscopes = ["infer"]\n'
    keys.write_text(line.format("a", SECRET) + line.format("b", "other-0123456789"), "utf-8")
    now = [0.0]
    own = Access(file=keys, ledger=Ledger(tmp_path / "usage"), now=lambda: now[-1])
    own.take("a", items=1)

    keys.write_text(line.format("b", "other-0123456789"), "utf-8")
    now.append(10.0)
    with pytest.raises(Unauthenticated, match="not one that this server knows any more"):
        own.take("a", items=1)


def test_an_hour_that_is_set_back_gives_no_second_quota(tmp_path: Path) -> None:
    clock = [datetime(2026, 2, 1, 0, 0, 1, tzinfo=UTC)]
    now = [0.0]
    own = access(tmp_path / "usage", now, clock, items_per_day=5)
    own.take("a", items=5)

    for day in (31, 1, 31, 1):  # to and fro over midnight
        clock.append(datetime(2026, 1 if day == 31 else 2, day, tzinfo=UTC))
        with pytest.raises(RateLimited):
            own.take("a", items=1)
    clock.append(datetime(2025, 1, 1, tzinfo=UTC))  # a year back: a day's time later it goes on
    now.append(86_399.0)
    with pytest.raises(RateLimited):
        own.take("a", items=1)
    now.append(86_400.0)
    own.take("a", items=5)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b"\xff" * 128, b"\0" * 300])
def test_a_damaged_file_is_reported_and_counting_starts_again(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "usage"
    own = access(path, [0.0], [NOON], items_per_day=5)
    own.take("a", items=5)
    path.write_bytes(damage)

    own.take("a", items=5)
    with pytest.raises(RateLimited):
        own.take("a", items=1)

    assert "counted from 0" in caplog.text


def test_what_cannot_be_counted_is_not_let_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "usage"
    (tmp_path / "elsewhere").write_bytes(b"")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="cannot be counted now") as linked:
        access(path, [0.0], [NOON], items_per_day=5).take("a", items=1)
    path.unlink()
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(Unavailable, match="retry later"):
        access(path, [0.0], [NOON], items_per_day=5).take("a", items=1)
    os.close(other)

    assert str(tmp_path) not in str(linked.value)
    assert "cannot be counted" in caplog.text


def test_a_key_without_limits_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    access(path, [0.0], [NOON]).take("a", items=10**9)

    assert not path.exists()
