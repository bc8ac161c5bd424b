"""Message schemas: JSON Schema of protobuf messages, as protobuf's JSON mapping writes them.

https://protobuf.dev/programming-guides/json/
"""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

_WELL_KNOWN: Final[dict[str, dict[str, Any]]] = {
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.rpc.Status": {"type": "object"},
}
_NUMBER: Final = {"oneOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_LONG: Final = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_INT: Final = {"type": "integer"}
_SCALARS: Final[dict[int, dict[str, Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: _INT,
    FieldDescriptor.CPPTYPE_UINT32: _INT,
    FieldDescriptor.CPPTYPE_INT64: _LONG,
    FieldDescriptor.CPPTYPE_UINT64: _LONG,
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBER,
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBER,
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
}


def schemas(messages: Iterable[Any], *, reference: str) -> dict[str, Any]:
    """Describe messages, by their descriptors, and all that they have inside, by their full names.

    `reference` is where one is found, with `{model}` for its name.
    """
    described: dict[str, Any] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name in described or message.full_name in _WELL_KNOWN:
            continue
        properties = {}
        for field in message.fields:
            properties[field.name] = _field(field, reference)
            inner = _value(field) if _is_map(field) else field
            if inner.message_type is not None:
                waiting.append(inner.message_type)
        described[message.full_name] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
    return described


def _field(field: Any, reference: str) -> dict[str, Any]:
    if _is_map(field):
        return {"type": "object", "additionalProperties": _one(_value(field), reference)}
    one = _one(field, reference)
    return {"type": "array", "items": one} if field.is_repeated else one


def _one(field: Any, reference: str) -> dict[str, Any]:
    if field.message_type is not None:
        name = field.message_type.full_name
        return _WELL_KNOWN.get(name) or {"$ref": reference.format(model=name)}
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "format": "byte"}
    return _SCALARS.get(field.cpp_type, {"type": "string"})


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value(field: Any) -> Any:
    return field.message_type.fields_by_name["value"]
