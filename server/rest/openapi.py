"""The OpenAPI document of the HTTP routes, and a page of it that loads nothing."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import version
from typing import Any, Final

from .endpoint import Route

# Nothing on the page runs, and nothing comes from elsewhere.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}

_TEXT: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer"}
_IDS: Final = {"type": "array", "items": _WHOLE, "minItems": 1}
_OBJECT: Final = {"type": "object"}
_ITEM: Final = {
    "type": "object",
    "properties": {
        "object": {"const": "embedding"},
        "index": _WHOLE,
        "embedding": {
            "oneOf": [
                {"type": "array", "items": {"type": "number"}},
                {"type": "string", "description": "Base64 of little-endian float32."},
            ]
        },
        "truncated": {"type": "boolean"},
    },
    "required": ["object", "index", "embedding"],
}
_TENSOR: Final = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "shape": {"type": "array", "items": _WHOLE},
        "datatype": _TEXT,
        "parameters": _OBJECT,
        "data": {"type": "array", "description": "Flat, or nested as the shape is."},
    },
    "required": ["name", "shape", "datatype"],
}
SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "EmbeddingsRequest": {
        "type": "object",
        "properties": {
            "model": _TEXT,
            "input": {
                "description": "A text, texts, one text's token ids, or those of several; ids of "
                "the model's own tokenizer.",
                "oneOf": [
                    _TEXT,
                    {"type": "array", "items": _TEXT, "minItems": 1},
                    _IDS,
                    {"type": "array", "items": _IDS, "minItems": 1},
                ],
            },
            "encoding_format": {"enum": ["float", "base64"], "default": "float"},
            "dimensions": {**_WHOLE, "description": "A width that the model declares."},
            "user": {"description": "Ignored."},
            "role": {"enum": ["passage", "query"], "default": "passage"},
            "truncate": {
                "type": "boolean",
                "default": False,
                "description": "Cut what is too long, and say so; else it is refused.",
            },
            "priority": {"enum": ["interactive", "bulk"], "default": "interactive"},
        },
        "required": ["model", "input"],
        "additionalProperties": False,
    },
    "EmbeddingsResponse": {
        "type": "object",
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": _ITEM},
            "model": _TEXT,
            "usage": {
                "type": "object",
                "properties": {"prompt_tokens": _WHOLE, "total_tokens": _WHOLE},
            },
            "fingerprint": {
                **_TEXT,
                "description": "The space; vectors of different ones must not be compared.",
            },
        },
        "required": ["object", "data", "model", "usage"],
    },
    "InferRequest": {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "parameters": {
                "type": "object",
                "description": "dimensions, encoding, truncate, role, priority, timeout "
                "(microseconds), binary_data_output.",
            },
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": _TEXT, "parameters": _OBJECT},
                    "required": ["name"],
                },
            },
        },
        "required": ["inputs"],
    },
    "InferResponse": {
        "type": "object",
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _OBJECT,
            "outputs": {"type": "array", "items": _TENSOR},
        },
        "required": ["model_name", "outputs"],
    },
    "OpenAIError": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": _TEXT,
                },
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
    },
    "Error": {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]},
}
_BODIES: Final[Mapping[str, tuple[str, str]]] = {
    "/v1/embeddings": ("EmbeddingsRequest", "EmbeddingsResponse"),
    "/infer": ("InferRequest", "InferResponse"),
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The routes as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "attar", "version": version("attar")},
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def show(described: Mapping[str, Any]) -> str:
    """The document as a page."""
    rows = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            named = [
                _reference(content["application/json"]["schema"])
                for content in (
                    operation.get("requestBody", {}).get("content"),
                    operation["responses"]["200"].get("content"),
                )
                if content
            ]
            links = ", ".join(f'<a href="#{name}">{name}</a>' for name in named if name)
            rows.append(
                f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
                f"<td>{escape(operation['summary'])}</td><td>{links}</td></tr>"
            )
    schemas = "".join(
        f'<h2 id="{name}">{name}</h2><pre>{escape(json.dumps(schema, indent=2))}</pre>'
        for name, schema in described["components"]["schemas"].items()
    )
    info = described["info"]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{info['title']} {info['version']}</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;"
        "padding:0 1em}td{padding:.2em 1em .2em 0;vertical-align:top}"
        "pre{background:#8881;padding:1em;overflow:auto}</style>"
        f"<h1>{info['title']} {info['version']}</h1>"
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"<table>{''.join(rows)}</table>{schemas}</html>"
    )


def _operation(route: Route) -> dict[str, Any]:
    ask, answer = next(
        (bodies for end, bodies in _BODIES.items() if route.path.endswith(end)), ("", "")
    )
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT}
            for name in re.findall(r"{(\w+)}", route.path)
        ],
        "responses": {
            "200": {"description": "The answer.", "content": _content(answer)},
            "default": {"description": "Why there is none.", "content": _content(_error(route))},
        },
    }
    if route.types:
        operation["requestBody"] = {"required": bool(ask), "content": _content(ask)}
    if route.scope is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"A key needs the scope {route.scope}, where there are keys."
    return operation


def _error(route: Route) -> str:
    return "OpenAIError" if route.path.startswith("/v1/") else "Error"


def _content(schema: str) -> dict[str, Any]:
    named = {"$ref": f"#/components/schemas/{schema}"} if schema else _OBJECT
    return {"application/json": {"schema": named}}


def _reference(schema: Mapping[str, str]) -> str:
    return schema.get("$ref", "").rpartition("/")[2]
