"""A file of keys with one key of each kind, for the server over gRPC and over HTTP."""

import hashlib
from pathlib import Path

READER, WRITER, ADMIN, SLOW = (
    "reader-0123456789",
    "writer-0123456789",
    "admin-0123456789a",
    "slow-0123456789abc",
)
KEYS = f"""
[[keys]]
name = "reader"
key = "{READER}"
scopes = ["infer"]

[[keys]]
name = "writer"
sha256 = "{hashlib.sha256(WRITER.encode()).hexdigest()}"
scopes = ["infer", "write"]

[[keys]]
name = "admin"
key = "{ADMIN}"
scopes = ["admin"]

[[keys]]
name = "slow"
key = "{SLOW}"
scopes = ["infer"]
requests_per_s = 0.01
items_per_day = 3
"""


def write_keys(folder: Path, text: str = KEYS) -> Path:
    """Write a file of keys that its owner alone may read."""
    path = folder / "keys.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path
