"""attar verify --server, tried on servers that are right and on servers with a fault.

    python -m benchmarks.conformance minilm.attar --out benchmarks/results/verify.json

The bundle is one of all-MiniLM-L6-v2 (`make demo` leaves one). The servers with a fault, and one
that is right, are sentence-transformers' model of the same folder behind a small HTTP server of
OpenAI's protocol; attar's own server is asked by each protocol. A fault counts as found where the
check that must differ does, with the words that name it, and a check that differs without a fault
is a false alarm. Infinity, Triton and LitServe were not run here.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

import attar
from attar.client.conformance import Check, HttpServer, Protocol, check_server
from attar.host import describe

from .support.embedding_server import Rows, embedding_server
from .support.servers import free_port, serving, settings
from .support.teachers import minilm

Model = Any  # sentence_transformers.SentenceTransformer


def as_it_is(model: Model) -> Rows:
    """Embed as sentence-transformers does."""
    return lambda texts: np.asarray(model.encode(list(texts)))


def cut_at_64(model: Model) -> Rows:
    """Cut texts at 64 tokens, a quarter of what the model takes."""
    model.max_seq_length = 64
    return as_it_is(model)


def capitals_kept(model: Model) -> Rows:
    """Tokenise capitals as they are, which this vocabulary has no tokens for."""
    document = json.loads(model.tokenizer.backend_tokenizer.to_str())
    document["normalizer"]["lowercase"] = False
    reader = type(model.tokenizer.backend_tokenizer)
    model.tokenizer._tokenizer = reader.from_str(json.dumps(document))  # noqa: SLF001 (the only way to it)
    return as_it_is(model)


def first_token(model: Model) -> Rows:
    """Pool by the first token, as many of today's models do."""
    return as_it_is(_pooled(model, "cls"))


def without_length_one(model: Model) -> Rows:
    """Leave out the normalisation at the end."""
    from sentence_transformers import SentenceTransformer

    return as_it_is(SentenceTransformer(modules=[model[0], model[1]], device="cpu"))


def with_a_prompt(model: Model) -> Rows:
    """Put a query's prompt before every text."""
    return lambda texts: np.asarray(model.encode([f"query: {text}" for text in texts]))


def sorted_by_length(model: Model) -> Rows:
    """Embed in batches of like length, and answer in that order."""
    return lambda texts: np.asarray(model.encode(sorted(texts, key=len)))


def padding_seen(model: Model) -> Rows:
    """Let attention see the padding of shorter texts."""
    forward = model[0].forward

    def unmasked(features: dict[str, Any], **options: Any) -> Any:
        mask = features["attention_mask"]
        answered = forward({**features, "attention_mask": mask.new_ones(mask.shape)}, **options)
        return {**answered, "attention_mask": mask}

    model[0].forward = unmasked
    return as_it_is(model)


def answers_of_others(model: Model) -> Rows:
    """Keep the texts of a request in a variable that all requests share."""
    latest: list[Sequence[str]] = [[]]
    one = threading.Lock()

    def rows(texts: Sequence[str]) -> np.ndarray:
        latest[0] = texts
        time.sleep(0.01)
        with one:
            return np.asarray(model.encode(list(latest[0])))

    return rows


def nan_of_nothing(model: Model) -> Rows:
    """Divide by the number of words, which may be none."""

    def rows(texts: Sequence[str]) -> np.ndarray:
        vectors = np.asarray(model.encode(list(texts)))
        vectors[[not text.split() for text in texts]] = np.nan
        return vectors

    return rows


FAULTS: Final[tuple[tuple[Callable[[Model], Rows], str, str], ...]] = (
    (cut_at_64, "truncation", "cuts a text at 64 tokens"),
    (capitals_kept, "tokenisation", "does not make capitals small"),
    (first_token, "plain texts", "another pooling"),
    (without_length_one, "normalisation", "lengths are"),
    (with_a_prompt, "plain texts", "another pooling, other weights"),
    (sorted_by_length, "order", "other texts' embeddings"),
    (padding_seen, "batch invariance", "another embedding than alone"),
    (answers_of_others, "concurrency", "another text's embedding"),
    (nan_of_nothing, "empty texts", "NaN"),
)
"""What each fault is, the check that must differ, and words that must say so."""


def _pooled(model: Model, pooling: str) -> Model:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling

    width = model.get_sentence_embedding_dimension()
    return SentenceTransformer(
        modules=[model[0], Pooling(width, pooling_mode=pooling), Normalize()], device="cpu"
    )


def _loaded() -> Model:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm()), device="cpu")


@contextmanager
def _attar(bundle: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as data:
        port = free_port()
        with serving(settings(bundle, data_dir=Path(data), http_port=port)):
            yield f"http://127.0.0.1:{port}"


def row(server: str, fault: str, checks: Sequence[Check], what: str, words: str) -> dict[str, Any]:
    """Give what was found of a server, and what was called wrong besides."""
    wrong = {check.what: check.why for check in checks if check.holds is False}
    return {
        "server": server,
        "fault": fault,
        "found": words in wrong.get(what, "") if what else None,
        "words": wrong.get(what, ""),
        "false_alarms": [f"{name}: {why}" for name, why in wrong.items() if name != what],
        "checks": len(checks),
        "worst_cosine": min((c.cosine for c in checks if c.cosine is not None), default=None),
    }


def measured(bundle: Path) -> Iterator[dict[str, Any]]:
    """Give a row for each server."""
    encoder = attar.load(bundle, threads=1)
    with _attar(bundle) as url:
        for protocol in get_args(Protocol):
            server = HttpServer(url, protocol=protocol, model=encoder.manifest.name)
            yield row(f"attar, {protocol}", "", check_server(server, encoder), "", "")
    right = (as_it_is, "", "")
    for fault, what, words in (right, *FAULTS):
        name = (fault.__doc__ or "").rstrip(".") if what else ""
        with embedding_server(fault(_loaded())) as url:
            checks = check_server(HttpServer(url), encoder)
        yield row("sentence-transformers, openai", name, checks, what, words)


def main() -> None:
    """Check every server; write and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for one in measured(given.bundle):
        rows.append(one)
        print(json.dumps(one), flush=True)
    report = {
        "machine": describe(),
        "faults": sum(bool(one["fault"]) for one in rows),
        "found": sum(one["found"] is True for one in rows),
        "false_alarms": sum(len(one["false_alarms"]) for one in rows),
        "rows": rows,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
