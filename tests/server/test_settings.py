"""Settings: one table, three spellings, and nothing unknown."""

from pathlib import Path

import pytest

from attar.errors import InvalidInput
from attar.server import settings
from attar.server.settings import Settings, describe, flag, is_secret, read, variable

DOCS = Path(__file__).parents[2] / "docs" / "operating.md"


def test_a_bundle_is_all_that_must_be_said() -> None:
    found = read(["x.attar"])

    assert found.bundles == (Path("x.attar"),)
    assert (found.host, found.port, found.metrics_port) == ("127.0.0.1", 8001, 8002)
    assert found.is_local


def test_flags_win_over_the_environment_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "attar.toml"
    file.write_text(
        'bundles = ["file.attar"]\nport = 1\nmax_items = 2\ngrace_s = 3.5\n', "utf-8-sig"
    )
    monkeypatch.setenv("ATTAR_PORT", "10")
    monkeypatch.setenv("ATTAR_MAX_ITEMS", "20")

    found = read(["--config", str(file), "--port=100"])

    assert (found.port, found.max_items, found.grace_s) == (100, 20, 3.5)
    assert found.bundles == (Path("file.attar"),)


def test_the_environment_lists_bundles_as_path_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_BUNDLES", "a.attar:b.attar")

    assert read([]).bundles == (Path("a.attar"), Path("b.attar"))


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if not is_secret(field)]
)
def test_every_setting_has_one_name_in_three_spellings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"host": "127.0.0.2", "config": str(tmp_path / "other.toml"), "reflection": "False"}
    words |= {"bundles": "other", "variant": "other", "log_format": "json", "log_level": "debug"}
    words |= {"durability": "written"}
    words |= {"provider": "cuda", "provider_options": "a=b,c=d", "openai_truncate": "True"}
    words |= {"cors_allow_origin": "https://app.example", "allow_token_ids": "True"}
    words |= {"allow_anonymous": "True", "admin": "False", "allowed_hosts": "attar.internal"}
    value = words.get(name, "4000")
    (tmp_path / "other.toml").write_text("", "utf-8")
    if name.startswith("tls_"):  # they come together
        for other in ("tls_cert", "tls_key"):
            monkeypatch.setenv(variable(other), value)
    arguments = [value] if name == "bundles" else ["x.attar", flag(name), value]
    by_flag = read(arguments)

    monkeypatch.setenv(variable(name), value)
    by_environment = read([] if name == "bundles" else ["x.attar"])

    assert getattr(by_flag, name) == getattr(by_environment, name)
    (line,) = (one for one in describe(by_flag).splitlines() if one.startswith(f"{name} = "))
    assert line.replace(".0", "") == f"{name} = {value}".replace(".0", "")


@pytest.mark.parametrize("name", ["http_port", "metrics_port"])
def test_off_opens_no_port_and_0_a_free_one(name: str, tmp_path: Path) -> None:
    file = tmp_path / "attar.toml"
    file.write_text(f'{name} = "off"\n', "utf-8")

    by_flag = read(["x.attar", flag(name), "off"])
    by_file = read(["x.attar", "--config", str(file)])
    free = read(["x.attar", flag(name), "0", "--port=0"])

    assert getattr(by_flag, name) is getattr(by_file, name) is None
    assert f"{name} = off" in describe(by_flag).splitlines()
    assert getattr(free, name) == 0
    with pytest.raises(InvalidInput, match=rf"{name} \(.*valid integer.*got 'none'"):
        read(["x.attar", flag(name), "none"])


@pytest.mark.parametrize(
    "origin", ["*", "app.example", "https://app.example/", "null", "https://a,*"]
)
def test_what_is_no_origin_lets_no_web_page_in(origin: str) -> None:
    with pytest.raises(InvalidInput, match="an origin is a scheme, a host and a port"):
        read(["x.attar", "--cors-allow-origin", origin])


@pytest.mark.parametrize("name", ["*", "http://attar.internal", "attar:8000", "a b", "a,,b", ".a"])
def test_what_is_no_host_name_lets_no_web_page_read(name: str) -> None:
    with pytest.raises(InvalidInput, match="a name is that of a host, without scheme and port"):
        read(["x.attar", "--allowed-hosts", name])


def test_a_variant_is_every_model_s_or_one_s(tmp_path: Path) -> None:
    file = tmp_path / "attar.toml"
    file.write_text('[variant]\ntiny = "int8"\n', "utf-8")

    assert read(["x.attar", "--variant", "int8"]).variant == {"": "int8"}
    assert read(["x.attar", "--variant", "a=int8,b=fp32"]).variant == {"a": "int8", "b": "fp32"}
    assert read(["x.attar", "--config", str(file)]).variant == {"tiny": "int8"}


def test_a_repository_of_models_does_instead_of_bundles(tmp_path: Path) -> None:
    found = read(["--model-repository", str(tmp_path)])

    assert (found.bundles, found.model_repository) == ((), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "environment", "near"),
    [
        (["x.attar", "--prot", "1"], {}, "--port"),
        (["x.attar", "--max-item=1"], {}, "--max-items"),
        (["x.attar"], {"ATTAR_PROT": "1"}, "ATTAR_PORT"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    arguments: list[str],
    environment: dict[str, str],
    near: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=f"the nearest known one is {near}$"):
        read(arguments)


def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = tmp_path / "attar.toml"
    file.write_text("prot = 1\n", "utf-8")

    with pytest.raises(InvalidInput, match=r"unknown key in .*attar.toml 'prot'.* is port$"):
        read(["x.attar", "--config", str(file)])


@pytest.mark.parametrize("content", [None, b"port = ", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "attar.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(InvalidInput, match=r"cannot read the settings file .*attar\.toml"):
        read(["x.attar", "--config", str(file)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "bundles is missing"),
        (["x.attar", "--provider", "tpu"], r"--provider, .*'cpu', 'cuda'.*; got 'tpu'"),
        (["x.attar", "--provider-options", "fast"], "give name=value pairs"),
        (["x.attar", "--triton", "gpu:8001", "--variant", "int8"], "take provider and variant"),
        (["x.attar", "--port", "70000"], r"--port, ATTAR_PORT.*65535; got '70000'"),
        (["x.attar", "--max-items", "many"], r"--max-items, .*valid integer.*; got 'many'"),
        (["x.attar", "--grace-s", "nan"], r"--grace-s, .*finite"),
        (["x.attar", "--max-queue-items", "1"], "a full request could never be accepted"),
        (["x.attar", "--port", "8002"], "port and metrics_port are both 8002"),
        (["x.attar", "--tls-cert", "c.pem"], "tls_cert is c.pem and tls_key unset; give both"),
        (["x.attar", "--tls-client-ca", "c.pem"], "tls_client_ca needs tls_cert and tls_key"),
        (["x.attar", "--log-level", "loud"], "--log-level, .*'debug'.*; got 'loud'"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_the_value(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(arguments)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("me", False)],
)
def test_only_loopback_is_local(host: str, local: bool) -> None:
    assert read(["x.attar", "--host", host, *ANYBODY]).is_local is local


@pytest.mark.parametrize("arguments", [["--keys", "a:infer:k"], ["--keys=a:infer:k"]])
def test_a_secret_is_refused_on_the_command_line(arguments: list[str]) -> None:
    with pytest.raises(InvalidInput, match="ATTAR_KEYS, or name a file with --keys-file") as error:
        read(["x.attar", *arguments])
    assert "a:infer:k" not in str(error.value)


def test_a_secret_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_KEYS", "a:infer:0123456789abcdef")
    found = read(["x.attar"])

    assert found.keys is not None
    assert found.keys.get_secret_value() == "a:infer:0123456789abcdef"
    assert "0123456789abcdef" not in describe(found) + repr(found)


def test_a_bad_secret_is_refused_unquoted(tmp_path: Path) -> None:
    (file := tmp_path / "attar.toml").write_text("keys = 123456789\n", "utf-8")

    with pytest.raises(InvalidInput, match=r"keys \(ATTAR_KEYS\): .*valid string") as refused:
        read(["x.attar", "--config", str(file)])
    assert "123456789" not in str(refused.value)


ANYBODY = ("--allow-anonymous=true",)
TLS = ("--tls-cert=c.pem", "--tls-key=k.pem")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ANYBODY, "there are no keys"),
        ((*TLS, *ANYBODY), "there are no keys"),
        (("--keys-file=keys.toml",), "there is no TLS"),
        ((*TLS, "--keys-file=keys.toml"), None),
        ((*TLS, "--tls-client-ca=ca.pem"), None),
    ],
)
def test_an_address_that_others_reach_is_exposed_without_keys_and_tls(
    arguments: tuple[str, ...], message: str | None
) -> None:
    found = read(["x.attar", "--host=0.0.0.0", *arguments])

    assert (found.exposure or "").startswith(message or "")
    assert (found.exposure is None) == (message is None)
    assert read(["x.attar", *arguments]).exposure is None


@pytest.mark.parametrize("arguments", [(), TLS, ("--allow-anonymous=false",)])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "attar.internal"])
def test_an_address_that_others_reach_needs_keys_or_to_be_meant(
    arguments: tuple[str, ...], host: str
) -> None:
    with pytest.raises(InvalidInput, match=f"host is {host}, .* add --allow-anonymous true"):
        read(["x.attar", "--host", host, *arguments])


def test_settings_print_themselves_one_a_line() -> None:
    lines = describe(read(["a.attar", "b.attar"])).splitlines()

    assert len(lines) == len(Settings.model_fields)
    assert lines[0] == "bundles = a.attar b.attar"
    assert "variant = unset" in lines


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_documentation_has_the_settings_table() -> None:
    assert settings.table() in DOCS.read_text("utf-8"), settings.table()
