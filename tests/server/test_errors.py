"""Errors: every exception of attar has exactly one status, and comes back as itself."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc import StatusCode

from attar.client import call
from attar.errors import (
    AttarError,
    BackendError,
    BundleRefused,
    InvalidInput,
    MissingExtra,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Replaced,
    ShapeError,
    Unauthenticated,
    Unavailable,
)
from attar.server import errors
from attar.server.errors import STATUS, Violation, about, code_of, http_code, to_status

DOCS = Path(__file__).parents[2] / "docs" / "protocols.md"


def tree(kind: type[AttarError] = AttarError) -> Iterator[type[AttarError]]:
    """Give an exception class and all below it."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("attar."):  # a test may make its own
            yield from tree(child)


def make(kind: type[AttarError], message: str = "what, value, expected, fix") -> AttarError:
    if kind is BundleRefused:
        return BundleRefused("field", message)
    if kind is MissingExtra:
        return MissingExtra("it", "client")
    return kind(message)


def test_each_exception_has_exactly_one_status() -> None:
    assert set(tree()) == set(STATUS)


def test_reasons_are_distinct() -> None:
    assert len({kind.reason for kind in tree()}) == len(STATUS)


@pytest.mark.parametrize("kind", list(tree()))
def test_a_status_carries_the_code_the_reason_and_the_words(kind: type[AttarError]) -> None:
    status = to_status(error := make(kind))

    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (kind.reason, "attar")
    assert status.code == code_of(error).value[0]
    if code_of(error) is not StatusCode.INTERNAL:
        assert status.message == str(error)


@pytest.mark.parametrize("kind", list(call.REASONS.values()))
def test_an_exception_comes_back_as_itself(kind: type[AttarError]) -> None:
    assert type(call.error_from(to_status(kind("x")))) is kind


def test_all_but_two_exceptions_come_back() -> None:
    assert set(tree()) - set(call.REASONS.values()) == {AttarError, BundleRefused, MissingExtra}


def test_a_bad_field_is_named_and_keeps_its_reason() -> None:
    with pytest.raises(Violation) as raised, about("tensor"):
        raise ShapeError("12 bytes")

    status = to_status(raised.value)
    bad, info = BadRequest(), ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (status.code, info.reason) == (StatusCode.INVALID_ARGUMENT.value[0], "SHAPE")
    assert [(one.field, one.description) for one in bad.field_violations] == [
        ("tensor", "12 bytes")
    ]


def test_only_what_may_pass_says_when_to_retry() -> None:
    retrying = {kind for kind in tree() if call.retry_after(to_status(make(kind))) is not None}

    assert retrying == {Overloaded, RateLimited, Replaced, Unavailable}


def test_a_limited_key_gets_the_time_of_its_next_call() -> None:
    assert call.retry_after(to_status(RateLimited("x", 3.5))) == 3.5


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (InvalidInput, 400),
        (Unauthenticated, 401),
        (PermissionDenied, 403),
        (RateLimited, 429),
        (RuntimeError, 500),
        (Unavailable, 503),
    ],
)
def test_an_exception_has_an_http_status_too(kind: type[Exception], code: int) -> None:
    assert http_code(kind("x")) == code


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, AttarError, BackendError])
def test_a_bug_is_reported_by_its_request_id_alone(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    words = "the caller's text"
    try:
        raise kind(words)
    except Exception as error:
        with caplog.at_level(logging.ERROR):
            status = to_status(error)

    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.code == StatusCode.INTERNAL.value[0]
    assert info.metadata["request_id"] in status.message
    assert info.metadata["request_id"] in caplog.text
    assert kind.__name__ in caplog.text
    assert words not in caplog.text + status.message


def test_a_long_message_is_cut_to_fit_the_trailers() -> None:
    status = to_status(InvalidInput(f"{'語' * 80} " * 1000))

    assert len(status.message) == errors.MAX_MESSAGE
    assert len(status.SerializeToString()) + 9 * errors.MAX_MESSAGE < 8192


def test_the_documentation_has_the_error_table() -> None:
    assert errors.table() in DOCS.read_text("utf-8"), errors.table()
