"""Bad inputs: for each RPC each kind of bad field, and the status that must come back.

The one list; tests/hostile/test_requests.py holds the server to it, and
benchmarks/bad_input_table.py prints it with the messages that came back.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from attar import Client, wire
from attar.v1 import anomaly_pb2 as ano
from attar.v1 import classification_pb2 as cla
from attar.v1 import collections_pb2 as col
from attar.v1 import embedding_pb2 as emb
from attar.v1 import item_pb2 as itm
from attar.v1 import models_pb2 as mod
from attar.v1 import reranking_pb2 as ran
from attar.v1 import tensor_pb2 as ten

from ..support.bundles import tiny_bundle, tiny_tensor_bundle
from ..support.servers import serving, settings

MAX_ITEMS: Final = 40
MAX_BYTES: Final = 64 * 1024
MAX_PAYLOAD: Final = 1024
OURS: Final = "the collection's own"  # stands for the real fingerprint, known once a server runs

INVALID: Final = "INVALID_ARGUMENT"
UNKNOWN: Final = "NOT_FOUND"
TAKEN: Final = "ALREADY_EXISTS"
REFUSED: Final = "FAILED_PRECONDITION"
_TOKENS: Final = (INVALID, "tokens")
ITEM: Final = "OK, item INVALID_ARGUMENT"  # the call is answered, and the item failed alone


@dataclass(frozen=True, slots=True)
class Case:
    """One bad request: `field` is the violated one that BadRequest names, empty where none is."""

    rpc: str
    fault: str
    request: Message | bytes
    code: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.rpc}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back."""

    code: str
    message: str
    fields: tuple[str, ...]


def texts(*values: str) -> itm.Texts:
    return itm.Texts(values=values)


def tensor(*shape: int, dtype: str = "float32", size: int | None = None) -> ten.Tensor:
    bytes_ = math.prod(shape) * 4 if size is None else size
    return ten.Tensor(data=b"\0" * bytes_, dtype=dtype, shape=shape)


def ids(*numbers: int) -> list[col.PointId]:
    return [col.PointId(number=number) for number in numbers]


def struct(**values: Any) -> Struct:
    return wire.to_struct(values)


def vectors(
    rows: int = 1, dims: int = 16, value: float = 1.0, dtype: str = "float32"
) -> ten.Tensor:
    return wire.to_tensor(np.full((rows, dims), value, dtype))


ANSWERS: Final[Mapping[str, Any]] = {
    "Embedding/Embed": emb.EmbedResponse,
    "Embedding/EmbedTokens": emb.EmbedTokensResponse,
    "Reranking/Rerank": ran.RerankResponse,
}
"""The calls in which a bad item fails alone, and what they give."""
GOOD: Final = texts("the cat")
_RERANK: Final = col.SearchRerank(model="tiny", candidates=10)
LONG: Final = texts("cat " * 99)
MANY: Final = texts(*["cat"] * (MAX_ITEMS + 1))
NAN: Final = Struct(fields={"a": {"number_value": math.nan}})  # type: ignore[dict-item]


def _embed(**changes: Any) -> emb.EmbedRequest:
    return emb.EmbedRequest(**{"model": "tiny", "texts": GOOD, **changes})


def _embed_tokens(**changes: Any) -> emb.EmbedTokensRequest:
    return emb.EmbedTokensRequest(**{"model": "tiny", "texts": GOOD, **changes})


def _rerank(**changes: Any) -> ran.RerankRequest:
    given = {"model": "tiny", "query": "the cat", "documents": ["a dog"]}
    return ran.RerankRequest(**{**given, **changes})


def _upsert(**changes: Any) -> col.UpsertRequest:
    return col.UpsertRequest(**{"collection": "docs", "ids": ids(1), "texts": GOOD, **changes})


def _search(**changes: Any) -> col.SearchRequest:
    return col.SearchRequest(**{"collection": "docs", "texts": GOOD, **changes})


def _scroll(**changes: Any) -> col.ScrollRequest:
    return col.ScrollRequest(**{"collection": "docs", **changes})


def _detector(**changes: Any) -> ano.FitDetectorRequest:
    given = {"name": "new", "model": "tiny", "texts": texts(*["cat"] * 30), **changes}
    return ano.FitDetectorRequest(**given)


def _classifier(**changes: Any) -> cla.FitClassifierRequest:
    given = {"name": "new", "model": "tiny", "texts": texts("cat", "sun"), "labels": ["a", "b"]}
    return cla.FitClassifierRequest(**{**given, **changes})


def _items(make: Any, rpc: str, *, misfit: str = "", rows: int = 1) -> list[Case]:
    """Give the faults that every request with items can have; `misfit` names the wrong modality."""
    image = {"texts": None}
    return [
        Case(rpc, "no items", make(texts=None), INVALID, "input"),
        Case(rpc, "empty texts", make(texts=texts()), INVALID, "texts"),
        Case(rpc, "too many items", make(texts=MANY), INVALID, "texts"),
        Case(
            rpc, "tensor for a text model", make(tensor=tensor(rows, 2), **image), INVALID, misfit
        ),
        Case(
            rpc,
            "unknown tensor dtype",
            make(tensor=tensor(1, 2, dtype="complex64"), **image),
            INVALID,
            "tensor",
        ),
        Case(
            rpc,
            "tensor without axes",
            make(tensor=ten.Tensor(data=b"1234", dtype="float32"), **image),
            INVALID,
            "tensor",
        ),
        Case(rpc, "empty tensor", make(tensor=tensor(0, 2), **image), INVALID, "tensor"),
        Case(rpc, "negative axis", make(tensor=tensor(-1, -2), **image), INVALID, "tensor"),
        Case(
            rpc, "tensor bytes cut", make(tensor=tensor(1, 2, size=7), **image), INVALID, "tensor"
        ),
        Case(
            rpc,
            "axes that overflow",
            make(tensor=tensor(2**62, 2**62, size=8), **image),
            INVALID,
            "tensor",
        ),
        Case(rpc, "unknown truncation", make(truncation=9), INVALID, "truncation"),
        Case(rpc, "message too large", make(texts=texts("x" * MAX_BYTES)), "RESOURCE_EXHAUSTED"),
        Case(rpc, "not a protobuf", b"\xff\xff\xff", INVALID),
    ]


def _points(make: Any, rpc: str) -> list[Case]:
    """Give the faults that every request with ids can have."""
    return [
        Case(rpc, "no ids", make(ids=[]), INVALID, "ids"),
        Case(rpc, "empty id", make(ids=[col.PointId()]), INVALID, "ids[0]"),
        Case(rpc, "id not a UUID", make(ids=[col.PointId(uuid="seven")]), INVALID, "ids[0]"),
        Case(rpc, "too many ids", make(ids=ids(*range(MAX_ITEMS + 1))), INVALID, "ids"),
    ]


def _vectors(make: Any, rpc: str) -> list[Case]:
    """Give the faults that every request with vectors can have."""

    def case(
        fault: str, code: str, field: str = "", fingerprint: str = OURS, **changes: Any
    ) -> Case:
        return Case(rpc, fault, make(texts=None, fingerprint=fingerprint, **changes), code, field)

    return [
        case("vectors without fingerprint", INVALID, "vectors", "", vectors=vectors()),
        case("fingerprint of another space", REFUSED, "", "sha256:0", vectors=vectors()),
        case("vectors of another width", INVALID, "vectors", vectors=vectors(dims=8)),
        case("vectors not float32", INVALID, "vectors", vectors=vectors(dtype="float64")),
        case("vectors not a matrix", INVALID, "vectors", vectors=tensor(16)),
        case("vector of zeros", INVALID, "vectors[0]", vectors=vectors(value=0)),
        case("vector with a NaN", INVALID, "vectors[0]", vectors=vectors(value=math.nan)),
        case("vectors cut", INVALID, "vectors", vectors=tensor(1, 16, size=63)),
    ]


def _names(make: Any, rpc: str, field: str) -> list[Case]:
    """Give the faults that every new name can have."""
    return [
        Case(rpc, f"{fault} name", make(**{field: name}), INVALID)
        for fault, name in (
            ("empty", ""),
            ("too long", "x" * 65),
            ("path as", "../x"),
            ("hidden", ".x"),
            ("spaced", "a b"),
            ("NUL in", "a\0b"),
        )
    ]


CASES: Final[tuple[Case, ...]] = (
    Case("Info/GetInfo", "not a protobuf", b"\xff\xff\xff", INVALID),
    Case("Models/Load", "unknown model", mod.LoadRequest(name="huge"), UNKNOWN),
    Case("Models/Load", "no model", mod.LoadRequest(), UNKNOWN),
    Case("Models/Unload", "unknown model", mod.UnloadRequest(name="huge"), UNKNOWN),
    Case("Models/Unload", "no model, of two", mod.UnloadRequest(), UNKNOWN),
    Case("Models/SetVariant", "unknown model", mod.SetVariantRequest(name="huge"), UNKNOWN),
    Case(
        "Models/SetVariant",
        "unknown variant",
        mod.SetVariantRequest(name="tiny", variant="int4"),
        UNKNOWN,
    ),
    Case(
        "Models/SetVariant",
        "unknown version",
        mod.SetVariantRequest(name="tiny", variant="fp32", version="9"),
        UNKNOWN,
    ),
    Case("Models/Load", "unknown model", mod.LoadRequest(name="huge"), UNKNOWN),
    Case("Models/Load", "no model", mod.LoadRequest(), UNKNOWN),
    Case("Models/Unload", "unknown model", mod.UnloadRequest(name="huge"), UNKNOWN),
    Case("Models/Unload", "no model, of two", mod.UnloadRequest(), UNKNOWN),
    Case("Models/SetVariant", "unknown model", mod.SetVariantRequest(name="huge"), UNKNOWN),
    Case(
        "Models/SetVariant",
        "unknown variant",
        mod.SetVariantRequest(name="tiny", variant="int4"),
        UNKNOWN,
    ),
    Case(
        "Models/SetVariant",
        "unknown version",
        mod.SetVariantRequest(name="tiny", variant="fp32", version="9"),
        UNKNOWN,
    ),
    Case("Models/Load", "unknown model", mod.LoadRequest(name="huge"), UNKNOWN),
    Case("Models/Load", "no model", mod.LoadRequest(), UNKNOWN),
    Case("Models/Unload", "unknown model", mod.UnloadRequest(name="huge"), UNKNOWN),
    Case("Models/Unload", "no model, of two", mod.UnloadRequest(), UNKNOWN),
    Case("Models/SetVariant", "unknown model", mod.SetVariantRequest(name="huge"), UNKNOWN),
    Case(
        "Models/SetVariant",
        "unknown variant",
        mod.SetVariantRequest(name="tiny", variant="int4"),
        UNKNOWN,
    ),
    Case(
        "Models/SetVariant",
        "unknown version",
        mod.SetVariantRequest(name="tiny", variant="fp32", version="9"),
        UNKNOWN,
    ),
    *_items(_embed, "Embedding/Embed", misfit="model"),
    *(
        Case("Embedding/Embed", fault, _embed(texts=None, tokens=tokens), code, field)
        for fault, tokens, code, field in (
            ("no token ids", itm.Tokens(), INVALID, "tokens"),
            ("too many items of token ids", itm.Tokens(ids=[4] * 99, lengths=[1] * 99), *_TOKENS),
            ("more token ids than lengths", itm.Tokens(ids=[4, 5], lengths=[1]), *_TOKENS),
            ("fewer token ids than lengths", itm.Tokens(ids=[4], lengths=[1, 1]), *_TOKENS),
            ("lengths that overflow", itm.Tokens(ids=[4], lengths=[2**32 - 1] * 3), *_TOKENS),
            ("an item without token ids", itm.Tokens(ids=[4], lengths=[0, 1]), ITEM, ""),
            ("an unknown token id", itm.Tokens(ids=[10**6, 4], lengths=[1, 1]), ITEM, ""),
            ("too many token ids", itm.Tokens(ids=[4] * 18, lengths=[17, 1]), ITEM, ""),
        )
    ),
    Case(
        "Embedding/Embed",
        "token ids for a tensor model",
        _embed(model="pixels", texts=None, tokens=itm.Tokens(ids=[4], lengths=[1])),
        INVALID,
        "model",
    ),
    Case("Embedding/Embed", "unknown version", _embed(version="9"), UNKNOWN),
    Case("Embedding/Embed", "unknown priority", _embed(priority=9), INVALID, "priority"),
    *(
        Case("Embedding/Embed", fault, _embed(texts=None, tokens=tokens), code, field)
        for fault, tokens, code, field in (
            ("no token ids", itm.Tokens(), INVALID, "tokens"),
            ("too many items of token ids", itm.Tokens(ids=[4] * 99, lengths=[1] * 99), *_TOKENS),
            ("more token ids than lengths", itm.Tokens(ids=[4, 5], lengths=[1]), *_TOKENS),
            ("fewer token ids than lengths", itm.Tokens(ids=[4], lengths=[1, 1]), *_TOKENS),
            ("lengths that overflow", itm.Tokens(ids=[4], lengths=[2**32 - 1] * 3), *_TOKENS),
            ("an item without token ids", itm.Tokens(ids=[4], lengths=[0, 1]), ITEM, ""),
            ("an unknown token id", itm.Tokens(ids=[10**6, 4], lengths=[1, 1]), ITEM, ""),
            ("too many token ids", itm.Tokens(ids=[4] * 18, lengths=[17, 1]), ITEM, ""),
        )
    ),
    Case(
        "Embedding/Embed",
        "token ids for a tensor model",
        _embed(model="pixels", texts=None, tokens=itm.Tokens(ids=[4], lengths=[1])),
        INVALID,
        "model",
    ),
    Case("Embedding/Embed", "unknown version", _embed(version="9"), UNKNOWN),
    Case("Embedding/Embed", "unknown priority", _embed(priority=9), INVALID, "priority"),
    *(
        Case("Embedding/Embed", fault, _embed(texts=None, tokens=tokens), code, field)
        for fault, tokens, code, field in (
            ("no token ids", itm.Tokens(), INVALID, "tokens"),
            ("too many items of token ids", itm.Tokens(ids=[4] * 99, lengths=[1] * 99), *_TOKENS),
            ("more token ids than lengths", itm.Tokens(ids=[4, 5], lengths=[1]), *_TOKENS),
            ("fewer token ids than lengths", itm.Tokens(ids=[4], lengths=[1, 1]), *_TOKENS),
            ("lengths that overflow", itm.Tokens(ids=[4], lengths=[2**32 - 1] * 3), *_TOKENS),
            ("an item without token ids", itm.Tokens(ids=[4], lengths=[0, 1]), ITEM, ""),
            ("an unknown token id", itm.Tokens(ids=[10**6, 4], lengths=[1, 1]), ITEM, ""),
            ("too many token ids", itm.Tokens(ids=[4] * 18, lengths=[17, 1]), ITEM, ""),
        )
    ),
    Case(
        "Embedding/Embed",
        "token ids for a tensor model",
        _embed(model="pixels", texts=None, tokens=itm.Tokens(ids=[4], lengths=[1])),
        INVALID,
        "model",
    ),
    Case("Embedding/Embed", "unknown version", _embed(version="9"), UNKNOWN),
    Case("Embedding/Embed", "unknown priority", _embed(priority=9), INVALID, "priority"),
    Case("Embedding/Embed", "no model, of two", _embed(model=""), UNKNOWN),
    Case("Embedding/Embed", "unknown model", _embed(model="huge"), UNKNOWN),
    Case("Embedding/Embed", "undeclared dims", _embed(dims=5), INVALID, "dims"),
    Case("Embedding/Embed", "dims 0", _embed(dims=0), INVALID, "dims"),
    Case("Embedding/Embed", "unknown encoding", _embed(encoding=9), INVALID, "encoding"),
    Case("Embedding/Embed", "unknown role", _embed(role=9), INVALID, "role"),
    Case("Embedding/Embed", "unknown prompt", _embed(prompt="reader"), INVALID, "prompt"),
    Case("Embedding/Embed", "role and prompt", _embed(role=2, prompt="query"), INVALID, "prompt"),
    Case("Embedding/Embed", "int8 without ranges", _embed(model="pixels", encoding=3), REFUSED),
    Case("Embedding/Embed", "text for a tensor model", _embed(model="pixels"), INVALID, "model"),
    Case("Embedding/Embed", "an item too long", _embed(texts=LONG, truncation=2), ITEM),
    Case(
        "Embedding/Embed",
        "another shape than the model's",
        _embed(model="pixels", texts=None, tensor=tensor(2, 1, 4, 4)),
        ITEM,
    ),
    *_items(_embed_tokens, "Embedding/EmbedTokens", misfit="model"),
    *(
        Case("Embedding/EmbedTokens", fault, _embed_tokens(**changes), code, field)
        for fault, changes, code, field in (
            ("unknown model", {"model": "huge"}, UNKNOWN, ""),
            ("a model without token vectors", {"model": "pixels"}, REFUSED, ""),
            ("unknown pooling", {"pooling": 9}, INVALID, "pooling"),
            ("a grid of texts", {"pooling": 2, "grid": itm.Grid(rows=1, columns=1)}, INVALID, ""),
            ("a grid without pooling", {"grid": itm.Grid(rows=1, columns=1)}, INVALID, "grid"),
            ("unknown encoding", {"encoding": 9}, INVALID, "encoding"),
            ("an item too long", {"texts": LONG, "truncation": 2}, ITEM, ""),
        )
    ),
    *(
        Case("Embedding/EmbedStream", case.fault, case.request, case.code, case.field)
        for case in _items(_embed, "", misfit="model")
    ),
    Case("Embedding/EmbedStream", "unknown model", _embed(model="huge"), UNKNOWN),
    Case("Embedding/EmbedStream", "undeclared dims", _embed(dims=5), INVALID, "dims"),
    Case("Reranking/Rerank", "no documents", _rerank(documents=[]), INVALID, "documents"),
    Case(
        "Reranking/Rerank",
        "too many documents",
        _rerank(documents=["cat"] * (MAX_ITEMS + 1)),
        INVALID,
        "documents",
    ),
    Case("Reranking/Rerank", "no model, of two", _rerank(model=""), UNKNOWN),
    Case("Reranking/Rerank", "unknown model", _rerank(model="huge"), UNKNOWN),
    Case("Reranking/Rerank", "unknown version", _rerank(version="9"), UNKNOWN),
    Case("Reranking/Rerank", "a model of tensors", _rerank(model="pixels"), REFUSED),
    Case("Reranking/Rerank", "top_n 0", _rerank(top_n=0), INVALID, "top_n"),
    Case("Reranking/Rerank", "unknown truncation", _rerank(truncation=9), INVALID, "truncation"),
    Case("Reranking/Rerank", "unknown priority", _rerank(priority=9), INVALID, "priority"),
    Case("Reranking/Rerank", "an id too long", _rerank(id="x" * 10_000), INVALID, "id"),
    Case(
        "Reranking/Rerank",
        "a query too long",
        _rerank(query="cat " * 99, truncation=2),
        INVALID,
    ),
    Case(
        "Reranking/Rerank",
        "a document too long",
        _rerank(documents=["cat " * 99], truncation=2),
        ITEM,
    ),
    Case(
        "Reranking/Rerank",
        "message too large",
        _rerank(query="x" * MAX_BYTES),
        "RESOURCE_EXHAUSTED",
    ),
    Case("Reranking/Rerank", "not a protobuf", b"\xff\xff\xff", INVALID),
    *_names(
        lambda name: col.CreateCollectionRequest(name=name, model="tiny"),
        "Collections/Create",
        "name",
    ),
    Case(
        "Collections/Create",
        "name taken",
        col.CreateCollectionRequest(name="docs", model="tiny"),
        TAKEN,
    ),
    Case(
        "Collections/Create",
        "unknown model",
        col.CreateCollectionRequest(name="new", model="huge"),
        UNKNOWN,
    ),
    Case(
        "Collections/Create",
        "undeclared dims",
        col.CreateCollectionRequest(name="new", model="tiny", dims=5),
        INVALID,
        "dims",
    ),
    Case(
        "Collections/Create",
        "unknown quantization",
        col.CreateCollectionRequest(name="new", model="tiny", quantization=9),  # type: ignore[arg-type]
        INVALID,
        "quantization",
    ),
    *(
        Case(
            "Collections/Create",
            fault,
            col.CreateCollectionRequest(name="new", model="tiny", text_index=index),
            INVALID,
            field,
        )
        for fault, index, field in (
            (
                "words of an unknown language",
                col.TextIndex(language="klingon"),
                "text_index.language",
            ),
            (
                "a text index of a key too long",
                col.TextIndex(field="k" * 10_000),
                "text_index.field",
            ),
        )
    ),
    Case(
        "Collections/Create",
        "one too many",
        col.CreateCollectionRequest(name="third", model="tiny"),
        "RESOURCE_EXHAUSTED",
    ),
    Case(
        "Collections/Delete",
        "unknown collection",
        col.DeleteCollectionRequest(name="none"),
        UNKNOWN,
    ),
    Case(
        "Collections/Delete", "path as name", col.DeleteCollectionRequest(name="../docs"), INVALID
    ),
    Case("Collections/Get", "unknown collection", col.GetCollectionRequest(name="none"), UNKNOWN),
    *_items(_upsert, "Collections/Upsert"),
    *_points(_upsert, "Collections/Upsert"),
    *_vectors(_upsert, "Collections/Upsert"),
    Case("Collections/Upsert", "unknown collection", _upsert(collection="none"), UNKNOWN),
    Case("Collections/Upsert", "more ids than items", _upsert(ids=ids(1, 2)), INVALID, "ids"),
    Case(
        "Collections/Upsert",
        "an id twice",
        _upsert(ids=ids(1, 1), texts=texts("cat", "sun")),
        INVALID,
        "ids[1]",
    ),
    Case(
        "Collections/Upsert",
        "more payloads than ids",
        _upsert(payloads=[struct(), struct()]),
        INVALID,
        "ids",
    ),
    Case("Collections/Upsert", "NaN in a payload", _upsert(payloads=[NAN]), INVALID, "payloads[0]"),
    Case(
        "Collections/Upsert",
        "a payload too large",
        _upsert(payloads=[struct(a="x" * MAX_PAYLOAD)]),
        INVALID,
        "payloads[0]",
    ),
    Case(
        "Collections/Upsert",
        "a payload with a key too long",
        _upsert(payloads=[struct(**{"k" * 257: 1})]),
        INVALID,
        "payloads[0]",
    ),
    Case(
        "Collections/Upsert",
        "more payloads than a call has items",
        _upsert(payloads=[struct()] * (MAX_ITEMS + 1)),
        INVALID,
        "payloads",
    ),
    Case(
        "Collections/Upsert",
        "all or nothing, an item too long",
        _upsert(ids=ids(1, 2), texts=texts("cat", "cat " * 99), truncation=2, all_or_nothing=True),
        INVALID,
    ),
    *(
        Case("Collections/Search", fault, _search(rerank=col.SearchRerank(**rerank)), code, field)
        for fault, rerank, code, field in (
            ("an unknown reranker", {"model": "huge"}, UNKNOWN, ""),
            ("no reranker, of two", {}, UNKNOWN, ""),
            ("an unknown version of the reranker", {"model": "tiny", "version": "9"}, UNKNOWN, ""),
            ("a reranker of tensors", {"model": "pixels"}, REFUSED, ""),
            (
                "fewer candidates than hits",
                {"model": "tiny", "candidates": 1},
                INVALID,
                "rerank.candidates",
            ),
            (
                "more candidates than max_search_limit",
                {"model": "tiny", "candidates": MAX_ITEMS + 1},
                INVALID,
                "rerank.candidates",
            ),
            (
                "the key of the text too long",
                {"model": "tiny", "field": "x" * 10_000, "candidates": 10},
                INVALID,
                "rerank.field",
            ),
        )
    ),
    *(
        Case("Collections/Search", fault, _search(**given), INVALID, field)
        for fault, given, field in (
            ("a mode that does not exist", {"mode": 9}, "mode"),
            ("words of a collection without a text index", {"mode": 2}, "mode"),
            ("an alpha that is no weight", {"mode": 3, "alpha": 2.0}, "alpha"),
            ("an alpha that is no number", {"mode": 3, "alpha": float("nan")}, "alpha"),
            ("an alpha, and nothing to fuse", {"alpha": 0.5}, "alpha"),
        )
    ),
    Case(
        "Collections/Search",
        "more candidates than max_items",
        _search(texts=texts(*["cat"] * 5), rerank=_RERANK),
        INVALID,
        "rerank.candidates",
    ),
    Case(
        "Collections/Search",
        "points to rank anew",
        _search(texts=None, ids=col.PointIds(values=ids(1)), rerank=_RERANK),
        INVALID,
        "rerank",
    ),
    *_items(_search, "Collections/Search", misfit="model"),
    *_vectors(_search, "Collections/Search"),
    Case("Collections/Search", "unknown collection", _search(collection="none"), UNKNOWN),
    Case("Collections/Search", "unknown model", _search(model="none"), UNKNOWN),
    Case("Collections/Search", "model of another space", _search(model="pixels"), REFUSED),
    Case(
        "Collections/Search",
        "model for vectors",
        _search(texts=None, vectors=vectors(), fingerprint=OURS, model="tiny"),
        INVALID,
        "model",
    ),
    Case(
        "Collections/Search",
        "model for ids",
        _search(texts=None, ids=col.PointIds(values=ids(1)), model="tiny"),
        INVALID,
        "model",
    ),
    Case("Collections/Search", "limit 0", _search(limit=0), INVALID, "limit"),
    Case("Collections/Search", "limit too large", _search(limit=11), INVALID, "limit"),
    Case("Collections/Search", "unknown role", _search(role=9), INVALID, "role"),
    Case(
        "Collections/Search",
        "filter by a fraction",
        _search(filter=struct(a=0.5)),
        INVALID,
        "filter['a']",
    ),
    Case(
        "Collections/Search",
        "filter by an object",
        _search(filter=struct(a={"b": 1})),
        INVALID,
        "filter['a']",
    ),
    Case(
        "Collections/Search",
        "filter by null",
        _search(filter=struct(a=None)),
        INVALID,
        "filter['a']",
    ),
    Case("Collections/Search", "filter by NaN", _search(filter=NAN), INVALID, "filter"),
    Case(
        "Collections/Search",
        "threshold NaN",
        _search(score_threshold=math.nan),
        INVALID,
        "score_threshold",
    ),
    *(
        Case(
            "Collections/Search",
            f"filter that {fault}",
            _search(filter=struct(**{key: value})),
            INVALID,
            field,
        )
        for fault, key, value, field in (
            ("is an empty range", "a", {}, "filter['a']"),
            ("mixes bounds", "a", {"gt": 1, "lt": "2026-01-01"}, "filter['a']['lt']"),
            ("has no list of filters", "$any", 1, "filter['$any']"),
            ("has no filter", "$not", [1], "filter['$not']"),
            ("has too many conditions", "$any", [{"a": 1}] * 300, "filter"),
            ("has too many values", "a", [0] * 5000, "filter"),
            ("has a key too long", "k" * 257, 1, "filter"),
        )
    ),
    Case("Collections/Search", "offset too large", _search(offset=10), INVALID, "offset"),
    Case("Collections/Search", "no ids", _search(texts=None, ids=col.PointIds()), INVALID, "ids"),
    Case("Collections/SearchBatch", "no searches", col.SearchBatchRequest(), INVALID, "searches"),
    Case(
        "Collections/SearchBatch",
        "too many queries",
        col.SearchBatchRequest(searches=[_search(texts=texts("cat", "sun"))] * MAX_ITEMS),
        INVALID,
        "searches",
    ),
    Case("Collections/SearchBatch", "not a protobuf", b"\xff\xff\xff", INVALID),
    Case("Collections/Scroll", "unknown collection", col.ScrollRequest(collection="none"), UNKNOWN),
    Case("Collections/Scroll", "limit 0", _scroll(limit=0), INVALID, "limit"),
    Case("Collections/Scroll", "limit too large", _scroll(limit=MAX_ITEMS + 1), INVALID, "limit"),
    *(
        Case("Collections/Scroll", f"cursor {cursor}", _scroll(cursor=cursor), INVALID, "cursor")
        for cursor in ("7", "n", "n-1", f"n{2**64}", "useven", "x7", "n7.5", "n" * 41)
    ),
    Case(
        "Collections/Scroll",
        "filter by a fraction",
        _scroll(filter=struct(a=0.5)),
        INVALID,
        "filter['a']",
    ),
    *_points(lambda ids: col.RetrieveRequest(collection="docs", ids=ids), "Collections/Retrieve"),
    Case(
        "Collections/Retrieve",
        "unknown collection",
        col.RetrieveRequest(collection="none", ids=ids(1)),
        UNKNOWN,
    ),
    *_points(
        lambda ids: col.DeletePointsRequest(collection="docs", ids=ids), "Collections/DeletePoints"
    ),
    Case(
        "Collections/DeletePoints",
        "unknown collection",
        col.DeletePointsRequest(collection="none", ids=ids(1)),
        UNKNOWN,
    ),
    Case(
        "Collections/DeletePoints",
        "empty filter",
        col.DeletePointsRequest(collection="docs", filter=struct()),
        INVALID,
        "filter",
    ),
    Case(
        "Collections/DeletePoints",
        "ids and a filter",
        col.DeletePointsRequest(collection="docs", ids=ids(1), filter=struct(a=1)),
        INVALID,
        "filter",
    ),
    *(
        Case(f"Collections/{rpc}", "unknown collection", request, UNKNOWN)
        for rpc, request in (
            ("Optimize", col.OptimizeRequest(collection="none")),
            ("Snapshot", col.SnapshotRequest(collection="none")),
            ("DeleteSnapshot", col.DeleteSnapshotRequest(collection="none", id="0" * 64)),
            ("Restore", col.RestoreRequest(collection="none", id="0" * 64)),
        )
    ),
    *(
        Case(f"Collections/{rpc}", "path as name", request, INVALID)
        for rpc, request in (
            ("ListSnapshots", col.ListSnapshotsRequest(collection="../docs")),
            ("DeleteSnapshot", col.DeleteSnapshotRequest(collection="../docs", id="0" * 64)),
            ("Restore", col.RestoreRequest(collection="../docs", id="0" * 64)),
        )
    ),
    Case(
        "Collections/Restore",
        "path as id",
        col.RestoreRequest(collection="docs", id="../../docs"),
        UNKNOWN,
    ),
    Case("Collections/Count", "unknown collection", col.CountRequest(collection="none"), UNKNOWN),
    Case(
        "Collections/Count",
        "filter by a fraction",
        col.CountRequest(collection="docs", filter=struct(a=0.5)),
        INVALID,
        "filter['a']",
    ),
    *(
        Case(
            "Collections/Count",
            f"filter by {key}, which is no operator",
            col.CountRequest(collection="docs", filter=struct(**{key: value})),
            INVALID,
            f"filter['{key}']",
        )
        for key, value in (("$and", []), ("$or", [{"a": 1}]), ("$in", "x"), ("$", {"gte": 1}))
    ),
    *_items(_detector, "Anomaly/Fit", misfit="model", rows=30),
    *_names(_detector, "Anomaly/Fit", "name"),
    Case("Anomaly/Fit", "name taken", _detector(name="normal"), TAKEN),
    Case("Anomaly/Fit", "unknown model", _detector(model="huge"), UNKNOWN),
    Case("Anomaly/Fit", "too few items", _detector(texts=texts("cat", "sun")), INVALID),
    Case("Anomaly/Fit", "unknown collection", _detector(texts=None, collection="none"), UNKNOWN),
    Case("Anomaly/Fit", "collection too small", _detector(texts=None, collection="docs"), INVALID),
    Case(
        "Anomaly/Fit",
        "model not the collection's",
        _detector(texts=None, collection="docs", model="pixels"),
        INVALID,
        "collection",
    ),
    Case("Anomaly/Fit", "target_fpr 0", _detector(target_fpr=0), INVALID, "target_fpr"),
    Case("Anomaly/Fit", "target_fpr 1", _detector(target_fpr=1), INVALID, "target_fpr"),
    Case("Anomaly/Fit", "target_fpr NaN", _detector(target_fpr=math.nan), INVALID, "target_fpr"),
    Case("Anomaly/Fit", "neighbours 0", _detector(neighbours=0), INVALID, "neighbours"),
    Case("Anomaly/Fit", "unknown metric", _detector(metric=9), INVALID, "metric"),
    Case("Anomaly/Fit", "target_fpr tiny", _detector(target_fpr=5e-324), INVALID, "target_fpr"),
    Case(
        "Anomaly/Fit",
        "neighbours beyond the most",
        _detector(neighbours=101),
        INVALID,
        "neighbours",
    ),
    Case(
        "Anomaly/Fit",
        "neighbours of 32 bits",
        _detector(neighbours=2**32 - 1),
        INVALID,
        "neighbours",
    ),
    Case("Anomaly/Fit", "neighbours beyond the items", _detector(neighbours=100), INVALID),
    Case(
        "Anomaly/Fit",
        "an item too long",
        _detector(texts=texts("cat " * 99, *["cat"] * 30), truncation=2),
        INVALID,
    ),
    *_items(
        lambda **changes: ano.ScoreRequest(**{"name": "normal", "texts": GOOD, **changes}),
        "Anomaly/Score",
    ),
    Case("Anomaly/Score", "unknown detector", ano.ScoreRequest(name="none", texts=GOOD), UNKNOWN),
    Case("Anomaly/Get", "unknown detector", ano.GetDetectorRequest(name="none"), UNKNOWN),
    Case("Anomaly/Delete", "unknown detector", ano.DeleteDetectorRequest(name="none"), UNKNOWN),
    *_items(_classifier, "Classification/Fit", misfit="model", rows=2),
    *_names(_classifier, "Classification/Fit", "name"),
    Case("Classification/Fit", "name taken", _classifier(name="topics"), TAKEN),
    Case("Classification/Fit", "unknown model", _classifier(model="huge"), UNKNOWN),
    Case(
        "Classification/Fit", "more items than labels", _classifier(labels=["a"]), INVALID, "labels"
    ),
    Case("Classification/Fit", "one class", _classifier(labels=["a", "a"]), INVALID, "labels"),
    Case("Classification/Fit", "empty label", _classifier(labels=["a", ""]), INVALID, "labels[1]"),
    *(
        Case("Classification/Fit", fault, _classifier(labels=["a", label]), INVALID, "labels[1]")
        for fault, label in (
            ("label of blanks", " \u3000"),
            ("label of 257 characters", "b" * 257),
            ("labels that look the same", "a\u00a0"),
        )
    ),
    Case(
        "Classification/Fit",
        "an item too long",
        _classifier(texts=texts("cat " * 99, "sun"), truncation=2),
        INVALID,
    ),
    *_items(
        lambda **changes: cla.PredictRequest(**{"name": "topics", "texts": GOOD, **changes}),
        "Classification/Predict",
    ),
    Case(
        "Classification/Predict",
        "unknown classifier",
        cla.PredictRequest(name="none", texts=GOOD),
        UNKNOWN,
    ),
    Case(
        "Classification/Get", "unknown classifier", cla.GetClassifierRequest(name="none"), UNKNOWN
    ),
    Case(
        "Classification/Delete",
        "unknown classifier",
        cla.DeleteClassifierRequest(name="none"),
        UNKNOWN,
    ),
)


@contextmanager
def world(folder: Path, **changes: Any) -> Iterator[tuple[str, str]]:
    """Serve two models and one of each thing; gives the address and the fingerprint."""
    text = tiny_bundle(folder / "tiny.attar", dims=(8, 16), tokens=True)
    image = tiny_tensor_bundle(folder / "pixels.attar", name="pixels")
    limits = {
        "max_items": MAX_ITEMS,
        "max_message_bytes": MAX_BYTES,
        "max_search_limit": 10,
        "max_collections": 1,
        "max_payload_bytes": MAX_PAYLOAD,
    }
    chosen = settings(text, image, data_dir=folder / "data", **limits, **changes)
    with serving(chosen) as target, Client(target) as client:
        docs = client.create_collection("docs", model="tiny")
        client.upsert("docs", [1, 2], ["the cat", "the sun"])
        client.fit_anomaly("normal", [f"the cat sat on {i}" for i in range(30)], model="tiny")
        client.fit_classifier("topics", ["cat", "sun"], ["animal", "sky"], model="tiny")
        yield target, docs.fingerprint


def with_fingerprint(case: Case, fingerprint: str) -> Any:
    """Give the request with the real fingerprint where it stands for that."""
    request: Any = case.request
    if not isinstance(request, bytes) and getattr(request, "fingerprint", "") == OURS:
        request = type(request).FromString(request.SerializeToString())
        request.fingerprint = fingerprint
    return request


def send(case: Case, channel: grpc.Channel, fingerprint: str) -> Outcome:
    """Send the bad request as it is, and give what came back."""
    request = with_fingerprint(case, fingerprint)
    message = request if isinstance(request, bytes) else request.SerializeToString()
    path = f"/attar.v1.{case.rpc}"
    try:
        if case.rpc == "Embedding/EmbedStream":
            invoke: Any = channel.stream_stream(path, None, emb.EmbedResponse.FromString)
            (answer,) = invoke(iter([message]), timeout=20)
            return _outcome(answer.error)
        call: Any = channel.unary_unary(path)
        answer = call(message, timeout=20)
    except grpc.RpcError as error:
        return _failure(error)
    if case.rpc in ANSWERS:
        item = _outcome(ANSWERS[case.rpc].FromString(answer).items[0].error)
        return Outcome(f"OK, item {item.code}", item.message, item.fields)
    return Outcome("OK", "", ())


def _failure(error: Any) -> Outcome:
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            return _outcome(Status.FromString(value))
    return Outcome(error.code().name, error.details(), ())


def _outcome(status: Status) -> Outcome:
    bad = BadRequest()
    fields = [
        violation.field
        for detail in status.details
        if detail.Unpack(bad)
        for violation in bad.field_violations
    ]
    (code,) = (code for code in grpc.StatusCode if code.value[0] == status.code)
    return Outcome(code.name, status.message, tuple(fields))
