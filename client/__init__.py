"""Client: a server's calls as methods, with deadlines, typed errors, and retries where safe.

    with attar.Client("127.0.0.1:8001") as client:
        client.embed(["what is a monad?"]).vectors

Every method of `Client` sends one of `attar.client.calls`, with the same arguments; `AsyncClient`
has the same methods, awaited. Within its deadline a call is sent again when sending it twice does
no harm: create, delete and fit are sent once. A call that finds no server is sent up to `ATTEMPTS`
times; one that a busy server refuses, until the server answers it or the deadline leaves no time
for another attempt, which raises the refusal. The client waits as long as the server says, and
longer after each refusal, up to `LONGEST_PAUSE_S` (both in `attar.client.retries`). Every call
carries its own request id, which is in the server's log and, where a server may have seen the call,
in the notes of its error.
"""

from attar.errors import MissingExtra

try:
    from .awaiting import AsyncClient
    from .blocking import Client
    from .connection import Tls
except ImportError as error:
    what = "attar.client"
    raise MissingExtra(what, "client") from error

__all__ = ["AsyncClient", "Client", "Tls"]
