"""A bundle's page is whole in itself, and shows what others wrote as text."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.export.report_html import Axis, Series, chart, crossover, page, pareto, ticks
from attar.manifest import Latency, Variant
from benchmarks.support.bundles import text_files, text_manifest

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects elements, attributes and text, and holds the page to its nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def measured_bundle(path: Path, *, lineage: dict[str, object] | None = None) -> Bundle:
    """Write a bundle of three variants with everything that a page shows."""
    names = {"fp32": ("softmax", 4.0, 0.9), "int8": ("softmax", 2.0, 0.88), "slow": (None, 9, 0.7)}
    manifest = text_manifest(variants=tuple(names))
    variants = tuple(
        described(variant, attention=names[variant.name][0], ms=names[variant.name][1],
                  recall=names[variant.name][2])
        for variant in manifest.variants
    )  # fmt: skip
    manifest = replace(manifest, variants=variants, lineage=lineage or {"recipe": "made"})
    report = {
        "host": {"cpu": "a CPU", "cores": 2},
        "metric": "recall",
        "encodings": {
            "neighbours": 10,
            "rescored_from": 40,
            "overlap": {"binary": {"bytes": 2, "found": 0.51, "rescored": 0.93}},
        },
        "variants": {"tiny": {"written": False, "refused_because": ["mean cosine is low"]}},
    }
    files = {**text_files(manifest), "report.json": json.dumps(report).encode()}
    return Bundle.write(path, manifest, files)


def described(variant: Variant, *, attention: str | None, ms: float, recall: float) -> Variant:
    latency = Latency(p50_ms=ms, threads=1, batch=1, length=16, host="test")
    return replace(variant, attention=attention, latency=latency, probe={"recall": recall})


def bench_of(bundle: Bundle, times: dict[str, dict[int, float]]) -> dict[str, Any]:
    return {
        "fingerprint": bundle.manifest.fingerprint,
        "host": {"cpu": "another CPU"},
        "variants": {},
        "rows": [
            {
                "variant": name, "threads": 1, "batch": 1, "length": length, "runs": 9,
                "p50_ms": ms, "p95_ms": ms, "p99_ms": ms, "peak_mb": 50.0,
            }
            for name, points in times.items()
            for length, ms in points.items()
        ],
    }  # fmt: skip


def test_a_page_needs_nothing_from_outside_and_has_no_script(tmp_path: Path) -> None:
    reader = Reader(page(measured_bundle(tmp_path / "x")))

    used = {tag for tag, _ in reader.elements}
    assert used.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    assert any("default-src 'none'" in (a.get("content") or "") for a in reader.of("meta"))
    for _, attributes in reader.elements:
        assert {"src", "href", "style"}.isdisjoint(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "http" not in page(measured_bundle(tmp_path / "y")).replace("http-equiv", "")


def test_what_a_bundle_says_is_shown_as_text(tmp_path: Path) -> None:
    bundle = measured_bundle(tmp_path / "x", lineage={"recipe": HOSTILE, HOSTILE: [HOSTILE]})
    report = {
        "metric": HOSTILE, "host": {"cpu": HOSTILE, "cores": {"a": HOSTILE}},
        "encodings": {"neighbours": HOSTILE, "overlap": {HOSTILE: {"found": HOSTILE}}},
        "variants": {HOSTILE: {"written": False, "refused_because": [HOSTILE]}},
    }  # fmt: skip
    manifest = replace(
        bundle.manifest,
        licence=HOSTILE,
        variants=tuple(
            replace(v, precision=HOSTILE, attention=HOSTILE) for v in bundle.manifest.variants
        ),
    )
    files = {**text_files(manifest), "report.json": json.dumps(report).encode()}

    reader = Reader(page(Bundle.write(tmp_path / "hostile", manifest, files)))

    assert not reader.of("script")
    assert not reader.of("img")
    assert reader.text.count(HOSTILE) >= 12
    assert json.dumps(HOSTILE)[1:-1] in reader.text  # the lineage is JSON


def test_everything_measured_is_on_the_page(tmp_path: Path) -> None:
    bundle = measured_bundle(tmp_path / "x")
    text = Reader(page(bundle)).text

    for words in (
        "fp32 (reference)", "softmax", "0.9000", "0.8800", "4 ms (1 thread, 16 tokens)", "a CPU",
        "tiny was not written: mean cosine is low", "overlap@10", "0.5100", "0.9300",
        bundle.manifest.fingerprint, '"recipe": "made"', "tokenizer.json", "Apache-2.0",
        "No other is both quicker and better than int8, fp32.",
    ):  # fmt: skip
        assert words in text
    assert "Latency against length" not in text
    assert "Bench" not in text


def test_a_bench_draws_latency_by_length_and_says_where_attentions_cross(tmp_path: Path) -> None:
    bundle = measured_bundle(tmp_path / "x")
    binarized = replace(bundle.manifest.variants[2], attention="binarized")
    manifest = replace(bundle.manifest, variants=(*bundle.manifest.variants[:2], binarized))
    files = {e.path: (bundle.path / e.path).read_bytes() for e in manifest.files}
    bundle = Bundle.write(tmp_path / "y", manifest, files)
    times = {
        "fp32": {100: 1.0, 400: 16.0},
        "int8": {100: 0.5, 400: 2.0},
        "slow": {100: 2.0, 400: 8.0},
    }

    text = Reader(page(bundle, bench_of(bundle, times))).text

    assert "slow is quicker than fp32 from about 200 tokens." in text
    assert "slow is not quicker than int8 up to 400 tokens." in text
    assert "Batches of 1 on 1 thread, another CPU." in text
    assert "16.000" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "sha256:0"}, "bench report is of 'sha256:0' and this bundle is 'sha256:"),
        (
            {"variants": {"fp32": {"sha256": "0"}}},
            "^the bench report has times of another graph of variant fp32",
        ),
        ({"variants": {"fp32": 3}}, "bench report cannot be read"),
        ({"rows": None}, "bench report cannot be read"),
        ({"rows": [{"variant": "fp32"}]}, "bench report cannot be read"),
        ({"variant": "fp64"}, "has no variant 'fp64'"),
        ({"p50_ms": "<b>"}, "has a number that is none"),
        ({"p50_ms": -1}, "not above 0"),
        ({"length": "long"}, "a length or a peak that is no number"),
    ],
)
def test_a_bench_that_is_none_or_of_another_bundle_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    bundle = measured_bundle(tmp_path / "x")
    bench = bench_of(bundle, {"fp32": {8: 1.0}})
    for key, value in change.items():
        (bench if key in bench else bench["rows"][0])[key] = value
    with pytest.raises(InvalidInput, match=message):
        page(bundle, bench)


def test_a_bundle_without_figures_has_a_page_too(bundle_path: Path) -> None:
    reader = Reader(page(Bundle.open(bundle_path)))

    assert "tiny 1" in reader.text
    assert not reader.of("svg")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser on this machine")
def test_a_browser_shows_the_page_and_has_nothing_to_complain_of(tmp_path: Path) -> None:
    bundle = measured_bundle(tmp_path / "x", lineage={"recipe": HOSTILE})
    times = {"fp32": {8: 1.0, 16: 4.0}, "int8": {8: 1.0, 16: 2.0}}
    (tmp_path / "page.html").write_text(page(bundle, bench_of(bundle, times)), "utf-8")
    done = subprocess.run(
        [
            *(shutil.which("chromium") or "", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"),
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert "CONSOLE" not in done.stderr
    shown = Reader(done.stdout)
    assert len(shown.of("svg")) == 2
    assert not shown.of("script")
    assert json.dumps(HOSTILE)[1:-1] in shown.text


# Charts.


def test_a_chart_can_be_read_by_who_does_not_see_it() -> None:
    drawn = chart(
        [Series(name="a<b", points=[(1, 2), (3, 4)])],
        x=Axis(label="x & y"), y=Axis(label="y", log=True),
        title="A title", description="a<b: 1, 2", name="one",
    )  # fmt: skip
    svg = ET.fromstring(drawn)  # noqa: S314 (our own)

    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "one-title one-description"
    words = {element.get("id"): element.text for element in svg.iter() if element.get("id")}
    assert words == {"one-title": "A title", "one-description": "a<b: 1, 2"}
    assert {"a<b", "x & y"} <= {element.text for element in svg.iter("text")}


FIGURES = st.floats(1e-6, 1e6)


@given(
    st.lists(st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=6), min_size=1, max_size=9),
    st.booleans(),
    st.booleans(),
)
def test_every_point_and_label_lies_inside_of_the_picture(
    points: list[list[tuple[float, float]]],
    x: bool,
    y: bool,
) -> None:
    series = [Series(name=f"series {i}", points=p) for i, p in enumerate(points)]
    drawn = chart(
        series, x=Axis(label="x", log=x), y=Axis(label="y", log=y),
        title="t", description="d", name="n",
    )  # fmt: skip
    svg = ET.fromstring(drawn)  # noqa: S314 (our own)
    width, height = map(float, (svg.get("viewBox") or "").split()[2:])
    assert len(list(svg.iter("circle"))) == sum(map(len, points[::4]))
    for line in svg.iter("polyline"):
        for pair in (line.get("points") or "").split():
            a, b = map(float, pair.split(","))
            assert 0 <= a <= width
            assert 0 <= b <= height
    for text in svg.iter("text"):
        if not text.get("transform"):
            assert 0 <= float(text.get("x") or -1) <= width
            assert 0 <= float(text.get("y") or -1) <= height


def test_a_chart_of_nothing_drawable_is_empty() -> None:
    nothing = [Series(name="a", points=[(0.0, 1.0), (float("nan"), 2.0)])]
    axis = Axis(label="", log=True)
    assert chart(nothing, x=axis, y=axis, title="", description="", name="n") == ""


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.booleans())
def test_ticks_are_few_and_inside(
    low: float,
    factor: float,
    log: bool,
) -> None:
    marks = ticks(low, low * factor, log=log)

    assert 1 <= len(marks) <= 14
    assert all(low * 0.99 <= mark <= low * factor * 1.01 for mark in marks)
    assert marks == sorted(set(marks))


@given(st.dictionaries(st.text(min_size=1), st.tuples(FIGURES, FIGURES), min_size=1))
def test_the_pareto_front_is_what_no_other_beats(points: dict[str, tuple[float, float]]) -> None:
    front = pareto(points)
    for name, (cost, gain) in points.items():
        beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points.values())
        assert (points[name] in [points[n] for n in front]) == (not beaten)


@given(st.floats(0.5, 3), st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_crossover_of_two_powers_is_found(power: float, a: float, b: float) -> None:
    lengths = [16.0, 64.0, 256.0, 1024.0]
    softmax = [(n, a * n ** (power + 1)) for n in lengths]
    linear = [(n, b * n**power) for n in lengths]
    found, expected = crossover(linear, softmax), b / a

    if expected > 1024:
        assert found is None
    else:
        assert found == pytest.approx(max(expected, 16.0), rel=1e-6)


def test_every_colour_of_the_charts_is_in_the_style_sheet(tmp_path: Path) -> None:
    text = page(measured_bundle(tmp_path / "x"))
    used = {f".{name}" for name in re.findall(r'class="(c\d)', text)}
    assert used
    assert all(f"{name}.mark" in text for name in used)
    assert "prefers-color-scheme:dark" in text
