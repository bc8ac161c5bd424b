"""Changes of settings by text, such as `rate=1e-3` or `shape.dim=64`, checked by type."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from attar.errors import InvalidInput

SettingsT = TypeVar("SettingsT")

TRUTH: Mapping[str, bool] = {"true": True, "false": False}
TYPE_NAMES: Mapping[type, str] = {int: "an integer", float: "a number", str: "words"}


def override(settings: SettingsT, changes: Sequence[str]) -> SettingsT:
    """Give a frozen dataclass with each `name=value` changed; a dot goes into a nested one.

    Values are read as the field's type says: int, float, str, true or false, one of a Literal's
    words, none where that is allowed, numbers with commas between for a tuple. A number is finite
    and 0 or more: no setting means anything below.

    Raises InvalidInput for a name there is not, with the nearest, and a value that does not fit.
    """
    pairs = []
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InvalidInput(f"a setting is changed by name=value; got {change!r}")
        pairs.append((name.strip(), name.strip(), value.strip()))
    return cast("SettingsT", _changed(settings, pairs))


def _changed(settings: Any, changes: Sequence[tuple[str, str, str]]) -> Any:
    """Make all changes together, so that their order does not matter to checks between values.

    A change is its path from here, its whole name and its value.
    """
    hints = get_type_hints(type(settings))
    names = [field.name for field in fields(settings)]
    values: dict[str, Any] = {}
    inside: dict[str, list[tuple[str, str, str]]] = {}
    for path, name, value in changes:
        head, dot, rest = path.partition(".")
        if head not in names:
            near = get_close_matches(head, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise InvalidInput(f"there is no setting {name!r}; {hint}")
        group = is_dataclass(getattr(settings, head))
        if dot and not group:
            raise InvalidInput(f"{head} is not a group of settings, so there is no {name!r}")
        if dot:
            inside.setdefault(head, []).append((rest, name, value))
        elif group:
            within = ", ".join(f"{head}.{field.name}" for field in fields(getattr(settings, head)))
            raise InvalidInput(f"{name} is a group of settings; change one of {within}")
        else:
            values[head] = _read(hints[head], name, value)
    groups = {head: _changed(getattr(settings, head), theirs) for head, theirs in inside.items()}
    return replace(settings, **values, **groups)


def _read(kind: Any, name: str, value: str) -> Any:
    """Read a value as a type says; raises InvalidInput."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if NoneType in inside and value.lower() == "none":
            return None
        return _read(next(other for other in inside if other is not NoneType), name, value)
    if origin is Literal:
        return _choice_of({choice: choice for choice in inside}, name, value)
    if origin is tuple:
        parts = tuple(_read(inside[0], name, part) for part in value.split(","))
        if Ellipsis not in inside and len(parts) != len(inside):
            raise InvalidInput(f"{name} takes {len(inside)} values with commas; got {value!r}")
        return parts
    if kind is bool:
        return _choice_of(TRUTH, name, value.lower())
    if kind not in TYPE_NAMES:
        raise InvalidInput(f"{name} cannot be changed by words; compose the recipe in Python")
    try:
        read = kind(value)
    except ValueError:
        raise InvalidInput(f"{name} takes {TYPE_NAMES[kind]}; got {value!r}") from None
    if kind is not str and not 0 <= read < math.inf:  # which NaN fails too
        raise InvalidInput(f"{name} takes {TYPE_NAMES[kind]} of 0 or more; got {value!r}")
    return read


def _choice_of(choices: Mapping[str, Any], name: str, value: str) -> Any:
    if value not in choices:
        raise InvalidInput(f"{name} is one of {', '.join(choices)}; got {value!r}")
    return choices[value]
