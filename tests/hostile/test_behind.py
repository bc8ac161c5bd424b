"""What comes behind a request's head, or behind its answer, never makes the server answer twice."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.support.servers import free_port, serving, settings

GET = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\n"
JSON = POST + b"content-type: application/json\r\n"
TEXT = POST + b"content-type: text/plain\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"
EXPECT = b"expect: 100-continue\r\n"
BODY = b'{"model": "tiny", "input": ["a"]}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
LARGE = b"content-length: 999999999\r\n"
END = b"\r\n"
BAD = b"zz\r\nno chunk\r\n"
OPEN = "open"
STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")
DEADLINE_S = 10.0
# By name: what is sent, each part once the one before is answered or a moment later; the status
# codes that come, and OPEN where the connection takes another request.
CASES: dict[str, tuple[tuple[bytes, ...], list[str]]] = {
    "a bad chunk behind a refusal": ((TEXT + CHUNKED + END, BAD), ["415"]),
    "a bad chunk behind a refusal that closes": ((TEXT + CLOSE + CHUNKED + END, BAD), ["415"]),
    "a bad chunk with its head": ((TEXT + CHUNKED + END + BAD,), ["400"]),
    "a bad chunk behind a good one": ((JSON + CHUNKED + END + b"1\r\n{\r\n", BAD), ["400"]),
    "a bad chunk behind an answer": ((GET + CHUNKED + END, BAD), ["200"]),
    "a bad chunk of a length refused": ((JSON + LARGE + CHUNKED + END, BAD), ["400"]),
    "no request behind an answer": ((GET + END + b"\0\0\r\n\r\n",), ["200", "400"]),
    "no request behind an answer, later": ((GET + END, b"\0\0\r\n\r\n"), ["200", "400"]),
    "a head too long behind an answer": ((GET + END, b"a" * 70_000), ["200", "400"]),
    "two requests": ((GET + END + GET + END,), ["200", "200", OPEN]),
    "a request behind one that closes": ((GET + CLOSE + END + GET + END,), ["200"]),
    "a request behind a whole body refused": ((TEXT + LENGTH + END + BODY,), ["415", OPEN]),
    "half a body behind a refusal": (
        (TEXT + LENGTH + END + BODY[:5], BODY[5:] + GET + END),
        ["415", "200", OPEN],
    ),
    "a request in place of a body without 100 Continue": (
        (TEXT + LENGTH + EXPECT + END, GET + END),
        ["415"],
    ),
    "a body too large, without 100 Continue": ((JSON + LARGE + EXPECT + END, GET + END), ["413"]),
    "a body after 100 Continue": ((JSON + LENGTH + EXPECT + END, BODY), ["100", "200", OPEN]),
}


@pytest.fixture(scope="module")
def port(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    web = free_port()
    data = tmp_path_factory.mktemp("behind")
    with serving(settings(bundle_path, data_dir=data, http_port=web)):
        yield web


def come(connection: socket.socket, *, least: int, quiet_s: float = 0.3) -> tuple[bytes, bool]:
    """Read until so many answers came and then nothing for a while; tells whether it is open."""
    came = b""
    connection.settimeout(quiet_s)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        try:
            part = connection.recv(2**16)
        except TimeoutError:
            if len(STATUS.findall(came)) >= least:
                return came, True
            continue
        except ConnectionError:
            return came, False
        if not part:
            return came, False
        came += part
    return came, True


@pytest.mark.parametrize("name", CASES)
def test_each_request_has_one_answer_whatever_comes_behind_it(
    name: str, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    parts, expected = CASES[name]
    stays_open = OPEN in expected
    came, is_open = b"", True
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        for index, part in enumerate(parts):
            try:
                connection.sendall(part)
            except ConnectionError:
                break
            is_last = index == len(parts) - 1
            least = 99 if is_last and not stays_open else int(part.endswith(END + END) or is_last)
            more, is_open = come(connection, least=least)
            came += more
        if stays_open:
            connection.sendall(GET + END)
            more, is_open = come(connection, least=1)
            assert b" 200 " in more
    statuses = [code.decode() for code in STATUS.findall(came)]

    assert statuses + [OPEN] * is_open == expected
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
