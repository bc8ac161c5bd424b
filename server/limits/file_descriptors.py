"""File descriptors: each connection takes one, and so does each file.

A process begins with 1,024 of them on most systems, for which one caller has ports enough; it may
have more. gRPC's connections get half, so that files and the other ports have some left.
"""

import sys
from contextlib import suppress
from typing import Final

_FEW: Final = 2**20  # where the system names no limit


def take_all() -> None:
    """Let this process open as many files and connections as the system allows it."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS says "unlimited" and means less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def for_connections() -> int:
    """How many connections gRPC may have at a time."""
    if sys.platform == "win32":
        return _FEW
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, _FEW if limit == resource.RLIM_INFINITY else min(limit // 2, _FEW))
