"""A server of embeddings over HTTP: how one of each protocol is asked, and what it answers."""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import quote, urlsplit

import numpy as np

from attar.encodings import Vectors
from attar.errors import InvalidInput, Unavailable
from attar.inputs import one_of

Protocol: TypeAlias = Literal["openai", "tei", "kserve"]
"""OpenAI's `/v1/embeddings`, Text Embeddings Inference's `/embed`, KServe's `/v2/models`."""

TIMEOUT_S: Final = 60.0
MAX_RESPONSE_BYTES: Final = 2**26
_SHOWN: Final = 200  # characters of an answer in a message


class ResponseError(Exception):
    """The server answered with an error's status, or with what is no answer of its protocol."""

    def __init__(self, message: str, *, status: int) -> None:
        """Keep the status: 400 and more where the server refused, below where it did not."""
        super().__init__(message)
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Whether the server says that the request is at fault, as it may of a bad text."""
        return 400 <= self.status < 500


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server at `url`, such as http://127.0.0.1:8080, which serves `model`.

    Nothing is sent elsewhere: redirects are not followed, and no proxy is used. Raises InvalidInput
    for a URL or a protocol that it cannot ask.
    """

    url: str
    protocol: Protocol = "openai"
    model: str = ""
    key: str | None = field(default=None, repr=False)
    ca: Path | None = None  # a file of certificates, instead of the system's
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        """Refuse what is no address of an HTTP server."""
        one_of("protocol", self.protocol, get_args(Protocol))
        parts = urlsplit(self.url)
        try:
            port_is_right = parts.port != 0
        except ValueError:
            port_is_right = False
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
            raise InvalidInput(
                f"a server's URL is such as http://127.0.0.1:8080; got {self.url!r:.80}"
            )
        if parts.query or parts.fragment or parts.username:
            raise InvalidInput(
                f"a server's URL has no user, query or fragment; got {self.url!r:.80}"
            )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Give the embeddings that the server answers for `texts`: (n, dim) float32, as they come.

        Raises ResponseError where it refuses, or answers what its protocol does not say, and
        Unavailable where it cannot be reached.
        """
        rows: object
        match self.protocol:
            case "openai":
                document = self._ask(
                    "/v1/embeddings",
                    {"model": self.model, "input": list(texts), "encoding_format": "float"},
                )
                rows = [row["embedding"] for row in _part(document, "data")]
            case "tei":
                rows = self._ask("/embed", {"inputs": list(texts)})
            case "kserve":
                rows = self._infer(texts)
        return _matrix(rows, len(texts))

    def _infer(self, texts: Sequence[str]) -> object:
        """Ask a model of one input of texts, and give its output of one row a text."""
        path = f"/v2/models/{quote(self.model, safe='')}"
        metadata = self._ask(path, None)
        inputs = [one for one in _part(metadata, "inputs") if one["datatype"] == "BYTES"]
        outputs = [
            one
            for one in _part(metadata, "outputs")
            if one["datatype"].startswith("FP") and len(one["shape"]) == 2
        ]
        if not inputs or not outputs:
            raise ResponseError("the model has no input of BYTES and output of rows", status=200)
        shape = [len(texts), 1][: len(inputs[0]["shape"])]
        tensor = {"name": inputs[0]["name"], "datatype": "BYTES", "shape": shape}
        request = {
            "inputs": [{**tensor, "data": list(texts)}],
            "outputs": [{"name": outputs[0]["name"]}],
        }
        (output,) = _part(self._ask(f"{path}/infer", request), "outputs")
        return np.reshape(np.asarray(output["data"], np.float64), output["shape"])

    def _ask(self, path: str, body: object) -> Any:
        """Send a body, or ask without one, and give the JSON of the answer."""
        parts = urlsplit(self.url)
        front = parts.path.rstrip("/")
        if self.protocol == "openai":
            front = front.removesuffix("/v1")
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        connection = self._connection()
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request("GET" if data is None else "POST", front + path, data, headers)
            response = connection.getresponse()
            answered = response.read(MAX_RESPONSE_BYTES + 1)
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(f"{self.url} does not answer: {error}; is it the server?") from None
        finally:
            connection.close()
        if len(answered) > MAX_RESPONSE_BYTES:
            raise ResponseError(f"the answer has more than {MAX_RESPONSE_BYTES} bytes", status=200)
        if response.status != 200:
            shown = answered[:_SHOWN].decode("utf-8", "replace")
            raise ResponseError(f"{response.status} {shown}", status=response.status)
        try:
            return json.loads(answered)
        except (ValueError, RecursionError):
            raise ResponseError("the answer is not JSON", status=200) from None

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        if parts.scheme == "http":
            return HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_s)
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        return HTTPSConnection(parts.hostname, parts.port, timeout=self.timeout_s, context=context)


def _part(document: Any, name: str) -> Any:
    """Give the list of objects under a name of an answer."""
    part = document.get(name) if isinstance(document, dict) else None
    if not isinstance(part, list) or not all(isinstance(one, dict) for one in part):
        raise ResponseError(f"the answer has no list {name!r} of objects", status=200)
    return part


def _matrix(rows: Any, count: int) -> Vectors:
    """Give rows of numbers as an array; what stands for no number becomes NaN."""
    try:
        matrix = np.asarray(rows, np.float64)
    except (TypeError, ValueError):
        raise ResponseError(
            "the answer has no rows of numbers of equal length", status=200
        ) from None
    if matrix.ndim != 2 or len(matrix) != count:
        raise ResponseError(
            f"the answer has the shape {matrix.shape}, and {count} texts were sent", status=200
        )
    return matrix.astype(np.float32)
