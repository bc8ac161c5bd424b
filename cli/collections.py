"""Collections of a server: documents are written to one, and one is searched."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from uuid import NAMESPACE_OID, UUID, uuid5

from rich.progress import track

from attar.client import Client, Tls
from attar.errors import InvalidInput
from attar.manifest import read_json
from attar.training.data.passages import PASSAGE_WORDS, passage_spans
from attar.values import Hit, Language, SearchMode, TextIndex

from .console import console, printable

BATCH: Final = 64  # passages of a call: seconds of a slow server, well below the deadline
KEY: Final = "ATTAR_KEY"
SHOWN: Final = 300  # characters of a hit's text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as a point: its id follows from its file, or other group, and its number there."""

    group: str
    number: int
    payload: dict[str, Any]

    @property
    def id(self) -> UUID:
        """The same for the same number of the same group, so that it is written over."""
        return uuid5(NAMESPACE_OID, f"{self.group}\n{self.number}")


def client_of(server: str, *, ca: Path | None) -> Client:
    """Connect to a server, by TLS where there is a file of authorities.

    Every user of this machine can read a command line, so the key comes from the environment.
    """
    return Client(server, key=os.environ.get(KEY), tls=None if ca is None else Tls(ca=ca))


def upsert_documents(
    client: Client,
    collection: str,
    path: Path,
    *,
    model: str = "",
    words: int | None = None,
    overlap: int = 0,
    column: str | None = None,
    language: str | None = None,
) -> None:
    """Write each passage of the documents at `path` as a point, and tell what was written.

    The collection is made if it is missing, with a text index where a `language` is given. A
    passage that is there already is left, one that changed is written over, and those that its file
    has no more are deleted; points of other files are left alone.
    """
    words = PASSAGE_WORDS if words is None else words
    passages = _passages(path, words=words, overlap=overlap, column=column)
    existing = {each.name: each for each in client.collections()}
    text_index = None if language is None else TextIndex(language=cast("Language", language))
    if collection not in existing:
        client.create_collection(collection, model=model, text_index=text_index)
    elif text_index not in (None, existing[collection].text_index):
        raise InvalidInput(
            f"{collection} is a collection with the text index {existing[collection].text_index}; "
            "leave --language out, or give the collection another name"
        )
    elif model not in ("", existing[collection].model):
        raise InvalidInput(
            f"{collection} is a collection of the model {existing[collection].model}; leave "
            "--model out, or give the collection another name"
        )
    batch_size = min(BATCH, client.info().limits["max_items"])
    written = truncated = 0
    bar = track(passages, "writing", console=console, disable=not console.is_terminal)
    for batch in _batches(bar, batch_size):
        new = _changed(client, collection, batch) if collection in existing else batch
        if new:
            payloads = [passage.payload for passage in new]
            upserted = client.upsert(
                collection,
                [passage.id for passage in new],
                [payload["text"] for payload in payloads],
                payloads=payloads,
                all_or_nothing=True,
            )
            truncated += int(upserted.truncated.sum())
        written += len(new)
    if collection in existing:
        _delete_former(client, collection, passages)
    points = client.collection(collection).points
    console.print(
        f"{written:,} passages are written, and {len(passages) - written:,} were there; "
        f"{collection} has {points:,} points"
    )
    if truncated:
        console.print(
            f"longer than the model reads: {truncated:,} passages, of which only the beginnings "
            f"can be found; choose fewer --words than {words}",
            style="yellow",
        )


def show_hits(
    client: Client,
    collection: str,
    query: str,
    *,
    limit: int,
    filter_: str | None = None,
    mode: str = "dense",
    rerank: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the best points for a query: the score, where the text is from, and the text."""
    conditions = None if filter_ is None else _filter(filter_)
    (hits,) = client.search(
        collection,
        [query],
        limit=limit,
        filter=conditions,
        mode=cast("SearchMode", mode),
        rerank=rerank,
    ).hits
    for hit in hits:
        if as_json:
            line: dict[str, Any] = {"id": str(hit.id), "score": hit.score, "payload": hit.payload}
            if hit.parts:
                line["parts"] = dict(hit.parts)
            console.out(json.dumps(line), highlight=False)
        else:
            console.print("\n".join(_lines(hit)))
    if not hits and not as_json:
        console.print(f"nothing in {collection} is found", style="yellow")


def _passages(path: Path, *, words: int, overlap: int, column: str | None) -> tuple[Passage, ...]:
    """Read documents, say what was read, and cut each into passages."""
    from attar.training.data.documents import read_documents  # torch, which a search needs not

    passage_spans("", words=words, overlap=overlap)  # refuses bad numbers before a file is read
    documents = read_documents(path, column=column)
    for line in documents.lines():
        console.print(line)
    passages = []
    counts: Counter[str] = Counter()
    for document in documents:
        group = document.group
        for start, end in passage_spans(document.text, words=words, overlap=overlap):
            payload = {
                "document": document.name,
                "group": group,
                "title": document.title,
                "passage": counts[group],
                "start": start,  # characters of the document's text
                "end": end,
                "text": " ".join(document.text[start:end].split()),
            }
            passages.append(Passage(group, counts[group], payload))
            counts[group] += 1
    return tuple(passages)


def _batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(values)
    while batch := list(islice(source, size)):
        yield batch


def _changed(client: Client, collection: str, batch: Sequence[Passage]) -> list[Passage]:
    """Give the passages that the collection has not as they are."""
    points = client.retrieve(collection, [passage.id for passage in batch])
    there = {str(point.id): point.payload for point in points}
    return [passage for passage in batch if there.get(str(passage.id)) != passage.payload]


def _delete_former(client: Client, collection: str, passages: Sequence[Passage]) -> None:
    """Delete the passages that a group had and has no more: those of higher numbers."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for group, count in Counter(passage.group for passage in passages).items():
        groups[count].append(group)
    for count, names in groups.items():
        for some in _batches(names, BATCH):
            client.delete_points(collection, filter={"group": some, "passage": {"gte": count}})


def _filter(text: str) -> dict[str, Any]:
    try:
        conditions = read_json(text.encode(), "--filter")
    except ValueError:
        conditions = None
    if not isinstance(conditions, dict):
        raise InvalidInput(
            f'--filter is {text:.80}; give a JSON object such as \'{{"document": "a.md"}}\''
        )
    return conditions


def _lines(hit: Hit) -> Iterator[str]:
    """Give a hit in lines; a payload of another's making is shown as it is."""
    payload = hit.payload
    place = str(payload.get("document", hit.id))
    title = f"  {payload['title']}" if payload.get("title") else ""
    text = payload.get("text")
    shown = text if isinstance(text, str) else json.dumps(payload)
    yield printable(f"{hit.score:.3f}  {place}{title}")
    yield printable(f"       {shown[:SHOWN]}{' …' if len(shown) > SHOWN else ''}")
