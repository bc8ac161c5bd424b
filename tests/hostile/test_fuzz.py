"""No bytes harm the server: hundreds of bent messages by every protocol, each refused by name."""

from collections.abc import Iterator

import httpx
import pytest

from attar import Client
from benchmarks.hostile import fuzz
from benchmarks.hostile.requests import world
from benchmarks.support.servers import free_port

COUNT = 150
World = tuple[str, int]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    folder = tmp_path_factory.mktemp("fuzz")
    with world(folder, http_port=port, http_read_timeout_s=1.0) as (target, _):
        yield target, port
        with Client(target) as client:  # after everything, it still knows its numbers
            assert client.embed(["the cat"], model="tiny").vectors.any()
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200


async def test_bent_messages_have_right_codes_over_grpc(served: World) -> None:
    tally = await fuzz.send_grpc(served[0], COUNT, seed=1)

    assert (tally.requests, tally.wrong, tally.lost) == (COUNT, [], [])


async def test_bent_bodies_have_right_codes_over_http(served: World) -> None:
    tally = await fuzz.send_bodies(f"http://127.0.0.1:{served[1]}", COUNT, seed=2)

    assert (tally.requests, tally.wrong, tally.lost) == (COUNT, [], [])


async def test_bent_requests_are_refused_or_answered(served: World) -> None:
    tally = await fuzz.send_raw("127.0.0.1", served[1], COUNT, seed=3)

    assert (tally.requests, tally.wrong, tally.lost) == (COUNT, [], [])


async def test_dripping_heads_are_cut_off_while_others_are_served(served: World) -> None:
    tally = await fuzz.hold_heads("127.0.0.1", served[1], 20, seconds=3.0)

    assert (tally.codes["cut off"], tally.wrong, tally.lost) == (20, [], [])
    assert tally.codes["200"] > 1


async def test_huge_messages_are_refused_by_their_size(served: World) -> None:
    tally = await fuzz.send_huge(served[0], f"http://127.0.0.1:{served[1]}", 3)

    assert (tally.requests, tally.wrong, tally.lost) == (6, [], [])
