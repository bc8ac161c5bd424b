"""HTTP requests as clients and proxies really send them, and what must come back.

The one list; tests/hostile/test_http.py sends each row to a real server, byte by byte.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..support.bundles import tiny_bundle, tiny_tensor_bundle
from ..support.servers import free_port, serving, settings

ORIGIN: Final = "https://app.example"
FOREIGN: Final = "https://evil.example"
NAME: Final = "attar.internal"
EMBEDDINGS: Final = "/v1/embeddings"
JSON: Final = "application/json"
GOOD: Final = b'{"model": "tiny", "input": "cat"}'


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back on the connection: the last response, after any 100 Continue."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    continued: bool

    @property
    def message(self) -> str:
        """The error message, in OpenAI's or KServe's form."""
        error = json.loads(self.body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)

    @property
    def param(self) -> str | None:
        """The field that OpenAI's error names."""
        error = json.loads(self.body)["error"]
        return error["param"] if isinstance(error, dict) else None


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and the status, message and headers that answer it."""

    name: str
    request: bytes
    status: int
    message: str = ""
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # "" is one that must be missing
    closes: bool = False

    def __str__(self) -> str:
        return self.name


def request(
    method: str = "POST",
    target: str = EMBEDDINGS,
    body: bytes = GOOD,
    /,
    *more: str,
    kind: str | None = JSON,
    host: str | None = "localhost",
    length: bool = True,
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"Content-Type: {kind}"] if kind is not None else []
    lines += [f"Content-Length: {len(body)}"] if length and method == "POST" else []
    return "\r\n".join([*lines, *more, "", ""]).encode() + (body if method == "POST" else b"")


def get(target: str, *more: str, method: str = "GET", host: str = "localhost") -> bytes:
    return request(method, target, b"", *more, kind=None, host=host)


def body(raw: bytes | Mapping[str, Any], *, target: str = EMBEDDINGS) -> bytes:
    return request("POST", target, raw if isinstance(raw, bytes) else json.dumps(raw).encode())


def embed(**changes: Any) -> bytes:
    return body({"model": "tiny", "input": "cat", **changes})


def chunked(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    head = request("POST", EMBEDDINGS, b"", "Transfer-Encoding: chunked", length=False)
    return head + framed


def wrong(name: str, param: str | None, message: str, **changes: Any) -> Case:
    return Case(name, embed(**changes), 400, message, param)


def lines(count: int) -> bytes:
    """Give a request whose head has so many lines."""
    own = request("POST", EMBEDDINGS, GOOD).partition(b"\r\n\r\n")[0].count(b"\n") + 1
    return request("POST", EMBEDDINGS, GOOD, *[f"X-{i}: y" for i in range(count - own)])


_TWO = request("POST", EMBEDDINGS, b"0\r\n\r\n", "Transfer-Encoding: chunked")


def preflight(origin: str) -> bytes:
    more = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-mine")
    return get(EMBEDDINGS, f"Origin: {origin}", *more, method="OPTIONS")


ALLOW_ORIGIN: Final = "access-control-allow-origin"
TARGETS: Final = (
    Case("plain", request(), 200),
    Case("a slash at the end", request("POST", f"{EMBEDDINGS}/"), 200, headers={"location": ""}),
    Case("a slash at the end of a GET", get("/v1/models/"), 200, headers={"location": ""}),
    Case("two slashes at the end", get("/v1/models//"), 404, "no route", headers={"location": ""}),
    Case("two slashes in front", get("//v1/models"), 404, "no route"),
    Case("the root", get("/"), 404, "no route /"),
    Case("an absolute target", get("http://localhost/v1/models"), 200),
    Case("an absolute target by https", get("HTTPS://127.0.0.1:8443/v1/models/tiny"), 200),
    Case("an absolute target of nothing", get("http://localhost"), 404, "no route"),
    Case("an absolute target to post", request("POST", f"http://[::1]:80{EMBEDDINGS}"), 200),
    Case("an absolute target by name", get("http://a.example/v1/models"), 403, "host is 'a.ex"),
    Case("an absolute target of elsewhere", get("ftp://localhost/v1/models"), 404, "no route"),
    Case("a percent-encoded path", request("POST", "/v1/%65mbeddings"), 200),
    Case("a path of another case", get("/V1/models"), 404, "no route /V1/models"),
    Case("a query string", request("POST", f"{EMBEDDINGS}?api-version=2024-02-01"), 200),
    Case(
        "KServe's name of OpenAI's routes",
        request("POST", f"/openai{EMBEDDINGS}"),
        404,
        "is it /v1/emb",
    ),
    Case("without /v1", request("POST", "/embeddings"), 404, "is it /v1/embeddings?"),
    Case("a model with a slash", get("/v1/models/org/tiny"), 404, "no route"),
    Case("a model with an encoded slash", get("/v1/models/org%2Ftiny"), 404, "no route"),
    Case("a model of another case", get("/v1/models/Tiny"), 404, "no model 'Tiny'"),
    Case("HEAD", get("/v1/models", method="HEAD"), 200),
    Case("HEAD of what is posted to", get(EMBEDDINGS, method="HEAD"), 405, headers={"allow": "P"}),
    Case("PUT", get(EMBEDDINGS, method="PUT"), 405, "is not what", headers={"allow": "POST"}),
    Case("a Host that ends with a dot", get("/v1/models", host="localhost.:80"), 200),
    Case("dots in a path", get("/v1/../v1/models"), 404, "no route /v1/../v1/models"),
    Case("a percent sign alone", get("/v1/models/%zz"), 404, "no model '%zz'"),
    Case("a path that is no UTF-8", get("/v1/models/%ff"), 404, "no model"),
    Case("an asterisk", get("*", method="OPTIONS"), 404, "no route"),
    Case("TRACE", get("/livez", method="TRACE"), 405, "TRACE is not what /livez takes"),
    Case("an upgrade", get("/livez", "Connection: Upgrade", "Upgrade: websocket"), 200),
    Case("HTTP/1.0", b"GET /livez HTTP/1.0\r\n\r\n", 200, closes=True),
    Case("a request id", get("/livez", "X-REQUEST-ID: a-1"), 200, headers={"x-request-id": "a-1"}),
    Case(
        "a request id to no route",
        get("/no", "x-request-id: a"),
        404,
        headers={"x-request-id": "a"},
    ),
    Case(
        "a request id to no method",
        get(EMBEDDINGS, "x-request-id: a"),
        405,
        headers={"x-request-id": "a"},
    ),
)
HEADERS: Final = (
    Case("a charset", request(kind="Application/JSON; Charset=UTF-8"), 200),
    Case("a charset in quotes", request(kind='application/json;charset="utf-8"'), 200),
    Case("another parameter", request(kind="application/json; profile=x"), 200),
    Case("another charset", request(kind="application/json; charset=latin-1"), 415, "charset is"),
    Case("UTF-16", request(kind="application/json;charset=utf-16"), 415, "charset is 'utf-16'"),
    Case("no type", request(kind=None), 415, "content-type is ''; expected application/json"),
    Case("a form", request(kind="application/x-www-form-urlencoded"), 415, "content-type is"),
    Case("another type", request(kind="text/json"), 415, "content-type is 'text/json'"),
    Case("gzip", request("POST", EMBEDDINGS, GOOD, "Content-Encoding: gzip"), 415, "is 'gzip'"),
    Case("identity", request("POST", EMBEDDINGS, GOOD, "Content-Encoding: Identity"), 200),
    Case("an empty coding", request("POST", EMBEDDINGS, GOOD, "Content-Encoding:"), 200),
    Case("100-continue", request("POST", EMBEDDINGS, GOOD, "Expect: 100-continue"), 200),
    Case("chunks", chunked(GOOD[:5], GOOD[5:]), 200),
    Case("chunks of one byte", chunked(*(bytes([byte]) for byte in GOOD)), 200),
    Case("256 chunks of one byte", chunked(*[b" "] * 255, GOOD), 200),
    Case("257 chunks of one byte", chunked(*[b" "] * 257, GOOD), 400, closes=True),
    Case("300 chunks of 200 bytes", chunked(*[b" " * 200] * 300, GOOD), 200),
    Case("a head of 256 lines", lines(256), 200),
    Case("a head of 257 lines", lines(257), 400, closes=True),
    Case("two lengths", _TWO, 400, "content-length and transfer-encoding", closes=True),
    Case(
        "a preflight of an allowed origin",
        preflight(ORIGIN),
        200,
        headers={ALLOW_ORIGIN: ORIGIN, "access-control-allow-headers": "x-mine"},
    ),
    Case("a preflight of another", preflight(FOREIGN), 403, headers={ALLOW_ORIGIN: ""}),
    Case(
        "an allowed origin",
        request("POST", EMBEDDINGS, GOOD, f"Origin: {ORIGIN}"),
        200,
        headers={ALLOW_ORIGIN: ORIGIN},
    ),
    Case(
        "another origin",
        request("POST", EMBEDDINGS, GOOD, f"Origin: {FOREIGN}"),
        403,
        f"origin is '{FOREIGN}', and pages of other sites",
        headers={ALLOW_ORIGIN: ""},
    ),
)


def page(
    *more: str, host: str = "localhost:8000", target: str = "/v1/models", method: str = "GET"
) -> bytes:
    """What a browser sends for a page: `more` are the headers that the page cannot choose."""
    return get(target, *more, host=host, method=method)


NO_PAGE: Final = "pages of other sites may not call"
NO_NAME: Final = "neither an address nor localhost"
PAGES: Final = (
    Case("the server's own page", page("Origin: http://localhost:8000"), 200),
    Case("its own page by https", page("Origin: https://LOCALHOST:8000"), 200),
    Case("its own page, as browsers say", page("Sec-Fetch-Site: same-origin"), 200),
    Case("an address typed by hand", page("Sec-Fetch-Site: none"), 200),
    Case("its page at another port", page("Origin: http://localhost:3000"), 403, NO_PAGE),
    Case("a page without an origin", page("Origin: null"), 403, NO_PAGE),
    Case("an empty origin", page("Origin: "), 403, NO_PAGE),
    Case("an origin that begins alike", page("Origin: http://localhost:8000.a"), 403, NO_PAGE),
    Case("an origin of an allowed prefix", page(f"Origin: {ORIGIN}.evil.example"), 403, NO_PAGE),
    Case("an image of another site", page("Sec-Fetch-Site: cross-site"), 403, NO_PAGE),
    Case("a page of the same site", page("Sec-Fetch-Site: same-site"), 403, NO_PAGE),
    Case("a site that does not exist", page("Sec-Fetch-Site: None, none"), 403, NO_PAGE),
    Case(
        "an allowed origin, from afar", page(f"Origin: {ORIGIN}", "Sec-Fetch-Site: cross-site"), 200
    ),
    Case("a Host by address", page(host="127.0.0.1"), 200),
    Case("a Host by another address", page(host="192.168.1.7:8000"), 200),
    Case("a Host by IPv6", page(host="[::1]:8000"), 200),
    Case("a Host in capitals", page(host="LocalHost"), 200),
    Case("a Host by an allowed name", page(host="attar.internal:8000"), 200),
    Case("a Host of DNS rebinding", page(host="evil.example"), 403, NO_NAME),
    Case("a Host below localhost", page(host="evil.localhost"), 403, NO_NAME),
    Case("a Host that begins as localhost", page(host="localhost.evil.example"), 403, NO_NAME),
    Case("a Host with an address in it", page(host="127.0.0.1.evil.example"), 403, NO_NAME),
    Case("a Host below an allowed name", page(host="evil.attar.internal"), 403, NO_NAME),
    Case("a Host as one number", page(host="2130706433"), 403, NO_NAME),
    Case("a Host that is empty", page(host=""), 403, NO_NAME),
    Case("a Host of 4000 characters", page(host="a" * 4000), 403, f"'{'a' * 79}…'"),
    *(
        Case(f"{target} to a page", page("Origin: http://evil.example", target=target), 403)
        for target in ("/livez", "/readyz", "/docs", "/openapi.json", "/nowhere", "/v2")
    ),
    *(
        Case(f"{target} after DNS rebinding", page(host="evil.example", target=target), 403)
        for target in ("/livez", "/docs", "/openapi.json", "/nowhere")
    ),
    Case("any method to a page", page("Origin: null", method="TRACE"), 403),
)
BODIES: Final = (
    Case("a byte order mark", body(b"\xef\xbb\xbf" + GOOD), 200),
    Case("blanks around", body(b"\r\n \t" + GOOD + b"\n"), 200),
    Case("UTF-16 bytes", body(GOOD.decode().encode("utf-16")), 400, "not UTF-8 at byte 0"),
    Case("Latin-1 bytes", body(b'{"model": "tiny", "input": "\xe9"}'), 400, "not UTF-8 at byte 2"),
    Case("a control character", body(b'{"input":"a\x01"}'), 400, "Invalid control character"),
    Case("a trailing comma", body(b'{"model":"tiny","input":"a",}'), 400, "the body is not JSON: "),
    Case("3000 lists", body(b'{"input":' + b"[" * 3000 + b"]" * 3000 + b"}"), 400, "too large"),
    Case(
        "an exponent too large", body(b'{"model":"tiny","input":"a","dimensions":1e999}'), 400, "I"
    ),
    Case("an escaped NUL", body(b'{"model":"tiny","input":"a\\u0000b"}'), 200),
    Case("a whole surrogate pair", body(b'{"model":"tiny","input":"\\ud83d\\ude00"}'), 200),
    Case("nothing", body(b""), 400, "the body is not JSON"),
    Case("an array", body(b"[]"), 400, "the body is an array; send an object"),
    Case("null", body(b"null"), 400, "the body is null; send an object"),
    Case("two objects", body(GOOD + GOOD), 400, "the body is not JSON: Extra data"),
    Case("equal names", body(b'{"model":"tiny","input":"a","input":"b"}'), 400, "'input' twice"),
    Case("NaN", body(b'{"model":"tiny","input":NaN}'), 400, "NaN is no number"),
    Case(
        "Infinity", body(b'{"model":"tiny","input":"a","dimensions":-Infinity}'), 400, "-Infinity"
    ),
    Case(
        "a number of 5000 digits",
        body(b'{"model":"tiny","input":[%s]}' % (b"9" * 5000)),
        400,
        "too large",
    ),
    Case(
        "half a surrogate pair", body(b'{"model":"tiny","input":"\\ud800"}'), 400, "surrogate pair"
    ),
    Case(
        "every field null but two",
        embed(
            encoding_format=None,
            dimensions=None,
            user=None,
            role=None,
            truncate=None,
            priority=None,
        ),
        200,
    ),
    Case("an unknown field null", embed(extra=None), 200),
    wrong("model null", "model", "model is missing", model=None),
    wrong("model empty", "model", 'model is ""; give the name of a model', model=""),
    Case(
        "another model's name",
        embed(model="org/tiny"),
        404,
        "no model 'org/tiny'; this server",
    ),
    Case(
        "a model of another case in the body",
        embed(model="TINY"),
        404,
        "no model 'TINY'",
    ),
    wrong("input null", "input", "input is missing; give text, or a list", input=None),
    wrong("input a number", "input", "input is a number", input=7),
    wrong("input an object", "input", "input is an object", input={"text": "a"}),
    wrong("input empty", "input", "input has 0 items", input=[]),
    wrong("input of None", "input", "input[1] is null", input=["a", None]),
    wrong("input mixed", "input", "input[1] is 1", input=["a", 1]),
    wrong("input of ids and text", "input", 'input[1] is "a"', input=[[2, 5, 3], "a"]),
    wrong("input nested", "input", 'input[0] is ["a", "b"]', input=[["a", "b"]]),
    wrong("input of flags", "input", "input[0] is true", input=[True]),
    wrong("input of floats", "input", "input[0] is 1.5", input=[1.5]),
    wrong("input of an empty list", "input", "input[0] is []", input=[[]]),
    Case("an empty text", embed(input=""), 200),
    wrong(
        "too long",
        "input",
        'item 1 has 101 tokens and the encoder takes 32; shorten it, or send "trunc',
        input=["a", "cat " * 99],
    ),
    Case("too long and cut", embed(input="cat " * 99, truncate=True), 200),
    wrong("dimensions as text", "dimensions", 'dimensions is "8"', dimensions="8"),
    wrong("dimensions with a point", "dimensions", "dimensions is 8.0", dimensions=8.0),
    wrong(
        "dimensions undeclared",
        "dimensions",
        "dimensions is 7; tiny was trained for [8, 16]",
        dimensions=7,
    ),
    wrong("dimensions huge", "dimensions", "tiny was trained for", dimensions=10**3000),
    wrong(
        "a format of another case",
        "encoding_format",
        "expected one of float, base64",
        encoding_format="Base64",
    ),
    wrong(
        "a format that is a list",
        "encoding_format",
        "encoding_format is [",
        encoding_format=["float"],
    ),
    wrong(
        "truncate as text", "truncate", 'truncate is "true"; give true or false', truncate="true"
    ),
    wrong("truncate as a number", "truncate", "truncate is 1", truncate=1),
    wrong("an unknown field", "inputs", "no field 'inputs'; known are", inputs="a"),
    wrong("texts for a model of tensors", "model", "takes tensors; got texts", model="tiny-image"),
    Case("a user of any kind", embed(user={"id": 7}), 200),
)


def rerank(target: str = "/v1/rerank", **changes: Any) -> bytes:
    """A request of documents to rank; one that is None is left out."""
    texts = {"texts": ["a", "b"]} if target == "/rerank" else {"documents": ["a", "b"]}
    given = {"model": "tiny", "query": "cat", **texts, **changes}
    return body({name: value for name, value in given.items() if value is not None}, target=target)


RERANKS: Final = (
    Case("documents to rank", rerank(), 200),
    Case("documents to rank, for Cohere", rerank("/v2/rerank"), 200),
    Case("texts to rank", rerank("/rerank"), 200),
    Case("documents that are objects", rerank(documents=[{"text": "a"}, "b"]), 200),
    Case("no query to rank for", rerank(query=None), 400, "query is missing; give a text", "query"),
    Case("no documents to rank", rerank(documents=[]), 400, "documents has 0 items", "documents"),
    Case(
        "a document that is no text",
        rerank(documents=["a", {"txt": "b"}]),
        400,
        'documents[1] is {"txt": "b"}; give a text, or {"text": ...} with one',
        "documents",
    ),
    Case("a text for documents", rerank(documents="a"), 400, "documents is a string", "documents"),
    Case("top_n 0", rerank(top_n=0), 400, "top_n is 0; give a whole number above 0", "top_n"),
    Case("rank fields", rerank(rank_fields=["text"]), 400, "no field 'rank_fields'", None),
    Case("an unknown model to rank by", rerank(model="huge"), 404, "huge"),
    Case("a tensor model to rank by", rerank(model="tiny-image"), 409, "documents are ranked by"),
    Case(
        "texts cut at the other end",
        rerank("/rerank", truncation_direction="Left"),
        413,
        "truncation_direction is Left; tiny cuts texts on the right: leave it out",
    ),
    Case("too long to rank", rerank(query="cat " * 99, truncate=False), 400, "tokens"),
)


def inference(target: str, **changes: Any) -> bytes:
    """A request in the shape of Text Embeddings Inference; what is None is left out."""
    given = {"model": "tiny", "inputs": "cat", **changes}
    return body({name: value for name, value in given.items() if value is not None}, target=target)


INFERENCES: Final = (
    Case("inputs to embed", inference("/embed", inputs=["a", "b"]), 200),
    Case("token ids as inputs", inference("/embed", inputs=[[2, 5, 3]]), 200),
    Case("no inputs", inference("/embed", inputs=None), 413, "inputs is missing; give text"),
    Case("empty inputs", inference("/embed", inputs=[]), 413, "inputs has 0 items"),
    Case("inputs that are an object", inference("/embed", inputs={}), 413, "inputs is an object"),
    Case("mixed inputs", inference("/embed", inputs=["a", 1]), 413, "inputs[1] is 1: inputs is"),
    Case(
        "a width that the model has not",
        inference("/embed", dimensions=7),
        413,
        "dimensions is 7; tiny was trained for [8, 16]",
    ),
    Case(
        "an unknown prompt",
        inference("/embed", prompt_name="tune"),
        413,
        "tune",
    ),
    Case("embeddings of another length", inference("/embed", normalize=False), 413, "unit length"),
    Case("normalize as text", inference("/embed", normalize="no"), 413, "give true or false"),
    Case(
        "inputs cut at neither end",
        inference("/embed", truncation_direction="up"),
        413,
        'truncation_direction is "up"; expected left or right',
    ),
    Case(
        "texts cut at neither end",
        rerank("/rerank", truncation_direction="up"),
        413,
        'truncation_direction is "up"; expected left or right',
    ),
    Case("inputs to a tensor model", inference("/embed", model="tiny-image"), 413, "takes tensors"),
    Case("a field of another route", inference("/embed", raw_scores=True), 413, "'raw_scores'"),
    Case("labels of a model without", inference("/predict"), 424, "has no classifier"),
    Case("no inputs to classify", inference("/predict", inputs=[]), 413, "inputs has 0 items"),
    Case("three texts", inference("/predict", inputs=["a", "b", "c"]), 413, 'inputs is ["a"'),
    Case(
        "texts outside lists", inference("/predict", inputs=[["a"], "b"]), 413, 'inputs[1] is "b"'
    ),
    Case("a classifier that is not there", inference("/predict", model="tiny/x"), 404, "has none"),
)


def cohere(**changes: Any) -> bytes:
    """A request in Cohere's shape; what is None is left out."""
    given = {"model": "tiny", "texts": ["a", "b"], **changes}
    known = {name: value for name, value in given.items() if value is not None}
    return body(known, target="/v2/embed")


def voyage(**fields: Any) -> bytes:
    """A request with fields that Voyage's client sends."""
    return body({"model": "tiny", "input": ["a"], **fields})


OTHER_NAMES: Final = (
    Case("texts, for Cohere", cohere(input_type="search_query"), 200),
    Case("no texts", cohere(texts=None), 400, "texts is missing; give a list of texts"),
    Case("empty texts", cohere(texts=[]), 400, "texts has 0 items"),
    Case("images, for Cohere", cohere(images=["a"]), 400, "no field 'images'"),
    Case("an unknown input type", cohere(input_type="image"), 400, "must be one of"),
    Case("no embedding type", cohere(embedding_types=[]), 400, 'give ["float"] or ["base64"]'),
    Case("bits, for Cohere", cohere(embedding_types=["binary"]), 400, 'is "binary"'),
    Case("two types", cohere(embedding_types=["float", "base64"]), 400, "ask for one of them"),
    Case("an end that is not cut", cohere(truncate="START"), 400, "tiny cuts texts on the right"),
    Case("an end that is none", cohere(truncate="LEFT"), 400, "expected one of NONE, START, END"),
    Case("a width, for Cohere", cohere(output_dimension=7), 400, "output_dimension is 7; tiny"),
    Case("too long for NONE", cohere(texts=["cat " * 99], truncate="NONE"), 400, "tokens"),
    Case("texts, for Voyage", voyage(input_type="query", truncation=True), 200),
    Case("an unknown type", voyage(input_type="x"), 400, "expected query or document"),
    Case("bits, for Voyage", voyage(output_dtype="binary"), 400, "expected float"),
    Case("two widths", voyage(dimensions=8, output_dimension=8), 400, "two names of one field"),
    Case("two roles", voyage(role="query", input_type="query"), 400, "two names of one field"),
    Case("two cuts", voyage(truncate=True, truncation=False), 400, "two names of one field"),
    Case("no such width", voyage(output_dimension=7), 400, "is 7; tiny", "output_dimension"),
)


def call(path: str, message: Any) -> bytes:
    """A call of gRPC as JSON."""
    return body(message, target=f"/attar/v1/{path}")


_CATS: Final = {"texts": {"values": ["cat"]}}
CALLS: Final = (
    Case("a call as JSON", call("embed", {"model": "tiny", **_CATS}), 200),
    Case("a call by names in camel case", call("collections/docs:search", {"withPayload": 1}), 400),
    Case(
        "an unknown field of a call",
        call("embed", {"txts": ["cat"]}),
        400,
        "EmbedRequest has no field 'txts'; known are model, id, texts, tensor, tokens, role,",
    ),
    Case(
        "an unknown field within",
        call("embed", {"texts": {"value": ["cat"]}}),
        400,
        "Texts has no field 'value'; known are values",
    ),
    Case(
        "a number that is none",
        call("collections/docs:search", {**_CATS, "limit": "ten"}),
        400,
        "limit: invalid literal for int() with base 10: 'ten'; GET /openapi.json has what Search",
    ),
    Case("a number below 0", call("embed", {"dims": -1}), 400, "dims: "),
    Case(
        "an enum that is none",
        call("embed", {"role": "QUERY"}),
        400,
        "role: Invalid enum value QUERY",
    ),
    Case("a list for an object", call("embed", {"texts": ["cat"]}), 400, "'cat'; known are values"),
    Case("a number for an object", call("embed", {"texts": 5}), 400, "texts: 'int' object"),
    Case(
        "a text for a list",
        call("embed", {"texts": {"values": "cat"}}),
        400,
        "texts: repeated field",
    ),
    Case(
        "data that is no base64",
        call("embed", {"tensor": {"data": "a"}}),
        400,
        "data: Invalid base64",
    ),
    Case("two inputs", call("embed", {**_CATS, "tokens": {"ids": [1]}}), 400, 'multiple "input"'),
    Case(
        "another name than the path's",
        call("collections/docs:search", {"collection": "notes"}),
        400,
        "collection is 'docs' in the path and another in the body",
    ),
    Case(
        "a filter that is a text", call("collections/docs:search", {"filter": "a"}), 400, "filter"
    ),
    Case("a body that is a list", call("collections", []), 400, "the body is an array"),
    Case("a collection that is not there", call("collections/none:search", _CATS), 404, "'none'"),
    Case("an unknown verb", call("collections/docs:find", {}), 405, "is not what"),
    Case(
        "a call of a type that pages may send",
        request("POST", "/attar/v1/collections", b"{}", kind="text/plain"),
        415,
        "expected application/json",
    ),
    Case(
        "a call from another site",
        request("POST", "/attar/v1/collections", b"{}", f"Origin: {FOREIGN}"),
        403,
    ),
    Case(
        "a deletion from another site",
        get("/attar/v1/collections/docs", f"Origin: {FOREIGN}", method="DELETE"),
        403,
    ),
)
CASES: Final = (
    *TARGETS,
    *HEADERS,
    *PAGES,
    *BODIES,
    *RERANKS,
    *INFERENCES,
    *OTHER_NAMES,
    *CALLS,
)


def _length(headers: Mapping[str, str]) -> int:
    """The bytes of a body, or -1 for one that ends with its connection."""
    return int(headers.get("content-length", -1))


def send(address: tuple[str, int], raw: bytes) -> Reply:
    """Send bytes as they are, and read one response."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(raw)
        stream = connection.makefile("rb")
        status, headers = _head(stream)
        continued = status == 100
        if continued:
            status, headers = _head(stream)
        is_head = raw.startswith(b"HEAD")
        return Reply(
            status,
            headers,
            b"" if is_head else stream.read(_length(headers)),
            continued,
        )


def closes(address: tuple[str, int], raw: bytes) -> bool:
    """Tell whether the server ends the connection after its answer."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(raw)
        stream = connection.makefile("rb")
        _, headers = _head(stream)
        stream.read(_length(headers))
        connection.settimeout(2)
        try:
            return stream.read(1) == b""
        except TimeoutError:
            return False


def _head(stream: Any) -> tuple[int, dict[str, str]]:
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip().decode():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


@contextmanager
def world(folder: Path, **changes: Any) -> Iterator[tuple[tuple[str, int], str]]:
    """A server of a text and a tensor model; gives where its HTTP port is, and its gRPC target."""
    prompts = {"query": "query: ", "passage": ""}
    text = tiny_bundle(folder / "tiny.attar", dims=(8, 16), prompts=prompts, max_length=32)
    image = tiny_tensor_bundle(folder / "image.attar")
    port = free_port()
    limits = {"max_items": 40, "max_message_bytes": 64 * 1024, "http_port": port}
    chosen = settings(text, image, data_dir=folder / "data", **{**limits, **changes})
    with serving(chosen) as target:
        yield ("127.0.0.1", port), target
