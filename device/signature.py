"""A bundle's signature: who vouches for it, besides what it says of itself.

An Ed25519 signature (RFC 8032) of manifest.json's exact bytes, which have the SHA-256 of every
other file. It stands in signature.json, which the manifest does not list, so that signing changes
nothing else. Keys are PEM files, as openssl writes them:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout >> trusted.pem
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import BundleRefused, InvalidInput, MissingExtra, NotFound
from .manifest import read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE: Final = "signature.json"

MAX_SIGNATURE_BYTES: Final = 4096
"""A signature takes 220."""

_MOST_KEYS_BYTES: Final = 2**20
_ALGORITHM: Final = "ed25519"
_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


def signed(manifest: bytes, key: Path) -> bytes:
    """Give signature.json for a manifest, by the private key in a PEM file.

    Raises NotFound, InvalidInput for what is no Ed25519 key, MissingExtra.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (
            Ed25519PrivateKey,
        )
    except ImportError as error:
        raise MissingExtra("signing a bundle", "sign") from error
    try:
        private = serialization.load_pem_private_key(_read(key), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a passphrase
        raise InvalidInput(f"{key} holds no private key that can be read: {error}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidInput(
            f"{key} is a key of another kind; make one by openssl genpkey -algorithm ed25519"
        )
    document = {
        "algorithm": _ALGORITHM,
        "public_key": private.public_key().public_bytes_raw().hex(),
        "signature": private.sign(manifest).hex(),
    }
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def check(manifest: bytes, signature: bytes | None, keys: Path, shown: str) -> None:
    """Refuse a manifest that none of the keys in a PEM file has signed.

    `signature` is signature.json, None where there is none. Raises BundleRefused, and what
    `trusted` does.
    """
    known = trusted(keys)
    if signature is None:
        raise BundleRefused(
            "unsigned",
            f"{shown} has no {SIGNATURE}, and must be signed by a key of {keys}; sign it by attar "
            "sign, or fetch it again",
        )
    public, proof = parse_signature(signature, shown)
    if public not in known:
        raise BundleRefused(
            "wrong-signature",
            f"{shown} is signed by key {public.hex()}, which {keys} does not hold; add it if you "
            "trust it",
        )
    from cryptography.exceptions import InvalidSignature

    try:
        known[public].verify(proof, manifest)
    except InvalidSignature:
        raise BundleRefused(
            "wrong-signature",
            f"{shown}: {SIGNATURE} is not of this manifest; it was changed after key "
            f"{public.hex()} signed it, or the signature was; fetch the bundle again",
        ) from None


def trusted(keys: Path) -> "dict[bytes, Ed25519PublicKey]":
    """Read the public keys of a PEM file, by their 32 bytes.

    Raises NotFound, InvalidInput for a file of anything else, MissingExtra.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (
            Ed25519PublicKey,
        )
    except ImportError as error:
        raise MissingExtra("a bundle's signature", "sign") from error
    known = {}
    for block in _BLOCK.findall(_read(keys)):
        try:
            public = serialization.load_pem_public_key(block)
        except ValueError:
            public = None
        if not isinstance(public, Ed25519PublicKey):
            raise InvalidInput(
                f"{keys} holds {block.splitlines()[0].decode()!r}, which is no public key of "
                "Ed25519; give what openssl pkey -in key.pem -pubout writes"
            )
        known[public.public_bytes_raw()] = public
    if not known:
        raise InvalidInput(
            f"{keys} holds no public key; give what openssl pkey -in key.pem -pubout writes"
        )
    return known


def parse_signature(signature: bytes, shown: str = "the bundle") -> tuple[bytes, bytes]:
    """Give the public key and the signature that stand in signature.json, or refuse it."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise BundleRefused(
            "wrong-signature", f"{shown}: {SIGNATURE} has more than {MAX_SIGNATURE_BYTES} bytes"
        )
    try:
        document = read_json(signature, SIGNATURE)
    except BundleRefused as error:
        raise BundleRefused("wrong-signature", f"{shown}: {error.args[1]}") from None
    fields = document if isinstance(document, dict) else {}
    values = [fields.get(name) for name in ("public_key", "signature")]
    hexes = [each if isinstance(each, str) else "" for each in values]
    sizes = [len(each) for each in hexes]
    are_hex = all(re.fullmatch("[0-9a-f]+", each) for each in hexes)
    if fields.get("algorithm") != _ALGORITHM or sizes != [64, 128] or not are_hex:
        raise BundleRefused(
            "wrong-signature",
            f"{shown}: {SIGNATURE} must have algorithm {_ALGORITHM!r}, public_key of 64 hex digits "
            "and signature of 128; sign the bundle again",
        )
    public, proof = map(bytes.fromhex, hexes)
    return public, proof


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_KEYS_BYTES + 1)
    except OSError as error:
        raise NotFound(f"no keys at {path}: {error.strerror}") from None
    if len(data) > _MOST_KEYS_BYTES:
        raise InvalidInput(f"{path} has more than {_MOST_KEYS_BYTES} bytes; a key takes 120")
    return data
