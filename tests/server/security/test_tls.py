"""TLS: who may listen in, who may call, and a certificate that is renewed while calls go on."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import attar
from attar import AsyncClient, Client, Tls
from attar.errors import InvalidInput, Unavailable
from attar.server.security.tls import Certificate, Files, certificate
from attar.server.settings import Settings
from benchmarks.support.servers import serving, settings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def issue(authority: trustme.CA, folder: Path, *names: str) -> tuple[Path, Path]:
    """Write a certificate and its key; give their paths."""
    folder.mkdir(exist_ok=True)
    made = authority.issue_cert(*names)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(key))
    return cert, key


def secured(
    bundle: Path, tmp_path: Path, authority: trustme.CA, client_ca: Path | None = None
) -> Settings:
    cert, key = issue(authority, tmp_path / "server", "127.0.0.1")
    return settings(bundle, data_dir=tmp_path, tls_cert=cert, tls_key=key, tls_client_ca=client_ca)


def test_a_call_by_tls_is_answered_and_one_in_the_clear_is_not(
    bundle_path: Path, tmp_path: Path, authority: trustme.CA, ca: Path
) -> None:
    with serving(secured(bundle_path, tmp_path, authority)) as target:
        with Client(target, tls=Tls(ca=ca)) as client:
            assert len(client.embed(["the cat"])) == 1
        with Client(target) as client, pytest.raises(Unavailable):
            client.info(deadline_s=1)


async def test_the_async_client_speaks_tls_too(
    bundle_path: Path, tmp_path: Path, authority: trustme.CA, ca: Path
) -> None:
    with serving(secured(bundle_path, tmp_path, authority)) as target:
        async with AsyncClient(target, tls=Tls(ca=ca)) as client:
            assert (await client.info()).models


def test_a_server_of_another_authority_is_not_trusted(
    bundle_path: Path, tmp_path: Path, authority: trustme.CA
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with (
        serving(secured(bundle_path, tmp_path, authority)) as target,
        Client(target, tls=Tls(ca=other)) as client,
        pytest.raises(Unavailable),
    ):
        client.info(deadline_s=1)


def test_a_server_that_asks_for_certificates_answers_only_those_who_show_one(
    bundle_path: Path, tmp_path: Path, authority: trustme.CA, ca: Path
) -> None:
    cert, key = issue(authority, tmp_path / "client", "caller.example")
    stranger, strange_key = issue(trustme.CA(), tmp_path / "stranger", "caller.example")
    with serving(secured(bundle_path, tmp_path, authority, client_ca=ca)) as target:
        with Client(target, tls=Tls(ca=ca, cert=cert, key=key)) as client:
            assert client.info().models
        for tls in (Tls(ca=ca), Tls(ca=ca, cert=stranger, key=strange_key)):
            with Client(target, tls=tls) as client, pytest.raises(Unavailable):
                client.info(deadline_s=1)


def test_a_renewed_certificate_is_shown_to_the_next_caller_and_cuts_nobody_off(
    bundle_path: Path, tmp_path: Path, authority: trustme.CA, ca: Path
) -> None:
    later = trustme.CA()
    later_ca = tmp_path / "later.pem"
    later.cert_pem.write_to_path(str(later_ca))
    chosen = secured(bundle_path, tmp_path, authority)
    with serving(chosen) as target, Client(target, tls=Tls(ca=ca)) as before:
        assert before.info().models

        issue(later, tmp_path / "server", "127.0.0.1")

        with Client(target, tls=Tls(ca=later_ca)) as after:
            assert after.info().models
        assert before.info().models


def test_half_a_renewal_leaves_the_certificate_as_it_was(
    bundle_path: Path, tmp_path: Path, authority: trustme.CA, ca: Path
) -> None:
    chosen = secured(bundle_path, tmp_path, authority)
    with serving(chosen) as target:
        fresh, _ = issue(authority, tmp_path / "fresh", "127.0.0.1")
        (tmp_path / "server" / "cert.pem").write_bytes(fresh.read_bytes())

        with Client(target, tls=Tls(ca=ca)) as client:
            assert client.info().models


async def shown(port: int, trusted: ssl.SSLContext) -> bytes | None:
    """Give the certificate that a server shows."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
    try:
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_context_for_http_renews_its_certificate_too(
    tmp_path: Path, authority: trustme.CA
) -> None:
    cert, key = issue(authority, tmp_path / "server", "127.0.0.1")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = Certificate(Files(cert, key, None)).for_http()
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        first, again = await shown(port, trusted), await shown(port, trusted)
        issue(authority, tmp_path / "server", "127.0.0.1")
        renewed = await shown(port, trusted)

    assert first == again
    assert first != renewed


@pytest.mark.parametrize("spoil", ["missing", "not PEM", "another key", "password"])
def test_a_pair_that_does_not_fit_is_refused_by_name(
    spoil: str, tmp_path: Path, authority: trustme.CA
) -> None:
    cert, key = issue(authority, tmp_path / "server", "127.0.0.1")
    match spoil:
        case "missing":
            key.unlink()
        case "not PEM":
            cert.write_text("not PEM", "utf-8")
        case "another key":
            key = issue(authority, tmp_path / "other", "127.0.0.1")[1]
        case _:
            from_password = serialization.BestAvailableEncryption(b"word")
            locked = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, from_password
            )
            key.write_bytes(locked)

    with pytest.raises(InvalidInput, match=str(key if spoil == "missing" else cert)):
        Certificate(Files(cert, key, None))


def test_authorities_that_are_none_are_refused(tmp_path: Path, authority: trustme.CA) -> None:
    cert, key = issue(authority, tmp_path / "server", "127.0.0.1")
    (empty := tmp_path / "empty.pem").write_text("", "utf-8")

    with pytest.raises(InvalidInput, match=r"empty\.pem holds no certificates"):
        Certificate(Files(cert, key, empty))


def test_without_settings_there_is_no_certificate(tmp_path: Path) -> None:
    assert certificate(settings(Path("x.attar"), data_dir=tmp_path)) is None


def test_a_client_says_which_file_it_cannot_read(tmp_path: Path, ca: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*nowhere\.pem"):
        Client("localhost:1", tls=Tls(ca=tmp_path / "nowhere.pem"))
    with pytest.raises(InvalidInput, match="give both or neither"):
        attar.Client("localhost:1", tls=Tls(ca=ca, cert=ca))
