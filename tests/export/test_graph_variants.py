"""The variants that a graph alone gives: all of them through one export, each with its figures."""

from pathlib import Path
from typing import Any

import pytest

import attar
from attar.errors import InvalidInput
from attar.export.graph_variants import DERIVED, derive
from attar.export.text import export_text
from attar.host import instruction_set
from benchmarks.support.bundles import text_graph as averaging_graph

from ..support.students import student_graph, texts, trained


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_process")
def test_every_derived_variant_is_gated_measured_and_written(tmp_path: Path) -> None:
    path = tmp_path / "x.attar"
    exported = export_text(
        path, trained(), name="x", texts=texts(), probe=None, metric=None, variants=DERIVED
    )
    assert [v.name for v in exported.bundle.manifest.variants] == ["fp32", *DERIVED]
    report: Any = exported.bundle.report["variants"]
    for variant in exported.bundle.manifest.variants:
        made_here = variant.requires.provider is None
        assert made_here == (variant.name not in ("fp16", "bf16"))
        assert variant.proven_on == ((instruction_set(),) if made_here else ())
        assert (variant.peak_mb is None) == (variant.latency_all_threads is None) != made_here
        assert report[variant.name]["provider"] == variant.requires.provider
    assert report["fp32_fused"]["nodes"]["MultiHeadAttention"] == report["fp32"]["nodes"]["Softmax"]
    for name in DERIVED:
        if name not in ("fp16", "bf16"):
            assert len(attar.load(path, variant=name, threads=1).embed(["ba", "ko ri"])) == 2


def test_what_a_graph_has_nothing_for_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidInput, match="int4: the graph has no product with a constant matrix"):
        derive("int4", averaging_graph())


def test_a_derived_variant_keeps_the_kind_of_attention() -> None:
    assert derive("fp16", student_graph(), attention="softmax").attention == "softmax"
