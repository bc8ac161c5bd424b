"""Ids of other tokenizers, sent to /v1/embeddings: how many texts are embedded as other text.

    python -m benchmarks.foreign_ids --bundle BUNDLE --ranks cl100k=FILE --data DATA --out OUT.json

A ranks file is tiktoken's: a token in base64 and its rank, a line each, as `litellm` and other
packages have in their wheels; a tokenizer.json of any tokenizer will do as well. DATA has
text-clinc150, text-stsb and text-retrieval-cranfield, of whose different texts 10,000 are sent, one
a request, by each tokenizer. The server runs in this process, on a loopback address. Ranks are
applied to words as cl100k splits texts; other vocabularies of tiktoken split them a little
otherwise. Own ids are those of the bundle's tokenizer: all must be taken. The time of the check is
the median of three passes over them, in processor time of the one thread.
"""

import argparse
import base64
import csv
import gzip
import itertools
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from tokenizers import Regex, Tokenizer
from tokenizers import pre_tokenizers as before

from attar.bundle import Bundle
from attar.host import describe
from attar.inputs import TextInput

from .support.servers import free_port, serving, settings

TEXTS = 10_000
PATTERN = (  # of cl100k, by which texts are split before their bytes are merged
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
COLUMNS = {
    "text-clinc150/clinc150.csv.gz": ("text",),
    "text-stsb/stsb.csv.gz": ("sentence1", "sentence2"),
    "text-retrieval-cranfield/queries.csv.gz": ("text",),
    "text-retrieval-cranfield/docs.csv.gz": ("text",),
}
Encode = Callable[[str], Sequence[int]]


def main() -> None:
    """Send every text by every tokenizer; write and print what came back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--ranks", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    texts = random.Random(0).sample(sorted(set(_texts(given.data))), TEXTS)
    named = (ranks.partition("=") for ranks in given.ranks)
    tokenizers = {name: _read(Path(file)) for name, _, file in named}
    bundle = Bundle.open(given.bundle)
    report = {
        "machine": describe(),
        "model": bundle.manifest.name,
        "texts": len(texts),
        "own": _own(bundle, texts),
        "foreign": _foreign(given.bundle, texts, tokenizers),
    }
    print(json.dumps(report, indent=1))
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def _foreign(
    bundle: Path, texts: Sequence[str], tokenizers: Mapping[str, Encode]
) -> dict[str, dict[str, int]]:
    port = free_port()
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = settings(bundle, data_dir=Path(folder), http_port=port)
        with serving(chosen), httpx.Client(base_url=f"http://127.0.0.1:{port}") as web:
            (model,) = web.get("/v1/models").json()["data"]
            for name, encode in tokenizers.items():
                counts[name] = dict(
                    Counter(_sent(web, model["id"], list(encode(text))) for text in texts)
                )
    return counts


def _sent(web: httpx.Client, model: str, ids: list[int]) -> str:
    answer = web.post("/v1/embeddings", json={"model": model, "input": [ids]}, timeout=60)
    if answer.status_code == httpx.codes.OK:
        return "200"
    message = answer.json()["error"]["message"]
    for why, words in (
        ("beyond the vocabulary", "another tokenizer's"),
        ("no special tokens", "do not begin with"),
        ("does not come back", "into other ids"),
        ("too long", "the encoder takes"),
    ):
        if words in message:
            return f"{answer.status_code}, {why}"
    return f"{answer.status_code}, {message}"


def _own(bundle: Bundle, texts: Sequence[str]) -> dict[str, Any]:
    """Hold the bundle's own ids to the check, and time it."""
    manifest = bundle.manifest
    length = manifest.max_length or 0
    tokenizer = bundle.read(manifest.preprocessing.tokenizer or "")
    hosts = [
        TextInput(tokenizer, max_length=length, prompts={}, allow_token_ids=allowed)
        for allowed in (False, True)
    ]
    rows = hosts[0].prepare(texts, role="passage", truncation="truncate")
    ids = [row.arrays[0] for row in rows]
    seconds = [statistics.median(_passes(host, ids)) for host in hosts]
    return {
        "refused": 0,  # one that is refused has raised
        "tokens": round(statistics.mean(row.tokens for row in rows), 1),
        "check_us": round((seconds[0] - seconds[1]) / len(texts) * 1e6, 1),
    }


def _passes(host: TextInput, ids: Sequence[Any]) -> Iterator[float]:
    for _ in range(3):
        start = time.thread_time()
        host.prepare(ids, role="passage", truncation="truncate")
        yield time.thread_time() - start


def _texts(data: Path) -> Iterator[str]:
    for file, columns in COLUMNS.items():
        with gzip.open(data / file, "rt", encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                yield from (row[column] for column in columns if row.get(column))


def _read(file: Path) -> Encode:
    """Give the tokenizer of a tokenizer.json, or of tiktoken's ranks."""
    if file.suffix == ".json":
        tokenizer = Tokenizer.from_file(str(file))
        return lambda text: tokenizer.encode(text).ids
    lines = file.read_text("ascii").split("\n")
    ranks = {base64.b64decode(k): int(rank) for k, rank in (line.split() for line in lines if line)}
    split = before.Split(Regex(PATTERN), behavior="isolated")
    return lambda text: [
        id_ for word, _ in split.pre_tokenize_str(text) for id_ in _merged(word.encode(), ranks)
    ]


def _merged(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Merge neighbours, the pair of the lowest rank first, as tiktoken does."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 1:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in itertools.pairwise(parts)]
        lowest = min(pairs)
        if lowest == len(ranks):
            break
        place = pairs.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return [ranks[part] for part in parts]


if __name__ == "__main__":
    main()
