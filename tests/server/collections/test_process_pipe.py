"""An answer of the store comes through the pipe as it was, its payloads one by one."""

import threading
from multiprocessing import Pipe

import numpy as np
import pytest

from attar.errors import NotFound
from attar.server.collections import process_pipe
from attar.server.collections.store import Hit, Page, Point


def sent(response: object) -> object:
    here, there = Pipe()
    with here, there:
        thread = threading.Thread(
            target=process_pipe.send, args=(there, response)
        )  # it may be a long one
        thread.start()
        found = process_pipe.receive(here)
        thread.join()
    return found


def test_hits_points_and_errors_come_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[None] = []
    monkeypatch.setattr(process_pipe, "give_way", lambda: moments.append(None))
    payloads = [{"number": n, "deep": {"values": [n] * 2000, "text": "é"}} for n in range(100)]
    hits = [[Hit(n, 0.5, payload, 9) for n, payload in enumerate(payloads)], []]
    assert sent((True, hits)) == (True, hits)
    assert len(moments) > 10

    vector = np.arange(3, dtype=np.float32)
    page = sent(Page((Point("a", {}, vector, 2), Point(2, {"a": None}, None, 3)), 7))
    assert isinstance(page, Page)
    assert [point.payload for point in page.points] == [{}, {"a": None}]
    assert page.following == 7
    assert page.points[0].vector is not None
    assert page.points[0].vector.tolist() == [0, 1, 2]

    answer = sent((False, NotFound("no point 3")))
    assert isinstance(answer, tuple)
    assert (answer[0], type(answer[1]), str(answer[1])) == (False, NotFound, "no point 3")


def test_a_large_array_goes_by_itself_among_what_is_small() -> None:
    large = np.arange(2**19, dtype=np.float32)
    small = large[:5]
    answer = sent((True, [large, {"a": [1]}, small, large.reshape(2, -1)]))

    assert isinstance(answer, tuple)
    first, payload, little, wide = answer[1]
    assert (payload, little.tolist()) == ({"a": [1]}, [0, 1, 2, 3, 4])
    assert np.array_equal(first, large)
    assert np.array_equal(wide, large.reshape(2, -1))


def test_a_closed_end_is_reported() -> None:
    here, there = Pipe()
    there.close()
    with here, pytest.raises(EOFError):
        process_pipe.receive(here)
