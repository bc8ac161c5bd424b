"""Access: which key may call what, how often and how much.

Keys come from the file that `keys_file` names, read again when it changes, or from the environment
(`ATTAR_KEYS`); never from a command line, which every user of the host can read. Only their
SHA-256 is kept. Without any key everybody may do everything.
"""

import hashlib
import hmac
import logging
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attar.errors import InvalidInput, PermissionDenied, RateLimited, Unauthenticated

from ..limits.fair_shares import ip
from ..limits.usage import QUANTITIES, Ledger, Usage
from ..request_context import Meter

log = logging.getLogger("attar.server")

Scope = Literal["infer", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
MIN_KEY: Final = 16  # characters; `openssl rand -hex 32` gives 64
CHECK_FILE_EVERY_S: Final = 1.0
_READABLE_BY_ALL: Final = 0o004
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Quota = Annotated[int, Field(gt=0, lt=2**62)]


class Key(BaseModel):
    """One caller's key: its name for logs, what it may do, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: frozenset[Scope] = Field(min_length=1)
    requests_per_s: _Rate | None = None
    items_per_s: _Rate | None = None
    tokens_per_s: _Rate | None = None
    items_per_day: _Quota | None = None
    tokens_per_day: _Quota | None = None

    @property
    def rates(self) -> tuple[float | None, ...]:
        """What it may send in a second of each quantity; None: any number."""
        return self.requests_per_s, self.items_per_s, self.tokens_per_s

    @property
    def quotas(self) -> tuple[int | None, ...]:
        """What it may send in a day."""
        return None, self.items_per_day, self.tokens_per_day

    def limits(self, amounts: tuple[int, ...]) -> bool:
        """Whether the key has a limit for these amounts, so that they have to be counted."""
        return any(
            amount and (rate, quota) != (None, None)
            for amount, rate, quota in zip(amounts, self.rates, self.quotas, strict=True)
        )

    @model_validator(mode="before")
    @classmethod
    def _digest(cls, data: Any) -> Any:
        """Take the key itself in place of its digest."""
        if not isinstance(data, Mapping) or "key" not in data:
            return data
        rest = dict(data)
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


def use(key: Key, used: Usage, amounts: tuple[int, ...], *, now: float, clock: datetime) -> None:
    """Count requests, items and tokens of a key, or raise RateLimited and count none of them.

    `now` is of `time.monotonic`, `clock` the date and time in UTC.
    """
    used.pass_time(now, clock.toordinal(), key.rates)
    for what, amount, today, quota in zip(QUANTITIES, amounts, used.today, key.quotas, strict=True):
        if quota is not None and amount and today + amount > quota:
            raise RateLimited(
                f"key {key.name} has used {today} of {quota} {what} a day, and this request has "
                f"{amount}; the day ends at 00:00 UTC",
                used.next_day_s(now, clock),
            )
    for index, (what, amount, rate) in enumerate(zip(QUANTITIES, amounts, key.rates, strict=True)):
        if rate is not None and amount and (wait := used.wait_s(index, amount, rate)) > 0:
            raise RateLimited(
                f"key {key.name} may send {rate:g} {what} a second; retry in {wait:.3g} s", wait
            )
    used.spend(amounts)


class Access:
    """The keys of one server and what each has used."""

    def __init__(
        self,
        keys: Iterable[Key] = (),
        *,
        file: Path | None = None,
        admin: bool = True,
        ledger: Ledger | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take `keys` and those of `file`; raises InvalidInput when it cannot be read.

        Without `admin` nobody may make the calls of that scope. What keys use is kept in `ledger`,
        in memory without one.
        """
        self._fixed = tuple(keys)
        self._file = file
        self._admin = admin
        self._ledger = Ledger() if ledger is None else ledger
        self._now = now
        self._clock = clock
        self._seen = (0, 0, 0)
        self._unknown = 0
        self._warned = now() - 1.0
        self._checked = now()
        self._keys: dict[str, Key] = {}
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
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        match = None
        for key in self._keys.values():  # all of them, so that the time reveals nothing
            if hmac.compare_digest(key.sha256, digest):
                match = key
        if match is None:
            self._warn(peer)
            raise Unauthenticated("the key is not one that this server knows; check it")
        if scope not in match.scopes:
            has = ", ".join(sorted(match.scopes))
            raise PermissionDenied(
                f"key {match.name} has the scope {has}, and this call needs {scope}; "
                f"use another key, or add {scope} to the scopes of this one"
            )
        self.take(match.name, requests=1)
        return match

    def take(self, name: str, *, requests: int = 0, items: int = 0, tokens: int = 0) -> None:
        """Use so much of a key's rates and quotas, or raise RateLimited and use none of it."""
        amounts = (requests, items, tokens)
        self._refresh()
        if (key := self._keys.get(name)) is None:
            raise Unauthenticated("the key is not one that this server knows any more")
        if key.limits(amounts):
            with self._ledger.entry(name) as used:
                use(key, used, amounts, now=self._now(), clock=self._clock())

    def refuse_used_up(self, name: str, *, items: int) -> None:
        """Raise RateLimited where a key has not so many items left, or no token; use nothing."""
        amounts = (0, items, min(items, 1))
        if (key := self._keys.get(name)) is not None and key.limits(amounts):
            with self._ledger.entry(name) as used:
                copy = replace(used, spent=[*used.spent], today=[*used.today])
                use(key, copy, amounts, now=self._now(), clock=self._clock())

    def close(self) -> None:
        """Close the file of what keys have used."""
        self._ledger.close()

    def _warn(self, peer: str) -> None:
        """Log unknown keys once a second at most: guesses must not fill the log."""
        self._unknown += 1
        if (now := self._now()) >= self._warned + 1.0:
            log.warning("%d calls with an unknown key, the last from %s", self._unknown, peer)
            self._unknown, self._warned = 0, now

    def _refresh(self) -> None:
        """Read the file again when it has changed; a bad one is logged, and the keys stay."""
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
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("read %d keys from %s", len(self._keys), self._file)

    def _keep(self, keys: Iterable[Key]) -> None:
        """Know these keys and no other; what each has used is kept by its name."""
        by_name: dict[str, Key] = {}
        for key in keys:
            if key.name in by_name:
                raise InvalidInput(f"two keys are named {key.name!r}; give each its own name")
            if any(key.sha256 == other.sha256 for other in by_name.values()):
                raise InvalidInput(f"key {key.name!r} is another's too; make one of its own")
            by_name[key.name] = key
        self._keys = by_name


class KeyMeter(Meter):
    """What one key may use."""

    def __init__(self, access: Access, name: str) -> None:
        """Count for the key of that name."""
        self._access = access
        self._name = name

    def refuse_used_up(self, items: int) -> None:
        """Raise RateLimited where so many items, or any token, would be too much; count nothing."""
        self._access.refuse_used_up(self._name, items=items)

    def take(self, *, requests: int = 0, items: int = 0, tokens: int = 0) -> None:
        """Count these, or raise RateLimited and count none."""
        self._access.take(self._name, requests=requests, items=items, tokens=tokens)


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
    """The keys of `ATTAR_KEYS`: NAME:SCOPE+SCOPE:KEY, separated by spaces."""
    keys = []
    for i, entry in enumerate(text.split(), 1):
        name, _, rest = entry.partition(":")
        scopes, _, key = rest.partition(":")
        if not key:
            raise InvalidInput(f"ATTAR_KEYS: entry {i} is not NAME:SCOPE+SCOPE:KEY")
        entries = {"name": name, "scopes": scopes.split("+"), "key": key}
        keys.append(_key(f"ATTAR_KEYS: entry {i}", entries))
    return tuple(keys)


def is_local(peer: str) -> bool:
    """Whether a caller is on this machine: an address, or gRPC's word, `ipv4:127.0.0.1:5`."""
    address = ip(peer)
    return address is not None and address.is_loopback


def bearer(header: str | None) -> str | None:
    """The key in an `authorization` header; None when it has none."""
    scheme, _, key = (header or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _key(where: str, data: Any) -> Key:
    try:
        return Key.model_validate(data)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False, include_context=False):
            field = ".".join(map(str, problem["loc"]))
            problems.append(f"{field} {problem['msg'].removeprefix('Value error, ')}".strip())
        raise InvalidInput(f"{where}: {'; '.join(problems)}") from None


def _state(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidInput(f"cannot read the keys file {path}: {error.strerror}") from None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
