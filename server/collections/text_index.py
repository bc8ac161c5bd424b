"""The text index of a collection: BM25 (Robertson and Zaragoza 2009) by Qdrant Edge.

The engine keeps the words of each point's text, and ranks by the numbers of points and words that
are there at the time of a search: IDF and the mean length change with every write. Measured against
an implementation in numpy, scores differ by 0.2 % at most: the engine keeps lengths in a byte.
"""

from collections.abc import Sequence
from typing import Any, Final

import qdrant_edge as edge

from attar.errors import InvalidInput
from attar.values import TextIndex

from .store import Description, Payload

TEXT: Final = "text"  # where a stored payload has the text that is indexed
MAX_CALL_BYTES: Final = 4 * 2**20  # of text in one upsert: some seconds, in which no search can run
MAX_QUERY_BYTES: Final = 2**14  # of one query: some 3,000 words, 20 ms


def index_operation(text_index: TextIndex) -> edge.UpdateOperation:
    """Give the operation that makes the index of an empty shard."""
    if text_index.language == "none":
        # It knows where words begin in scripts without spaces.
        params = edge.TextIndexParams(
            tokenizer=edge.TokenizerType.Multilingual, lowercase=True, scoring=True
        )
    else:
        language = text_index.language.capitalize()
        params = edge.TextIndexParams(
            tokenizer=edge.TokenizerType.Word,
            lowercase=True,
            stopwords=getattr(edge.Language, language),
            stemmer=edge.SnowballParams(getattr(edge.SnowballLanguage, language)),
            scoring=True,
        )
    return edge.UpdateOperation.create_field_index(TEXT, params)


def require_text_index(description: Description) -> TextIndex:
    """Give a collection's text index; InvalidInput says how to get one where there is none."""
    if description.text_index is None:
        raise InvalidInput(
            f"mode is keyword or hybrid, and collection {description.name} has no text index;"
            " search it with mode dense, or create a collection with a text_index and upsert its"
            " points there"
        )
    return description.text_index


def indexed_texts(description: Description, payloads: Sequence[Payload]) -> list[dict[str, Any]]:
    """Give what a stored payload has for the text index, of each point; nothing without an index.

    Raises `InvalidInput` where a point has no text, or all have more than one call may bring.
    """
    if description.text_index is None:
        return [{}] * len(payloads)
    key, left = description.text_index.field, MAX_CALL_BYTES
    texts = list[dict[str, Any]]()
    for index, payload in enumerate(payloads):
        text = payload.get(key)
        if not isinstance(text, str):
            raise InvalidInput(
                f"payloads[{index}] has no text at {key!r:.80}, which the text index of collection"
                f" {description.name} ranks by; put the text there, or an empty one"
            )
        left -= len(text.encode())
        if left < 0:
            raise InvalidInput(
                f"payloads[{index}] is where the texts for the text index have more than"
                f" {MAX_CALL_BYTES} bytes in one call; send fewer points at a time"
            )
        texts.append({TEXT: text})
    return texts


def check_queries(texts: Sequence[str]) -> None:
    """Raise `InvalidInput` for a query that is longer than a keyword search takes."""
    for index, text in enumerate(texts):
        if (size := len(text.encode())) > MAX_QUERY_BYTES:
            raise InvalidInput(
                f"texts[{index}] has {size} bytes, and the query of a keyword or hybrid search may"
                f" have {MAX_QUERY_BYTES}; give its most telling words, or search with mode dense"
            )


def keyword_query(text: str) -> edge.TextQuery:
    """Give the query that ranks points by the words of a text."""
    return edge.TextQuery(TEXT, text)
