"""The JSON reader: Python's own, but long arrays are read in steps, and other calls run between.

That reader is one call of C, which holds the interpreter until the whole body is read. Numbers of
long arrays are packed as they are read: a million Python floats lie in as many blocks of 1 MiB as
they fill, and each such block stays as long as one small object of somebody else lies between them.
"""

import contextlib
import json
import re
from array import array
from collections import Counter
from json.decoder import JSONDecodeError
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # the stubs forget it
from typing import Any, Final, TypeAlias

from ..cooperative import SMALL_BYTES, STEP_BYTES, give_way

_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_TEXT: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT: Final = rf'(?:[^\[\]{{}}"]++|{_TEXT})*+'
# Elements with their commas, as many as there are: scalars, texts, and flat arrays and objects.
_RUN: Final = re.compile(
    rf'(?:(?:[^\[\]{{}}",]++|{_TEXT}|\[{_FLAT}\]|\{{{_FLAT}\}})*+,)+', re.DOTALL
)
Values: TypeAlias = "list[Any] | array[float]"
ARRAYS: Final = (list, array)
"""What an array of JSON is read as: packed where all are numbers and some have a fraction."""
_NUMBERS: Final = frozenset((int, float))
# None of a legal request of any route comes near.
_MOST_ARRAYS: Final = 2**17
_MOST_NAMES: Final = 2**12


class NotJson(ValueError):
    """What Python's reader takes and JSON forbids."""


def read(text: str, *, exact: bool = False) -> Any:
    """Read a document; raises NotJson, or what `json.loads` raises.

    An `exact` one has its nulls and lists of Python, as protobuf's JSON mapping reads them.
    """
    short = _EXACT if exact else _SHORT
    return (short if len(text) <= SMALL_BYTES else _Long(short, packs=not exact)).decode(text)


def _no_number(text: str) -> float:
    raise NotJson(f"{text} is no number there")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ, for of two equal ones readers take either; null is absent."""
    return {name: value for name, value in _with_nulls(pairs).items() if value is not None}


def _with_nulls(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise NotJson(f"an object has {names.most_common(1)[0][0][:80]!r} twice")
    return fields


_SHORT: Final = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_object)
_EXACT: Final = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_with_nulls)


class _Long(json.JSONDecoder):
    """Reads one document in steps."""

    def __init__(self, short: json.JSONDecoder, *, packs: bool) -> None:
        """Read as `short` does, and pack numbers or not."""
        super().__init__(parse_constant=_no_number, object_pairs_hook=short.object_pairs_hook)
        self._short = short
        self._pack = _packed if packs else list
        self._arrays = 0
        self.memo = _Names()
        self.parse_array = self._array
        self.scan_once = py_make_scanner(self)

    def _array(self, opened: tuple[str, int], scan: Any) -> tuple[Values, int]:
        """Read an array from behind its bracket; give it and where it ends."""
        self._arrays += 1
        if self._arrays > _MOST_ARRAYS:
            raise NotJson(f"over {_MOST_ARRAYS} arrays hold others there; send numbers flat")
        text, at = opened
        parts: list[Values] = []
        at = _blanks(text, at)
        if text[at : at + 1] == "]":
            return [], at + 1
        while True:
            run = _RUN.match(text, at, at + STEP_BYTES)
            if run is not None and run.end() > at + 1:
                _add(parts, self._pack(_run(self._short, text, at, run.end())))
                give_way()
                at = _blanks(text, run.end())
                continue
            try:
                value, at = scan(text, at)
            except StopIteration as missing:
                raise JSONDecodeError("Expecting value", text, missing.value) from None
            _add(parts, self._pack([value]) if type(value) is float else [value])
            at = _blanks(text, at)
            if text[at : at + 1] == "]":
                return _whole(parts), at + 1
            if text[at : at + 1] != ",":
                raise JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _blanks(text, at + 1)


class _Names(dict[str, str]):
    """The names of objects, which that reader keeps here; too many of them are refused."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def setdefault(self, name: str, same: str) -> str:
        """Keep a name."""
        self._count += 1
        if self._count > _MOST_NAMES:
            raise NotJson(f"over {_MOST_NAMES} fields are there; send fewer")
        return super().setdefault(name, same)


def _add(parts: list[Values], more: Values) -> None:
    """Put elements behind those in `parts`, in its last one where both are lists."""
    if parts and isinstance(more, list) and isinstance(parts[-1], list):
        parts[-1] += more
    else:
        parts.append(more)


def _packed(values: list[Any]) -> Values:
    """The elements of a run, and of the flat arrays in it, packed where they are numbers."""
    kinds = {*map(type, values)}
    if list in kinds:
        return [_packed(value) if type(value) is list else value for value in values]
    if float in kinds and kinds <= _NUMBERS:
        with contextlib.suppress(OverflowError):  # of a whole number that no float holds
            return array("d", values)
    return values


def _whole(parts: list[Values]) -> Values:
    """The parts in one, packed where all of them are numbers."""
    if len(parts) == 1:
        return parts[0]
    lists = [part for part in parts if isinstance(part, list)]
    whole: Values = []
    if len(lists) < len(parts) and all({*map(type, part)} <= _NUMBERS for part in lists):
        whole = array("d")
    try:
        for part in parts:
            whole.extend(part)
    except OverflowError:
        return [value for part in parts for value in part]
    return whole


def _run(short: json.JSONDecoder, text: str, at: int, end: int) -> list[Any]:
    """Read elements with a comma behind each."""
    try:
        elements: list[Any] = short.decode(f"[{text[at : end - 1]}]")
    except JSONDecodeError as error:  # with its position in the whole document
        raise JSONDecodeError(error.msg, text, at + error.pos - 1) from None
    return elements


def _blanks(text: str, at: int) -> int:
    """Return the next index that is no blank."""
    match = _BLANKS.match(text, at)
    return at if match is None else match.end()
