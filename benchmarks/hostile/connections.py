"""Connections that do not come about: targets that are none, and servers that speak otherwise.

The one list; test_connections.py holds the clients to it.
"""

import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme

from attar import Tls

from ..support.servers import free_port, serving, settings


@dataclass(frozen=True, slots=True)
class Case:
    """A server by its name in `world`, how the client calls it, and what it must say."""

    server: str
    tls: str  # "", or the name of what the client trusts and shows
    refusal: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.server}, a client {f'with {self.tls}' if self.tls else 'in the clear'}"


CASES: tuple[Case, ...] = (
    Case("nothing", "", ("no server answers at", "Connection refused", "`attar serve BUNDLE`")),
    Case("nothing", "its authority", ("no server answers at", "`attar serve BUNDLE`")),
    Case("TLS", "", ("something at", "closed the connection", "if it speaks TLS, give tls=Tls()")),
    Case("clear", "its authority", ("does not speak TLS", "leave tls out")),
    Case("TLS", "another authority", ("from no authority that this client trusts", "Tls(ca=...)")),
    Case("TLS", "the system's authorities", ("from no authority that this client trusts",)),
    Case("TLS for another name", "its authority", ("is for another name", "call the server by")),
    Case("TLS that asks for a certificate", "its authority", ("give tls=Tls(cert=..., key=...)",)),
    Case("HTTP", "", ("speaks HTTP and not gRPC", "take attar's gRPC port")),
    Case("HTTP", "its authority", ("does not speak TLS",)),
    Case("HTTPS", "", ("something at", "if it speaks TLS, give tls=Tls()")),
    Case("HTTPS", "its authority", ("speaks HTTP and not gRPC", "take attar's gRPC port")),
    Case("one that hangs up", "", ("something at", "closed the connection")),
)

TARGETS: Final[Mapping[Any, tuple[str, ...]]] = {
    "": ("host:port", "''"),
    "127.0.0.1": ("host:port, such as 127.0.0.1:8001", "'127.0.0.1'"),
    "127.0.0.1:": ("a port from 1 to 65535",),
    "127.0.0.1:0": ("a port from 1 to 65535",),
    "127.0.0.1:99999": ("a port from 1 to 65535", "99999"),
    "127.0.0.1:http": ("a port from 1 to 65535",),
    "127.0.0.1:-1": ("a port from 1 to 65535",),
    ":8001": ("host:port",),
    " 127.0.0.1:8001": ("host:port", "' 127.0.0.1:8001'"),
    "127.0.0.1:8001\n": ("host:port",),
    "127.0.0.1:8001/v1": ("host:port",),
    "127.0.0.1/v1:8001": ("host:port",),
    "http://127.0.0.1:8001": ("no URL", "give '127.0.0.1:8001'"),
    "http://127.0.0.1:8001/v1/embeddings": ("no URL", "give '127.0.0.1:8001'"),
    "https://attar:8001": ("no URL", "give 'attar:8001', with tls=Tls()"),
    "grpc://attar:8001": ("no URL", "give 'attar:8001'"),
    "::1:8001": ("stands in brackets", "'[::1]:8001'"),
    None: ("text, host:port", "None"),
    b"127.0.0.1:8001": ("text, host:port",),
    8001: ("text, host:port", "8001"),
}
"""What is no target, and the words of its refusal."""


class HangUp(socketserver.BaseRequestHandler):
    """Closes whatever connects."""

    def handle(self) -> None:
        self.request.recv(1)


@contextmanager
def world(bundle: Path, folder: Path) -> Iterator[tuple[Mapping[str, str], Mapping[str, Tls]]]:
    """Run one of each server; gives their targets, and what clients trust and show."""
    authority, other = trustme.CA(), trustme.CA()
    for name, ca in (("ca.pem", authority), ("other.pem", other)):
        ca.cert_pem.write_to_path(str(folder / name))

    def secured(name: str, host: str = "127.0.0.1", **more: Any) -> Any:
        issued = authority.issue_cert(host)
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return settings(bundle, data_dir=folder / name, tls_cert=cert, tls_key=key, **more)

    http, https = free_port(), free_port()
    with ExitStack() as stack:
        hanging = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp))
        threading.Thread(target=hanging.serve_forever, daemon=True).start()
        stack.callback(hanging.shutdown)
        clear = settings(bundle, data_dir=folder / "clear", http_port=http)
        asking = secured("asking", tls_client_ca=folder / "ca.pem")
        targets = {
            "nothing": f"127.0.0.1:{free_port()}",
            "clear": stack.enter_context(serving(clear)),
            "TLS": stack.enter_context(serving(secured("tls", http_port=https))),
            "TLS for another name": stack.enter_context(serving(secured("named", "attar.example"))),
            "TLS that asks for a certificate": stack.enter_context(serving(asking)),
            "HTTP": f"127.0.0.1:{http}",
            "HTTPS": f"127.0.0.1:{https}",
            "one that hangs up": f"127.0.0.1:{hanging.server_address[1]}",
        }
        yield (
            targets,
            {
                "its authority": Tls(ca=folder / "ca.pem"),
                "another authority": Tls(ca=folder / "other.pem"),
                "the system's authorities": Tls(),
            },
        )
