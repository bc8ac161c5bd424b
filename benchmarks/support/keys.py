"""Keys that sign bundles, in files."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

PEM = serialization.Encoding.PEM


def private_key(path: Path, seed: int = 0, kind: Any = None) -> Path:
    """Write a private key, as openssl does."""
    key = kind or ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    form, cipher = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, form, cipher))
    return path


def public_key(path: Path, *privates: Path) -> Path:
    """Write the public keys of private ones into one file."""
    keys = [serialization.load_pem_private_key(each.read_bytes(), None) for each in privates]
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(b"".join(key.public_key().public_bytes(PEM, form) for key in keys))
    return path
