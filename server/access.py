"""Access: which key may call what, how often and how much.

Keys come from the file that `keys_file` names, read again when it changes, or from the environment
(`ATTAR_KEYS`); never from a command line, which every user of the host can read. Only their
SHA-256 is kept. Without any key everybody may do everything.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attar.errors import InvalidInput, PermissionDenied, RateLimited, Unauthenticated

log = logging.getLogger("attar.server")

Scope = Literal["infer", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
MIN_KEY: Final = 16  # characters; `openssl rand -hex 32` gives 64
CHECK_FILE_EVERY_S: Final = 1.0
_READABLE_BY_ALL: Final = 0o004
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Key(BaseModel):
    """One caller's key: its name for logs, what it may do, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: frozenset[Scope] = Field(min_length=1)
    requests_per_s: _Rate | None = None
    items_per_s: _Rate | None = None
    items_per_day: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _digest(cls, given: Any) -> Any:
        """Take the key itself in place of its digest."""
        if not isinstance(given, Mapping) or "key" not in given:
            return given
        rest = dict(given)
        key = rest.pop("key")
        if "sha256" in rest:
            raise ValueError("has both key and sha256; give one of them")
        if not isinstance(key, str) or not re.fullmatch(rf"[!-~]{{{MIN_KEY},}}", key):
            raise ValueError(
                f"key is not {MIN_KEY} or more printable ASCII characters without spaces; "
                "`openssl rand -hex 32` makes one"
            )
        return {**rest, "sha256": hashlib.sha256(key.encode()).hexdigest()}


ANYBODY: Final = Key(name="anybody", sha256="0" * 64, scopes=frozenset(SCOPES))


@dataclass(slots=True)
class Bucket:
    """A token bucket that holds one second's worth, or one, whichever is more.

    What is larger than the bucket passes when it is full, and leaves it in debt.
    """

    per_s: float
    level: float = field(init=False)
    filled: float = 0.0

    def __post_init__(self) -> None:
        """Begin full."""
        self.level = self.size

    @property
    def size(self) -> float:
        """What it holds at most."""
        return max(1.0, self.per_s)

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` may be taken; 0 when it may be now."""
        self.level = min(self.size, self.level + (now - self.filled) * self.per_s)
        self.filled = now
        return max(0.0, (min(amount, self.size) - self.level) / self.per_s)


@dataclass(slots=True)
class Allowance:
    """What a key has used of its limits."""

    key: Key
    requests: Bucket | None = field(init=False)
    items: Bucket | None = field(init=False)
    day: str = ""
    today: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing used."""
        key = self.key
        self.requests = Bucket(key.requests_per_s) if key.requests_per_s else None
        self.items = Bucket(key.items_per_s) if key.items_per_s else None

    def take_request(self, now: float) -> None:
        """Use one request, or raise RateLimited."""
        if self.requests is not None:
            self._take(self.requests, 1, now, "requests")

    def take_items(self, count: int, now: float, clock: datetime) -> None:
        """Use items, or raise RateLimited and use none."""
        quota = self.key.items_per_day
        if quota is not None:
            if (day := clock.date().isoformat()) != self.day:
                self.day, self.today = day, 0
            if self.today + count > quota:
                midnight = datetime.combine(clock.date() + timedelta(days=1), datetime.min.time())
                raise RateLimited(
                    f"key {self.key.name} has used {self.today} of {quota} items a day, and this "
                    f"request has {count}; the day ends at 00:00 UTC",
                    (midnight.replace(tzinfo=UTC) - clock).total_seconds(),
                )
        if self.items is not None:
            self._take(self.items, count, now, "items")
        self.today += count

    def _take(self, bucket: Bucket, amount: int, now: float, what: str) -> None:
        if (wait := bucket.wait(amount, now)) > 0:
            raise RateLimited(
                f"key {self.key.name} may send {bucket.per_s:g} {what} a second; "
                f"retry in {wait:.3g} s",
                wait,
            )
        bucket.level -= amount


class Access:
    """The keys of one server and what each has used."""

    def __init__(
        self,
        keys: Iterable[Key] = (),
        *,
        file: Path | None = None,
        admin: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `keys` and those of `file`; raises InvalidInput when it cannot be read.

        Without `admin` nobody may make the calls of that scope.
        """
        self._fixed = tuple(keys)
        self._file = file
        self._admin = admin
        self._now = now
        self._seen = (0, 0, 0)
        self._unknown = 0
        self._warned = now() - 1.0
        self._checked = now()
        self._allowances: dict[str, Allowance] = {}
        self._keep(self._fixed)
        if file is not None:
            self._seen = _state(file)
            self._keep((*self._fixed, *read_keys(file)))

    @property
    def open(self) -> bool:
        """Whether everybody may do everything, for lack of any way to have a key."""
        return not self._fixed and self._file is None

    def check(self, token: str | None, scope: Scope, *, peer: str) -> Key:
        """The key that `token` is, which must have `scope` and a request left.

        Raises Unauthenticated, PermissionDenied or RateLimited; `peer` is the address of who calls.
        Without keys the scope `admin` is that of callers on this machine.
        """
        if scope == "admin" and not self._admin:
            raise PermissionDenied("this call changes the server itself, and admin is off here")
        if self.open:
            if scope == "admin" and not is_local(peer):
                raise PermissionDenied(
                    "this call changes the server itself, and comes from another machine; a server "
                    "without keys takes it from its own machine only"
                )
            return ANYBODY
        self._refresh()
        if not token:
            raise Unauthenticated("the call has no key; send `authorization: Bearer KEY`")
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for allowance in self._allowances.values():  # all of them, so that time tells nothing
            if hmac.compare_digest(allowance.key.sha256, given):
                found = allowance
        if found is None:
            self._warn(peer)
            raise Unauthenticated("the key is not one that this server knows; check it")
        if scope not in found.key.scopes:
            has = ", ".join(sorted(found.key.scopes))
            raise PermissionDenied(
                f"key {found.key.name} has the scope {has}, and this call needs {scope}"
            )
        found.take_request(self._now())
        return found.key

    def take(self, key: Key, items: int) -> None:
        """Use `items` of a key's rate and quota, or raise RateLimited and use none."""
        if (allowance := self._allowances.get(key.name)) is not None:
            allowance.take_items(items, self._now(), datetime.now(UTC))

    def _warn(self, peer: str) -> None:
        """Tell of unknown keys once a second at most: who guesses must not fill the log."""
        self._unknown += 1
        if (now := self._now()) >= self._warned + 1.0:
            log.warning("%d calls with an unknown key, the last from %s", self._unknown, peer)
            self._unknown, self._warned = 0, now

    def _refresh(self) -> None:
        """Read the file again when it has changed; a bad one is told, and the keys stay."""
        now = self._now()
        if self._file is None or now - self._checked < CHECK_FILE_EVERY_S:
            return
        self._checked = now
        try:
            if (state := _state(self._file)) == self._seen:
                return
            self._seen = state
            self._keep((*self._fixed, *read_keys(self._file)))
        except InvalidInput as error:
            log.error("the keys stay as they were: %s", error)  # noqa: TRY400 (no traceback to tell)
        else:
            log.info("read %d keys from %s", len(self._allowances), self._file)

    def _keep(self, keys: Iterable[Key]) -> None:
        """Know these keys and no other; one that has not changed keeps what it has used."""
        kept: dict[str, Allowance] = {}
        for key in keys:
            if key.name in kept:
                raise InvalidInput(f"two keys are named {key.name!r}; give each its own name")
            if any(key.sha256 == one.key.sha256 for one in kept.values()):
                raise InvalidInput(f"key {key.name!r} is another's too; make one of its own")
            before = self._allowances.get(key.name)
            kept[key.name] = before if before and before.key == key else Allowance(key)
        self._allowances = kept


def read_keys(path: Path) -> tuple[Key, ...]:
    """The `[[keys]]` of a TOML file; raises InvalidInput that quotes no key."""
    try:
        content = path.read_bytes()
        if path.stat().st_mode & _READABLE_BY_ALL:
            log.warning("every user of this host can read %s; chmod 600 it", path)
        values = tomllib.loads(content.decode())
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at .*\)$", str(error))  # the rest may quote a line
        raise InvalidInput(f"{path} is not TOML {at[0] if at else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"cannot read the keys file {path}: {why}") from None
    keys = values.pop("keys", None)
    if values or not isinstance(keys, list) or not keys:
        raise InvalidInput(f"{path} must have [[keys]] tables, one or more, and nothing else")
    return tuple(_key(f"{path}: key {i}", value) for i, value in enumerate(keys, 1))


def parse_keys(text: str) -> tuple[Key, ...]:
    """The keys of `ATTAR_KEYS`: NAME:SCOPE+SCOPE:KEY, parted by spaces."""
    keys = []
    for i, entry in enumerate(text.split(), 1):
        name, _, rest = entry.partition(":")
        scopes, _, key = rest.partition(":")
        if not key:
            raise InvalidInput(f"ATTAR_KEYS: entry {i} is not NAME:SCOPE+SCOPE:KEY")
        given = {"name": name, "scopes": scopes.split("+"), "key": key}
        keys.append(_key(f"ATTAR_KEYS: entry {i}", given))
    return tuple(keys)


def is_local(peer: str) -> bool:
    """Whether a caller is on this machine: an address, or gRPC's word, `ipv4:127.0.0.1:5`."""
    scheme, _, rest = peer.partition(":")
    if scheme in ("ipv4", "ipv6"):
        peer = rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]").strip("[]")
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def bearer(header: str | None) -> str | None:
    """The key in an `authorization` header; None when it has none."""
    scheme, _, key = (header or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _key(where: str, given: Any) -> Key:
    try:
        return Key.model_validate(given)
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, one['loc']))} {one['msg'].removeprefix('Value error, ')}".strip()
            for one in error.errors(include_input=False, include_context=False)
        ]
        raise InvalidInput(f"{where}: {'; '.join(told)}") from None


def _state(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidInput(f"cannot read the keys file {path}: {error.strerror}") from None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
