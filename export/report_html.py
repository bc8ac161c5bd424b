"""A bundle's report as one HTML page with charts in SVG: no script, and nothing is fetched.

A bundle's text comes from somebody else: it is escaped, and shown as text. Figures are those
recorded where the bundle was made; those of a bench, where the bench ran.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from attar.bench import Timing
from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.manifest import Latency

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 132, 16, 52
LETTER, LINE = 7.0, 15.0  # about the size of a label's letters, at 12 px
COLOURS = 8
"""Classes c0 to c7 of the style sheet; each also has its own form of marker."""


STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1b;--soft:#5c5c5c;--rule:#d9d9d9;--paper:#fff;
--c0:#0072b2;--c1:#b34700;--c2:#00795b;--c3:#a34e88;--c4:#7a6a00;--c5:#0b7fb8;--c6:#595959;
--c7:#b3123c}
@media(prefers-color-scheme:dark){:root{--ink:#ececec;--soft:#a8a8a8;--rule:#3f3f3f;--paper:#171717;
--c0:#6cb8ee;--c1:#f0a25e;--c2:#4fc9a4;--c3:#dd9cc6;--c4:#d9c74a;--c5:#8fd3f7;--c6:#bdbdbd;
--c7:#ff8fa8}}
body{background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;margin:2rem auto;
max-width:60rem;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .5rem}
p,figcaption,dt{color:var(--soft)}figure{margin:0}svg{height:auto;max-width:100%}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .tick{fill:var(--soft)}
.frame{fill:none;stroke:var(--rule)}.grid{stroke:var(--rule);stroke-width:.6}
.line{fill:none;stroke-width:2}
.aside{fill:none;stroke:var(--soft);stroke-dasharray:5 4;stroke-width:1.5}
.name{paint-order:stroke;stroke:var(--paper);stroke-width:4px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{border-bottom:1px solid var(--rule);padding:.3rem .6rem .3rem 0;text-align:right;
vertical-align:top}
th:first-child,td:first-child{text-align:left}
dl{display:grid;gap:.2rem 1rem;grid-template-columns:max-content 1fr}
dd{margin:0;word-break:break-word}
pre{overflow-x:auto;white-space:pre-wrap;word-break:break-word}
""" + "".join(
    f".c{i}.line{{stroke:var(--c{i})}}.c{i}.mark,svg text.c{i}.name{{fill:var(--c{i})}}\n"
    for i in range(COLOURS)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Named points, joined by a line or not; without marks the line is dashed."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True
    marked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis: its label, and whether equal steps are equal ratios."""

    label: str
    log: bool = False


def page(bundle: Bundle, bench: Mapping[str, Any] | None = None) -> str:
    """Give a bundle's page; `bench` is what `attar.bench.bench` reported of it.

    Raises InvalidInput when `bench` is no such report, or of another bundle.
    """
    timings = [] if bench is None else _timings(bundle, bench)
    sections = [
        _head(bundle),
        _trade(bundle),
        _by_length(bundle, timings, bench or {}),
        _variants(bundle),
        _encodings(bundle),
        _bench_table(timings),
        _lineage(bundle),
    ]
    name = escape(bundle.manifest.name)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        f"{''.join(filter(None, sections))}</main></body></html>\n"
    )


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Give the names of points (cost, gain) that no other beats on both, the cheapest first."""
    order = sorted(points, key=lambda name: (points[name][0], -points[name][1]))
    front: list[str] = []
    for name in order:
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def crossover(
    slow_start: Sequence[tuple[float, float]], quick_start: Sequence[tuple[float, float]]
) -> float | None:
    """Give the length from which the first series is quicker than the second, None if never.

    Series are (length, ms); between lengths that both have, time is taken as a power of length.
    At a shorter length than both have, it was quicker from the beginning: that length is given.
    """
    first, second = dict(slow_start), dict(quick_start)
    lengths = sorted(first.keys() & second.keys())
    behind = {n: math.log(first[n] / second[n]) for n in lengths}
    if not lengths or behind[lengths[-1]] >= 0:
        return None
    for a, b in reversed(list(pairwise(lengths))):
        if behind[a] >= 0:
            share = behind[a] / (behind[a] - behind[b])
            return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))
    return lengths[0]


def chart(
    series: Sequence[Series], *, x: Axis, y: Axis, title: str, description: str, name: str
) -> str:
    """Draw series in one frame; each is labelled next to its last point.

    `name` is the chart's, unique on its page. Points that a logarithm cannot take are left out.
    """
    points = [p for curve in series for p in curve.points if _drawable(p, x, y)]
    if not points:
        return ""
    across = _scale([p[0] for p in points], x, LEFT, WIDTH - RIGHT)
    down = _scale([p[1] for p in points], y, HEIGHT - BOTTOM, TOP)
    parts = [*_frame(points, x, y, across, down)]
    taken: list[tuple[float, float]] = []
    for number, curve in enumerate(series):
        drawn = [(across(a), down(b)) for a, b in curve.points if _drawable((a, b), x, y)]
        if not drawn:
            continue
        style = f"c{number % COLOURS}"
        if curve.joined and len(drawn) > 1:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in drawn)
            kind = f"{style} line" if curve.marked else "aside"
            parts.append(f'<polyline class="{kind}" points="{path}"/>')
        if curve.marked:
            parts += [_marker(number, a, b, style) for a, b in drawn]
            a, b = _free(*drawn[-1], len(curve.name), taken)
            parts.append(
                f'<text class="{style} name" x="{a:.1f}" y="{b:.1f}">{_t(curve.name)}</text>'
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


def _timings(bundle: Bundle, bench: Mapping[str, Any]) -> list[Timing]:
    if bench.get("fingerprint") != bundle.manifest.fingerprint:
        raise InvalidInput(
            f"the bench report is of {str(bench.get('fingerprint'))[:80]!r} and this bundle is "
            f"{bundle.manifest.fingerprint!r}; run `attar bench` on this bundle"
        )
    try:
        timings = [Timing(**row) for row in bench["rows"]]
        for timing in timings:
            bundle.variant(timing.variant)
            numbers = (timing.p50_ms, timing.p95_ms, timing.p99_ms, timing.threads, timing.batch)
            if not all(type(n) in (int, float) and 0 < n < math.inf for n in numbers):
                raise ValueError(f"{timing} has a number that is none, or not above 0")
            for number in (timing.length, timing.peak_mb):
                if number is not None and not (type(number) in (int, float) and number > 0):
                    raise ValueError(f"{timing} has a length or a peak that is no number")
        names = [timing.variant for timing in timings]
        others = [name for name in names if _of_another_graph(bundle, name, bench)]
    except (KeyError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvalidInput(
            f"the bench report cannot be read: {error}; write it again with `attar bench --out`"
        ) from None
    if others:
        raise InvalidInput(
            f"the bench report has times of another graph of variant {others[0]} than this "
            "bundle's; run `attar bench` on this bundle"
        )
    return timings


def _of_another_graph(bundle: Bundle, name: str, bench: Mapping[str, Any]) -> bool:
    """Whether a variant's times are of another graph, whose embedding space may be the same."""
    own = bundle.manifest.file(bundle.variant(name).file).sha256
    timed = bench.get("variants", {}).get(name, {})
    return bool(timed.get("sha256", own) != own)


def _head(bundle: Bundle) -> str:
    manifest, host = bundle.manifest, bundle.report.get("host")
    facts: dict[str, object] = {
        "modality": manifest.modality,
        "takes": f"up to {manifest.max_length} tokens"
        if manifest.max_length
        else "; ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in manifest.inputs),
        "gives": f"{manifest.output.dim} dimensions"
        + (f", also cut to {list(manifest.output.dims[:-1])}" if manifest.output.dims[:-1] else "")
        + (", unit length" if manifest.output.normalized else ""),
        "licence": manifest.licence or "not stated",
        "fingerprint": manifest.fingerprint,
    }
    if declared := manifest.compatible_with:
        facts["queries may search"] = "; ".join(
            f"{entry.fingerprint}, mean cosine {entry.cosine:.4f}, recall@10 "
            f"{entry.recall_at_10:.3f}"
            for entry in declared
        )
    if isinstance(host, Mapping):
        for key in ("cpu", "cores", "system", "onnxruntime"):
            facts[f"made on: {key}"] = host.get(key, "")
    rows = "".join(f"<dt>{_t(name)}</dt><dd>{_t(value)}</dd>" for name, value in facts.items())
    return f"<h1>{_t(manifest.name)} {_t(manifest.version)}</h1>\n<dl>{rows}</dl>\n"


def _trade(bundle: Bundle) -> str:
    """Draw quality against latency, as recorded."""
    manifest = bundle.manifest
    metric, quality = _quality(bundle)
    points = {
        variant.name: (variant.latency.p50_ms, quality[variant.name])
        for variant in manifest.variants
        if variant.latency is not None and variant.name in quality
    }
    if not points:
        return ""
    front = pareto(points)
    series = [Series(name=name, points=[point], joined=False) for name, point in points.items()]
    line = Series(name="front", points=[points[name] for name in front], marked=False)
    summary = "; ".join(f"{name}: {x:.3g} ms, {y:.4f}" for name, (x, y) in points.items())
    drawing = chart(
        [line, *series],
        x=Axis(label="median latency of the longest item on one thread, ms", log=True),
        y=Axis(label=metric),
        title="Quality against latency",
        description=f"{summary}. No other is both quicker and better than {', '.join(front)}.",
        name="trade",
    )
    return (
        f"<h2>Quality against latency</h2><figure>{drawing}<figcaption>Recorded where the bundle "
        "was made. The dashed line joins those that no other beats on both.</figcaption></figure>\n"
    )


def _quality(bundle: Bundle) -> tuple[str, Mapping[str, float]]:
    """Give the probe's metric, or the cosine to the reference, of each variant that has it."""
    metric, variants = bundle.report.get("metric"), bundle.manifest.variants
    if isinstance(metric, str) and any(metric in variant.probe for variant in variants):
        return metric, {v.name: v.probe[metric] for v in variants if metric in v.probe}
    cosines = {v.name: v.parity["cosine_mean"] for v in variants if "cosine_mean" in v.parity}
    return "mean cosine to the torch encoder", cosines


def _by_length(bundle: Bundle, timings: Sequence[Timing], bench: Mapping[str, Any]) -> str:
    """Draw latency against length where a bench gave some, and say where attentions cross."""
    if not any(timing.length for timing in timings):
        return ""
    batch = min(timing.batch for timing in timings)
    threads = min(timing.threads for timing in timings)
    lines: dict[str, list[tuple[float, float]]] = {}
    for timing in timings:
        if timing.length and (timing.batch, timing.threads) == (batch, threads):
            lines.setdefault(timing.variant, []).append((timing.length, timing.p50_ms))
    crossings = "".join(f"<p>{_t(sentence)}</p>" for sentence in _crossings(bundle, lines))
    host = bench.get("host")
    where = host.get("cpu", "an unnamed CPU") if isinstance(host, Mapping) else "an unnamed CPU"
    summary = "; ".join(
        f"{name}: " + ", ".join(f"{n:g} tokens {ms:.3g} ms" for n, ms in points)
        for name, points in lines.items()
    )
    drawing = chart(
        [Series(name=name, points=points) for name, points in lines.items()],
        x=Axis(label="length, tokens", log=True),
        y=Axis(label="median latency, ms", log=True),
        title="Latency against length",
        description=summary,
        name="length",
    )
    return (
        f"<h2>Latency against length</h2><figure>{drawing}<figcaption>Batches of {batch} on "
        f"{threads} thread{'s' * (threads > 1)}, {_t(where)}.</figcaption></figure>{crossings}\n"
    )


def _crossings(bundle: Bundle, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Iterable[str]:
    """Say from which length each linear or binarized variant is quicker than softmax ones."""
    timed = [bundle.variant(name) for name in lines]
    for variant in timed:
        if variant.attention in (None, "softmax"):
            continue
        for other in timed:
            if other.attention == "softmax":
                longest = max(n for n, _ in lines[variant.name])
                at = crossover(lines[variant.name], lines[other.name])
                yield (
                    f"{variant.name} is not quicker than {other.name} up to {longest:g} tokens."
                    if at is None
                    else f"{variant.name} is quicker than {other.name} from about {at:.0f} tokens."
                )


def _variants(bundle: Bundle) -> str:
    of_all: Any = bundle.report.get("variants")
    reported = of_all if isinstance(of_all, Mapping) else {}
    metric, quality = _quality(bundle)
    rows = [
        (
            variant.name + (" (reference)" if variant.name == bundle.manifest.reference else ""),
            variant.precision,
            variant.attention or "",
            f"{bundle.manifest.file(variant.file).bytes / 1e6:.2f}",
            _number(variant.parity.get("cosine_mean"), ".5f"),
            _number(variant.parity.get("cosine_worst"), ".5f"),
            _number(variant.tolerance, ".0e"),
            _number(quality.get(variant.name), ".4f"),
            _latency(variant.latency),
            _latency(variant.latency_all_threads),
            _number(variant.peak_mb, ".0f"),
            ", ".join(
                (
                    *variant.requires.cpu_flags,
                    *filter(None, [variant.requires.provider, variant.requires.library]),
                )
            ),
            ", ".join(variant.proven_on),
        )
        for variant in bundle.manifest.variants
    ]
    header = (
        "variant", "precision", "attention", "MB", "cosine mean", "worst", "tolerance", metric,
        "p50", "p50, all threads", "peak MB", "needs", "proven on",
    )  # fmt: skip
    refused = [
        f"{name} was not written: {'; '.join(map(str, row.get('refused_because') or ()))}"
        for name, row in reported.items()
        if isinstance(row, Mapping) and row.get("written") is False
    ]
    return (
        f"<h2>Variants</h2>{_table(header, rows)}"
        + "".join(f"<p>{_t(sentence)}</p>" for sentence in refused)
        + "\n"
    )


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return ""
    threads = f"{latency.threads} thread{'s' * (latency.threads > 1)}"
    return f"{latency.p50_ms:.3g} ms ({threads}, {latency.length} tokens)"


def _encodings(bundle: Bundle) -> str:
    recall: Any = bundle.report.get("encodings")
    overlap = recall.get("overlap") if isinstance(recall, Mapping) else None
    if not isinstance(overlap, Mapping) or not overlap:
        return ""
    rows = [
        (
            name,
            _number(row.get("bytes"), ",d"),
            _number(row.get("found"), ".4f"),
            _number(row.get("rescored"), ".4f"),
        )
        for name, row in overlap.items()
        if isinstance(row, Mapping)
    ]
    k, most = (_number(recall.get(key), "d") for key in ("neighbours", "rescored_from"))
    header = ("encoding", "bytes a vector", f"overlap@{k}", "re-scored")
    return (
        f"<h2>Output encodings</h2>{_table(header, rows)}<p>Share of the {_t(k)} exact "
        "nearest neighbours found with encoded vectors; re-scored, with exact vectors for the "
        f"{_t(most)} nearest by the encoded.</p>\n"
    )


def _bench_table(timings: Sequence[Timing]) -> str:
    if not timings:
        return ""
    header = (
        "variant", "threads", "batch", "length", "p50 ms", "p95 ms", "p99 ms", "runs", "peak MB",
    )  # fmt: skip
    rows = [
        (
            timing.variant,
            str(timing.threads),
            str(timing.batch),
            _number(timing.length, "d"),
            f"{timing.p50_ms:.3f}",
            f"{timing.p95_ms:.3f}",
            f"{timing.p99_ms:.3f}",
            _number(timing.runs, "d"),
            _number(timing.peak_mb, ".0f"),
        )
        for timing in timings
    ]
    return f"<h2>Bench</h2>{_table(header, rows)}\n"


def _lineage(bundle: Bundle) -> str:
    manifest = bundle.manifest
    story = json.dumps(dict(manifest.lineage), indent=2, sort_keys=True, ensure_ascii=False)
    files = [(entry.path, f"{entry.bytes:,d}", entry.sha256) for entry in manifest.files]
    return (
        f"<h2>Lineage</h2><pre>{_t(story)}</pre>\n"
        f"<h2>Files</h2>{_table(('file', 'bytes', 'sha256'), files)}\n"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_t(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_t(cell)}</td>' for cell in row)}</tr>" for row in rows)
    parts = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{parts}</table></div>'


def _number(value: object, spec: str) -> str:
    """Format a number; a report may hold anything in its place, which is shown as it is."""
    integer = spec.endswith("d")
    if type(value) is int or (type(value) is float and not integer):
        return format(value, spec)
    return "" if value is None else str(value)


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
        position = f'x="{at:.1f}" y="{bottom + 18}" text-anchor="middle"'
        yield f'<text class="tick" {position}>{value:,g}</text>'
    low, high = _padded([p[1] for p in points], y)
    for value in ticks(low, high, log=y.log):
        at = down(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>'
        position = f'x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end"'
        yield f'<text class="tick" {position}>{value:,g}</text>'
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

    def pixels(value: float) -> float:
        number = math.log(value) if axis.log else value
        return start + (number - low) / (high - low) * (end - start)

    return pixels


def _drawable(point: tuple[float, float], x: Axis, y: Axis) -> bool:
    finite = all(math.isfinite(value) for value in point)
    return finite and (point[0] > 0 or not x.log) and (point[1] > 0 or not y.log)


def _free(
    x: float, y: float, letters: int, taken: list[tuple[float, float]]
) -> tuple[float, float]:
    """Find room for a label to the right of a point, or a little above or below."""
    left = min(x + 9, WIDTH - 4 - LETTER * letters)
    for step in range(20):
        for sign in (1, -1):
            at = y + 4 + sign * step * LINE / 2
            clear = all(abs(at - b) >= LINE or abs(left - a) > 130 for a, b in taken)
            if clear and TOP + 8 < at < HEIGHT - BOTTOM:
                taken.append((left, at))
                return left, at
    return left, y + 4


def _marker(number: int, x: float, y: float, style: str) -> str:
    """Draw a circle, a square, a triangle or a diamond, so that colour is not needed."""
    corners: tuple[tuple[float, float], ...]
    match number % 4:
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


def _t(value: object) -> str:
    return escape(str(value), quote=True)
