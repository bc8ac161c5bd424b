"""`from attar.export import ...`: what it has, and that a caller's gates decide."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

import attar.export
from attar.export import Gate, Gates, export_tensor
from attar.export.gates import GATES
from attar.manifest import TensorSpec


@pytest.mark.parametrize("name", attar.export.__all__)
def test_a_name_is_there_and_has_a_docstring(name: str) -> None:
    assert getattr(attar.export, name).__doc__


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        attar.export.nothing  # noqa: B018 (reading it is the test)


def test_a_variant_is_written_by_the_callers_gates(tmp_path: Path) -> None:
    items = np.random.default_rng(0).random((8, 4), np.float32)
    strict = Gates(int8=Gate(cosine_mean=1.1, cosine_worst=0.0, max_drop=0.0))
    exported = export_tensor(
        tmp_path / "x.attar",
        nn.Linear(4, 3),
        name="x",
        spec=TensorSpec(name="x", dtype="float32", shape=("batch", 4)),
        items=items,
        modality="table",
        variants=["int8"],
        gates=strict,
    )

    assert exported.refused.keys() == {"int8"}
    assert "is below 1.1" in exported.refused["int8"][0]
    assert [variant.name for variant in exported.bundle.manifest.variants] == ["fp32"]
    assert Gates() == GATES
