"""Schedules: plain functions from the step to a float, for rates, momenta and loss weights alike.

Steps count from 0; a schedule holds its last value after its end, so that a run can be prolonged.
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

from attar.errors import InvalidInput

Schedule = Callable[[int], float]
DomainRate: TypeAlias = Literal["infinite", "constant", "repeated"]


def constant(value: float) -> Schedule:
    """Give `value` at every step."""
    return lambda _step: value


def cosine_ramp(start: float, end: float, steps: int) -> Schedule:
    """Go from `start` at step 0 to `end` at step `steps` along half a cosine."""
    _at_least_one("steps", steps)

    def at(step: int) -> float:
        passed = min(step / steps, 1.0)
        return end + (start - end) * (1 + math.cos(math.pi * passed)) / 2

    return at


def warmup_cosine(peak: float, warmup: int, steps: int, *, floor: float = 0.0) -> Schedule:
    """Climb linearly to `peak` over `warmup` steps, then fall to `floor` at step `steps`.

    The first step's value is peak / (warmup + 1), never 0: no step is spent standing still.
    Source: Loshchilov and Hutter 2017 (arXiv:1608.03983), without restarts; the warm-up of Goyal
    et al. 2017 (arXiv:1706.02677).
    """
    _at_least_one("steps", steps)
    if not 0 <= warmup < steps:
        raise InvalidInput(f"warmup must be in [0, steps); got {warmup} of {steps} steps")
    fall = cosine_ramp(peak, floor, steps - warmup)

    def at(step: int) -> float:
        return peak * (step + 1) / (warmup + 1) if step < warmup else fall(step - warmup)

    return at


def repeated_cosine(peak: float, warmup: int, steps: int, *, floor: float = 0.0) -> Schedule:
    """Repeat `warmup_cosine` every `steps` steps, as a stream of data sets would."""
    once = warmup_cosine(peak, warmup, steps, floor=floor)
    return lambda step: once(step % steps)


def linear_ramp(start: float, end: float, steps: int) -> Schedule:
    """Go from `start` at step 0 to `end` at step `steps` in a straight line, and stay there."""
    _at_least_one("steps", steps)
    return lambda step: start + (end - start) * min(step / steps, 1.0)


def infinite(
    peak: float,
    level: float,
    *,
    warmup: int,
    cooldown: int,
    release: int | None = None,
    anneal: int = 1,
    floor: float = 0.0,
) -> Schedule:
    """Climb to `peak`, cool down to `level` along half a cosine, and stay there for ever.

    A stream of data sets goes on at `level`, without a new warm-up. For a checkpoint to use,
    branch off: from step `release` the rate falls exponentially to `floor` in `anneal` steps.
    Source: Singh et al. 2025 (arXiv:2503.02844), equation 1, where the anneal ends at `floor`.
    """
    _at_least_one("cooldown", cooldown)
    _at_least_one("anneal", anneal)
    if release is not None and (release < warmup + cooldown or not 0 < floor <= level):
        raise InvalidInput(
            f"release must not be before warmup + cooldown = {warmup + cooldown}, and floor in "
            f"(0, level = {level}]; got {release} and {floor}"
        )
    start = warmup_cosine(peak, warmup, warmup + cooldown, floor=level)

    def at(step: int) -> float:
        if release is None or step < release:
            return start(step)
        passed = min((step - release) / anneal, 1.0)
        return level * math.exp(passed * math.log(floor / level))

    return at


def two_domains(
    kind: DomainRate,
    peak: float,
    steps: int,
    *,
    warmup: int,
    level: float,
    cooldown: float,
    floor: float,
    anneal: float,
) -> Schedule:
    """Give the rate over two domains of `steps` steps each, one after the other.

    "repeated" is a cosine a domain. "infinite" and "constant" go on at `level` after the first
    cooldown, and "infinite" anneals at the end. `level` and `floor` are shares of the peak,
    `cooldown` and `anneal` of a domain's steps.
    """
    if kind == "repeated":
        return repeated_cosine(peak, warmup, steps, floor=floor * peak)
    last = max(1, round(anneal * steps))
    return infinite(
        peak,
        level * peak,
        warmup=warmup,
        cooldown=max(1, round(cooldown * steps)),
        release=2 * steps - last if kind == "infinite" else None,
        anneal=last,
        floor=floor * peak,
    )


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise InvalidInput(f"{name} must be at least 1; got {value}")
