"""What a bundle says about itself: the dataclasses are the schema, and `parse` holds a file to them.

Fields that this version does not know are kept in `extra` and written again, so that a bundle may
pass through an older attar unharmed. docs/bundle.md explains each field.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from hashlib import sha256
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import BundleRefused, NotFound

SCHEMA_VERSION = "1.0"

MAX_JSON_BYTES = 4 * 2**20
MAX_FILE_BYTES = 2 * 2**30
"""A protobuf, which an ONNX file is, cannot be larger."""

SUFFIXES = (".onnx", ".json", ".npz", ".txt", ".md")
"""The kinds of file that a bundle may hold: graphs, JSON, arrays and words. None of them runs."""

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
TEXT_INPUTS = ("input_ids", "attention_mask")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Extra = Mapping[str, object]


def _extra() -> Extra:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor of a graph; an axis is a size, or a name where any size will do."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What the host does before the graph; for tensors, nothing."""

    tokenizer: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The embedding: its width, the widths it may be cut to, and whether its length is one."""

    name: str = "embedding"
    dim: int
    dims: tuple[int, ...]
    normalized: bool = True
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The interval of each dimension's values, which int8 divides into 255 steps."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    extra: Extra = field(default_factory=_extra)

    def at(self, dims: int) -> "Ranges":
        """Give the ranges of the first `dims` dimensions after renormalisation.

        Cutting a unit vector from d to k dimensions and renormalising it stretches what is left by
        sqrt(d / k) when the energy is spread evenly; training for several dims (Matryoshka) puts
        more of it in front, so that the stretched interval seldom clips.
        """
        stretch = math.sqrt(len(self.low) / dims)
        return Ranges(
            low=tuple(x * stretch for x in self.low[:dims]),
            high=tuple(x * stretch for x in self.high[:dims]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the bundle, by its content."""

    path: str
    sha256: str
    bytes: int
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What a machine must have to run a variant; an unknown requirement counts as not met."""

    cpu_flags: tuple[str, ...] = ()
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long one run took, and where; numbers of two hosts do not compare."""

    p50_ms: float
    threads: int
    batch: int
    length: int
    host: str
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One executable form of the encoder, with what was measured of it."""

    name: str
    file: str
    precision: str
    attention: str | None = None
    requires: Requires = field(default_factory=Requires)
    parity: Mapping[str, float] = field(default_factory=dict)
    probe: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    latency: Latency | None = None
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a bundle says about itself.

    `files` and `fingerprint` follow from the content: `Bundle.write` fills them in.
    """

    schema_version: str = SCHEMA_VERSION
    name: str
    version: str
    modality: str
    inputs: tuple[TensorSpec, ...]
    max_length: int | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    output: Output
    ranges: Ranges | None = None
    fingerprint: str = ""
    reference: str
    lineage: Mapping[str, object] = field(default_factory=dict)
    licence: str | None = None
    files: tuple[FileEntry, ...] = ()
    variants: tuple[Variant, ...]
    extra: Extra = field(default_factory=_extra)

    def variant(self, name: str) -> Variant:
        """Give the variant of that name, or say which there are."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(v.name for v in self.variants)
        raise NotFound(f"{self.name} has no variant {name!r}; it has {known}")

    def file(self, path: str) -> FileEntry:
        """Give the entry of that path, or say which there are."""
        for entry in self.files:
            if entry.path == path:
                return entry
        known = ", ".join(e.path for e in self.files)
        raise NotFound(f"{self.name} lists no file {path!r}; it lists {known}")


def fingerprint(manifest: Manifest) -> str:
    """Hash what defines the embedding space: vectors may be compared only when this agrees.

    Signature, preprocessing, tokenizer, output and the reference variant's weights; the other
    variants passed its parity gate, and dims and encoding stand beside every answer.
    """
    tokenizer = manifest.preprocessing.tokenizer
    space = {
        "modality": manifest.modality,
        "inputs": _plain(manifest.inputs),
        "max_length": manifest.max_length,
        "preprocessing": _plain(manifest.preprocessing),
        "output": _plain(manifest.output),
        "tokenizer_sha256": manifest.file(tokenizer).sha256 if tokenizer else None,
        "reference_sha256": manifest.file(manifest.variant(manifest.reference).file).sha256,
    }
    canonical = json.dumps(space, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{sha256(canonical.encode()).hexdigest()}"


def serialise(manifest: Manifest) -> bytes:
    """Give the bytes of manifest.json: sorted keys, two spaces, ASCII, one newline at the end."""
    text = json.dumps(_plain(manifest), sort_keys=True, indent=2, allow_nan=False)
    return text.encode() + b"\n"


def parse(data: bytes) -> Manifest:
    """Read manifest.json, or refuse it by a message that names the field."""
    document = read_json(data, "manifest.json")
    if not isinstance(document, dict):
        raise BundleRefused("field", f"manifest.json must be an object; got {_shown(document)}")
    version = document.get("schema_version")
    if not isinstance(version, str) or version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise BundleRefused(
            "schema-version",
            f"manifest.json has schema_version {version!r}; this attar reads {SCHEMA_VERSION} "
            "and its minor versions: install the attar that wrote it, or export again",
        )
    manifest = _read_object(Manifest, document, "manifest")
    _check(manifest)
    return manifest


def read_json(data: bytes, name: str) -> object:
    """Parse JSON strictly: no repeated keys, NaN or infinity, and at most 4 MiB of manifest."""
    if len(data) > MAX_JSON_BYTES and name == "manifest.json":
        raise BundleRefused("too-large", f"{name} has over {MAX_JSON_BYTES} bytes; a manifest is a few KB")
    try:
        document = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_int64,
        )
        json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise BundleRefused("bad-json", f"{name} is not strict JSON: {error}") from None
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Readers differ in which of two equal keys they believe, so neither is believed."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _int64(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{text[:20]}... does not fit in 64 bits")
    return int(text)


def _plain(value: object) -> object:
    """Turn dataclasses into what JSON has, with their unknown fields among the known ones."""
    if is_dataclass(value):
        known = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != "extra"}
        return {**getattr(value, "extra", {}), **known}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


_WORDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}

T = TypeVar("T")


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


def _read_object(schema: type[T], value: object, where: str) -> T:
    """Build a dataclass from a JSON object; what it does not know becomes its `extra`."""
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    known: dict[str, object] = {}
    for name, hint in _hints(schema).items():
        if name == "extra":
            continue
        if name in value:
            known[name] = _read(hint, value[name], f"{where}.{name}")
    missing = [
        f.name
        for f in fields(schema)  # type: ignore[arg-type]  # every schema here is a dataclass
        if f.name not in known and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise BundleRefused("field", f"{where} lacks {', '.join(missing)}")
    extra = {key: item for key, item in value.items() if key not in known}
    return schema(**known, extra=extra)


def _read(hint: Any, value: object, where: str) -> object:  # noqa: ANN401 -- a type hint has no type
    """Hold one JSON value to a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is object:
        return value
    if is_dataclass(hint):
        return _read_object(hint, value, where)  # type: ignore[arg-type]  # a class, not an instance
    if origin is UnionType and NoneType in arguments:
        return None if value is None else _read(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    scalars = arguments or (hint,)  # int | str is an axis
    if type(value) not in scalars:
        raise _wrong(where, " or ".join(_WORDS[s] for s in scalars), value)
    return value


def _wrong(where: str, expected: str, value: object) -> BundleRefused:
    shown = json.dumps(value)
    shown = shown if len(shown) < 60 else f"{shown[:57]}..."
    return BundleRefused("field", f"{where} must be {expected}; got {shown}")


def _check(m: Manifest) -> None:
    """Refuse a manifest whose fields contradict one another."""
    _check_files(m)
    _check_signature(m)
    _check_output(m)
    _check_variants(m)


def _require(holds: bool, where: str, expected: str, value: object) -> None:  # noqa: FBT001 -- reads as a sentence
    if not holds:
        raise _wrong(where, expected, value)


def check_path(path: str) -> None:
    """Refuse a path that could leave the bundle or that two systems would read differently."""
    if not _PATH.fullmatch(path) or any(part.endswith(".") for part in path.split("/")):
        raise BundleRefused(
            "hostile-path",
            f"{path!r} is not a plain relative path; use letters, digits, '.', '_' and '-' between single '/'",
        )
    if not path.endswith(SUFFIXES):
        raise BundleRefused(
            "file-kind", f"{path} is none of the kinds a bundle may hold: {', '.join(SUFFIXES)}"
        )


def _check_files(m: Manifest) -> None:
    seen = {"manifest.json"}
    for entry in m.files:
        check_path(entry.path)
        if entry.path.casefold() in seen:
            raise BundleRefused(
                "duplicate-path", f"files lists {entry.path} twice, or in two spellings of case; keep one"
            )
        seen.add(entry.path.casefold())
        where = f"files[{entry.path}]"
        _require(bool(_SHA256.fullmatch(entry.sha256)), f"{where}.sha256", "64 hex digits", entry.sha256)
        _require(entry.bytes >= 0, f"{where}.bytes", "0 or more", entry.bytes)
        if entry.bytes > MAX_FILE_BYTES:
            raise BundleRefused(
                "too-large", f"{entry.path} declares {entry.bytes} bytes; the limit is {MAX_FILE_BYTES}"
            )


def _check_listed(m: Manifest, where: str, path: str) -> None:
    if path not in {entry.path for entry in m.files}:
        raise BundleRefused("missing-file", f"{where} names {path}, which files does not list")


def _check_signature(m: Manifest) -> None:
    for where, name in (("name", m.name), ("version", m.version), ("modality", m.modality)):
        _require(bool(_NAME.fullmatch(name)), where, "letters, digits, '.', '_' or '-', at most 128", name)
    for spec in m.inputs:
        where = f"inputs[{spec.name}]"
        _require(spec.dtype in DTYPES, f"{where}.dtype", f"one of {', '.join(DTYPES)}", spec.dtype)
        _require(spec.shape[:1] == ("batch",), f"{where}.shape", "'batch' first", list(spec.shape))
        _require(
            all(axis if isinstance(axis, str) else axis > 0 for axis in spec.shape),
            f"{where}.shape",
            "positive sizes and names",
            list(spec.shape),
        )
    names = tuple(spec.name for spec in m.inputs)
    tokenizer = m.preprocessing.tokenizer
    if m.modality == "text":
        _require(names == TEXT_INPUTS, "inputs", f"{' and '.join(TEXT_INPUTS)} for text", list(names))
        _require(
            all(s.dtype == "int64" and len(s.shape) == 2 for s in m.inputs),  # noqa: PLR2004 -- batch, length
            "inputs",
            "int64 (batch, length) for text",
            [s.dtype for s in m.inputs],
        )
        _require(tokenizer is not None, "preprocessing.tokenizer", "a file for text", tokenizer)
        _require((m.max_length or 0) > 0, "max_length", "a positive number of tokens for text", m.max_length)
    else:
        _require(len(names) == 1, "inputs", f"one tensor for {m.modality}", list(names))
        _require(tokenizer is None, "preprocessing.tokenizer", f"absent for {m.modality}", tokenizer)
    if tokenizer is not None:
        _check_listed(m, "preprocessing.tokenizer", tokenizer)


def _check_output(m: Manifest) -> None:
    dim, dims = m.output.dim, m.output.dims
    _require(dim > 0, "output.dim", "positive", dim)
    _require(
        bool(dims) and dims[0] > 0 and dims[-1] == dim and list(dims) == sorted(set(dims)),
        "output.dims",
        f"rising widths that end with dim {dim}",
        list(dims),
    )
    _require(
        m.output.normalized or dims == (dim,),
        "output.dims",
        "dim alone where normalized is false, because a cut vector gets unit length",
        list(dims),
    )
    if m.ranges is not None:
        low, high = m.ranges.low, m.ranges.high
        _require(len(low) == len(high) == dim, "ranges", f"{dim} low and high", [len(low), len(high)])
        _require(all(a < b for a, b in zip(low, high, strict=True)), "ranges", "low below high", "otherwise")


def _check_variants(m: Manifest) -> None:
    names = [variant.name for variant in m.variants]
    for variant in m.variants:
        where = f"variants[{variant.name}]"
        _require(bool(_NAME.fullmatch(variant.name)), "variants.name", "letters, digits, '.', '_' or '-'", variant.name)
        if names.count(variant.name) > 1:
            raise BundleRefused("duplicate-variant", f"two variants are called {variant.name}; rename one")
        _require(variant.file.endswith(".onnx"), f"{where}.file", "an .onnx file", variant.file)
        _check_listed(m, where, variant.file)
        if variant.latency is not None:
            _require(variant.latency.p50_ms > 0, f"{where}.latency.p50_ms", "positive", variant.latency.p50_ms)
    _require(m.reference in names, "reference", f"one of the variants {names}", m.reference)
