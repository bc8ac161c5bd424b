"""inspect --ops, bench, verify and report, as a person at a terminal meets them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.bundle import Bundle
from attar.export.cost.energy import LABEL
from benchmarks.support.bundles import (
    WORDS,
    text_files,
    text_graph,
    text_manifest,
    tiny_bundle,
    tiny_tensor_bundle,
)
from benchmarks.support.embedding_server import embedding_server

from ..support.commands import Attar
from ..support.graphs import LENGTH, WIDTH, encoder_graph


def student(path: Path) -> Path:
    """Write a bundle of a real small encoder."""
    manifest = text_manifest(dim=WIDTH, max_length=LENGTH, variants=("first", "second"))
    graphs = dict.fromkeys((v.file for v in manifest.variants), encoder_graph("softmax"))
    return Bundle.write(path, manifest, {**text_files(manifest), **graphs}).path


def test_operations_are_shown_by_layer_attention_apart_and_marked_as_a_model(
    attar_: Attar, tmp_path: Path
) -> None:
    ran = attar_("inspect", student(tmp_path / "x"), "--ops", "--variant", "second")
    assert ran.status == 0, ran.err
    for words in ("variant second: batch 1, length 16", "transformer.blocks.1.attention.out"):
        assert words in ran.out
    for row in ("attention  ", "all else  ", "the whole  "):
        assert f" {row}" in ran.out
    assert "energy, µJ*" in ran.out
    assert f"* {LABEL}" in ran.out


def test_operations_grow_with_the_length_and_the_batch(attar_: Attar, tmp_path: Path) -> None:
    path = student(tmp_path / "x")

    def whole(*options: object) -> float:
        ran = attar_("inspect", path, "--ops", *options)
        (line,) = (line for line in ran.out.splitlines() if line.startswith(" the whole "))
        return float(line.split()[2].replace(",", ""))

    short, long, many = whole("--length", 4), whole("--length", 16), whole("--batch", 3)
    assert short < long < many
    assert many == pytest.approx(3 * long, abs=0.01)


def test_operators_that_are_not_known_are_named(attar_: Attar, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    model = onnx.load_from_string(text_graph())
    model.graph.node.append(helper.make_node("Det", ["rows"], ["unused"]))
    manifest = text_manifest()
    files = {**text_files(manifest), "variants/fp32.onnx": model.SerializeToString()}
    ran = attar_("inspect", Bundle.write(tmp_path / "x", manifest, files).path, "--ops")

    assert ran.status == 0
    assert "not counted: Det, 1 times" in ran.out


QUICK = ("--seconds", 0.01, "--threads", 1, "--batch", 1)


def test_bench_writes_json_and_a_plot_and_shows_a_row_a_timing(
    attar_: Attar, tmp_path: Path
) -> None:
    path, out = tiny_bundle(tmp_path / "x", variants=("fp32", "int8")), tmp_path / "b.json"
    ran = attar_("bench", path, "--out", out, *QUICK, "--length", 4, "--length", 16)

    assert ran.status == 0, ran.err
    report = json.loads(out.read_text("utf-8"))
    assert [(r["variant"], r["length"]) for r in report["rows"]] == [
        ("fp32", 4), ("fp32", 16), ("int8", 4), ("int8", 16),
    ]  # fmt: skip
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "b.png is its plot" in ran.out
    assert sum(line.startswith((" fp32 ", " int8 ")) for line in ran.out.splitlines()) == 4


def test_a_budget_picks_a_variant_and_says_why_and_none_is_status_1(
    attar_: Attar, tmp_path: Path
) -> None:
    path, out = tiny_bundle(tmp_path / "x"), tmp_path / "b.json"
    arguments = ("bench", path, "--out", out, *QUICK, "--length", 4, "--budget")

    ran = attar_(*arguments, "latency=1000")
    assert (ran.status, json.loads(out.read_text("utf-8"))["choice"]["variant"]) == (0, "fp32")
    assert "the budget picks fp32: the best in quality of those that fit" in ran.out
    assert "the reference: fits" in ran.out

    ran = attar_(*arguments, "file=0.000001")
    assert ran.status == 1
    assert "more than 1e-06 MB" in ran.out
    assert "no variant fits the budget" in ran.out


def test_bench_without_matplotlib_says_that_there_is_no_plot(
    attar_: Attar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tiny_bundle(tmp_path / "x")
    ran = attar_("bench", path, "--out", tmp_path / "b.json", *QUICK, "--length", 4)

    assert ran.status == 0
    assert "no plot, for matplotlib is not installed" in ran.out
    assert not (tmp_path / "b.png").exists()


def test_verify_is_0_when_all_holds_and_1_when_something_differs(
    attar_: Attar, tmp_path: Path
) -> None:
    manifest = text_manifest(variants=("fp32", "int8"))
    items = tmp_path / "items.txt"
    items.write_text("\n".join(WORDS), "utf-8")
    for noise, status, words in (
        (0.001, 0, "all 5 checks hold; 1 could not be judged"),
        (1.0, 1, "2 of 6 checks differ: int8: mean cosine to the reference, int8: worst"),
    ):
        files = {**text_files(manifest), "variants/int8.onnx": text_graph(noise=noise)}
        path = Bundle.write(tmp_path / str(noise), manifest, files).path
        ran = attar_("verify", path, "--items", items)
        assert ran.status == status, ran.out
        assert words in ran.out


def test_verify_takes_arrays_from_a_file(attar_: Attar, tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.zeros((4, 1, 8, 8), np.float32) + 0.5)
    path = tiny_tensor_bundle(tmp_path / "x")
    ran = attar_("verify", path, "--items", tmp_path / "items.npy")
    assert ran.status == 0, ran.err
    assert "could not be judged" in ran.out


def test_report_writes_one_page_with_the_benchs_figures(attar_: Attar, tmp_path: Path) -> None:
    path, out = tiny_bundle(tmp_path / "x"), tmp_path / "page.html"
    attar_("bench", path, "--out", tmp_path / "b.json", *QUICK)
    ran = attar_("report", path, "--out", out, "--bench", tmp_path / "b.json")

    assert ran.status == 0, ran.err
    assert f"{out} is written" in ran.out
    page = out.read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "Batches of 1 on 1 thread" in page


def test_verify_prints_what_a_server_does_otherwise(attar_: Attar, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.attar", max_length=64)
    encoder = attar.load(bundle, threads=1)
    with embedding_server(lambda texts: encoder.embed(list(texts)).vectors) as url:
        right = attar_("verify", bundle, "--server", url)
    with embedding_server(lambda texts: 2 * encoder.embed(list(texts)).vectors) as url:
        wrong = attar_("verify", bundle, "--server", url)

    assert right.status == 0, right.err
    assert "answers as tiny, variant fp32, does" in right.out
    assert wrong.status == 1, wrong.err
    assert "lengths are 2 to 2; the bundle's are 1" in wrong.out
    assert f"{url} differs from tiny: normalisation" in wrong.out
