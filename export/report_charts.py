"""Charts as SVG without script: a title and a description for who cannot see them, text as text."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 132, 16, 52
LETTER, LINE = 7.0, 15.0  # about the size of a label's letters, at 12 px
COLOURS = 8
"""Classes c0 to c7, which the page's style sheet colours; a marker's form says it as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Named points, joined by a line or not; without marks it is a dashed line aside."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True
    marked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis: its label, and whether equal steps are equal ratios."""

    label: str
    log: bool = False


def chart(
    series: Sequence[Series], *, x: Axis, y: Axis, title: str, description: str, name: str
) -> str:
    """Draw series in one frame; each is labelled beside its last point.

    `name` is the chart's, unique on its page. Points that a logarithm cannot take are left out.
    """
    points = [p for one in series for p in one.points if _drawable(p, x, y)]
    if not points:
        return ""
    across = _scale([p[0] for p in points], x, LEFT, WIDTH - RIGHT)
    down = _scale([p[1] for p in points], y, HEIGHT - BOTTOM, TOP)
    parts = [*_frame(points, x, y, across, down)]
    taken: list[tuple[float, float]] = []
    for place, one in enumerate(series):
        drawn = [(across(a), down(b)) for a, b in one.points if _drawable((a, b), x, y)]
        if not drawn:
            continue
        style = f"c{place % COLOURS}"
        if one.joined and len(drawn) > 1:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in drawn)
            kind = f"{style} line" if one.marked else "aside"
            parts.append(f'<polyline class="{kind}" points="{path}"/>')
        if one.marked:
            parts += [_marker(place, a, b, style) for a, b in drawn]
            a, b = _free(*drawn[-1], len(one.name), taken)
            parts.append(
                f'<text class="{style} name" x="{a:.1f}" y="{b:.1f}">{_t(one.name)}</text>'
            )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{_t(name)}-title {_t(name)}-description">'
        f'<title id="{_t(name)}-title">{_t(title)}</title>'
        f'<desc id="{_t(name)}-description">{_t(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Give round numbers from `low` to `high`, at least two and about six."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
        inside = [t for t in every if low * 0.999 <= t <= high * 1.001]
        decades = [t for t in inside if math.log10(t) == round(math.log10(t))]
        if len(inside) > 2:
            return decades if len(decades) > 3 else inside
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 5))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _frame(
    points: Sequence[tuple[float, float]],
    x: Axis,
    y: Axis,
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    yield (
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}"/>'
    )
    low, high = _padded([p[0] for p in points], x)
    for value in ticks(low, high, log=x.log):
        at = across(value)
        yield f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}"/>'
        place = f'x="{at:.1f}" y="{bottom + 18}" text-anchor="middle"'
        yield f'<text class="tick" {place}>{value:,g}</text>'
    low, high = _padded([p[1] for p in points], y)
    for value in ticks(low, high, log=y.log):
        at = down(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>'
        place = f'x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end"'
        yield f'<text class="tick" {place}>{value:,g}</text>'
    middle = (LEFT + right) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{_t(x.label)}</text>'
    middle = (TOP + bottom) / 2
    yield (
        f'<text transform="rotate(-90)" x="{-middle}" y="16" text-anchor="middle">'
        f"{_t(y.label)}</text>"
    )


def _padded(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    """Widen a range by a twentieth at each end; one value gets room around it."""
    low, high = min(values), max(values)
    if axis.log:
        factor = (high / low) ** 0.05 if high > low else 1.5
        return low / factor, high * factor
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _scale(
    values: Sequence[float], axis: Axis, start: float, end: float
) -> Callable[[float], float]:
    """Give the map from values to pixels."""
    low, high = _padded(values, axis)
    if axis.log:
        low, high = math.log(low), math.log(high)

    def place(value: float) -> float:
        number = math.log(value) if axis.log else value
        return start + (number - low) / (high - low) * (end - start)

    return place


def _drawable(point: tuple[float, float], x: Axis, y: Axis) -> bool:
    finite = all(math.isfinite(value) for value in point)
    return finite and (point[0] > 0 or not x.log) and (point[1] > 0 or not y.log)


def _free(
    x: float, y: float, letters: int, taken: list[tuple[float, float]]
) -> tuple[float, float]:
    """Find room for a label to the right of a point, or as near above or below as there is some."""
    left = min(x + 9, WIDTH - 4 - LETTER * letters)
    for step in range(20):
        for sign in (1, -1):
            at = y + 4 + sign * step * LINE / 2
            clear = all(abs(at - b) >= LINE or abs(left - a) > 130 for a, b in taken)
            if clear and TOP + 8 < at < HEIGHT - BOTTOM:
                taken.append((left, at))
                return left, at
    return left, y + 4


def _marker(place: int, x: float, y: float, style: str) -> str:
    """Draw a circle, a square, a triangle or a diamond: colour is not needed to tell them apart."""
    corners: tuple[tuple[float, float], ...]
    match place % 4:
        case 0:
            return f'<circle class="{style} mark" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        case 1:
            return (
                f'<rect class="{style} mark" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
            )
        case 2:
            corners = ((0, -5.5), (5, 4), (-5, 4))
        case _:
            corners = ((0, -6), (5, 0), (0, 6), (-5, 0))
    path = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
    return f'<polygon class="{style} mark" points="{path}"/>'


def _t(text: str) -> str:
    return escape(text, quote=True)
