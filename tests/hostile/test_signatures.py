"""Where a signature is required, a bundle that is not what a known key signed is refused."""

import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import attar
from attar.bundle import Bundle
from attar.client import Client
from attar.errors import AttarError, BundleRefused, InvalidInput, MissingExtra, NotFound, Refusal
from attar.manifest import fingerprint, parse, serialise
from attar.signature import SIGNATURE
from benchmarks.hostile.bundles import MODEL, Damage, fields, listed, sealed
from benchmarks.support.bundles import text_graph, tiny_bundle
from benchmarks.support.keys import private_key, public_key
from benchmarks.support.servers import serving, settings


class Keys:
    """Two makers' keys, and the file that trusts the first."""

    def __init__(self, folder: Path) -> None:
        self.ours = private_key(folder / "ours.pem", 1)
        self.theirs = private_key(folder / "theirs.pem", 2)
        self.trusted = public_key(folder / "trusted.pem", self.ours)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def sound(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_bundle(tmp_path_factory.mktemp("signed") / "x.attar")
    return Bundle.open(folder).sign(keys.ours).path


def unsign(folder: Path) -> Path:
    (folder / SIGNATURE).unlink()
    return folder


def put(data: bytes) -> Damage:
    def damage(folder: Path) -> Path:
        (folder / SIGNATURE).write_bytes(data)
        return folder

    return damage


def edit(**values: object) -> Damage:
    """Change what signature.json says."""

    def damage(folder: Path) -> Path:
        document = json.loads((folder / SIGNATURE).read_bytes()) | values
        return put(json.dumps(document).encode())(folder)

    return damage


def flip(folder: Path) -> Path:
    document = json.loads((folder / SIGNATURE).read_bytes())
    turned = bytearray.fromhex(document["signature"])
    turned[5] ^= 4
    return edit(signature=turned.hex())(folder)


def space(folder: Path) -> Path:
    """Put a space behind the manifest: it says the same, in other bytes."""
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b" ")
    return folder


def swap_graph(folder: Path) -> Path:
    """Put another graph in, and leave the manifest."""
    graph = folder / MODEL
    graph.write_bytes(text_graph(seed=1))
    return folder


def take_signature(folder: Path) -> Path:
    """Have another bundle's signature by the same key."""
    other = tiny_bundle(folder.parent / "other.attar", seed=3)
    Bundle.open(other).sign(folder.parent / "ours.pem")
    shutil.copy(other / SIGNATURE, folder / SIGNATURE)
    return folder


def sign_by_theirs(folder: Path) -> Path:
    return Bundle.open(folder).sign(folder.parent / "theirs.pem").path


def claim_ours(folder: Path) -> Path:
    """Sign by another key, and name the one that is trusted."""
    ours = json.loads((folder / SIGNATURE).read_bytes())["public_key"]
    return edit(public_key=ours)(sign_by_theirs(folder))


@dataclass(frozen=True, slots=True)
class Row:
    code: Refusal
    damage: Damage
    message: str


def refused(code: Refusal, damage: Damage, message: str, name: str) -> Any:
    return pytest.param(Row(code, damage, message), id=name)


WRONG: Refusal = "wrong-signature"
TABLE = [
    refused("unsigned", unsign, "has no signature.json, and must be signed by a key of", "none"),
    refused(WRONG, sign_by_theirs, "trusted.pem does not hold; add it if", "another key"),
    refused(WRONG, claim_ours, "is not of this manifest", "another key that says it is ours"),
    refused(WRONG, take_signature, "is not of this manifest", "another bundle's"),
    refused(WRONG, flip, "is not of this manifest", "a flipped bit"),
    refused(WRONG, space, "is not of this manifest", "a space in the manifest"),
    refused(WRONG, fields(licence="none"), "is not of this manifest", "another licence"),
    refused(
        WRONG,
        sealed(listed(MODEL, text_graph(seed=1))),
        "is not of this manifest",
        "a graph swapped, and the manifest forged",
    ),
    refused("wrong-hash", swap_graph, "fp32.onnx is damaged", "a graph swapped alone"),
    refused(WRONG, put(b""), "signature.json is not strict JSON", "empty"),
    refused(WRONG, put(b"[]"), "must have algorithm 'ed25519'", "a list"),
    refused(WRONG, put(b" " * 5000), "has more than 4096 bytes", "large"),
    refused(WRONG, put(b"[" * 4000), "recursion", "deep"),
    refused(WRONG, put(b'{"a": 1, "a": 2}'), "a key occurs twice", "a key twice"),
    refused(WRONG, edit(algorithm="none"), "must have algorithm 'ed25519'", "another algorithm"),
    refused(WRONG, edit(signature=""), "signature of 128", "an empty signature"),
    refused(WRONG, edit(signature=["0"] * 128), "signature of 128", "a list for a signature"),
    refused(WRONG, edit(public_key="0" * 64), "does not hold", "a key of zeros"),
    refused(WRONG, edit(public_key="٣" * 64), "public_key of 64 hex digits", "other digits"),
]


def zipped(folder: Path) -> Path:
    made = shutil.make_archive(str(folder.with_suffix("")), "zip", folder)
    return Path(made)


@pytest.mark.parametrize("form", [lambda folder: folder, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("row", TABLE)
def test_what_no_trusted_key_signed_is_refused_by_code_and_in_words(
    form: Damage, row: Row, sound: Path, keys: Keys, tmp_path: Path
) -> None:
    for key in (keys.ours, keys.theirs):
        shutil.copy(key, tmp_path)
    path = form(row.damage(Path(shutil.copytree(sound, tmp_path / "x.attar"))))
    with pytest.raises(BundleRefused, match=re.escape(row.message)) as caught:
        Bundle.open(path, require_signature=keys.trusted)
    assert caught.value.code == row.code


def test_a_signed_bundle_opens_as_folder_and_zip_on_a_device(
    sound: Path, keys: Keys, tmp_path: Path
) -> None:
    packed = Bundle.pack(sound, tmp_path / "x.zip")
    for path in (sound, packed.path):
        encoder = attar.load(path, threads=1, require_signature=keys.trusted)
        assert encoder.bundle.signed_by == packed.signed_by
        assert len(encoder.embed(["the cat"])) == 1
    assert attar.load(sound, threads=1).bundle.require_signature is None


def test_a_zip_is_signed_in_place_and_says_the_same(
    sound: Path, keys: Keys, tmp_path: Path
) -> None:
    packed = Bundle.pack(unsign(Path(shutil.copytree(sound, tmp_path / "x"))), tmp_path / "x.zip")
    assert packed.signed_by is None
    signed = packed.sign(keys.ours)
    assert Bundle.open(packed.path, require_signature=keys.trusted) == signed
    assert packed.path.read_bytes() == Bundle.pack(sound, tmp_path / "y.zip").path.read_bytes()


def test_a_bundle_is_signed_again_by_a_new_key_and_either_may_be_trusted(
    sound: Path, keys: Keys, tmp_path: Path
) -> None:
    both = public_key(tmp_path / "both.pem", keys.ours, keys.theirs)
    path = Path(shutil.copytree(sound, tmp_path / "x.attar"))
    first = Bundle.open(path, require_signature=both).signed_by
    Bundle.open(path).sign(keys.theirs)
    assert Bundle.open(path, require_signature=both).signed_by != first


def test_writing_a_bundle_anew_takes_its_signature_away(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(sound, tmp_path / "x.attar"))
    bundle = Bundle.open(path)
    files = {entry.path: bundle.read(entry.path) for entry in bundle.manifest.files}
    assert Bundle.write(path, bundle.manifest, files, replace=True).signed_by is None


BAD_KEYS = [
    (lambda folder: folder / "none.pem", NotFound, "no keys at"),
    (lambda folder: folder, NotFound, "no keys at"),
    (lambda folder: private_key(folder / "k.pem"), InvalidInput, "BEGIN PRIVATE KEY"),
    (
        lambda folder: public_key(
            folder / "k.pem",
            private_key(folder / "e.pem", kind=ec.generate_private_key(ec.SECP256R1())),
        ),
        InvalidInput,
        "which is no public key of Ed25519",
    ),
    (lambda folder: public_key(folder / "k.pem"), InvalidInput, "holds no public key"),
]


@pytest.mark.parametrize(("make", "kind", "message"), BAD_KEYS)
def test_a_bad_file_of_keys_is_refused_by_name(
    make: Callable[[Path], Path], kind: type[AttarError], message: str, sound: Path, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        Bundle.open(sound, require_signature=path)
    assert str(path) in str(caught.value)


def forged(folder: Path, name: str) -> Path:
    """Write a bundle of that name with a signature of other bytes."""
    path = folder / "x.attar" / "manifest.json"
    changed = replace(parse(path.read_bytes()), name=name)
    path.write_bytes(serialise(replace(changed, fingerprint=fingerprint(changed))))
    return folder / "x.attar"


def test_a_server_starts_with_a_signed_bundle_and_with_no_other(
    sound: Path, keys: Keys, tmp_path: Path
) -> None:
    with (
        serving(settings(sound, data_dir=tmp_path, require_signature=keys.trusted)) as target,
        Client(target) as client,
    ):
        assert len(client.embed(["the cat"]).vectors) == 1
    bare = unsign(Path(shutil.copytree(sound, tmp_path / "x.attar")))
    chosen = settings(bare, data_dir=tmp_path, require_signature=keys.trusted)
    with pytest.raises(BundleRefused, match="must be signed by a key of"), serving(chosen):
        pass
    chosen = settings(sound, data_dir=tmp_path, require_signature=tmp_path / "none.pem")
    with pytest.raises(NotFound, match="no keys at"), serving(chosen):
        pass


def test_a_watched_repository_and_load_take_signed_bundles_alone(
    sound: Path, keys: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(sound, folder / "good.attar")
    shutil.copytree(sound, tmp_path / "x.attar")
    forged(tmp_path, "bad")
    chosen = settings(
        data_dir=tmp_path / "data",
        model_repository=folder,
        watch_s=600.0,
        require_signature=keys.trusted,
    )
    with serving(chosen) as target, Client(target) as client:
        (tmp_path / "x.attar").rename(folder / "bad.attar")
        with pytest.raises(BundleRefused, match="is not of this manifest"):
            client.load_model("bad")
        states = {one.name: (one.state, one.reason) for one in client.models()}
        assert states["tiny"][0] == "READY"
        assert "is not of this manifest" in states["bad"][1]
        Bundle.open(folder / "bad.attar").sign(keys.ours)
        client.load_model("bad")
        assert {one.name: one.state for one in client.models()} == {"tiny": "READY", "bad": "READY"}
        unsign(folder / "bad.attar")
        with pytest.raises(BundleRefused, match="must be signed by a key of"):
            client.load_model("bad")


def test_without_the_extra_the_message_is_the_line_that_installs_it(
    sound: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(MissingExtra, match=r"pip install 'attar\[sign\]'"):
        Bundle.open(sound, require_signature=keys.trusted)
    with pytest.raises(MissingExtra, match=r"pip install 'attar\[sign\]'"):
        Bundle.open(sound).sign(keys.ours)
    assert len(attar.load(sound, threads=1).embed(["the cat"])) == 1


def test_an_opened_bundle_takes_no_keys_any_more_and_a_pickled_encoder_keeps_them(
    sound: Path, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="give them to Bundle"):
        attar.load(Bundle.open(sound), require_signature=keys.trusted)
    path = Path(shutil.copytree(sound, tmp_path / "x.attar"))
    pickled = pickle.dumps(attar.load(path, threads=1, require_signature=keys.trusted))
    unsign(path)
    with pytest.raises(BundleRefused, match="must be signed by a key of"):
        pickle.loads(pickled)  # noqa: S301 (our own)
