"""Conformance: whether the embeddings that a server answers are those of a bundle.

The server may be any that speaks one of three protocols over HTTP: OpenAI's embeddings, Text
Embeddings Inference, or KServe's v2 inference.
"""

from .checks import Check, check_server
from .http_server import HttpServer, Protocol

__all__ = ["Check", "HttpServer", "Protocol", "check_server"]
