"""A target: where a server is called, and what a connection to it that failed may mean."""

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from .errors import InvalidInput

_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
"""How gRPC's own names begin; it reads the rest of them."""

_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables that send a gRPC client through a proxy; the first that is set counts."""

_MEANINGS: Final = (
    (
        r"WRONG_VERSION_NUMBER",
        (
            "{target} does not speak TLS; leave tls out, or start the server with --tls-cert and "
            "--tls-key"
        ),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        (
            "the certificate of {target} is from no authority that this client trusts; name the "
            "authority's file, tls=Tls(ca=...)"
        ),
    ),
    (
        r"(?i)hostname verification|peer name .* is not in peer certificate",
        "the certificate of {target} is for another name; call the server by the name in it",
    ),
    (
        r"http1\.x server|ALPN",
        (
            "{target} speaks HTTP and not gRPC; take attar's gRPC port (--port, 8001 by default), "
            "and not the one for HTTP"
        ),
    ),
)
"""Words in gRPC's own message, and what they mean to who called."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is called: host:port, or a name of gRPC's such as dns:/// or unix:."""

    name: str
    tls: bool = False

    def __post_init__(self) -> None:
        """Raise InvalidInput for what is no host and port, which gRPC would read as another."""
        if not isinstance(self.name, str):
            raise InvalidInput(f"a server's target is text, host:port; got {self.name!r}")
        if self.name.startswith(_SCHEMES):
            return
        if "://" in self.name:
            bare = self.name.split("://", 1)[1].split("/", 1)[0]
            hint = ", with tls=Tls()" if self.name.startswith("https:") else ""
            raise InvalidInput(
                f"a server's target is host:port of its gRPC port, and no URL; got {self.name!r}, "
                f"so give {bare!r}{hint}"
            )
        host, colon, port = self.name.rpartition(":")
        whole = re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536
        if not (host and colon and whole) or re.search(r"[\s/]", host):
            raise InvalidInput(
                f"a server's target is host:port, such as 127.0.0.1:8001, with a port from 1 to "
                f"65535; got {self.name!r}"
            )
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise InvalidInput(f"an IPv6 address stands in brackets; give '[{host}]:{port}'")

    def __str__(self) -> str:
        """The name alone, as it was given."""
        return self.name

    @property
    def is_local(self) -> bool:
        """Whether it is this machine: a loopback address or a Unix socket."""
        host = self.name.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or self.name.startswith("unix")

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """What a gRPC channel needs to know: a proxy cannot reach this machine's loopback."""
        return (("grpc.enable_http_proxy", 0),) if self.is_local else ()

    def explain(self, text: str) -> str:
        """Say what it may mean that no call got through, by gRPC's own words for it."""
        for words, meaning in _MEANINGS:
            if re.search(words, text):
                return f"{meaning.format(target=self)} ({text})"
        if re.search(r"(?i)socket closed|connection reset|broken pipe|EOF", text):
            hint = (
                "if it asks for a certificate of yours, give tls=Tls(cert=..., key=...)"
                if self.tls
                else "if it speaks TLS, give tls=Tls()"
            )
            return f"something at {self} closed the connection ({text}); {hint}"
        return (
            f"no server answers at {self} ({text}); start one with `attar serve BUNDLE`, or check "
            f"the address{self._proxied()}"
        )

    def _proxied(self) -> str:
        name = next((name for name in _PROXIES if os.environ.get(name)), None)
        if name is None or self.is_local:
            return ""
        return f"; {name} is set, so the call went to that proxy unless no_proxy names this host"
