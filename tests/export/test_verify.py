"""What a bundle recorded is held to what it does here, and the difference is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.bundle import Bundle
from attar.errors import BundleRefused, InvalidInput
from attar.export.importing import import_folder
from attar.export.text import export_text
from attar.export.verify import LONG, TEXTS, Check, own_texts, verify
from attar.manifest import Latency
from attar.training.checkpoints import encoder_folder
from benchmarks.support.bundles import (
    WORDS,
    text_files,
    text_graph,
    text_manifest,
    tiny_bundle,
    tiny_tensor_bundle,
)
from benchmarks.support.teachers import bert_folder

from ..support.students import texts, trained

TEXTS_OF_OURS = [" ".join(WORDS[i : i + 1 + i % 4]) for i in range(10)]


def bundle_of(
    path: Path, *, noise: float = 0.001, report: dict[str, Any] | None = None, **changes: object
) -> Path:
    """Write fp32 and int8, which is `noise` away; `changes` are to what int8 recorded."""
    manifest = text_manifest(variants=("fp32", "int8"))
    reference, int8 = manifest.variants
    manifest = replace(manifest, variants=(reference, replace(int8, **changes)))  # type: ignore[arg-type]
    files = {**text_files(manifest), "variants/int8.onnx": text_graph(noise=noise)}
    if report is not None:
        files["report.json"] = json.dumps(report).encode()
    return Bundle.write(path, manifest, files).path


def differing(checks: list[Check]) -> list[tuple[str, str]]:
    return [(check.variant, check.what) for check in checks if check.holds is False]


def test_a_sound_bundle_holds_and_every_variant_was_compared(tmp_path: Path) -> None:
    checks = verify(bundle_of(tmp_path / "x"))

    assert differing(checks) == []
    assert [(check.variant, check.what) for check in checks] == [
        ("", "hashes and fingerprint"),
        ("fp32", "most a number moves with its batch-mates"),
        ("int8", "instructions"),
        ("int8", "mean cosine to the reference"),
        ("int8", "worst cosine to the reference"),
        ("int8", "most a number moves with its batch-mates"),
    ]


def test_token_vectors_are_compared_too(tmp_path: Path) -> None:
    parity = {f"{of}cosine_{which}": 1.0 for of in ("", "token_") for which in ("mean", "worst")}
    manifest = text_manifest(variants=("fp32", "int8"), tokens=True)
    reference, int8 = manifest.variants
    manifest = replace(manifest, variants=(reference, replace(int8, parity=parity)))
    for noise, wrong in ((0.001, []), (1.0, ["mean", "worst"])):
        graph = text_graph(noise=noise, tokens=True)
        files = {**text_files(manifest), "variants/int8.onnx": graph}
        path = Bundle.write(tmp_path / f"{noise}", manifest, files).path
        checks = verify(path, items=TEXTS_OF_OURS)

        assert [what for _, what in differing(checks) if "tokens" in what] == [
            f"{which} cosine to the reference's tokens" for which in wrong
        ]


def test_a_variant_that_is_further_off_than_it_recorded_differs(tmp_path: Path) -> None:
    checks = verify(bundle_of(tmp_path / "x", noise=1.0), items=TEXTS_OF_OURS)

    assert differing(checks) == [
        ("int8", "mean cosine to the reference"),
        ("int8", "worst cosine to the reference"),
    ]
    (mean, _) = (check for check in checks if check.holds is False)
    assert mean.recorded == "1.000000"
    assert float(mean.here) < 0.99
    assert mean.why == "at least 0.99"


@pytest.mark.parametrize(("worst", "holds"), [(0.0, True), (0.999, False)])
def test_the_gate_of_the_report_decides_where_there_is_one(
    worst: float,
    holds: bool,
    tmp_path: Path,
) -> None:
    gate = {"cosine_mean": 0.0, "cosine_worst": worst}
    path = bundle_of(tmp_path / "x", noise=1.0, report={"variants": {"int8": {"gate": gate}}})

    checks = verify(path, items=TEXTS_OF_OURS)

    assert differing(checks) == ([] if holds else [("int8", "worst cosine to the reference")])


@pytest.mark.parametrize("report", [{"variants": 3}, {"variants": {"int8": {"gate": "x"}}}, {}])
def test_a_report_of_another_shape_leaves_the_manifest_to_decide(
    report: dict[str, Any], tmp_path: Path
) -> None:
    assert differing(verify(bundle_of(tmp_path / "x", report=report))) == []


def test_what_was_not_recorded_is_shown_and_not_judged(tmp_path: Path) -> None:
    path = bundle_of(tmp_path / "x", noise=1.0, parity={}, tolerance=None)
    checks = [check for check in verify(path) if check.variant == "int8"]

    assert [check.holds for check in checks] == [None] * 4
    assert [check.recorded for check in checks if check.what != "instructions"] == ["none"] * 3


def test_a_tolerance_that_is_not_kept_differs(tmp_path: Path) -> None:
    checks = verify(bundle_of(tmp_path / "x", tolerance=1e-9))
    assert differing(checks) == [("int8", "most a number moves with its batch-mates")]


def test_latencies_are_compared_as_ratios(tmp_path: Path) -> None:
    """Both variants are the same graph, so that int8 takes as long as fp32, not 1/100 of it."""
    found = {}
    for claimed in (1.0, 0.01):
        manifest = text_manifest(variants=("fp32", "int8"))
        variants = tuple(
            replace(variant, latency=latency(ms))
            for variant, ms in zip(manifest.variants, (1.0, claimed), strict=True)
        )
        manifest = replace(manifest, variants=variants)
        path = Bundle.write(tmp_path / str(claimed), manifest, text_files(manifest)).path
        (check,) = (c for c in verify(path) if c.what.startswith("latency, times the reference's"))
        found[claimed] = check

    assert found[0.01].holds is False
    assert (found[0.01].recorded, found[1.0].recorded) == ("0.01", "1.00")
    assert found[1.0].why == "within 3 times the recorded"


def latency(ms: float) -> Latency:
    return Latency(p50_ms=ms, threads=1, batch=1, length=16, host="test")


def test_a_variant_that_this_cpu_cannot_run_is_named_and_not_judged(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x", variants=("fp32", "int8"), cpu_flags={"int8": ("flux9",)})
    (check,) = (check for check in verify(path) if check.variant == "int8")

    assert (check.here, check.holds) == ("does not run", None)
    assert "flux9" in check.why


def test_an_encoder_of_arrays_is_verified_on_noise_or_on_given_arrays(tmp_path: Path) -> None:
    path = tiny_tensor_bundle(tmp_path / "x")
    some = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)

    assert [check.variant for check in verify(path)] == ["", "fp32"]
    assert differing(verify(path, items=some)) == []
    with pytest.raises(InvalidInput, match="takes image, and a teacher's folder holds a text"):
        verify(path, items=some, against=tmp_path)


def test_a_damaged_bundle_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = bundle_of(tmp_path / "x")
    graph = path / "variants" / "int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleRefused, match="wrong-hash"):
        verify(path)


def test_one_item_is_too_few(bundle_path: Path) -> None:
    with pytest.raises(InvalidInput, match="two items or more are compared; got 1"):
        verify(bundle_path, items=["cat"])


def test_own_texts_are_many_different_and_of_many_lengths() -> None:
    texts = own_texts()

    assert len(set(texts)) > 0.9 * TEXTS
    assert len({len(text.split()) for text in texts}) > 20
    assert max(len(text.split()) for text in texts) == LONG


# Against the torch encoder.


def test_an_imported_bundle_holds_against_its_teacher_and_not_against_another(
    tmp_path: Path,
) -> None:
    teacher = bert_folder(tmp_path / "teacher")
    path = tmp_path / "x.attar"
    import_folder(teacher, path)
    with_teacher = [c for c in verify(path, against=teacher) if c.what.endswith("to the teacher")]

    assert [(check.variant, check.holds) for check in with_teacher][:2] == [("fp32", True)] * 2

    config = json.loads((teacher / "config.json").read_text("utf-8"))
    (teacher / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}), "utf-8")
    assert ("fp32", "mean cosine to the teacher") in differing(verify(path, against=teacher))

    settings = teacher / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": 8}), "utf-8")
    assert ("", "maximum length, of the teacher") in differing(verify(path, against=teacher))


def test_a_teacher_of_another_width_is_refused(tmp_path: Path) -> None:
    encoder_folder.save(trained(), tmp_path / "wide")
    with pytest.raises(InvalidInput, match="gives 32 dimensions and tiny 16; compare with the"):
        verify(bundle_of(tmp_path / "x"), against=tmp_path / "wide")


def test_an_encoder_folder_of_attars_is_a_teacher_too(tmp_path: Path) -> None:
    encoder_folder.save(trained(), tmp_path / "encoder")
    some = texts()
    export_text(tmp_path / "x", trained(), name="x", texts=some, probe=None, metric=None)

    checks = verify(tmp_path / "x", items=some[1:40], against=tmp_path / "encoder")

    named = {check.variant for check in checks if check.what.endswith("to the teacher")}
    assert {"fp32", "int8"} <= named
    assert [check for check in differing(checks) if not check[1].startswith("latency")] == []
