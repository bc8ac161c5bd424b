"""The bundle: what is written is what is read, byte for byte, folder or zip."""

import json
import shutil
import string
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attar.bundle import Bundle
from attar.errors import AlreadyExists, BundleRefused, InvalidInput, NotFound
from attar.manifest import (
    Compatible,
    FileEntry,
    Latency,
    Manifest,
    Output,
    Preprocessing,
    Ranges,
    Requires,
    TensorSpec,
    Variant,
    fingerprint,
    parse,
    serialise,
)
from benchmarks.support.bundles import (
    compatible_bundle,
    text_files,
    text_graph,
    text_manifest,
    tiny_bundle,
    tokenizer_json,
)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_bundle_holds_what_it_was_given(tmp_path: Path) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    bundle = Bundle.write(tmp_path / "x.attar", manifest, files)
    assert {entry.path: bundle.read(entry.path) for entry in bundle.manifest.files} == files
    assert replace(bundle.manifest, files=(), fingerprint="") == manifest
    assert bundle.report == {"host": "test"}
    assert Bundle.open(str(tmp_path / "x.attar")) == bundle


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    one = Bundle.write(tmp_path / "one", manifest, files)
    two = Bundle.write(tmp_path / "two", manifest, dict(reversed(files.items())))
    assert tree(one.path) == tree(two.path)
    zips = [Bundle.pack(b.path, tmp_path / f"{b.path.name}.zip").path for b in (one, two)]
    assert zips[0].read_bytes() == zips[1].read_bytes()


def test_the_format_does_not_drift() -> None:
    """A difference here changes the format: raise SCHEMA_VERSION, and say so in docs/bundle.md."""
    files = ("tokenizer.json", "variants/fp32.onnx")
    entries = tuple(FileEntry(path=path, sha256="0" * 64, bytes=1) for path in files)
    manifest = replace(text_manifest(proven_on=("x86_64-vnni",)), files=entries)
    assert fingerprint(manifest) == (
        "sha256:a9eab1769a2ee65aae9a27846968605dafde60fb05d2dfb2cb9ec80cae5ae85d"
    )
    assert sha256(serialise(manifest)).hexdigest() == (
        "36baa60ac6ff4c9b8dfa0cb46ef75ce18aa03b777b093e7a4fe7d813be89d9a4"
    )
    assert parse(serialise(manifest)) == manifest


def test_a_bundle_of_the_first_schema_is_read_and_new_fields_have_their_defaults(
    bundle_path: Path, tmp_path: Path
) -> None:
    new = ("latency_all_threads", "peak_mb", "proven_on")
    document = json.loads((bundle_path / "manifest.json").read_bytes())
    for variant in document["variants"]:
        assert {variant.pop(field) is None for field in new[:2]} == {True}
        variant.pop("proven_on")
        # What is not required is not written: to an older attar it would be a requirement unmet.
        assert variant["requires"].keys() == {"cpu_flags"}
    folder = Path(shutil.copytree(bundle_path, tmp_path / "old"))
    (folder / "manifest.json").write_text(json.dumps({**document, "schema_version": "1.0"}))
    (variant,) = Bundle.open(folder).manifest.variants
    assert (variant.latency_all_threads, variant.peak_mb, variant.proven_on) == (None, None, ())
    assert variant.requires.provider is None


def test_a_bundle_without_compatible_spaces_is_read_and_declares_none(
    bundle_path: Path, tmp_path: Path
) -> None:
    document = json.loads((bundle_path / "manifest.json").read_bytes())
    assert document.pop("compatible_with") == []
    folder = Path(shutil.copytree(bundle_path, tmp_path / "old"))
    (folder / "manifest.json").write_text(json.dumps({**document, "schema_version": "1.2"}))
    assert Bundle.open(folder).manifest.compatible_with == ()


def test_a_compatible_space_is_no_part_of_the_fingerprint_and_survives_a_zip(
    tmp_path: Path,
) -> None:
    teacher = Bundle.open(tiny_bundle(tmp_path / "teacher.attar"))
    student = Bundle.open(compatible_bundle(tmp_path / "student.attar", teacher.path))
    (entry,) = student.manifest.compatible_with
    assert entry.fingerprint == teacher.manifest.fingerprint
    assert entry.query_fingerprint == student.manifest.fingerprint
    assert fingerprint(replace(student.manifest, compatible_with=())) == entry.query_fingerprint
    packed = Bundle.pack(student.path, tmp_path / "student.zip")
    assert packed.manifest.compatible_with == (entry,)


def test_a_compatible_space_does_not_stay_when_the_encoder_changes(tmp_path: Path) -> None:
    teacher = tiny_bundle(tmp_path / "teacher.attar")
    student = Bundle.open(compatible_bundle(tmp_path / "student.attar", teacher))
    other = text_files(student.manifest, seed=1)
    with pytest.raises(BundleRefused, match=r"query_fingerprint must be .*: measure again"):
        Bundle.write(tmp_path / "changed.attar", student.manifest, other)
    assert not (tmp_path / "changed.attar").exists()


def test_the_fingerprint_is_computed_as_the_page_says(bundle_path: Path) -> None:
    document = json.loads((bundle_path / "manifest.json").read_bytes())
    hashes = {entry["path"]: entry["sha256"] for entry in document["files"]}
    fields = ("modality", "inputs", "max_length", "preprocessing", "output")
    space = {field: document[field] for field in fields}
    space["tokenizer_sha256"] = hashes["tokenizer.json"]
    space["reference_sha256"] = hashes["variants/fp32.onnx"]
    canonical = json.dumps(space, sort_keys=True, separators=(",", ":")).encode()
    assert document["fingerprint"] == f"sha256:{sha256(canonical).hexdigest()}"


def test_a_file_on_disk_is_copied_into_the_bundle(tmp_path: Path) -> None:
    manifest = text_manifest()
    (tmp_path / "tokenizer").write_bytes(tokenizer_json())
    files: dict[str, bytes | Path] = dict(text_files(manifest))
    files["tokenizer.json"] = tmp_path / "tokenizer"
    assert Bundle.write(tmp_path / "x", manifest, files).read("tokenizer.json") == tokenizer_json()


def test_a_zip_and_its_folder_are_the_same_bundle(bundle_path: Path, tmp_path: Path) -> None:
    folder = Bundle.open(bundle_path)
    packed = Bundle.pack(bundle_path, tmp_path / "x.zip")
    assert packed == replace(Bundle.open(packed.path), path=packed.path)
    assert packed.manifest == folder.manifest
    for name in ("manifest.json", *(entry.path for entry in folder.manifest.files)):
        assert packed.read(name) == folder.read(name)


def test_an_existing_bundle_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x.attar", seed=0)
    manifest = text_manifest()
    files = text_files(manifest, seed=1)
    with pytest.raises(AlreadyExists, match=r"x\.attar exists; choose another path"):
        Bundle.write(path, manifest, files)
    replaced = Bundle.write(path, manifest, files, replace=True)
    assert Bundle.open(path).manifest.fingerprint == replaced.manifest.fingerprint
    archive = Bundle.pack(path, tmp_path / "x.zip").path
    with pytest.raises(AlreadyExists, match=r"x\.zip exists"):
        Bundle.pack(path, archive)
    assert Bundle.pack(path, archive, replace=True).manifest == replaced.manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.attar", "x.zip"]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").touch()
    manifest = text_manifest()
    with pytest.raises(AlreadyExists, match="photos is not a bundle folder"):
        Bundle.write(precious, manifest, text_files(manifest), replace=True)
    with pytest.raises(AlreadyExists, match="photos exists"):
        Bundle.pack(tiny_bundle(tmp_path / "x"), precious, replace=True)
    assert (precious / "cat.jpg").exists()


def test_a_refused_bundle_leaves_nothing_and_disturbs_nothing(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x.attar")
    before = tree(path)
    manifest = text_manifest()
    files = {**text_files(manifest), "variants/fp32.onnx": b"no graph"}
    with pytest.raises(BundleRefused, match=r"variants/fp32\.onnx is not an ONNX model"):
        Bundle.write(path, manifest, files, replace=True)
    with pytest.raises(BundleRefused, match="not a plain relative path"):
        Bundle.write(tmp_path / "y", manifest, {**files, "../evil.onnx": b""})
    assert tree(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.attar"]


def test_a_manifest_that_names_a_file_not_given_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"lists no file 'tokenizer\.json'"):
        Bundle.write(tmp_path / "x", text_manifest(), {"variants/fp32.onnx": text_graph()})


def test_unknown_names_are_answered_with_the_known_ones(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    with pytest.raises(NotFound, match="tiny has no variant 'int8'; it has fp32"):
        bundle.variant("int8")
    with pytest.raises(
        NotFound, match=r"lists no file 'x'; it lists report\.json, tokenizer\.json"
    ):
        bundle.read("x")


def test_a_file_changed_after_open_is_not_believed(tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_bundle(tmp_path / "x"))
    name = "tokenizer.json"
    (tmp_path / "x" / name).write_bytes(bundle.read(name)[::-1])
    with pytest.raises(BundleRefused) as caught:
        bundle.read(name)
    assert caught.value.code == "wrong-hash"


def test_a_zip_made_by_hand_with_folders_and_compression_is_read(
    bundle_path: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "by-hand.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("variants")
        for name, data in tree(bundle_path).items():
            file.writestr(name, data)
    assert Bundle.open(archive).manifest == Bundle.open(bundle_path).manifest


def test_the_fingerprint_is_of_the_space_and_of_nothing_else(tmp_path: Path) -> None:
    def of(name: str, manifest: Manifest, seed: int = 0) -> str:
        files = text_files(manifest, seed=seed)
        return Bundle.write(tmp_path / name, manifest, files).manifest.fingerprint

    base = text_manifest()
    space = of("base", base)
    assert of("renamed", replace(base, name="other", version="2", licence=None)) == space
    assert of("more", text_manifest(variants=("fp32", "int8"))) == space
    others = {
        of("weights", base, seed=1),
        of("prompts", text_manifest(prompts={"query": "q: "})),
        of("length", text_manifest(max_length=8)),
        of("dims", text_manifest(dims=(8, 16))),
    }
    assert len(others | {space}) == 5


# A valid manifest in every shape, with fields from the future.

names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
extra = st.dictionaries(texts.map("future {}".format), json_values, max_size=2)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    dim = draw(st.integers(1, 12))
    dims = sorted({dim} | draw(st.sets(st.integers(1, dim))))
    variants = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    latency = st.builds(
        Latency,
        p50_ms=st.floats(1e-3, 1e3),
        threads=st.integers(1, 9),
        batch=st.integers(1, 9),
        length=st.integers(1, 9),
        host=texts,
        extra=extra,
    )
    low = draw(st.lists(st.floats(-1, 0), min_size=dim, max_size=dim))
    ranges = Ranges(low=tuple(low), high=tuple(x + 1 for x in low), extra=draw(extra))
    return Manifest(
        schema_version=draw(st.sampled_from(["1.0", "1.1", "1.12"])),
        name=draw(names),
        version=draw(names),
        modality="text",
        inputs=tuple(
            TensorSpec(name=name, dtype="int64", shape=("batch", "length"), extra=draw(extra))
            for name in ("input_ids", "attention_mask")
        ),
        max_length=draw(st.integers(1, 512)),
        preprocessing=Preprocessing(
            tokenizer="tokenizer.json",
            prompts=draw(st.dictionaries(texts, texts, max_size=2)),
            truncation_side=draw(st.sampled_from(["right", "left"])),
            extra=draw(extra),
        ),
        output=Output(name=draw(texts), dim=dim, dims=tuple(dims), extra=draw(extra)),
        ranges=draw(st.sampled_from([ranges, None])),
        reference=draw(st.sampled_from(variants)),
        lineage=draw(st.dictionaries(texts, json_values, max_size=2)),
        licence=draw(st.none() | texts),
        variants=tuple(
            Variant(
                name=name,
                file=f"variants/{name}.onnx",
                precision=draw(texts),
                attention=draw(st.none() | texts),
                requires=Requires(
                    cpu_flags=tuple(draw(st.lists(texts))),
                    provider=draw(st.none() | texts),
                    extra=draw(extra),
                ),
                parity=draw(st.dictionaries(texts, numbers, max_size=2)),
                probe=draw(st.dictionaries(texts, numbers, max_size=2)),
                tolerance=draw(st.none() | numbers),
                latency=draw(st.none() | latency),
                latency_all_threads=draw(st.none() | latency),
                peak_mb=draw(st.none() | numbers),
                proven_on=tuple(draw(st.lists(texts, max_size=2))),
                extra=draw(extra),
            )
            for name in variants
        ),
        extra=draw(extra),
    )


spaces = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


@st.composite
def declaring(draw: st.DrawFn) -> Manifest:
    """A manifest that declares other spaces, and lists the files that it needs."""
    manifest = draw(manifests())
    own, *others = draw(st.lists(spaces, min_size=1, max_size=4, unique=True))
    paths = ("tokenizer.json", *(variant.file for variant in manifest.variants))
    return replace(
        manifest,
        fingerprint=own,
        files=tuple(FileEntry(path=path, sha256="0" * 64, bytes=1) for path in paths),
        compatible_with=tuple(
            Compatible(
                fingerprint=other,
                query_fingerprint=own,
                cosine=draw(st.floats(0, 1, exclude_min=True)),
                recall_at_10=draw(st.floats(0, 1)),
                extra=draw(extra),
            )
            for other in others
        ),
    )


@given(manifest=declaring())
def test_every_declaration_of_other_spaces_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert parse(serialise(manifest)) == manifest


@given(manifest=declaring(), data=st.data())
def test_a_declaration_out_of_its_bounds_is_refused_by_its_field(
    manifest: Manifest, data: st.DataObject
) -> None:
    assume(manifest.compatible_with)
    first, *others = manifest.compatible_with
    field, value = data.draw(
        st.sampled_from(
            [
                ("cosine", data.draw(numbers.filter(lambda x: not 0 < x <= 1))),
                ("recall_at_10", data.draw(numbers.filter(lambda x: not 0 <= x <= 1))),
                ("fingerprint", data.draw(texts)),
                ("fingerprint", manifest.fingerprint),
                ("query_fingerprint", data.draw(texts | st.just(first.fingerprint))),
            ]
        )
    )
    change: dict[str, Any] = {field: value}
    wrong = replace(first, **change)
    with pytest.raises(BundleRefused, match=rf"compatible_with\[0\].{field} must be") as caught:
        parse(serialise(replace(manifest, compatible_with=(wrong, *others))))
    assert caught.value.code == "field"


GRAPH = text_graph(dim=2)


@given(manifest=manifests())
def test_every_manifest_survives_writing_zipping_and_opening_with_its_unknown_fields(
    manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    files = {variant.file: GRAPH for variant in manifest.variants}
    written = Bundle.write(folder / "x", manifest, {"tokenizer.json": b"{}", **files})
    assert replace(written.manifest, files=(), fingerprint="") == manifest
    assert Bundle.open(folder / "x").manifest == written.manifest
    assert Bundle.pack(folder / "x", folder / "x.zip").manifest == written.manifest
    assert Bundle.open(folder / "x.zip").manifest == written.manifest
