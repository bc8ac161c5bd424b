"""sentence-transformers' StaticEmbedding as a static encoder: model2vec's and potion's tables.

A text is the mean of the rows of its tokens, without special ones. model2vec's folders keep rows
and weights of tokens apart; multiplied, they are the table.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from attar.errors import InvalidInput

from ..choices import Route
from ..encoders.static import StaticConfig, StaticEncoder
from . import weights
from .config import listed_modules, read_file

MAX_LENGTH = 8192  # tokens of a text where the folder sets no limit
TABLE = "embedding.weight"
MODEL2VEC = ("embeddings", "mapping", "weights")


@dataclass(frozen=True, slots=True)
class Root:
    """The folder of a StaticEmbedding, and whether its vectors are given unit length."""

    path: Path
    unit: bool


def root(folder: Path, route: Route | None) -> Root | None:
    """Give where the StaticEmbedding of a folder of sentence-transformers is, if it starts by one.

    Raises InvalidInput where another module than Normalize follows it.
    """
    if not (folder / "modules.json").exists():
        return None
    kinds, folders = listed_modules(folder, route)
    if kinds[0] != "StaticEmbedding":
        return None
    if kinds[1:] not in ([], ["Normalize"]):
        raise InvalidInput(
            f"{folder} is made of {', '.join(kinds)}; attar imports StaticEmbedding, and then "
            "Normalize or not"
        )
    return Root(folders[0], unit=kinds[1:] == ["Normalize"])


def read(folder: Path, *, normalized: bool) -> tuple[StaticEncoder, bytes]:
    """Give the encoder of the table in `folder`, and its tokenizer without special tokens.

    Raises InvalidInput that names the missing or damaged file, or the id that has no row.
    """
    table = _table(folder)
    tokenizer, limit, largest = _tokenizer(folder / "tokenizer.json")
    if largest >= len(table):
        raise InvalidInput(
            f"{folder} has the token id {largest} and the table {len(table)} rows; save tokenizer "
            "and table together"
        )
    shape = StaticConfig(
        vocabulary=len(table), dim=table.shape[1], max_length=limit, normalized=normalized
    )
    encoder = StaticEncoder(shape)
    encoder.load_state_dict({"table.weight": table})
    return encoder, tokenizer


def _table(folder: Path) -> Tensor:
    """Give a row for each token id: (vocabulary, dim) float32."""
    held, path = weights.load(folder), weights.files(folder)[0]
    if held.keys() == {TABLE}:
        table = held[TABLE].float()
    elif MODEL2VEC[0] in held and held.keys() <= {*MODEL2VEC}:
        table = held["embeddings"].float()
        if (mapping := held.get("mapping")) is not None:
            if mapping.ndim != 1 or mapping.min() < 0 or mapping.max() >= len(table):
                raise InvalidInput(f"{path} maps tokens to rows that it has not; save it again")
            table = table[mapping.long()]
        if (weight := held.get("weights")) is not None:
            if weight.shape != (len(table),):
                raise InvalidInput(
                    f"{path} has weights of shape {(*weight.shape,)} for {len(table)} tokens"
                )
            table = table * weight.float()[:, None]
    else:
        raise InvalidInput(
            f"{path} has {', '.join(map(repr, sorted(held))) or 'no weights'}; expected {TABLE!r}, "
            f"or model2vec's {', '.join(MODEL2VEC)}"
        )
    if table.ndim != 2 or not table.numel():
        raise InvalidInput(f"{path} has a table of shape {(*table.shape,)}; expected rows")
    return table


def _tokenizer(path: Path) -> tuple[bytes, int, int]:
    """Give a tokenizer.json that adds no special tokens, its limit and its largest id."""
    content = read_file(path)
    try:
        own = Tokenizer.from_str(content.decode())
        plain = {**json.loads(content), "post_processor": None, "padding": None}
    except Exception as error:  # tokenizers raises bare Exception
        raise InvalidInput(f"{path} is damaged: {error}") from error
    limit = own.truncation["max_length"] if own.truncation else MAX_LENGTH
    largest = max(own.get_vocab(with_added_tokens=True).values(), default=0)
    return json.dumps(plain, ensure_ascii=False).encode(), limit, largest
