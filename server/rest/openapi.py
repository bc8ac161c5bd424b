"""The OpenAPI document of the HTTP routes, made from their schemas, and a page that shows it."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import version
from typing import Any, Final

from google.protobuf.message import Message
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from . import message_schemas
from .endpoint import Route, Schema

# Nothing on the page runs, and nothing comes from elsewhere.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}

_TEXT: Final = {"type": "string"}
_OBJECT: Final = {"type": "object"}
_REFERENCE: Final = "#/components/schemas/{model}"


class _Untitled(GenerateJsonSchema):
    """JSON Schema without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The routes as OpenAPI 3.1; their bodies are the models that the routes name."""
    routes = tuple(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "attar", "version": version("attar")},
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
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


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    """The JSON Schema of every body, by its model's name."""
    bodies = [
        body
        for route in routes
        for body in (route.request, route.response, route.errors.schema)
        if body is not None
    ]
    models = dict.fromkeys(body for body in bodies if issubclass(body, BaseModel))
    _, schemas = models_json_schema(
        [(model, "validation") for model in models],
        ref_template=_REFERENCE,
        schema_generator=_Untitled,
    )
    messages = [body.DESCRIPTOR for body in bodies if issubclass(body, Message)]
    return {
        **schemas["$defs"],
        **message_schemas.schemas(messages, reference=_REFERENCE),
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT}
            for name in re.findall(r"{(\w+)}", route.path)
        ],
        "responses": {
            "200": {"description": "The answer.", "content": _content(route.response)},
            "default": {
                "description": "Why there is none.",
                "content": _content(route.errors.schema),
            },
        },
    }
    if route.types:
        operation["requestBody"] = {
            "required": _has_required_fields(route.request),
            "content": _content(route.request),
        }
    if route.scope is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"A key needs the scope {route.scope}, where there are keys."
    return operation


def _has_required_fields(schema: Schema | None) -> bool:
    if schema is None or not issubclass(schema, BaseModel):
        return schema is not None
    fields = schema.model_fields
    return any(field.is_required() for field in fields.values())


def _content(schema: Schema | None) -> dict[str, Any]:
    if schema is None:
        return {"application/json": {"schema": _OBJECT}}
    name = schema.DESCRIPTOR.full_name if issubclass(schema, Message) else schema.__name__
    named = {"$ref": _REFERENCE.format(model=name)}
    return {"application/json": {"schema": named}}


def _reference(schema: Mapping[str, str]) -> str:
    return schema.get("$ref", "").rpartition("/")[2]
