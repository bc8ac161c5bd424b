"""Errors: one tree, drawn, each with its own word for programs."""

import copy
import re
from collections.abc import Iterator

import pytest

from attar import errors
from attar.errors import AttarError, BundleRefused, InputTooLong, MissingExtra


def tree(root: type[AttarError], depth: int = 0) -> Iterator[tuple[int, type[AttarError]]]:
    yield depth, root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, depth + 1)


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    lines = re.findall(r"^ {4}([│├└─ ]*)(\w+) +([A-Z_]+)  ", errors.__doc__ or "", re.MULTILINE)
    drawn = [(len(stem) // 4, name, reason) for stem, name, reason in lines]
    assert drawn == [(depth, kind.__name__, kind.reason) for depth, kind in tree(AttarError)]


def test_every_error_has_its_own_reason() -> None:
    reasons = [kind.reason for _, kind in tree(AttarError)]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", reason) for reason in reasons)


def test_every_error_is_raised_under_the_root_alone() -> None:
    with pytest.raises(AttarError, match="too long"):
        raise InputTooLong("too long")


def test_a_refusal_shows_its_message_and_its_code() -> None:
    error = BundleRefused("wrong-hash", "x.onnx is damaged")
    assert (str(error), error.code) == ("x.onnx is damaged [refused: wrong-hash]", "wrong-hash")


def test_a_missing_extra_is_an_import_error_with_the_line_that_installs_it() -> None:
    error = MissingExtra("attar.client", "client")
    assert isinstance(error, ImportError)
    assert str(error) == "attar.client needs the client extra: pip install 'attar[client]'"


@pytest.mark.parametrize("error", [BundleRefused("field", "m"), MissingExtra("a", "b")])
def test_an_error_with_fields_survives_the_way_between_processes(error: AttarError) -> None:
    again = copy.copy(error)  # by the protocol that pickle uses
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
