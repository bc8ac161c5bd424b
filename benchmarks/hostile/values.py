"""Values: what Python code hands to the client and to an encoder, and what must become of each.

tests/hostile/test_values.py holds both clients, against a real server, and the device to them.
"""

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

import attar
from attar.client import calls

HALF: Final = "ab\ud83d"  # of a surrogate pair
TEXTS: Final = ["the cat", "sun"]
UUID: Final = uuid.UUID(int=7)
LOOP: Final[dict[str, Any]] = {}
LOOP["again"] = LOOP
DEEP: Final[dict[str, Any]] = {}
_inner = DEEP
for _ in range(40):
    _inner["in"] = _inner = {}
NAMED: Final = attar.Embeddings(
    vectors=np.ones((1, 16), np.float32),
    tokens=np.ones(1, np.int32),
    truncated=np.zeros(1, np.bool_),
    encoding="f32",
    dims=16,
    fingerprint="sha256:x",
    variant="fp32",
)
TABLE: Final = pd.DataFrame({"title": TEXTS, "body": TEXTS})


@dataclass(frozen=True, slots=True)
class Bad:
    """A call with a value that cannot be used, and text that its InvalidInput must contain."""

    what: str
    ask: Callable[[Any], Any]
    refusal: str

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Good:
    """A call with a value as people have it, and the plain one that gives the same."""

    what: str
    ask: Callable[[Any], Any]
    plain: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.what


def _items(kind: str, value: Any, refusal: str) -> Bad:
    return Bad(f"items: {kind}", lambda c: c.embed(value, model="tiny"), refusal)


def _label(kind: str, value: Any, refusal: str) -> Bad:
    def fit(c: Any) -> Any:
        return c.fit_classifier("new", TEXTS, ["a", value], model="tiny")

    return Bad(f"label: {kind}", fit, refusal)


def _id(kind: str, value: Any, refusal: str) -> Bad:
    return Bad(f"id: {kind}", lambda c: c.upsert("docs", [5, value], TEXTS), refusal)


def _payload(kind: str, value: Any, refusal: str) -> Bad:
    def upsert(c: Any) -> Any:
        return c.upsert("docs", [5, 6], TEXTS, payloads=[{"a": 1}, value])

    return Bad(f"payload: {kind}", upsert, refusal)


def _vectors(kind: str, value: Any, refusal: str) -> Bad:
    def search(c: Any) -> Any:
        return c.search("docs", vectors=value, fingerprint="sha256:x")

    return Bad(f"vectors: {kind}", search, refusal)


def _filter(kind: str, value: Any, refusal: str) -> Bad:
    return Bad(f"filter: {kind}", lambda c: c.search("docs", ["cat"], filter=value), refusal)


def _search(kind: str, refusal: str, **options: Any) -> Bad:
    return Bad(kind, lambda c: c.search("docs", ["cat"], **options), refusal)


def _embed(kind: str, refusal: str, **options: Any) -> Bad:
    return Bad(kind, lambda c: c.embed(["cat"], **{"model": "tiny", **options}), refusal)


def _create(name: Any, client: Any) -> Any:
    return client.create_collection(name)


def _embed_items(items: Any, client: Any) -> Any:
    return client.embed(items, model="tiny")


ITEMS: Final = (
    _items("one text", "cat", "items must be a list; got str: wrap it in a list"),
    _items("bytes", b"cat", "items must be a list; got bytes"),
    _items("None", None, "items must be a list; got NoneType"),
    _items("a number", 7, "items must be a list; got int"),
    _items("a text in an array of no axis", np.array("cat"), "items must be a list; got ndarray"),
    _items("a dict", {"a": "cat"}, "items must be a list; got dict"),
    _items("a set", {"cat", "sun"}, "items is a set, which has no order"),
    _items(
        "a DataFrame",
        TABLE,
        r"DataFrame, a table; give one of its columns, or its rows as an array \(to_numpy\)",
    ),
    _items("a table of Arrow", pa.table({"a": TEXTS}), "items is a Table, a table; give one of"),
    _items("None among texts", ["cat", None], "item 1 must be a string; got NoneType None"),
    _items("NaN among texts", pd.Series(["cat", math.nan]), "item 1 must be a string; got float"),
    _items("null of Arrow", pa.array(["cat", None]), "item 1 must be a string; got NoneType"),
    _items("bytes among texts", ["cat", b"sun"], "item 1 must be a string; got bytes b'sun'"),
    _items("an array of bytes", np.array([b"cat"]), "item 0 must be a string; got bytes"),
    _items("a number among texts", ["cat", 7], "item 1 must be a string; got int 7"),
    _items("half of a pair", ["cat", HALF], "item 1 has half of a surrogate pair at character 2"),
    _items("texts in texts", [["cat"], ["sun"]], "item 0 .*'cat'|item 0 must be a flat list"),
    _items("text among ids", [[2, 5, 3], "cat"], "item 1 must be a flat list of token ids"),
    _items("a fraction among ids", [[2, 5, 3], [4.5]], "item 1 .*(4.5|flat list)"),
    _items("a boolean among ids", [[2, 5, 3], [True]], "item 1 .*(True|flat list)"),
    _items("a number of numpy among ids", [[2, 5, 3], np.array(5)], "item 1 must be a flat list"),
    _items("a negative id", [[2, 5, 3], [2, -1, 3]], "item 1 has (a )?token id (that is )?-1"),
    _items("an id of 40 bits", [[2, 5, 3], [2, 2**40, 3]], f"item 1 has .*{2**40}"),
    _items("dates", np.array(["2026-01-01"], "M8[D]"), "datetime64|got (ndarray|date)"),
    _items("complex numbers", np.ones((1, 2), np.complex64), "complex64|got ndarray"),
)
"""For the device too."""

BAD: Final = (
    *ITEMS,
    _items("nothing", [], "0 items; give at least one"),
    _items("an empty generator", iter(()), "0 items; give at least one"),
    _items("arrays of two shapes", [np.ones(2), np.ones(3)], r"item 1 .*\(3,\).*\(2,\)"),
    _label("0", 0, r"labels\[1\] is 0, a int; give text, such as str\(0\)"),
    _label(
        "True", value=True, refusal=r"labels\[1\] is True, a bool; give text, such as str\(True\)"
    ),
    _label("a number of numpy", np.int64(3), r"labels\[1\] is .*3.*, a int64; give text"),
    _label("None", None, r"labels\[1\] is None, a NoneType; give text"),
    _label("NaN", math.nan, r"labels\[1\] is nan, a float; give text"),
    _label("bytes", b"a", r"labels\[1\] is b'a', a bytes; give text"),
    _label("half of a pair", HALF, r"labels\[1\] has half of a surrogate pair at character 2"),
    Bad(
        "labels: one text for all",
        lambda c: c.fit_classifier("new", ["cat", "sun"], "ab", model="tiny"),
        "labels is 'ab', a str; give a list",
    ),
    Bad(
        "labels: None",
        lambda c: c.fit_classifier("new", TEXTS, None, model="tiny"),
        "labels is None, a NoneType; give a list",
    ),
    _id(
        "True",
        value=True,
        refusal=r"ids\[1\] is True; a point's id is a whole number of 64 bits, or the text",
    ),
    _id("a whole float", 1.0, r"ids\[1\] is 1.0; a point's id is"),
    _id("None", None, r"ids\[1\] is None; a point's id is"),
    _id("negative", -1, r"ids\[1\] is -1; a point's id is"),
    _id("65 bits", 2**64, rf"ids\[1\] is {2**64}; a point's id is"),
    _id("bytes", b"x", r"ids\[1\] is b'x'; a point's id is"),
    _id("no UUID", "doc-1", r"ids\[1\] .*doc-1"),
    _id("half of a pair", HALF, r"ids\[1\] has half of a surrogate pair"),
    _id("given twice", 5, r"ids\[1\] is 5, as is ids\[0\]"),
    Bad("ids: one", lambda c: c.upsert("docs", 5, ["cat"]), "ids is 5, a int; give a list"),
    Bad("ids: text", lambda c: c.upsert("docs", "ab", TEXTS), "ids is 'ab', a str; give a list"),
    Bad("ids: a set", lambda c: c.upsert("docs", {5, 6}, TEXTS), "ids is .*, a set; give a list"),
    Bad("ids: None", lambda c: c.retrieve("docs", None), "ids is None"),
    Bad("ids: too few", lambda c: c.upsert("docs", [5], TEXTS), "must be as many; got 1"),
    _payload("None", None, r"payloads\[1\] is None, a NoneType; give an object"),
    _payload("a list", [1], r"payloads\[1\] is \[1\], a list; give an object"),
    _payload("NaN", {"price": math.nan}, r"payloads\[1\]\['price'\] is nan, which JSON does not"),
    _payload("NaN of numpy", {"p": np.float32("nan")}, r"payloads\[1\]\['p'\] is nan, which JSON"),
    _payload("infinity", {"p": [1, math.inf]}, r"payloads\[1\]\['p'\]\[1\] is inf, which JSON"),
    _payload("NaN inside", {"a": {"b": math.nan}}, r"payloads\[1\]\['a'\]\['b'\] is nan"),
    _payload("a number as key", {3: "x"}, r"a key of payloads\[1\] is 3, a int; give text"),
    _payload("half of a pair", {"a": HALF}, r"payloads\[1\]\['a'\] has half of a surrogate pair"),
    _payload("half a pair as key", {HALF: 1}, r"a key of payloads\[1\] has half of a surrogate"),
    _payload("a set", {"a": {1}}, r"payloads\[1\]\['a'\] is \{1\}, a set, which is not JSON"),
    _payload("bytes", {"a": b"x"}, r"payloads\[1\]\['a'\] is b'x', a bytes, which is not JSON"),
    _payload("an array", {"a": np.ones(2)}, r"payloads\[1\]\['a'\] is .*, a ndarray, which is not"),
    _payload("a date", {"a": dt.date(2026, 1, 1)}, r"a date, which .* its isoformat\(\)"),
    _payload("a decimal", {"a": decimal.Decimal(1)}, r"\['a'\] is .*, a Decimal, which is not"),
    _payload("NA of pandas", {"a": pd.NA}, r"payloads\[1\]\['a'\] is <NA>, a NAType, which is not"),
    _payload("a large number", {"a": 2**60}, r"payloads\[1\]\['a'\] is 11529.*, beyond 2\*\*53"),
    _payload("40 levels", DEEP, r"payloads\[1\].* is nested deeper than 30"),
    _payload("itself inside", LOOP, r"payloads\[1\].* is nested deeper than 30"),
    Bad(
        "payloads: one for all",
        lambda c: c.upsert("docs", [5, 6], TEXTS, payloads={"a": 1}),
        "payloads is {'a': 1}, a dict; give a list",
    ),
    Bad(
        "payloads: none for two",
        lambda c: c.upsert("docs", [5, 6], TEXTS, payloads=[]),
        "0 payloads for 2 ids; give one a point",
    ),
    _vectors("whole numbers", np.ones((1, 16), np.int8), r"vectors are int8 \(1, 16\)"),
    _vectors("one vector", np.ones(16), r"vectors are float64 \(16,\).*for one vector"),
    _vectors("ragged", [[1.0, 2.0], [1.0]], "vectors are no matrix"),
    _vectors("texts", ["cat"], "vectors are <U3"),
    _vectors("None inside", [[1.0, None]], "vectors are object"),
    _filter("a list", [], r"filter is \[\], a list; give an object"),
    _filter("text", "", "filter is '', a str; give an object"),
    _filter("zero", 0, "filter is 0, a int; give an object"),
    _filter("None for a key", {"a": None}, r"filter\['a'\] must be"),
    _filter("NaN", {"a": math.nan}, r"filter\['a'\] is nan"),
    _filter("a set", {"a": {"x"}}, r"filter\['a'\] is \{'x'\}, a set"),
    _filter("bytes", {"a": b"x"}, r"filter\['a'\] is b'x', a bytes"),
    _filter("a fraction", {"a": 0.5}, r"filter\['a'\] must be"),
    _filter("half of a pair", {"a": HALF}, r"filter\['a'\] has half of a surrogate pair"),
    _filter("an operator of elsewhere", {"$and": []}, r"filter\['\$and'\] is no operator"),
    _filter("no bound", {"a": {"over": 1}}, r"filter\['a'\].*range"),
    Bad(
        "filter: of a count",
        lambda c: c.count("docs", filter=()),
        r"filter is \(\), a tuple; give an object",
    ),
    Bad(
        "filter: of a scroll",
        lambda c: c.scroll("docs", filter=False),
        "filter is False, a bool; give an object",
    ),
    *(
        _search(f"{field}: {value!r}", rf"{field} is .*; give a whole number", **{field: value})
        for field in ("limit", "offset")
        for value in (5.0, True, -1, 2**32, "5", np.float64(5), [5])
    ),
    _search("score_threshold: NaN", "score_threshold is nan", score_threshold=math.nan),
    _search("score_threshold: text", "score_threshold is '0.5'", score_threshold="0.5"),
    _search("score_threshold: True", "score_threshold is True", score_threshold=True),
    _search("exact: text", "exact is 'no'; give True or False", exact="no"),
    _search("with_payload: 1", "with_payload is 1; give True or False", with_payload=1),
    _embed("dims: a whole float", "dims is 8.0; give a whole number", dims=8.0),
    _embed("dims: True", "dims is True; give a whole number", dims=True),
    _embed("dims: text", "dims is '8'; give a whole number", dims="8"),
    _embed("dims: a list", r"dims is \[8\]; give a whole number", dims=[8]),
    _embed("dims: another width", "dims", dims=7),
    _embed("encoding: None", "encoding is None; expected one of f32", encoding=None),
    _embed("encoding: a list", r"encoding is \['f32'\]; expected one of", encoding=["f32"]),
    _embed("encoding: a dtype", "encoding is <class 'numpy.float32'>", encoding=np.float32),
    _embed("role: unknown", "role must be one of passage, query; got 'user'", role="user"),
    _embed("role: a number", "role is 1; expected one of passage, query", role=1),
    _embed("truncation: True", "truncation is True; expected one of", truncation=True),
    _embed("priority: 1", "priority is 1; expected one of", priority=1),
    _embed("model: a number", "model is 5, a int; give text", model=5),
    _embed("model: bytes", "model is b'tiny', a bytes; give text", model=b"tiny"),
    _embed("model: half of a pair", "model has half of a surrogate pair", model=HALF),
    _embed("version: a number", r"version is 1, a int; give text, such as str\(1\)", version=1),
    *(
        _embed(f"deadline_s: {value!r}", "deadline_s is .*; give seconds", deadline_s=value)
        for value in (0, -1, math.nan, math.inf, 1e18, "5", None, True)
    ),
    *(
        Bad(f"name: {name!r:.20}", partial(_create, name), "name")
        for name in ("", "a b", "a/b", "..", ".x", "x" * 65, "a\0b", "ä b", HALF, 5, b"docs")
    ),
    Bad(
        "target_fpr: text",
        lambda c: c.fit_anomaly("new", ["cat"] * 30, model="tiny", target_fpr="0.05"),
        "target_fpr is '0.05'; give a finite number",
    ),
    Bad(
        "neighbours: a fraction",
        lambda c: c.fit_anomaly("new", ["cat"] * 30, model="tiny", neighbours=2.5),
        "neighbours is 2.5; give a whole number",
    ),
    Bad(
        "items: vectors with their fingerprint",
        lambda c: c.upsert("docs", [5], NAMED),
        "items is an Embeddings; give it as vectors",
    ),
    Bad(
        "vectors: another fingerprint than their own",
        lambda c: c.upsert("docs", [5], vectors=NAMED, fingerprint="sha256:y"),
        "fingerprint is 'sha256:y', and the vectors are of sha256:x; leave it out",
    ),
    Bad(
        "items: rows of numbers in lists",
        lambda c: c.embed([[0.5, 1.5], [2.5, 3.5]], model="pixels"),
        r"item 0 has 0.5, which is no token id; .* as one array, numpy.array\(items\)",
    ),
    Bad(
        "items: ids for a tensor model",
        lambda c: c.embed([[2, 5, 3]], model="pixels"),
        "model pixels takes tensors; got token ids",
    ),
    Bad("searches: texts", lambda c: c.search_batch(["cat"]), r"searches\[0\] is no search"),
    Bad(
        "points: two parts",
        lambda c: c.upsert_all("docs", [(5, "cat", {}), (6, "sun")]),
        r"points\[1\] is \(6, 'sun'\); give \(id, item, payload\)",
    ),
    Bad("points: a number", lambda c: c.upsert_all("docs", 5), "points is 5, a int; give a list"),
    Bad("searches: None", lambda c: c.search_batch(None), "searches is None, a NoneType"),
    Bad(
        "batch_size: 0",
        lambda c: c.upsert_all("docs", [(5, "cat", {})], batch_size=0),
        "batch_size is 0; give a whole number above 0",
    ),
    Bad(
        "batch_size: a fraction",
        lambda c: c.upsert_all("docs", [(5, "cat", {})], batch_size=2.5),
        "batch_size is 2.5; give a whole number",
    ),
)

GOOD: Final = tuple(
    Good(what, partial(_embed_items, value), partial(_embed_items, TEXTS))
    for what, value in (
        ("a tuple", tuple(TEXTS)),
        ("an array of texts", np.array(TEXTS)),
        ("an array of objects", np.array(TEXTS, object)),
        ("numpy's strings of any length", np.array(TEXTS, np.dtypes.StringDType())),
        ("a column", TABLE["title"]),
        ("a column that is a category", TABLE["title"].astype("category")),
        ("an index", pd.Index(TEXTS)),
        ("an array of Arrow", pa.array(TEXTS)),
        ("chunks of Arrow", pa.chunked_array([TEXTS[:1], TEXTS[1:]])),
        ("values of a dict", dict(enumerate(TEXTS)).values()),
        ("numpy's own texts", [np.str_(text) for text in TEXTS]),
    )
)
"""For the device too."""

STORED: Final = tuple(
    Good(what, ask, lambda c: c.search("docs", ["the cat"], limit=1))
    for what, ask in (
        ("limit: a number of numpy", lambda c: c.search("docs", ["the cat"], limit=np.int64(1))),
        (
            "exact: a boolean of numpy",
            lambda c: c.search("docs", ["the cat"], limit=1, exact=np.True_),
        ),
        (
            "filter: none at all",
            lambda c: c.search("docs", ["the cat"], limit=1, filter={}),
        ),
        (
            "filter: a tuple of values",
            lambda c: c.search("docs", ["the cat"], limit=1, filter={"a": (1, 2)}),
        ),
        (
            "score_threshold: of numpy",
            lambda c: c.search("docs", ["the cat"], limit=1, score_threshold=np.float32(-1)),
        ),
        (
            "deadline_s: of numpy",
            lambda c: c.search("docs", ["the cat"], limit=1, deadline_s=np.float32(30)),
        ),
        (
            "searches: a generator",
            lambda c: c.search_batch(iter([calls.search("docs", ["the cat"], limit=1)])),
        ),
    )
)
