"""HTTP in operation: keys, TLS, callers who leave, and an end that loses nothing."""

import contextlib
import json
import signal
import socket
import ssl
import time
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trustme

from attar.server.rest.routes import ROUTES
from attar.server.security.access import SCOPES
from attar.server.settings import Settings
from benchmarks.support.servers import free_port, process, serving, settings

from ...support.api_keys import ADMIN, READER, SLOW, write_keys

BODY = json.dumps({"model": "tiny", "input": "the cat"}).encode()
HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
)


def keyed(bundle: Path, folder: Path, **changes: Any) -> Settings:
    ours = {"data_dir": folder / "data", "http_port": free_port()}
    chosen = {**ours, "keys_file": write_keys(folder), **changes}
    return settings(bundle, **chosen)


def test_keys_open_routes_by_their_scopes_and_probes_need_none(
    bundle_path: Path, tmp_path: Path
) -> None:
    chosen = keyed(bundle_path, tmp_path)
    url = f"http://127.0.0.1:{chosen.http_port}"
    load = "/v2/repository/models/tiny/load"
    with serving(chosen), httpx.Client(base_url=url) as web:
        nobody = web.get("/v1/models")
        wrong = web.post("/v2/models/tiny/infer", headers={"authorization": "Bearer none"})
        reader = web.post(load, headers={"authorization": f"Bearer {READER}"})
        admin = web.post(load, headers={"authorization": f"Bearer {ADMIN}"})
        probes = {web.get(path).status_code for path in ("/livez", "/readyz", "/v2/health/live")}
        with openai.OpenAI(base_url=f"{url}/v1", api_key=READER, max_retries=0) as client:
            assert len(client.embeddings.create(model="tiny", input="cat").data) == 1
        with openai.OpenAI(base_url=f"{url}/v1", api_key=SLOW, max_retries=0) as client:
            client.models.list()
            with pytest.raises(openai.RateLimitError) as limited:
                client.models.list()

    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert nobody.json()["error"]["type"] == "authentication_error"
    assert (wrong.status_code, set(wrong.json())) == (401, {"error"})
    assert (reader.status_code, admin.status_code, probes) == (403, 200, {200})
    assert int(limited.value.response.headers["retry-after"]) >= 1


def test_tls_covers_http_and_a_client_certificate_can_be_required(
    bundle_path: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    made, mine = authority.issue_cert("127.0.0.1"), authority.issue_cert("me@example.org")
    made.cert_chain_pems[0].write_to_path(str(cert))
    made.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    nobody, somebody = ssl.create_default_context(), ssl.create_default_context()
    for context in (nobody, somebody):
        authority.configure_trust(context)
    mine.configure_cert(somebody)
    chosen = keyed(bundle_path, tmp_path, tls_cert=cert, tls_key=key, tls_client_ca=ca)
    url = f"https://127.0.0.1:{chosen.http_port}/livez"
    with serving(chosen):
        assert httpx.get(url, verify=somebody).json() == {"status": "live"}
        with pytest.raises(httpx.HTTPError):
            httpx.get(url, verify=nobody)


def test_sigterm_answers_what_was_accepted_and_sends_the_rest_elsewhere(
    bundle_path: Path, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ["--port=0", "--metrics-port=off", f"--http-port={port}", "--threads=1"]
    arguments += [f"--data-dir={tmp_path / 'data'}", str(bundle_path)]
    with (
        process(*arguments, ready_file=tmp_path / "ready") as (server, _),
        socket.create_connection(("127.0.0.1", port), timeout=20) as accepted,
    ):
        accepted.sendall(HEAD + BODY[:5])
        httpx.get(f"{url}/livez")  # by then what was sent before is read
        server.send_signal(signal.SIGTERM)
        while (ready := httpx.get(f"{url}/readyz")).status_code == 200:
            time.sleep(0.02)
        live = httpx.get(f"{url}/livez")
        refused = httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", "input": "cat"})
        accepted.sendall(BODY[5:])
        answer = accepted.recv(65536)
        assert server.wait(timeout=20) == 0

    assert (ready.status_code, live.status_code, refused.status_code) == (503, 200, 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "server_error"
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_caller_who_leaves_is_counted_as_cancelled(bundle_path: Path, tmp_path: Path) -> None:
    chosen = keyed(bundle_path, tmp_path, keys_file=None, metrics_port=free_port())
    series = 'attar_requests_total{outcome="CANCELLED",rpc="POST /v1/embeddings"}'
    with serving(chosen):
        with socket.create_connection(("127.0.0.1", chosen.http_port), timeout=20) as leaving:
            leaving.sendall(HEAD + BODY[:5])
        deadline = time.monotonic() + 20
        found = ""
        while f"{series} 1.0" not in found and time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{chosen.metrics_port}/metrics") as page,
            ):
                found = page.read().decode()

    assert f"{series} 1.0" in found


def test_only_probes_need_no_key() -> None:
    free = {route.path for route in ROUTES if route.scope is None}

    assert {route.scope for route in ROUTES} <= {None, *SCOPES}
    assert {path.rpartition("/")[2] for path in free} == {
        *("livez", "readyz", "health", "live", "ready"),
    }
