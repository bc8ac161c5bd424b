"""Settings: one table, and a flag, an environment variable and a TOML key for each row of it.

`--max-items 100`, `ATTAR_MAX_ITEMS=100` and `max_items = 100` in the file that `--config` names are
one setting; a flag wins over the environment, and the environment over the file.
"""

import argparse
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from attar.errors import InvalidInput
from attar.providers import Provider

PREFIX = "ATTAR_"
OFF = "off"
_LINK = re.compile(
    r"ATTAR(_\w+)?(_SERVICE_(HOST|PORT(_\w+)?)|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets in every pod for a service called attar, or attar-anything."""
_LINKED_PORT = re.compile(r"ATTAR(_\w+)?_PORT")  # those, where they hold an address
_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?")


class Settings(BaseSettings):
    """Everything that an operator may decide, checked once and then unchangeable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    bundles: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Bundles to serve: folders or zips; in the environment separated as in PATH. "
        "A model has the name in its manifest. Required unless model_repository is "
        "set.",
    )
    model_repository: Path | None = Field(
        None,
        description="Folder of bundles, served as far as they load: NAME.attar, NAME.zip or "
        "NAME/VERSION. Models/Index says why one does not serve.",
    )
    watch_s: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between two checks of model_repository for new, changed and removed "
        "bundles. 0: only on Models/Load.",
    )
    require_signature: Path | None = Field(
        None,
        description="PEM file of public keys (Ed25519). Only a bundle that one of them has signed "
        "is served. Read again for each bundle that loads. `attar sign` signs.",
    )
    config: Path | None = Field(None, description="TOML file with any of these keys.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to bind; by default only this machine reaches it. Use another one "
        "with keys and TLS; without keys the server starts there only with "
        "allow_anonymous.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Start at an address that other machines reach, without keys and without "
        "tls_client_ca. Everybody who reaches it may then read and delete every "
        "collection.",
    )
    admin: bool = Field(
        True,
        description="Allow calls that load, unload and switch models, and make and restore "
        "snapshots: with keys, those with the scope admin; without keys, those from "
        "this machine. false: none.",
    )
    port: int = Field(8001, ge=0, le=65535, description="gRPC port. 0 takes a free one.")
    http_port: int | None = Field(
        8000,
        ge=0,
        le=65535,
        description="HTTP port of OpenAI's and KServe's routes, which /docs lists. 0 takes a free "
        "one, which the log names; off opens none.",
    )
    http_read_timeout_s: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds in which a request's head, and then its body, must arrive, and in "
        "which a caller must read some of its answer. A longer time lets idle callers "
        "hold memory.",
    )
    http_keep_alive_s: int = Field(
        75,
        ge=1,
        description="Seconds that a connection may stay open between requests. Make it longer "
        "than that of a proxy in front.",
    )
    max_http_connections: int = Field(
        1024,
        ge=1,
        description="HTTP connections open at a time; one more gets 503 and is closed. One "
        "address has at most as many as are free.",
    )
    cors_allow_origin: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose web pages may call HTTP from a browser, such as "
        "https://app.example, separated by commas; by default none. Their pages can "
        "do whatever their user's address and key can do.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names by which HTTP may be called without keys, such as attar.internal, "
        "separated by commas. Addresses and localhost are always allowed. A web page "
        "can make any other name resolve to this machine, and would read the answers.",
    )
    openai_truncate: bool = Field(
        False,
        description="Whether /v1/embeddings cuts a text that is too long when the request has no "
        "truncate, for clients that cannot send the field; the item says truncated. "
        "false: 400.",
    )
    metrics_port: int | None = Field(
        8002,
        ge=0,
        le=65535,
        description="Port of /metrics, /livez and /readyz. A separate thread answers it, however "
        "busy the server is. 0 takes a free one, which the log names; off opens none.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address of metrics_port; 0.0.0.0 for all addresses. It has no keys and no "
        "TLS.",
    )
    keys_file: Path | None = Field(
        None,
        description="TOML file of the keys that callers must have, with scopes, rates and quotas; "
        "read again when it changes. Without keys everybody who reaches the server may make every "
        "call except those that admin restricts.",
    )
    keys: SecretStr | None = Field(
        None,
        description="More keys, NAME:SCOPE+SCOPE:KEY, separated by spaces. A secret, so there is "
        "no flag.",
    )
    tls_cert: Path | None = Field(
        None,
        description="Certificate chain, PEM. With tls_key it turns on TLS. Both are read again "
        "when they change.",
    )
    tls_key: Path | None = Field(None, description="Private key of the certificate, PEM.")
    tls_client_ca: Path | None = Field(
        None,
        description="Certificate authorities, PEM. A client must then show a certificate of "
        "theirs (mTLS).",
    )
    reflection: bool = Field(
        True,
        description="Whether gRPC reflection answers. With keys it needs the scope infer.",
    )
    data_dir: Path = Field(
        Path("attar-data"),
        description="Folder of collections and heads, created if it is missing. One server at a "
        "time.",
    )
    ready_file: Path | None = Field(
        None, description="File that receives the gRPC port, as text, when the server is ready."
    )
    variant: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="Variant to run: of all bundles, such as int8, or of single models, such as "
        "NAME=int8,OTHER=fp32; a table in TOML. By default the fastest recorded one "
        "that this machine supports.",
    )
    provider: Provider | None = Field(
        None,
        description="What runs the graphs: cpu, cuda, tensorrt or openvino. A model does not load "
        "where it is not available. By default the one that the variant requires, "
        "else cpu.",
    )
    device_id: int = Field(0, ge=0, description="CUDA device, for cuda and tensorrt.")
    provider_options: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="Options of the provider, with ONNX Runtime's names, such as "
        "trt_fp16_enable=True; a table in TOML.",
    )
    triton: str | None = Field(
        None,
        min_length=1,
        description="Triton server, host:port of its gRPC, that runs the graphs instead of this "
        "machine. The bundles are still needed here. It has what `attar "
        "export-triton` wrote.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="Threads of one run of a model; by default ONNX Runtime's choice, one per "
        "core. Fewer leave cores for other models.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Processes on the same ports, for when one Python process is the limit. Each "
        "has its own models and queues, a share of the cores as threads, and its own "
        "metrics port, from metrics_port on.",
    )
    allow_token_ids: bool = Field(
        False,
        description="Whether token ids are accepted that the model's tokenizer would not make. "
        "Ids of another tokenizer are then embedded as other text, without an error.",
    )
    max_items: int = Field(
        2048,
        ge=1,
        description="Items in one request. More cost memory and let one caller hold the queue.",
    )
    max_message_bytes: int = Field(
        16 * 2**20,
        ge=1024,
        description="Bytes of one request message. Enough for max_items vectors of 2048 float32.",
    )
    max_item_bytes: int = Field(
        4 * 2**20,
        ge=1,
        description="Bytes of one item, text or array. Enough for an image of 3 x 512 x 512 "
        "float32. A larger item fails before it is tokenised or converted; so does "
        "one with more token ids than the model's max_length.",
    )
    max_answer_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        description="Bytes of one answer's embeddings or probabilities in the requested form (24 "
        "for a number of JSON), computed before any work. Enough for max_items rows "
        "of 1024 numbers as JSON. Token vectors count in float32. Payloads and vectors of "
        "points count when they are read.",
    )
    max_json_values: int = Field(
        2**20 + 2**12,
        ge=64,
        description="Values of one JSON body (numbers, texts, lists, objects), counted before it "
        "is read, because they take up to a hundred times their bytes. Enough for "
        "max_items lists of 512 token ids.",
    )
    max_labels: int = Field(
        512,
        ge=2,
        description="Different labels of one classifier. The work of a fit is items times labels.",
    )
    max_name_characters: int = Field(
        256,
        ge=1,
        description="Characters of a label, and of an id that an answer repeats.",
    )
    max_working_bytes: int = Field(
        192 * 2**20,
        ge=1024,
        description="Bytes of memory for all requests in progress, estimated before each is read. "
        "Beyond it a call is refused and a stream waits.",
    )
    max_batch_tokens: int = Field(
        512,
        ge=1,
        description="Padded tokens in one run of a model (for tensors by limits.cost in the "
        "manifest). The default fits a CPU's caches. More are faster on many cores "
        "and on GPUs, and cost latency and memory.",
    )
    max_queue_items: int = Field(
        8192,
        ge=1,
        description="Items that may wait for one model. Beyond it unary calls are refused and "
        "streams wait. At least max_items.",
    )
    max_queue_tokens: int = Field(
        2**20,
        ge=1,
        description="Tokens that may wait for one model. They limit the waiting time; items alone "
        "do not say how long they are.",
    )
    aging_s: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that a bulk item waits behind interactive ones. Then it counts as an "
        "interactive item that has just arrived, so it is always run.",
    )
    run_timeout_s: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds until a run without an answer is given up. Its callers should retry, "
        "and the model gets a new thread and session. Set it well above the longest "
        "normal run.",
    )
    load_timeout_s: float = Field(
        120.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds to open a bundle and try it with the smallest and the largest item, "
        "in a separate process, and again to open it here. A slower bundle is "
        "refused.",
    )
    load_memory_bytes: int = Field(
        4 * 2**30,
        ge=1024,
        description="Bytes of memory for the process that tries a bundle, plus four times the "
        "bundle's bytes on disk. A bundle that needs more is refused.",
    )
    warm_up_s: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds in which a model must answer the smallest item, and the largest. "
        "Else it does not serve.",
    )
    heartbeat_s: float = Field(
        10.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without an answer after which a model is tried with one item. It is "
        "not ready while it gives none.",
    )
    cache_items: int = Field(
        0,
        ge=0,
        description="Embeddings to keep, the most recently used. 0: none. It helps where the same "
        "items come again, and costs memory.",
    )
    cache_bytes: int = Field(
        256 * 2**20, ge=1, description="Bytes that the cached embeddings may take."
    )
    max_concurrent_requests: int = Field(
        1024,
        ge=1,
        description="Calls in flight. Beyond it a call is refused before any work. One caller (a "
        "key; without keys a gRPC connection, or an address over HTTP) has at most as "
        "many as are free.",
    )
    max_stream_requests: int = Field(
        8,
        ge=1,
        description="Requests of one stream in progress at a time. More keep the queue fuller and "
        "hold more memory.",
    )
    max_streams: int = Field(
        256,
        ge=1,
        description="gRPC streams open at a time, and as many health watches. One caller (a key; "
        "without keys a connection) has at most as many as are free.",
    )
    max_connection_streams: int = Field(
        256,
        ge=1,
        description="Calls of one gRPC connection at a time; a gRPC client holds further calls "
        "back. It also limits how far calls that are started and immediately reset "
        "get ahead of the server. gRPC ends calls above it with UNAVAILABLE.",
    )
    max_untaken_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="Bytes of answers that are being made or that their callers have not read, "
        "counted before they are made. One caller has at most as many as are free. "
        "Beyond it unary calls wait for 5 s and are refused, and streams wait. They "
        "take twice as much memory.",
    )
    grpc_read_timeout_s: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds in which the message of a gRPC call must arrive. Its answer must be "
        "read in the same time plus one second for each 64 KiB. Else the call is "
        "ended.",
    )
    stream_idle_timeout_s: float = Field(
        300.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without a request after which a gRPC stream is ended. A gRPC "
        "connection without a call is closed after that time plus four times "
        "grpc_read_timeout_s.",
    )
    max_search_limit: int = Field(
        1000, ge=1, description="Hits of one query. The work grows with it."
    )
    max_search_hits: int = Field(
        2**17,
        ge=1,
        description="Hits that one call may request: the limit plus the offset of each of its "
        "queries, added up.",
    )
    max_filter_bytes: int = Field(
        2**18, ge=2, description="Bytes of one call's filters, as in the message."
    )
    max_filter_values: int = Field(
        4096, ge=1, description="Values in one call's filters, those in lists and ranges too."
    )
    max_collections: int = Field(
        1000,
        ge=1,
        description="Collections. Each takes a thread, open files, and 6 to 40 MB of mapped files.",
    )
    max_payload_bytes: int = Field(
        2**16, ge=2, description="Bytes of one point's payload, as in the message."
    )
    max_payload_values: int = Field(
        2**17,
        ge=1,
        description="Values in one call's payloads, those in lists and objects too. Values of the "
        "outermost keys are stored a second time, with their key, for filters.",
    )
    max_payload_key_bytes: int = Field(
        256, ge=1, description="Bytes of a key of a payload or a filter."
    )
    max_heads: int = Field(
        100,
        ge=1,
        description="Detectors, and as many classifiers. All are kept in memory; a detector has "
        "most of the embeddings that it was fitted on.",
    )
    max_heads_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        description="Bytes of all detectors and classifiers together, those in served bundles too, "
        "on the disk and as much in memory. Enough for the largest detector of max_fit_bytes. A "
        "bundle whose heads have no room is not served. At start, heads beyond it, in the order of "
        "names, are not served.",
    )
    max_fit_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        description="Bytes of the vectors of a collection that a detector is fitted on: points "
        "times dims times 4. The fit takes twice as much of max_working_bytes.",
    )
    index_after: int = Field(
        20_000,
        ge=0,
        description="Points outside a collection's index after which the index is built in the "
        "background. Until then every vector is compared. 0: only by Optimize.",
    )
    min_free_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="Bytes of the disk of data_dir that writes leave free. With less, writes are "
        "refused, because the engine dies when the disk is full.",
    )
    durability: Literal["synced", "written"] = Field(
        "synced",
        description="What an answered write to a collection survives. synced: a power loss, "
        "because its log is on the disk first. written: the death of every process, "
        "and a power loss about a second later. Heads, snapshots and new collections "
        "are always synced.",
    )
    qdrant_url: str | None = Field(
        None,
        description="HTTP address of a Qdrant cluster that keeps the collections instead of "
        "data_dir, such as https://qdrant:6333. Any number of servers may share it.",
    )
    qdrant_grpc_port: int = Field(6334, ge=1, le=65535, description="gRPC port of that cluster.")
    qdrant_api_key: SecretStr | None = Field(
        None,
        description="Key of that cluster. A secret, so there is no flag. Use https, or the key is "
        "sent in the clear.",
    )
    qdrant_api_key_file: Path | None = Field(
        None, description="File with the key of that cluster, used when the environment has none."
    )
    grace_s: float = Field(
        30.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that accepted calls have after SIGTERM. The orchestrator's own limit "
        "must be longer.",
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="text: lines for people. json: one object a line, for programs."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="info logs the calls that failed, debug every call. What callers send is in "
        "no log.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic names it)
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic names it)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic names it)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the TOML file; nothing else."""
        return init_settings, _EnvironmentSource(settings_cls), _TomlSource(settings_cls)

    @field_validator("bundles", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.split(os.pathsep)) if isinstance(value, str) else value

    @field_validator("http_port", "metrics_port", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == OFF else value

    @field_validator("cors_allow_origin", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if not isinstance(value, str | Sequence):
            return value
        parts = value.split(",") if isinstance(value, str) else value
        origins = tuple(str(origin).strip() for origin in parts)
        if not all(map(_ORIGIN.fullmatch, origins)):
            raise ValueError(
                "an origin is a scheme, a host and a port if it has one, as in https://app.example;"
                " there is no * for all, since any web page could then use this server"
            )
        return origins

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str | Sequence):
            return value
        parts = value.split(",") if isinstance(value, str) else value
        names = tuple(str(name).strip().lower() for name in parts)
        if not all(map(_HOST.fullmatch, names)):
            raise ValueError(
                "a name is that of a host, without scheme and port, as in attar.internal; there is "
                "no * for all, since any web page could then read this server"
            )
        return names

    @field_validator("variant", "provider_options", mode="before")
    @classmethod
    def _pairs(cls, value: object, info: ValidationInfo) -> object:
        """Read `name=value,other=value`; a variant without a name is every model's."""
        if not isinstance(value, str):
            return value
        pairs = [pair.strip().rpartition("=") for pair in value.split(",") if pair.strip()]
        if info.field_name != "variant" and any(not sign for _, sign, _ in pairs):
            raise ValueError("give name=value pairs, separated by commas")
        return {name: chosen for name, _, chosen in pairs}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.bundles and self.model_repository is None:
            raise ValueError(
                f"bundles is missing; name at least one bundle, or set {variable('bundles')}, or "
                "give a model_repository"
            )
        if self.triton is not None and (self.provider is not None or self.variant):
            raise ValueError(
                "triton is set, and runs the graph that was exported to it; take provider and "
                "variant away"
            )
        if self.max_queue_items < self.max_items:
            raise ValueError(
                f"max_queue_items is {self.max_queue_items} and max_items {self.max_items}: a full "
                "request could never be accepted; make max_queue_items the larger"
            )
        for one, other in combinations(("port", "metrics_port", "http_port"), 2):
            if getattr(self, one) and getattr(self, one) == getattr(self, other):
                raise ValueError(
                    f"{one} and {other} are both {getattr(self, one)}; give them different ones"
                )
        first = self.metrics_port or 0  # a free one has no others after it
        theirs = set(range(first + 1, first + self.workers)) if first else set()
        if bad := theirs & {self.port, self.http_port, 65536}:
            raise ValueError(
                f"{self.workers} workers take the ports after metrics_port {self.metrics_port}, "
                f"and {min(bad)} is among them; choose another metrics_port"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                f"tls_cert is {_plain(self.tls_cert)} and tls_key {_plain(self.tls_key)}; "
                "give both or neither"
            )
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key; give them too")
        if self._is_anonymous and not self.allow_anonymous:
            raise ValueError(
                f"host is {self.host}, and there are no keys: everybody who reaches that address "
                "could read and delete every collection. Give keys_file, or tls_client_ca, or bind "
                f"127.0.0.1; to mean it, add {flag('allow_anonymous')} true "
                f"({variable('allow_anonymous')}=true)"
            )
        return self

    @property
    def exposure(self) -> str | None:
        """What everybody who reaches the server's address can do to it; None when that is fine."""
        if self._is_anonymous:
            return (
                "there are no keys, so everybody who reaches this address can read and delete "
                "every collection. Give keys_file, or tls_client_ca with TLS, or bind 127.0.0.1."
            )
        if self.is_local or self.tls_cert:
            return None
        return (
            "there is no TLS, so keys and texts cross the network in the clear. Give tls_cert "
            "and tls_key, or put a proxy in front."
        )

    @property
    def has_keys(self) -> bool:
        """Whether callers must have a key."""
        return self.keys is not None or self.keys_file is not None

    @property
    def _is_anonymous(self) -> bool:
        """Whether others than this machine's callers reach the server, and need nothing for it."""
        return not (self.is_local or self.has_keys or self.tls_client_ca)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class _EnvironmentSource(EnvSettingsSource):
    """The environment, but for what an orchestrator put there."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        links = {name.lower() for name in service_links(os.environ)}
        self.env_vars = {name: of for name, of in self.env_vars.items() if name not in links}


class _TomlSource(PydanticBaseSettingsSource):
    """The file that `config` names, if any."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: the whole file is one mapping."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        if (path := self.current_state.get("config")) is None:
            return {}
        try:
            values = tomllib.loads(Path(path).read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"cannot read the settings file {path}: {error}") from error
        _refuse_unknown(values, of=f"key in {path}", spell=str)
        _refuse_empty(values, spell=str)
        return values


def flag(name: str) -> str:
    """`max_items` as a flag: `--max-items`."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """`max_items` as an environment variable: `ATTAR_MAX_ITEMS`."""
    return f"{PREFIX}{name.upper()}"


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting must stay out of logs, and of command lines, which every user can read."""
    return field.annotation == SecretStr | None


def read(arguments: Sequence[str]) -> Settings:
    """Settings from command-line arguments, the environment and the TOML file.

    Raises InvalidInput for an unknown name (with the nearest known one) and for each bad value;
    `--help` prints every setting and exits.
    """
    parser = argparse.ArgumentParser(
        "attar serve", allow_abbrev=False, description="Serve bundles."
    )
    for name, field in Settings.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        if name == "bundles":
            parser.add_argument(
                name, nargs="*", metavar="BUNDLE", help=text, default=argparse.SUPPRESS
            )
        elif not is_secret(field):
            shown = "" if field.default in (None, {}) else f" [{field.default}]"
            parser.add_argument(
                flag(name), metavar="VALUE", help=f"{text}{shown}", default=argparse.SUPPRESS
            )
    known, unknown = parser.parse_known_args(arguments)
    _refuse_secrets(arguments)
    _refuse_unknown((u.split("=")[0] for u in unknown), of="flag", spell=flag)
    ours = {name for name in os.environ if name.startswith(PREFIX)}
    unread = sorted(ours.difference(service_links(os.environ)))
    _refuse_unknown(unread, of="environment variable", spell=variable)
    flags = {name: value for name, value in vars(known).items() if value != []}
    _refuse_empty(flags, spell=flag)
    values = {name: os.environ.get(variable(name)) for name in Settings.model_fields}
    _refuse_empty(values, spell=variable)
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise InvalidInput("\n".join(map(_explain, error.errors()))) from error


def service_links(environment: Mapping[str, str]) -> list[str]:
    """Name the variables that speak of a service called attar and are no settings.

    Kubernetes, and Docker's links, make them from the service's name: `ATTAR_SERVICE_HOST`, and
    `ATTAR_PORT=tcp://10.0.0.1:8001`, which has the name of a setting.
    """
    return sorted(
        name
        for name, value in environment.items()
        if _LINK.fullmatch(name) or (_LINKED_PORT.fullmatch(name) and _ADDRESS.match(value))
    )


def describe(settings: Settings) -> str:
    """One `name = value` line per setting, as printed at start."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        is_off = value is None and field.default is not None
        lines.append(f"{name} = {OFF if is_off else _plain(value)}")
    return "\n".join(lines)


def table() -> str:
    """Every setting as a Markdown table; docs/operating.md holds it."""
    rows = [
        "| flag | environment | TOML | default | what it is |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = f"`{_plain(field.default)}`"
        spelled = "`BUNDLE...`" if name == "bundles" else f"`{flag(name)}`"
        spelled = "none" if is_secret(field) else spelled
        rows.append(
            f"| {spelled} | `{variable(name)}` | `{name}` | {default} | {field.description} |"
        )
    return "\n".join(rows)


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "unset"
    if isinstance(value, dict):
        return ",".join(f"{name}={of}" if name else of for name, of in value.items()) or "unset"
    return "unset" if value is None else str(value)


def _refuse_secrets(arguments: Sequence[str]) -> None:
    values = {argument.split("=")[0] for argument in arguments}
    for name, field in Settings.model_fields.items():
        if is_secret(field) and flag(name) in values:
            raise InvalidInput(
                f"{flag(name)} would put a secret where every user of this host can read it; "
                f"set {variable(name)}, or name a file with {flag(name)}-file"
            )


def _refuse_unknown(names: Iterable[str], *, of: str, spell: Any) -> None:
    known = [spell(name) for name in Settings.model_fields]
    for name in names:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise InvalidInput(f"unknown {of} {name!r}; the nearest known one is {near}")


def _refuse_empty(values: Mapping[str, object], *, spell: Callable[[str], str]) -> None:
    """Refuse what would be this folder, every address, or no keys at all."""
    for name, value in values.items():
        if value == "" or (isinstance(value, list) and "" in value):
            spelled = "BUNDLE" if name == "bundles" and spell is flag else spell(name)
            raise InvalidInput(f"{spelled} is empty; give it a value, or take it away")


def _explain(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    spelled = "BUNDLE" if name == "bundles" else flag(name)
    if is_secret(Settings.model_fields[name]):
        return f"{name} ({variable(name)}): {message}"
    return f"{name} ({spelled}, {variable(name)}): {message}; got {error['input']!r}"
