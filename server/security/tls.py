"""TLS: a certificate, its key and the clients' authorities, read again when their files change.

Each handshake looks whether a file has changed, so a renewed certificate is shown to the next
caller and nobody is cut off. Files that do not fit together, as when only one of two has been
replaced yet, are left until they do.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from attar.errors import InvalidInput

from ..settings import Settings

log = logging.getLogger("attar.server")


@dataclass(frozen=True, slots=True)
class Files:
    """Where the PEM files are."""

    cert: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One reading of files that fit together, for either protocol."""

    state: tuple[tuple[int, int, int], ...]
    grpc: grpc.ServerCertificateConfiguration
    http: ssl.SSLContext


class Certificate:
    """What a server shows, and whom it asks for a certificate."""

    def __init__(self, files: Files) -> None:
        """Read the files; raises InvalidInput for one that is no good."""
        self._files = files
        self._pair = _read(files)

    def for_grpc(self) -> grpc.ServerCredentials:
        """Credentials for `add_secure_port`."""
        shown = self._pair

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if (now := self._current()) is shown:
                return None
            shown = now
            return now.grpc

        return grpc.dynamic_ssl_server_credentials(
            shown.grpc,
            changed,  # type: ignore[arg-type]  # grpc takes None for "as it was"; the stubs forget
            require_client_authentication=self._files.client_ca is not None,
        )

    def for_http(self) -> ssl.SSLContext:
        """A context for asyncio's servers."""

        def renew(connection: ssl.SSLObject, _name: str | None, _listening: ssl.SSLContext) -> None:
            connection.context = self._current().http

        listening = _read(self._files).http
        listening.sni_callback = renew  # called by clients that send no name, too
        return listening

    def _current(self) -> Pair:
        """The pair as it is on disk, or the last one that was whole."""
        try:
            if _state(self._files) != self._pair.state:
                self._pair = _read(self._files)
                log.info("read the certificate %s again", self._files.cert)
        except InvalidInput as error:
            log.warning("the certificate stays as it was: %s", error)
        return self._pair


def certificate(settings: Settings) -> Certificate | None:
    """The certificate that the settings name; None when they name none."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(Files(settings.tls_cert, settings.tls_key, settings.tls_client_ca))


def _read(files: Files) -> Pair:
    state = _state(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key that needs a password fails, where None would ask the terminal for one.
        context.load_cert_chain(files.cert, files.key, password="")
        pair = (files.key.read_bytes(), files.cert.read_bytes())
    except OSError as error:
        raise InvalidInput(
            f"{files.cert} and {files.key} are not a certificate chain and its key, both PEM and "
            f"without a password: {error.strerror or error}"
        ) from None
    authorities = None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
            authorities = files.client_ca.read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"{files.client_ca} holds no certificates, PEM: {error.strerror or error}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    if _state(files) != state:
        raise InvalidInput(f"{files.cert} and its key changed while they were read; try again")
    return Pair(state, grpc.ssl_server_certificate_configuration([pair], authorities), context)


def _state(files: Files) -> tuple[tuple[int, int, int], ...]:
    states = []
    for path in (files.cert, files.key, files.client_ca):
        if path is not None:
            try:
                stat = path.stat()
            except OSError as error:
                raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
            states.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(states)
