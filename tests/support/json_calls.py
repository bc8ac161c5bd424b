"""Calls of gRPC as JSON over HTTP, by what their .proto files say."""

import re
from urllib.parse import quote

import httpx
from google.protobuf import json_format
from google.protobuf.message import Message

from attar.server.rpc.methods import HTTP_RULES


def json_call(web: httpx.Client, rpc: str, request: Message) -> httpx.Response:
    """Send a message to where `rpc`, as "Collections/Search", is answered over HTTP."""
    rule = HTTP_RULES[f"attar.v1.{rpc}"]
    fields = json_format.MessageToDict(request, preserving_proto_field_name=True)
    safe = "/" if rule.has_slashes else ""
    path = re.sub(r"{(\w+)}", lambda name: quote(fields.pop(name[1], ""), safe), rule.path)
    assert rule.has_body or not fields, f"{rpc} has no place for {fields}"
    return web.request(rule.verb, path, json=fields if rule.has_body else None)
