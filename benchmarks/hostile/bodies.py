"""Strategies for requests whose fields are right or wrong, and oracles that tell which.

An oracle is a plain function of the request that shares no code with the server: it gives the
fields that are at fault, none where the request is to be accepted.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

MAX_ITEMS: Final = 40
MAX_LENGTH: Final = 32  # tokens of the text model, [CLS] and [SEP] among them
DIMS: Final = (8, 16)
# Each word is one token of the tests' tokenizer.
_WORD = st.sampled_from(("the", "cat", "sat", "on", "mat", "dog", "ran", "sun", "rain", "blue"))
TEXTS = st.one_of(
    st.lists(_WORD, max_size=8).map(" ".join),
    st.just(" ".join(["cat"] * (MAX_LENGTH - 2))),
    st.just(" ".join(["cat"] * (MAX_LENGTH - 1))),
)
_WRONG = st.one_of(
    st.integers(-3, 20),
    st.booleans(),
    st.sampled_from((0.5, 8.0, "", "x", "True", "query ")),
    st.lists(st.none() | st.booleans(), max_size=2),
    st.just({}),
)


def _or_wrong(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is good, sometimes null, sometimes anything."""
    return st.one_of(good, good, good, st.none(), _WRONG)


def _fields(
    needed: Mapping[str, st.SearchStrategy[Any]], further: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict(needed), optional=dict(further))


OPENAI: Final = _fields(
    {
        "model": st.sampled_from(("tiny",) * 8 + ("Tiny", "", None, 7, "tiny-image")),
        "input": st.one_of(
            TEXTS,
            st.lists(TEXTS, max_size=4),
            st.lists(TEXTS, max_size=4),
            st.lists(TEXTS | st.none() | st.booleans(), max_size=3),
            st.just(["cat"] * (MAX_ITEMS + 1)),
            _WRONG,
        ),
    },
    {
        "encoding_format": _or_wrong(st.sampled_from(("float", "base64"))),
        "dimensions": _or_wrong(st.sampled_from(DIMS)),
        "user": st.text(max_size=3) | st.none() | st.integers(),
        "role": _or_wrong(st.sampled_from(("passage", "query"))),
        "truncate": _or_wrong(st.booleans()),
        "priority": _or_wrong(st.sampled_from(("interactive", "bulk"))),
    },
)


def openai_faults(body: Mapping[str, Any]) -> set[str]:
    """The fields of a body of /v1/embeddings that are at fault."""
    given = {name: value for name, value in body.items() if value is not None}
    faults = set()
    if given.get("model") != "tiny":
        faults.add("model")
    texts = given.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if (
        not isinstance(texts, list)
        or not 1 <= len(texts) <= MAX_ITEMS
        or not all(isinstance(text, str) for text in texts)
        or (
            given.get("truncate") is not True
            and any(is_long(text, is_query=given.get("role") == "query") for text in texts)
        )
    ):
        faults.add("input")
    faults |= {
        name
        for name, allowed in {
            "encoding_format": ("float", "base64"),
            "role": ("passage", "query"),
            "priority": ("interactive", "bulk"),
        }.items()
        if name in given and given[name] not in allowed
    }
    if "dimensions" in given and not is_width(given["dimensions"]):
        faults.add("dimensions")
    if "truncate" in given and not isinstance(given["truncate"], bool):
        faults.add("truncate")
    return faults


def is_long(text: str, *, is_query: bool = False) -> bool:
    """Whether a text has more tokens than the model takes; `query: ` is two of them."""
    return len(text.split()) + 2 + 2 * is_query > MAX_LENGTH


def is_width(value: object) -> bool:
    """Whether the model declares that width."""
    return type(value) is int and value in DIMS


_SHAPE = st.sampled_from(([1], [2], [1, 1], [2, 1], [3], [0], [-1], ["1"], [2.0], [1, 2], None, 2))
KSERVE: Final = st.fixed_dictionaries(
    {
        "name": st.sampled_from(("text",) * 6 + ("TEXT",)),
        "datatype": st.sampled_from(("BYTES",) * 6 + ("FP32", "bytes", None)),
        "shape": st.one_of(st.just("fits"), st.just("fits"), st.just("fits"), _SHAPE),
        "data": st.one_of(
            st.lists(TEXTS, min_size=1, max_size=3),
            st.lists(TEXTS, min_size=1, max_size=3).map(lambda texts: [[one] for one in texts]),
            st.lists(TEXTS | st.none() | st.integers(), max_size=3),
            st.none(),
        ),
    }
).map(lambda one: {**one, "shape": _fitting(one["data"])} if one["shape"] == "fits" else one)


def _fitting(data: Any) -> list[int]:
    if data and isinstance(data[0], list):
        return [len(data), 1]
    return [len(data or ())]


def kserve_faults(tensor: Mapping[str, Any]) -> bool:
    """Whether a tensor of texts is at fault: it is cut where it is too long."""
    shape, data = tensor["shape"], tensor["data"]
    if tensor["name"] != "text" or tensor["datatype"] != "BYTES":
        return True
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        return True
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        return True
    if not isinstance(data, list) or math.prod(shape) != len(data):
        return True
    if data and all(isinstance(row, list) for row in data):
        return shape != [len(data), 1]
    return not all(isinstance(text, str) for text in data)


EMBED: Final = st.fixed_dictionaries(
    {
        "texts": st.one_of(
            st.lists(TEXTS, min_size=1, max_size=4),
            st.lists(TEXTS, min_size=1, max_size=4),
            st.sampled_from(([], ["cat"] * (MAX_ITEMS + 1))),
        ),
        "model": st.sampled_from(("tiny",) * 6 + ("Tiny", "tiny-image")),
        "dims": st.sampled_from((None, None, 8, 16, 7, 0)),
        "role": st.sampled_from((0, 1, 2, 2, 3)),
        "encoding": st.sampled_from((0, 1, 1, 99)),
        "truncation": st.sampled_from((0, 1, 2, 7)),
        "priority": st.sampled_from((0, 1, 2, 9)),
    }
)


def embed_faults(fields: Mapping[str, Any]) -> set[str]:
    """The fields of an EmbedRequest that are at fault."""
    faults = set()
    if fields["model"] != "tiny":
        faults.add("model")
    if not 1 <= len(fields["texts"]) <= MAX_ITEMS:
        faults.add("texts")
    trained = is_width(fields["dims"]) and (fields["model"] != "tiny-image" or fields["dims"] == 16)
    if fields["dims"] is not None and not trained:
        faults.add("dims")
    highest = {"role": 2, "encoding": 4, "truncation": 2, "priority": 2}
    return faults | {name for name, most in highest.items() if fields[name] > most}


POINTS: Final = st.fixed_dictionaries(
    {
        "ids": st.lists(st.integers(1, 9), max_size=4),
        "texts": st.lists(TEXTS, max_size=4),
        "truncation": st.sampled_from((0, 1, 2, 7)),
        "all_or_nothing": st.booleans(),
        "payload_bytes": st.sampled_from((0, 0, 0, 10, 1100)),
    }
)


def upsert_faults(fields: Mapping[str, Any]) -> set[str]:
    """The fields of an UpsertRequest that are at fault; "" stands for an item or their numbers."""
    faults = {name for name in ("ids", "texts") if not fields[name]}
    if fields["truncation"] > 2:
        faults.add("truncation")
    if fields["payload_bytes"] > 1024:
        faults.add("payloads[0]")
    if len(fields["ids"]) != len(fields["texts"]) or len(set(fields["ids"])) < len(fields["ids"]):
        faults.add("ids")
    if (
        fields["truncation"] == 2
        and fields["all_or_nothing"]
        and any(map(is_long, fields["texts"]))
    ):
        faults.add("")
    return faults


SEARCH: Final = st.fixed_dictionaries(
    {
        "collection": st.sampled_from(("docs",) * 6 + ("Docs",)),
        "texts": st.lists(TEXTS, max_size=3),
        "limit": st.sampled_from((1, 2, 1000, 1001)),
        "role": st.sampled_from((0, 1, 2, 3)),
        "truncation": st.sampled_from((0, 1, 2, 7)),
    }
)


def search_faults(fields: Mapping[str, Any]) -> set[str]:
    """The fields of a SearchRequest that are at fault."""
    faults = {name for name, most in {"role": 2, "truncation": 2}.items() if fields[name] > most}
    if fields["collection"] != "docs":
        faults.add("collection")
    if not fields["texts"]:
        faults.add("texts")
    if fields["limit"] > 1000:
        faults.add("limit")
    return faults


SCROLL: Final = st.fixed_dictionaries(
    {
        "collection": st.sampled_from(("docs",) * 6 + ("none",)),
        "limit": st.sampled_from((1, 2, MAX_ITEMS, MAX_ITEMS + 1)),
        "cursor": st.sampled_from(("",) * 4 + ("x",)),
        "with_vectors": st.booleans(),
    }
)


def scroll_faults(fields: Mapping[str, Any]) -> set[str]:
    """The fields of a ScrollRequest that are at fault."""
    found = {
        "collection": fields["collection"] != "docs",
        "limit": fields["limit"] > MAX_ITEMS,
        "cursor": fields["cursor"] != "",
    }
    return {name for name, wrong in found.items() if wrong}


FIT: Final = st.fixed_dictionaries(
    {
        "name": st.sampled_from(("new",) * 6 + ("", "a/b", "x" * 65)),
        "model": st.sampled_from(("tiny",) * 6 + ("none",)),
        "texts": st.lists(TEXTS, max_size=4),
        "labels": st.lists(st.sampled_from(("a", "b", "")), max_size=4),
        "truncation": st.sampled_from((0, 1, 1, 2, 7)),
    }
)


def fit_faults(fields: Mapping[str, Any]) -> set[str]:
    """The fields of a FitClassifierRequest that are at fault; "" stands for an item or a number."""
    texts, labels = fields["texts"], fields["labels"]
    found = {
        "": fields["name"] != "new" or (fields["truncation"] == 2 and any(map(is_long, texts))),
        "model": fields["model"] != "tiny",
        "texts": not texts,
        "labels": len(labels) != len(texts) or "" in labels or len(set(labels)) < 2,
        "truncation": fields["truncation"] > 2,
    }
    return {name for name, wrong in found.items() if wrong}
