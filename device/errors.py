"""The one exception tree: everything attar raises on purpose.

    AttarError              INTERNAL           the root; catch it to catch them all
    ├── InvalidInput        INVALID_INPUT      an argument or item cannot be used; a ValueError
    │   ├── InputTooLong    INPUT_TOO_LONG     more tokens than the encoder takes
    │   └── ShapeError      SHAPE              an array of the wrong shape or dtype
    ├── BundleRefused       BUNDLE_REFUSED     a damaged or hostile bundle; a ValueError
    ├── NotFound            NOT_FOUND          nothing has that name; a LookupError
    ├── AlreadyExists       ALREADY_EXISTS     the name or the path is taken
    ├── SpaceMismatch       SPACE_MISMATCH     vectors of two embedding spaces would meet
    ├── Replaced            REPLACED           another now has the name that the call began with
    ├── NotSupported        NOT_SUPPORTED      this model, bundle or CPU lacks what was asked
    ├── Unimplemented       UNIMPLEMENTED      a method of a protocol that attar does not offer
    ├── Unauthenticated     UNAUTHENTICATED    no key, or one that the server does not know
    ├── PermissionDenied    PERMISSION_DENIED  the key does not have the scope that the call needs
    ├── Overloaded          OVERLOADED         refused early; retry later
    │   └── RateLimited     RATE_LIMITED       the key has used up its rate or its quota
    ├── LimitReached        LIMIT_REACHED      as much is kept as the server may keep; delete some
    ├── DiskFull            DISK_FULL          too little room is left to write safely
    ├── Unavailable         UNAVAILABLE        loading, draining or gone
    ├── DeadlineExceeded    DEADLINE_EXCEEDED  no answer within the caller's time
    ├── Cancelled           CANCELLED          the caller left
    ├── BackendError        BACKEND            a run of the graph failed: our bug
    └── MissingExtra        MISSING_EXTRA      a dependency is absent; an ImportError

A message names the thing, the value met, what was expected and the fix. `reason` is the stable
word for programs: it goes over the wire, and never changes.
"""

from typing import ClassVar, Literal


class AttarError(Exception):
    """The root of the tree; attar raises its leaves."""

    reason: ClassVar[str] = "INTERNAL"


class InvalidInput(AttarError, ValueError):
    """An argument or an item cannot be used as it is."""

    reason = "INVALID_INPUT"
    tokens: int = 0
    """Tokens that were made of the item before it was refused: work that a server counts."""


class InputTooLong(InvalidInput):
    """An item has more tokens than the encoder takes, and the caller asked not to truncate."""

    reason = "INPUT_TOO_LONG"


class ShapeError(InvalidInput):
    """An array has another shape or dtype than the signature says."""

    reason = "SHAPE"


Refusal = Literal[
    "not-a-bundle",
    "bad-zip",
    "bad-json",
    "schema-version",
    "field",
    "hostile-path",
    "symlink",
    "duplicate-path",
    "duplicate-variant",
    "file-kind",
    "missing-file",
    "unlisted-file",
    "too-large",
    "wrong-size",
    "wrong-hash",
    "fingerprint",
    "not-onnx",
    "external-data",
    "foreign-operator",
    "unbounded",
    "bad-arrays",
    "tokenizer",
    "unsigned",
    "wrong-signature",
    "signature",
    "unloadable",
]


class BundleRefused(AttarError, ValueError):
    """A bundle is damaged, hostile or unknown.

    `code` is the refusal's word in docs/bundle.md.
    """

    reason = "BUNDLE_REFUSED"

    def __init__(self, code: Refusal, message: str) -> None:
        """Keep the code and the message; both are shown."""
        super().__init__(code, message)
        self.code = code

    def __str__(self) -> str:
        """Show the message, then the code to look up."""
        return f"{self.args[1]} [refused: {self.code}]"


class NotFound(AttarError, LookupError):
    """Nothing has that name; the message lists what does exist."""

    reason = "NOT_FOUND"


class AlreadyExists(AttarError):
    """The name or the path is taken."""

    reason = "ALREADY_EXISTS"


class SpaceMismatch(AttarError):
    """Vectors with different space fingerprints must not be compared."""

    reason = "SPACE_MISMATCH"


class Replaced(AttarError):
    """The collection was replaced while the call was under way; the same call may be sent again."""

    reason = "REPLACED"


class NotSupported(AttarError):
    """This model, bundle or CPU lacks what the call needs."""

    reason = "NOT_SUPPORTED"


class Unimplemented(AttarError):
    """A protocol has this method, and attar does not offer it."""

    reason = "UNIMPLEMENTED"


class Unauthenticated(AttarError):
    """The call carries no key, or one that the server does not know."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(AttarError):
    """The key is good, and does not have the scope that the call needs."""

    reason = "PERMISSION_DENIED"


class Overloaded(AttarError):
    """The queue is full; retry later."""

    reason = "OVERLOADED"


class RateLimited(Overloaded):
    """The key has used up its rate or its quota; `retry_after_s` tells when it has some again."""

    reason = "RATE_LIMITED"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        """Keep the wait, in seconds, and the message."""
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Show the message."""
        return str(self.args[0])


class LimitReached(AttarError):
    """The server keeps as many collections or heads as it may; a retry does not help."""

    reason = "LIMIT_REACHED"


class DiskFull(AttarError):
    """The disk has too little room left to write safely; nothing was written."""

    reason = "DISK_FULL"


class Unavailable(AttarError):
    """The part that would answer is loading, draining or gone; retry later."""

    reason = "UNAVAILABLE"


class DeadlineExceeded(AttarError):
    """No answer came within the caller's time."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(AttarError):
    """The caller left before the answer."""

    reason = "CANCELLED"


class BackendError(AttarError):
    """A run of the graph failed, or gave what its signature forbids: a bug, not the caller's."""

    reason = "BACKEND"


class MissingExtra(AttarError, ImportError):
    """An optional dependency is not installed; the message is the pip line that installs it."""

    reason = "MISSING_EXTRA"

    def __init__(self, what: str, extra: str) -> None:
        """Say that `what` needs attar's `extra`."""
        super().__init__(what, extra)
        self.extra = extra

    def __str__(self) -> str:
        """Name what is missing and the line that installs it."""
        return f"{self.args[0]} needs the {self.extra} extra: pip install 'attar[{self.extra}]'"
