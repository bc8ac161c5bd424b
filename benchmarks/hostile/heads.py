"""Items and labels that heads are fitted on, and what must come of each: values, or a refusal.

The one list; tests/hostile/test_heads.py holds the head classes, the server and both clients to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attar.heads import Metric

DIMS: Final = 3
LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A fit on `items`, and what `queries` score; or words of a refusal."""

    fault: str
    items: NDArray[np.float32]
    metric: Metric = "euclidean"
    options: Mapping[str, Any] = field(default_factory=dict)
    queries: NDArray[np.float32] = field(default_factory=lambda: rows([[0, 0, 0]]))
    scores: tuple[float, ...] = ()
    anomalies: tuple[bool, ...] = ()
    refused: str = ""

    def __str__(self) -> str:
        return self.fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A fit on `items` and `labels`, and what `queries` are predicted; or words of a refusal."""

    fault: str
    items: NDArray[np.float32]
    labels: tuple[str, ...]
    normalized: bool = False
    queries: NDArray[np.float32] = field(default_factory=lambda: rows([[0, 0, 0]]))
    predicted: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    recalls: tuple[float | None, ...] = ()
    contradictory: int = 0
    refused: str = ""

    def __str__(self) -> str:
        return self.fault


def rows(values: ArrayLike, *, times: int = 1) -> NDArray[np.float32]:
    """Give float32 rows, each `times` times."""
    return np.repeat(np.asarray(values, np.float32), times, axis=0)


def near(row: ArrayLike, n: int, *, by: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """Give n different rows around one."""
    noise = np.random.default_rng(seed).normal(size=(n, DIMS))
    return np.asarray(np.asarray(row) + by * noise, np.float32)


ONE: Final[list[float]] = [0.3, -1.7, 2.9]
OTHER: Final[list[float]] = [2.0, 1.0, -1.0]
COSINE: Final = -4.0 / (11.39 * 6.0) ** 0.5
EUCLIDEAN: Final = 25.39**0.5
ASIDE: Final = np.cross(ONE, OTHER)  # at right angles to both, and 52.34 ** 0.5 long
LAST_DIGIT: Final = np.nextafter(rows([ONE]), np.float32(9))
MOSTLY_EQUAL: Final = np.vstack([rows([ONE], times=97), near(OTHER, 3)])
CLOUD: Final = near([0, 0, 0], 60, by=1)

DETECTORS: Final = (
    *(
        Detector(
            fault=f"equal items, {metric}",
            items=rows([ONE], times=40),
            metric=metric,  # type: ignore[arg-type]
            queries=np.vstack([rows([ONE]), LAST_DIGIT, rows([OTHER])]),
            scores=(0, 0, score),
            anomalies=(False, False, True),
        )
        for metric, score in (("cosine", 1 - COSINE), ("euclidean", EUCLIDEAN))
    ),
    *(
        Detector(
            fault=f"97 % equal items, {metric}",
            items=MOSTLY_EQUAL,
            metric=metric,  # type: ignore[arg-type]
            queries=np.vstack([rows([ONE]), LAST_DIGIT, rows(np.add(ONE, ASIDE)[None])]),
            scores=(0, 0, score),
            # By direction the three others, which calibrate, are stranger.
            anomalies=(False, False, metric == "euclidean"),
        )
        for metric, score in (
            ("cosine", 1 - 11.39**0.5 / (11.39 + 52.34) ** 0.5),
            ("euclidean", 52.34**0.5),
        )
    ),
    Detector(
        fault="items of zeros",
        items=rows([[0, 0, 0]], times=40),
        queries=rows([[0.0, 0.0, 0.0], [0.0, 1e-30, 0.0]]),
        scores=(0, 1e-30),
        anomalies=(False, True),
    ),
    Detector(
        fault="items of zeros have no direction",
        items=np.vstack([CLOUD[:7], rows([[0, 0, 0]]), CLOUD[7:]]),
        metric="cosine",
        refused="item 7 has an embedding of zeros",
    ),
    Detector(
        fault="a query of zeros has no direction",
        items=near(ONE, 40),
        metric="cosine",
        scores=(1,),
        anomalies=(True,),
    ),
    Detector(
        fault="mostly zeros, and the rest long and off in the last place",
        items=np.vstack([rows([[0, 0, 0]], times=150), rows([[1e6, 2e6, 3e6]], times=50)]),
        queries=np.nextafter(rows([[1e6, 2e6, 3e6]]), np.float32(0)),
        scores=(0,),
        anomalies=(False,),
    ),
    Detector(
        fault="columns that are constant and large",
        items=np.hstack([rows([[1e6, -3e5]], times=40), np.arange(40, dtype=np.float32)[:, None]]),
        options={"neighbours": 1},
        queries=rows([[1e6, -3e5, 20], [1e6, -3e5, 139]]),
        scores=(0, 100),
        anomalies=(False, True),
    ),
    Detector(
        fault="a small difference between large values",
        items=rows([[8e6, 8e6, 29]], times=30),
        options={"neighbours": 1},
        queries=rows([[8e6, 8e6 + 64, 29]]),
        scores=(64,),
        anomalies=(True,),
    ),
    Detector(
        fault="queries far longer and shorter than the items",
        items=rows([[1, 0, 0]], times=40),
        metric="cosine",
        queries=rows(
            [[3e38, 3e38, 0.0], [1e-44, 1e-44, 0.0], [1e-45, 0.0, 0.0], [-LARGEST, 0.0, 0.0]]
        ),
        scores=(1 - 0.5**0.5, 1 - 0.5**0.5, 0, 2),
        anomalies=(True, True, False, True),
    ),
    Detector(
        fault="items far longer and shorter than one",
        items=np.vstack([rows([[1e30, 0, 0]], times=20), rows([[1e-44, 0, 0]], times=20)]),
        metric="cosine",
        queries=rows([[5, 0, 0], [0, 5, 0]]),
        scores=(0, 1),
        anomalies=(False, True),
    ),
    Detector(
        fault="items 1e30 long",
        items=rows([[1e30, 0, 0]], times=40),
        queries=rows([[1e30, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        scores=(0, 1e30),
        anomalies=(False, True),
    ),
    Detector(
        fault="a distance beyond float32",
        items=rows([[LARGEST, LARGEST, 0.0]], times=40),
        queries=rows([[-LARGEST, -LARGEST, 0]]),
        scores=(LARGEST,),
        anomalies=(True,),
    ),
    Detector(
        fault="items shorter than float32 can square",
        items=rows([[3e-30, 0, 0]], times=40),
        queries=rows([[3e-30, 0, 0], [3e-30, 4e-30, 0]]),
        scores=(0, 4e-30),
        anomalies=(False, True),
    ),
    Detector(
        fault="a triangle of sides 3, 4 and 5",
        items=rows([[0, 0, 0]], times=40),
        queries=rows([[3, 4, 0]]),
        scores=(5,),
        anomalies=(True,),
    ),
    Detector(
        fault="of two places one item is the norm, and one in two",
        items=rows([[1, 0, 0], [0, 1, 0]], times=100),
        metric="cosine",
        queries=rows([[1, 0, 0], [0, 1, 0], [1, 1, 0]]),
        scores=(0, 0, 1 - 0.5**0.5),
        anomalies=(False, False, True),
    ),
    *(
        Detector(fault=f"{n} items", items=CLOUD[:n], refused=f"{n} items are too few")
        for n in (1, 2, 3, 24)
    ),
    Detector(
        fault="25 items are enough",
        items=rows([ONE], times=25),
        queries=rows([ONE, OTHER]),
        scores=(0, EUCLIDEAN),
        anomalies=(False, True),
    ),
    Detector(fault="no neighbour", items=CLOUD, options={"neighbours": 0}, refused="neighbours"),
    Detector(
        fault="more neighbours than references",
        items=CLOUD,
        options={"neighbours": 41},
        refused="give at least 61",
    ),
    *(
        Detector(
            fault=f"target_fpr {target}",
            items=CLOUD,
            options={"target_fpr": target},
            refused="target_fpr must be between 0 and 1",
        )
        for target in (0.0, 1.0, -0.05, 5e-324, 1e-300, 1e-10)
    ),
    *(
        Detector(
            fault=f"target_fpr {target}",
            items=CLOUD,
            options={"target_fpr": target},
            refused="target_fpr .*(nan|inf)",  # the clients have words of their own
        )
        for target in (float("nan"), float("inf"))
    ),
    Detector(
        fault="target_fpr 1e-9",
        items=CLOUD,
        options={"target_fpr": 1e-9},
        refused="give at least 1000000005",
    ),
    Detector(
        fault="target_fpr 5, for 5 %",
        items=CLOUD,
        options={"target_fpr": 5},
        refused="target_fpr must be between 0 and 1",
    ),
    Detector(
        fault="an unknown metric",
        items=CLOUD,
        metric="manhattan",  # type: ignore[arg-type]
        refused="metric",
    ),
)

USUAL: Final = near([1, 0, 0], 400, by=0.2)
RARE: Final = near([0.9, 0.45, 0], 3, by=0.02, seed=1)
GROUPS: Final = np.vstack([near([5, 0, 0], 10), near([0, 5, 0], 10, seed=1)])
AB: Final = ("a",) * 10 + ("b",) * 10
IN_BOTH: Final = {"queries": rows([[5, 0, 0], [0, 5, 0]]), "counts": (10, 10), "recalls": (1, 1)}


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give rows of unit length."""
    return rows(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


CLASSIFIERS: Final = (
    Classifier(
        fault="3 of 403 items are rare",
        items=unit(np.vstack([USUAL, RARE])),
        labels=("usual",) * 400 + ("rare",) * 3,
        normalized=True,
        queries=unit(RARE),
        predicted=("rare",) * 3,
        classes=("rare", "usual"),
        counts=(3, 400),
    ),
    Classifier(
        fault="one item a label",
        items=rows([[5, 0, 0], [0, 5, 0]]),
        labels=("a", "b"),
        queries=rows([[5, 0, 0], [0, 5, 0]]),
        predicted=("a", "b"),
        classes=("a", "b"),
        counts=(1, 1),
        recalls=(None, None),
    ),
    Classifier(
        fault="three items, one of them alone",
        items=rows([[5.0, 0.0, 0.0], [5.0, 0.1, 0.0], [0.0, 5.0, 0.0]]),
        labels=("a", "a", "b"),
        queries=rows([[5, 0, 0], [0, 5, 0]]),
        predicted=("a", "b"),
        classes=("a", "b"),
        counts=(2, 1),
        recalls=(1, None),
    ),
    Classifier(
        fault="a label whose items are all equal was never held out",
        items=np.vstack([GROUPS[:10], rows([[0, 5, 0]], times=10)]),
        labels=AB,
        queries=rows([[5, 0, 0], [0, 5, 0]]),
        predicted=("a", "b"),
        classes=("a", "b"),
        counts=(10, 10),
        recalls=(1, None),
    ),
    Classifier(
        fault="equal items under two labels",
        items=np.vstack([GROUPS, GROUPS[:1]]),
        labels=(*AB, "b"),
        queries=rows([[5, 0, 0], [0, 5, 0]]),
        predicted=("a", "b"),
        classes=("a", "b"),
        counts=(10, 11),
        recalls=(1, 10 / 11),
        contradictory=2,
    ),
    Classifier(
        fault="a zero of either sign is one item",
        items=np.vstack([GROUPS, rows([[0.0, 9, 9], [-0.0, 9, 9]])]),
        labels=(*AB, "a", "b"),
        classes=("a", "b"),
        counts=(11, 11),
        contradictory=2,
    ),
    Classifier(
        fault="all items equal",
        items=rows([ONE], times=20),
        labels=AB,
        classes=("a", "b"),
        counts=(10, 10),
        recalls=(None, None),
        contradictory=20,
    ),
    Classifier(
        fault="columns of a large and of a small unit, and a constant one",
        items=GROUPS * rows([[1e6, 1e-3, 0]]) + rows([[0, 0, 7]]),
        labels=AB,
        predicted=("a", "b"),
        classes=("a", "b"),
        **{**IN_BOTH, "queries": rows([[5e6, 0, 7], [0, 5e-3, 7]])},  # type: ignore[arg-type]
    ),
    Classifier(
        fault="columns far from zero",
        items=GROUPS + rows([[1e4, -1e4, 1e4]]),
        labels=AB,
        predicted=("a", "b"),
        classes=("a", "b"),
        **{**IN_BOTH, "queries": rows([[10005, -1e4, 1e4], [1e4, -9995, 1e4]])},  # type: ignore[arg-type]
    ),
    Classifier(
        fault="columns beyond what float32 can square, and below",
        items=GROUPS * rows([[1e30, 1e-38, 1]]),
        labels=AB,
        predicted=("a", "b"),
        classes=("a", "b"),
        **{**IN_BOTH, "queries": rows([[5e30, 0, 0], [0, 5e-38, 0]])},  # type: ignore[arg-type]
    ),
    Classifier(
        fault="queries far beyond the items",
        items=GROUPS,
        labels=AB,
        queries=rows([[LARGEST, -LARGEST, 0], [-LARGEST, LARGEST, 0]]),
        predicted=("a", "b"),
        classes=("a", "b"),
        counts=(10, 10),
        recalls=(1, 1),
    ),
    Classifier(
        fault="labels that are numbers and truths, as text",
        items=np.vstack([GROUPS, GROUPS + rows([[0, 0, 50]]), GROUPS - rows([[50, 50, 50]])]),
        labels=("1",) * 10 + ("01",) * 10 + ("1.0",) * 10 + ("True",) * 10 + ("true",) * 20,
        classes=("01", "1", "1.0", "True", "true"),
        counts=(10, 10, 10, 10, 20),
    ),
    Classifier(
        fault="as many labels as items",
        items=np.eye(30, DIMS, dtype=np.float32) + np.arange(90).reshape(30, 3).astype(np.float32),
        labels=tuple(f"{i:02}" for i in range(30)),
        classes=tuple(f"{i:02}" for i in range(30)),
        counts=(1,) * 30,
        recalls=(None,) * 30,
    ),
    Classifier(
        fault="labels of other scripts",
        items=GROUPS,
        labels=("ä",) * 10 + ("日本",) * 10,
        predicted=("ä", "日本"),
        classes=("ä", "日本"),
        **IN_BOTH,  # type: ignore[arg-type]
    ),
    Classifier(
        fault="a label of 256 characters",
        items=GROUPS,
        labels=("a" * 256,) * 10 + ("b",) * 10,
        classes=("a" * 256, "b"),
        counts=(10, 10),
    ),
    *(
        Classifier(fault=fault, items=GROUPS[: len(labels)], labels=labels, refused=refusal)
        for fault, labels, refusal in (
            ("one item", ("a",), "two different labels; got ['a']"),
            ("one label", ("a", "a", "a"), "two different labels; got ['a']"),
            ("an empty label", ("a", "b", ""), "labels[2] must be a name"),
            ("a label of blanks", ("a", " \t\u3000"), "labels[1] must be a name"),
            ("a label that ends in NUL", ("a\0", "b"), "labels[0] must be a name"),
            ("a blank at the end", ("a", "b", "a "), "labels[2] is 'a ' and labels[0] is 'a'"),
            ("two blanks", ("a b", "a  b"), "labels[1] is 'a  b' and labels[0] is 'a b'"),
            ("another blank", ("a b", "a\u00a0b"), "labels[1] is 'a\\xa0b'"),
            ("another form", ("\u00e4", "a\u0308"), "labels[1] is 'a\\u0308'"),
            ("a mark of the byte order", ("cat", "\ufeffcat"), "labels[1] is '\\ufeffcat'"),
            ("a blank of no width", ("a\u200bb", "ab"), "labels[0] is 'a\\u200bb'"),
            ("a label of marks", ("a", "\ufeff\u200b"), "labels[1] must be a name"),
            ("one in two forms", ("\u00e4", "a\u0308", "b"), "write them the same"),
            ("257 characters", ("a", "b" * 257), "labels[1] has 257 characters"),
        )
    ),
    Classifier(
        fault="fewer labels than items",
        items=GROUPS,
        labels=AB[:-1],
        refused="one label an item; got 19 for 20 items",
    ),
)
