"""The tasks of the ladder: corpora to train on, and what judges an encoder on them."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.training.data.documents import Document, Documents
from attar.training.data.group_split import split_documents
from attar.training.data.pairs import Pair, by_hash
from attar.training.datasets import docstrings
from attar.training.probes.few_shot import few_rows
from attar.training.probes.retrieval import ranks

PER_PACKAGE, HELD_OUT = 1200, 800  # documents, as in the demo
K = 10
CHUNK = 512  # queries that are searched for at a time
SHOTS, DRAWS = 10, 3

Vectors = NDArray[np.float32]
Figures = NDArray[np.float64]
"""Figures a query: (n,), of which the mean counts; or (n, 2), of which Spearman's correlation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Texts to embed, and the figures of each query by the name of the metric.

    `measure` takes the embeddings of queries (m, d) and of documents (n, d).
    """

    corpus: str
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    measure: Callable[[Vectors, Vectors], Mapping[str, Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A corpus that encoders are trained on, as a line of JSON each, and the tasks after it."""

    name: str
    lines: tuple[Mapping[str, str], ...]
    tasks: tuple[Task, ...]

    def write(self, path: Path) -> Path:
        """Write what is trained on, which has nothing that judges; give the path."""
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), "utf-8")
        return path


def homes(data: Path) -> dict[str, Callable[[], Home]]:
    """Give what reads each corpus that encoders are trained on, by its name."""

    def abroad(*but: str) -> tuple[Task, ...]:
        every = {"stsb": stsb, "clinc150": clinc150, "cranfield": cranfield}
        return tuple(task(data) for name, task in every.items() if name not in but)

    def of_docstrings(name: str) -> Home:
        train, task = documentation(name)
        return Home(name=name, lines=_lines(train), tasks=(task, *abroad()))

    def of_cranfield() -> Home:
        foreign = documentation("docstrings_modules")[1]
        tasks = (cranfield(data), foreign, *abroad("cranfield"))
        return Home(name="cranfield", lines=_lines(_abstracts(data)), tasks=tasks)

    def of_clinc150() -> Home:
        lines = tuple({"text": row["text"]} for row in _clinc_rows(data, "train"))
        return Home(
            name="clinc150", lines=lines, tasks=(clinc150(data), *abroad("clinc150", "cranfield"))
        )

    return {
        "docstrings_modules": lambda: of_docstrings("docstrings_modules"),
        "docstrings": lambda: of_docstrings("docstrings"),
        "cranfield": of_cranfield,
        "clinc150": of_clinc150,
    }


@cache
def documentation(name: str) -> tuple[tuple[Document, ...], Task]:
    """Give the docstrings to train on, and the held-out summaries that must find their bodies.

    "docstrings" holds out items, "docstrings_modules" whole modules. All bodies are searched.
    """
    every = _some_of_each_package(docstrings.documents())
    if name == "docstrings":
        chosen = {pair.name for pair in by_hash(_pairs(every), 0)[:HELD_OUT]}
        train = tuple(document for document in every if document.name not in chosen)
        held_out = tuple(document for document in every if document.name in chosen)
    else:
        parts = split_documents(Documents(name, every, "docstrings"), held_out=HELD_OUT)
        train, held_out = tuple(parts.train), tuple(parts.held_out)

    def measure(queries: Vectors, documents: Vectors) -> Mapping[str, Figures]:
        positions = ranks(queries, documents, np.arange(len(held_out)))
        return {
            "recall_at_1": (positions <= 1).astype(np.float64),
            "recall_at_10": (positions <= K).astype(np.float64),
            "mrr": 1 / positions,
        }

    return train, Task(
        corpus=name,
        queries=tuple(document.title for document in held_out),
        documents=tuple(document.text for document in (*held_out, *train)),
        measure=measure,
    )


def _some_of_each_package(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Give the documents of the demo: so many of each package, drawn by a hash of their names."""
    by_package: dict[str, list[Document]] = {}
    for document in documents:
        by_package.setdefault(document.name.partition(".")[0], []).append(document)
    some = {
        pair.name for own in by_package.values() for pair in by_hash(_pairs(own), 0)[:PER_PACKAGE]
    }
    return tuple(document for document in documents if document.name in some)


def _pairs(documents: Sequence[Document]) -> list[Pair]:
    return [Pair(each.name, each.group, each.title, each.text) for each in documents]


def cranfield(data: Path) -> Task:
    """Give the judged queries of Cranfield; every grade above zero is relevant."""
    folder = data / "text-retrieval-cranfield"
    documents = _abstracts(data)
    row_of = {document.name: row for row, document in enumerate(documents)}
    queries = list(csv_rows(folder / "queries.csv.gz"))
    relevant = np.zeros((len(queries), len(documents)), np.bool_)
    query_of = {query["query_id"]: row for row, query in enumerate(queries)}
    for judged in csv_rows(folder / "qrels.csv.gz"):
        if int(judged["grade"]) > 0 and judged["doc_id"] in row_of:
            relevant[query_of[judged["query_id"]], row_of[judged["doc_id"]]] = True

    def measure(query_vectors: Vectors, document_vectors: Vectors) -> Mapping[str, Figures]:
        return {"ndcg_at_10": ndcg(query_vectors, document_vectors, relevant)}

    text = next(key for key in queries[0] if key != "query_id")
    return Task(
        corpus="cranfield",
        queries=tuple(query[text] for query in queries),
        documents=tuple(f"{document.title} {document.text}".strip() for document in documents),
        measure=measure,
    )


def clinc150(data: Path) -> Task:
    """Give CLINC150: a test question finds those to train on of its intent; and a 10-shot probe."""
    train, test = _clinc_rows(data, "train"), _clinc_rows(data, "test")
    names = sorted({row["intent"] for row in train})
    train_labels, labels = (
        np.array([names.index(row["intent"]) for row in part]) for part in (train, test)
    )
    relevant = labels[:, None] == train_labels

    def measure(queries: Vectors, documents: Vectors) -> Mapping[str, Figures]:
        return {
            "ndcg_at_10": ndcg(queries, documents, relevant),
            "accuracy_10_shot": _few_shot(documents, train_labels, queries, labels),
        }

    return Task(
        corpus="clinc150",
        queries=tuple(row["text"] for row in test),
        documents=tuple(row["text"] for row in train),
        measure=measure,
    )


def stsb(data: Path) -> Task:
    """Give the test pairs of STS-B, judged by Spearman's correlation of cosine and score."""
    test = [row for row in csv_rows(data / "text-stsb" / "stsb.csv.gz") if row["split"] == "test"]
    scores = np.array([float(row["score"]) for row in test])

    def measure(first: Vectors, second: Vectors) -> Mapping[str, Figures]:
        return {"spearman": np.stack([(_unit(first) * _unit(second)).sum(axis=1), scores], axis=1)}

    return Task(
        corpus="stsb",
        queries=tuple(row["sentence1"] for row in test),
        documents=tuple(row["sentence2"] for row in test),
        measure=measure,
    )


def ndcg(queries: Vectors, documents: Vectors, relevant: NDArray[np.bool_]) -> Figures:
    """Give nDCG@10 of each query, (m,): `relevant` (m, n) says which documents it should find.

    Relevance is binary, and the gain at rank r is 1 / log2(r + 1) (Jarvelin and Kekalainen 2002).
    """
    gains = 1 / np.log2(np.arange(2, K + 2))
    index, figures = _unit(documents).T, np.zeros(len(queries))
    for start in range(0, len(queries), CHUNK):
        chunk = slice(start, start + CHUNK)
        cosines = _unit(queries[chunk]) @ index
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :K]
        figures[chunk] = (
            np.take_along_axis(relevant[chunk], order, axis=1) @ gains[: order.shape[1]]
        )
    most = np.array([gains[: min(K, count)].sum() for count in relevant.sum(axis=1)])
    shares: Figures = np.divide(figures, most, out=np.zeros_like(figures), where=most > 0)
    return shares


def _few_shot(
    train: Vectors, train_labels: NDArray[Any], test: Vectors, labels: NDArray[Any]
) -> Figures:
    """Give the share of draws of ten labels a class that put each test row into its class.

    A row is of the class whose centroid is nearest (Snell et al. 2017, arXiv:1703.05175).
    """
    train_rows, items = _unit(train), _unit(test)
    classes = np.unique(train_labels)
    hits = []
    for draw in range(DRAWS):
        some = few_rows(train_labels, SHOTS, seed=draw)
        centroids = [
            train_rows[some[train_labels[some] == label]].mean(axis=0) for label in classes
        ]
        cosines = items @ _unit(np.stack(centroids)).T
        hits.append(classes[cosines.argmax(axis=1)] == labels)
    shares: Figures = np.mean(hits, axis=0, dtype=np.float64)
    return shares


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return unit


def _abstracts(data: Path) -> tuple[Document, ...]:
    """Read the documents of Cranfield; two of them are blank."""
    path = data / "text-retrieval-cranfield" / "docs.csv.gz"
    return tuple(
        Document(row["doc_id"], row["doc_id"], " ".join(row["title"].split()), row["text"].strip())
        for row in csv_rows(path)
    )


def _clinc_rows(data: Path, split: str) -> list[dict[str, str]]:
    path = data / "text-clinc150" / "clinc150.csv.gz"
    return [row for row in csv_rows(path) if row["split"] == split]


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Read the rows of a packed CSV file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _lines(documents: Sequence[Document]) -> tuple[Mapping[str, str], ...]:
    """Give documents as pairs of summary and body, as `adapt` and `distill` read them alike."""
    return tuple(
        {
            "name": document.name,
            "group": document.group,
            "summary": document.title,
            "body": document.text,
        }
        for document in documents
        if document.title and document.text
    )
