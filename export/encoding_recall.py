"""What an output encoding costs a search: the share of nearest neighbours that it still finds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from attar.encodings import ENCODINGS, Encoding, Vectors, decode, encode
from attar.manifest import Ranges

NEIGHBOURS = 10
CANDIDATES = 4  # times as many are re-scored as are wanted
ROWS = 2000  # at most; a search of each among all others takes some 100 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """An encoding's bytes a vector, and the share of exact nearest neighbours that it finds.

    `found` is by the encoded vectors alone; `rescored` takes `CANDIDATES` times as many by those
    and ranks them by the exact ones.
    """

    bytes: int
    found: float
    rescored: float


def neighbours(rows: int) -> int:
    """Give how many neighbours are looked for among some rows: a tenth, `NEIGHBOURS` at most."""
    return min(NEIGHBOURS, rows // 10)


def overlaps(vectors: Vectors, ranges: Ranges | None) -> Mapping[Encoding, Overlap]:
    """Search every row (n, d) among the others in each encoding that the vectors can take.

    Queries are encoded as the others are, and ranked by inner product. Fewer than ten rows say
    nothing, so there is no entry then; nor for int8 without `ranges`, or for binary where 8 does
    not divide d.
    """
    vectors = vectors[:ROWS]
    k = neighbours(len(vectors))
    if not k:
        return {}
    exact = _similarity(vectors)
    wanted = _nearest(exact, k)
    return {
        encoding: _overlap(vectors, encoding, ranges, exact, wanted)
        for encoding in ENCODINGS
        if _possible(encoding, vectors.shape[1], ranges)
    }


def encodings_report(vectors: Vectors, ranges: Ranges | None) -> dict[str, object]:
    """Give `overlaps` as report.json holds it, with how many neighbours were looked for."""
    k = neighbours(len(vectors))
    return {
        "neighbours": k,
        "rescored_from": CANDIDATES * k,
        "overlap": {name: asdict(recall) for name, recall in overlaps(vectors, ranges).items()},
    }


def _possible(encoding: Encoding, dims: int, ranges: Ranges | None) -> bool:
    return not ((encoding == "int8" and ranges is None) or (encoding == "binary" and dims % 8 != 0))


def _overlap(
    vectors: Vectors,
    encoding: Encoding,
    ranges: Ranges | None,
    exact: NDArray[np.float32],
    wanted: NDArray[np.intp],
) -> Overlap:
    codes = encode(vectors, encoding, ranges)
    similar = _similarity(decode(codes, encoding, ranges))
    k = wanted.shape[1]
    candidates = _nearest(similar, min(CANDIDATES * k, len(vectors) - 1))
    among = np.take_along_axis(exact, candidates, axis=1)
    rescored = np.take_along_axis(candidates, _nearest(among, k), axis=1)
    return Overlap(
        bytes=int(codes[0].nbytes),
        found=_share(_nearest(similar, k), wanted),
        rescored=_share(rescored, wanted),
    )


def _similarity(vectors: Vectors) -> NDArray[np.float32]:
    """Give every row's inner product with every other, and with itself the least: (n, n)."""
    similar: NDArray[np.float32] = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return similar


def _nearest(similar: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Give the places of the k greatest of each row, ties by place: (n, k)."""
    order: NDArray[np.intp] = np.argsort(-similar, axis=1, kind="stable")
    return order[:, :k]


def _share(retrieved: NDArray[np.intp], wanted: NDArray[np.intp]) -> float:
    hits = (retrieved[:, :, None] == wanted[:, None, :]).any(axis=2)
    return round(float(hits.mean()), 4)
