"""What each output encoding loses of a search is measured on the vectors themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.encodings import ENCODINGS
from attar.export.encoding_recall import encodings_report, neighbours, overlaps
from attar.manifest import Ranges


def unit_rows(rows: int, dims: int, *, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((rows, dims)).astype(np.float32)
    units: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def ranges_of(vectors: NDArray[np.float32]) -> Ranges:
    return Ranges(low=tuple(vectors.min(0).tolist()), high=tuple(vectors.max(0).tolist()))


@given(st.integers(10, 150), st.sampled_from([8, 16, 64]), st.integers(0, 5))
def test_shares_are_shares_f32_is_whole_and_rescoring_never_loses(
    rows: int, dims: int, seed: int
) -> None:
    vectors = unit_rows(rows, dims, seed=seed)
    found = overlaps(vectors, ranges_of(vectors))

    assert found.keys() == set(ENCODINGS)
    assert (found["f32"].found, found["f32"].rescored) == (1.0, 1.0)
    for overlap in found.values():
        assert 0 <= overlap.found <= overlap.rescored <= 1


def test_fewer_bytes_find_fewer_neighbours() -> None:
    vectors = unit_rows(500, 64)
    found = overlaps(vectors, ranges_of(vectors))

    assert [found[name].bytes for name in ENCODINGS] == [256, 128, 64, 8]
    assert found["f16"].found > 0.99
    assert 0.9 < found["int8"].found < found["f16"].found
    assert found["binary"].found + 0.2 < found["binary"].rescored < found["int8"].found


def test_the_share_is_that_of_a_search_by_hand() -> None:
    vectors = unit_rows(30, 16, seed=3)
    k = neighbours(len(vectors))
    hits = 0
    for i, row in enumerate(vectors):
        others = [j for j in range(len(vectors)) if j != i]
        exact = sorted(others, key=lambda j: -float(row @ vectors[j]))[:k]
        signs = sorted(others, key=lambda j: int(((row > 0) != (vectors[j] > 0)).sum()))[:k]
        hits += len({*exact} & {*signs})

    assert overlaps(vectors, None)["binary"].found == pytest.approx(hits / (30 * k), abs=1e-4)


def test_an_encoding_that_the_vectors_cannot_take_has_no_entry() -> None:
    assert overlaps(unit_rows(50, 12), None).keys() == {"f32", "f16"}
    assert overlaps(unit_rows(9, 8), None) == {}


def test_the_report_says_how_many_neighbours_were_looked_for() -> None:
    report = encodings_report(unit_rows(40, 8), None)

    assert (report["neighbours"], report["rescored_from"]) == (4, 16)
    assert report["overlap"] == {
        "f32": {"bytes": 32, "found": 1.0, "rescored": 1.0},
        "f16": {"bytes": 16, "found": 1.0, "rescored": 1.0},
        "binary": {"bytes": 1, **dict.fromkeys(("found", "rescored"), pytest.approx(0.5, abs=0.5))},
    }
