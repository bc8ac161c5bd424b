"""A lineage: the facts that decide a run's weights, kept with them and checked when it continues.

It is JSON: names of facts, and their values. What is known by its content is an object with
`sha256`, and may be called otherwise another time.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from attar.errors import InvalidInput

from .digest import SHA256

Lineage = Mapping[str, object]

SHOWN: Final = 12  # hexadecimal digits of a digest, in a message
FRESH: Final = "start again with restart=True (--restart), or in another folder"


def plain(lineage: Lineage) -> dict[str, Any]:
    """Give a lineage as JSON would give it back, so that two can be compared."""
    read: dict[str, Any] = json.loads(json.dumps(lineage))
    return read


def refuse_other(what: Path, then: Lineage, now: Lineage) -> None:
    """Raise InvalidInput that names each fact in which the run at `what` is not the one of now."""
    old, new = plain(then), plain(now)
    if old.get("recipe") != new.get("recipe"):  # settings of another recipe are others
        old, new = ({**facts, "settings": None} for facts in (old, new))
    differing = list(_differences(old, new))
    if differing:
        raise InvalidInput(f"{what} is of another run: {'; '.join(differing)}; {FRESH}")


def stretch(*, start: int, steps: int, precision: str) -> dict[str, object]:
    """Describe the steps from `start` of a run that was to have `steps` in all.

    A run that is prolonged, or taken up by another version or in another precision, has several:
    its learning rate followed one schedule and then another.
    """
    return {
        "from_step": start,
        "steps": steps,
        "precision": precision,
        "attar": version("attar"),
    }


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], of: str = "") -> Iterator[str]:
    for name in dict.fromkeys((*now, *then)):
        old, new = then.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and not {SHA256} & {*old, *new}:
            yield from _differences(old, new, f"{of}{name}.")
        elif _comparable(old) != _comparable(new):
            yield f"{of}{name} was {_shown(old)} and is {_shown(new)}"


def _comparable(value: Any) -> Any:
    """Give what a value is compared by."""
    return value.get(SHA256, value) if isinstance(value, dict) else value


def _shown(value: Any) -> str:
    if value is None:
        return "not said"
    if isinstance(value, dict) and SHA256 in value:
        others = [str(part) for name, part in value.items() if name != SHA256 and part]
        return " ".join((*others, f"(sha256 {str(value[SHA256])[:SHOWN]})"))
    return json.dumps(value, ensure_ascii=False)
