"""What a bundle says about itself: the dataclasses are the schema, which `parse` holds a file to.

Fields that this version does not know are kept in `extra` and written again, so that a bundle may
pass through an older attar unharmed. docs/bundle.md explains each field.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from hashlib import sha256
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from .errors import BundleRefused, NotFound, NotSupported

SCHEMA_VERSION = "1.3"
TOKENS_SCHEMA_VERSION = "1.4"
"""Of a manifest with `tokens`, and of a cross-encoder's; the others keep their bytes."""

MAX_MANIFEST_BYTES = 4 * 2**20
_MAX_AXES = 64  # numpy's own limit
MAX_FILE_BYTES = 2 * 2**30
"""A protobuf, which an ONNX file is, cannot be larger."""

SUFFIXES = (".onnx", ".json", ".npz", ".txt", ".md")
"""The kinds of file that a bundle may hold: graphs, JSON, arrays and words. None of them runs."""

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
TEXT_INPUTS = ("input_ids", "attention_mask")
TEXT_PAIR = "text_pair"
"""The modality of a cross-encoder: a query and a document go in together, one score comes out."""

SEGMENTS = "token_type_ids"
"""The further input of a cross-encoder that is shown which token is of which text."""

SCORE = "score"
ACTIVATIONS = ("identity", "sigmoid")
"""What makes the score of a pair of the graph's output."""

MAX_COMPATIBLE = 64
"""Entries of `compatible_with`: an encoder has one teacher, or a few."""

_READABLE = re.compile(r"1\.[0-9]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")

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
class Range:
    """The least and the largest that something may be, both included."""

    min: float
    max: float
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRange:
    """The least and the largest size of an axis, both included."""

    min: int
    max: int
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an item costs a run, counted as a text's tokens.

    `tokens` for any item, and one more for every `elements` of its numbers; where nothing is said
    that is a patch of 16 x 16.
    """

    tokens: int = 0
    elements: int = 256
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Which items a tensor's encoder takes; what is not limited may be any.

    `axes` are the sizes of the axes that have a name, `max_elements` is the product of all sizes of
    an item, `max_ratio` the ratio of the largest to the least of the named ones, and `values` what
    the numbers were in training.
    """

    axes: Mapping[str, AxisRange] = field(default_factory=dict)
    max_elements: int | None = None
    max_ratio: float | None = None
    values: Range | None = None
    cost: Cost = field(default_factory=Cost)
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What the host does before the graph; for tensors, nothing.

    `truncation_side` is the end at which a text that is too long is cut, "right" or "left".
    """

    tokenizer: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    truncation_side: str = "right"
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The embedding: its width, the widths it may be cut to, and whether its length is one.

    Of a cross-encoder it is the score before its `activation`, "identity" or "sigmoid", which is
    None for an embedding.
    """

    name: str = "embedding"
    dim: int
    dims: tuple[int, ...]
    normalized: bool = True
    activation: str | None = None
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
class TokenOutput:
    """The vectors of an item's tokens: a second output of every graph, (batch, tokens, dim).

    `grid` is the rows and columns that an image's tokens lie in, in reading order; None for a text,
    which has as many as its tokens. `ranges` are those of the vectors at unit length.
    """

    name: str = "tokens"
    dim: int
    grid: tuple[int, int] | None = None
    ranges: Ranges | None = None
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the bundle, by its content."""

    path: str
    sha256: str
    bytes: int
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What a machine must have to run a variant; an unknown requirement counts as not met.

    `provider` is the execution provider of ONNX Runtime that the variant was made for; None is the
    CPU's. `library` is the distribution with the operators that its graph calls next to ONNX's and
    ONNX Runtime's; None is no such operator.
    """

    cpu_flags: tuple[str, ...] = ()
    provider: str | None = None
    library: str | None = None
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
    """One executable form of the encoder, with what was measured of it.

    `proven_on` are the instruction sets, as `attar.host.instruction_set` names them, on which it
    passed its gates.
    """

    name: str
    file: str
    precision: str
    attention: str | None = None
    requires: Requires = field(default_factory=Requires)
    parity: Mapping[str, float] = field(default_factory=dict)
    probe: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    latency: Latency | None = None  # on one thread
    latency_all_threads: Latency | None = None
    peak_mb: float | None = None  # of a process that loads it and runs one item
    proven_on: tuple[str, ...] = ()
    extra: Extra = field(default_factory=_extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatible:
    """Another embedding space, whose vectors this bundle's encoder may search.

    `fingerprint` is the space of the indexed vectors, `query_fingerprint` that of the encoder which
    was measured: the bundle's own, so that an entry cannot stay when the encoder changes. `cosine`
    is the mean between both encoders' embeddings of the same held-out texts, `recall_at_10` that of
    this encoder's queries among the other's documents; both by the reference variants, at full
    width.
    """

    fingerprint: str
    query_fingerprint: str
    cosine: float
    recall_at_10: float
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
    limits: Limits | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    output: Output
    ranges: Ranges | None = None
    tokens: TokenOutput | None = None
    fingerprint: str = ""
    compatible_with: tuple[Compatible, ...] = ()
    reference: str
    lineage: Mapping[str, object] = field(default_factory=dict)
    licence: str | None = None
    files: tuple[FileEntry, ...] = ()
    variants: tuple[Variant, ...]
    extra: Extra = field(default_factory=_extra)

    @property
    def scores_pairs(self) -> bool:
        """Whether it is of a cross-encoder, which scores pairs of texts and embeds none."""
        return self.modality == TEXT_PAIR

    def require_encoder(self, what: str) -> None:
        """Raise NotSupported for a cross-encoder where `what` takes an encoder."""
        if self.scores_pairs:
            raise NotSupported(
                f"{self.name} is a cross-encoder: it scores a query with a document and gives no "
                f"embedding, and {what} takes an encoder; rank documents by it"
            )

    def variant(self, name: str) -> Variant:
        """Give the variant of that name, or say which there are."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = ", ".join(v.name for v in self.variants)
        raise NotFound(f"{self.name} has no variant {name!r}; it has {names}")

    def file(self, path: str) -> FileEntry:
        """Give the entry of that path, or say which there are."""
        for entry in self.files:
            if entry.path == path:
                return entry
        names = ", ".join(e.path for e in self.files)
        raise NotFound(f"{self.name} lists no file {path!r}; it lists {names}")


def fingerprint(manifest: Manifest) -> str:
    """Hash what defines the embedding space: vectors may be compared only when this agrees.

    Signature, preprocessing, tokenizer, outputs and the reference variant's weights; the other
    variants passed its parity gate, dims and encoding are in every answer, and limits say
    which items there are vectors of, not which vectors.
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
    if manifest.tokens is not None:
        space["tokens"] = [manifest.tokens.name, manifest.tokens.dim, manifest.tokens.grid]
    canonical = json.dumps(space, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{sha256(canonical.encode()).hexdigest()}"


def serialise(manifest: Manifest) -> bytes:
    """Give the bytes of manifest.json: sorted keys, two spaces, ASCII, one newline at the end."""
    text = json.dumps(_plain(manifest), sort_keys=True, indent=2, allow_nan=False)
    return text.encode() + b"\n"


def parse(data: bytes) -> Manifest:
    """Read manifest.json, or refuse it by a message that names the field."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleRefused(
            "too-large",
            f"manifest.json has more than {MAX_MANIFEST_BYTES} bytes; it needs a few KB",
        )
    document = read_json(data, "manifest.json")
    if not isinstance(document, dict):
        raise _wrong("manifest.json", "an object", document)
    version = document.get("schema_version")
    if not isinstance(version, str) or not _READABLE.fullmatch(version):
        raise BundleRefused(
            "schema-version",
            f"manifest.json has schema_version {version!r}; this attar reads every 1.N "
            f"and writes {SCHEMA_VERSION}: use the attar that wrote it, or export again",
        )
    manifest = _read_object(Manifest, document, "manifest")
    _check_files(manifest)
    _check_signature(manifest)
    _check_limits(manifest)
    _check_output(manifest)
    _check_tokens(manifest)
    _check_variants(manifest)
    _check_compatible(manifest)
    return manifest


def read_json(data: bytes, name: str) -> object:
    """Parse JSON strictly: no repeated keys, NaN, infinity, huge numbers or broken text."""
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
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return members


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
        fields_ = {
            f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != "extra"
        }
        if isinstance(value, Preprocessing) and value.truncation_side == "right":
            del fields_["truncation_side"]  # so that bundles from before it keep their fingerprint
        if isinstance(value, Manifest) and value.tokens is None:
            del fields_["tokens"]  # so that bundles without keep their bytes
        if isinstance(value, Output) and value.activation is None:
            del fields_["activation"]  # as above
        if isinstance(value, Requires):
            # An attar that does not know one of these takes it for a requirement not met.
            unset = [name for name in ("provider", "library") if fields_[name] is None]
            fields_ = {name: item for name, item in fields_.items() if name not in unset}
        return {**getattr(value, "extra", {}), **fields_}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


_JSON_TYPES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}

T = TypeVar("T")


@cache
def _schema(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """Give a dataclass's type hints but for `extra`, and the names that have no default."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name != "extra"}
    defaults = {f.name: (f.default, f.default_factory) for f in fields(kind)}
    return hints, [name for name in hints if defaults[name] == (MISSING, MISSING)]


def _read_object(kind: Callable[..., T], value: object, where: str) -> T:
    """Build a dataclass from a JSON object; what it does not know becomes its `extra`."""
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    hints, required = _schema(kind)
    if missing := [name for name in required if name not in value]:
        raise BundleRefused("field", f"{where} lacks {', '.join(missing)}")
    known = {k: _read(hints[k], item, f"{where}.{k}") for k, item in value.items() if k in hints}
    return kind(**known, extra={k: item for k, item in value.items() if k not in hints})


def _read(hint: Any, value: object, where: str) -> object:
    """Hold one JSON value to a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is object:
        return value
    if is_dataclass(hint):
        return _read_object(cast("Callable[..., object]", hint), value, where)
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
        raise _wrong(where, " or ".join(_JSON_TYPES[s] for s in scalars), value)
    return value


def _wrong(where: str, expected: str, value: object) -> BundleRefused:
    shown = json.dumps(value)
    shown = shown if len(shown) < 60 else f"{shown[:57]}..."
    return BundleRefused("field", f"{where} must be {expected}; got {shown}")


def _require(where: str, expected: str, value: object, *, holds: bool) -> None:
    if not holds:
        raise _wrong(where, expected, value)


def check_path(path: str) -> None:
    """Refuse a path that could leave the bundle, or that two systems would read differently."""
    if not _PATH.fullmatch(path) or any(part.endswith(".") for part in path.split("/")):
        raise BundleRefused(
            "hostile-path",
            f"{path!r} is not a plain relative path; "
            "use letters, digits, '.', '_' and '-', folders divided by one '/'",
        )


def _check_files(m: Manifest) -> None:
    seen = {"manifest.json", "signature.json"}
    for entry in m.files:
        where = f"files[{entry.path}]"
        check_path(entry.path)
        if not entry.path.endswith(SUFFIXES):
            raise BundleRefused(
                "file-kind", f"{where} is no kind a bundle may hold: {', '.join(SUFFIXES)}"
            )
        if entry.path.casefold() in seen:
            raise BundleRefused(
                "duplicate-path", f"{where} is listed twice, or differs only in case; keep one"
            )
        seen.add(entry.path.casefold())
        digest, size = entry.sha256, entry.bytes
        _require(f"{where}.sha256", "64 hex digits", digest, holds=bool(_SHA256.fullmatch(digest)))
        _require(f"{where}.bytes", "0 or more", size, holds=size >= 0)
        if size > MAX_FILE_BYTES:
            raise BundleRefused("too-large", f"{where} has {size} bytes; limit {MAX_FILE_BYTES}")


def _check_listed(m: Manifest, where: str, path: str) -> None:
    if path not in {entry.path for entry in m.files}:
        raise BundleRefused("missing-file", f"{where} is {path!r}, which files does not list")


def _check_name(where: str, name: str) -> None:
    expected = "up to 128 letters, digits, '.', '_' or '-'"
    _require(where, expected, name, holds=bool(_NAME.fullmatch(name)))


def _check_signature(m: Manifest) -> None:
    _check_name("name", m.name)
    _check_name("version", m.version)
    _check_name("modality", m.modality)
    for spec in m.inputs:
        where, shape = f"inputs[{spec.name}]", list(spec.shape)
        _require(
            f"{where}.dtype", f"one of {', '.join(DTYPES)}", spec.dtype, holds=spec.dtype in DTYPES
        )
        few = len(shape) <= _MAX_AXES  # before they are multiplied
        _require(f"{where}.shape", f"of at most {_MAX_AXES} axes", len(shape), holds=few)
        _require(f"{where}.shape", "'batch' first", shape, holds=shape[:1] == ["batch"])
        sized = all(axis if isinstance(axis, str) else axis > 0 for axis in shape)
        _require(f"{where}.shape", "positive sizes and names", shape, holds=sized)
    names = tuple(spec.name for spec in m.inputs)
    tokenizer = m.preprocessing.tokenizer
    where = "preprocessing.tokenizer"
    is_text = m.modality in ("text", TEXT_PAIR)
    if is_text:
        allowed = [TEXT_INPUTS, (*TEXT_INPUTS, SEGMENTS)][: 1 + m.scores_pairs]
        expected = ", or ".join(" and ".join(each) for each in allowed)
        _require("inputs", expected, list(names), holds=names in allowed)
        kinds = [[spec.dtype, len(spec.shape)] for spec in m.inputs]
        _require("inputs", "int64 of 2 axes", kinds, holds=kinds == [["int64", 2]] * len(names))
        _require("max_length", "positive for text", m.max_length, holds=(m.max_length or 0) > 0)
        _require(where, "a file for text", tokenizer, holds=tokenizer is not None)
    else:
        _require("inputs", f"one tensor for {m.modality}", list(names), holds=len(names) == 1)
        _require(where, f"null for {m.modality}", tokenizer, holds=tokenizer is None)
    if tokenizer is not None:
        _check_listed(m, where, tokenizer)
    side, where = m.preprocessing.truncation_side, "preprocessing.truncation_side"
    sides = ("right", "left") if is_text else ("right",)
    _require(where, " or ".join(sides), side, holds=side in sides)


def _check_limits(m: Manifest) -> None:
    if (limits := m.limits) is None:
        return
    is_text = m.modality in ("text", TEXT_PAIR)
    _require("limits", "null for text, which max_length limits", {}, holds=not is_text)
    named = sorted({axis for axis in m.inputs[0].shape[1:] if isinstance(axis, str)})
    for name, axis in limits.axes.items():
        where = f"limits.axes.{name}"
        _require("limits.axes", f"of the named axes {named}", name, holds=name in named)
        _require(
            where, "min from 1, max from min", [axis.min, axis.max], holds=1 <= axis.min <= axis.max
        )
    cost = [limits.cost.tokens, limits.cost.elements]
    _require("limits.cost", "tokens from 0, elements from 1", cost, holds=cost[0] >= 0 < cost[1])
    for bound in ("max_elements", "max_ratio"):
        most = getattr(limits, bound)
        _require(f"limits.{bound}", "1 or more", most, holds=most is None or most >= 1)
    least = math.prod(
        axis if isinstance(axis, int) else limits.axes[axis].min if axis in limits.axes else 1
        for axis in m.inputs[0].shape[1:]
    )
    most = limits.max_elements
    fits = most is None or most >= least
    _require("limits.max_elements", f"{least}, the least item's, or more", most, holds=fits)
    if (values := limits.values) is not None:
        _require(
            "limits.values",
            "min below max",
            [values.min, values.max],
            holds=values.min < values.max,
        )


def _check_output(m: Manifest) -> None:
    dim, dims = m.output.dim, list(m.output.dims)
    rising = bool(dims) and dims[0] > 0 and dims == sorted(set(dims))
    _require(
        "output.dims", f"rising widths up to dim {dim}", dims, holds=rising and dims[-1] == dim
    )
    activation = m.output.activation
    if m.scores_pairs:
        known = " or ".join(ACTIVATIONS)
        _require("output.activation", known, activation, holds=activation in ACTIVATIONS)
        score = [m.output.name, dim, m.output.normalized]
        _require("output", "one score of any size", score, holds=score == [SCORE, 1, False])
    else:
        where = "output.activation"
        _require(where, f"null for {m.modality}", activation, holds=activation is None)
    # A cut vector gets unit length, so it must have had it before.
    uncut = m.output.normalized or dims == [dim]
    _require("output.dims", "dim alone where normalized is false", dims, holds=uncut)
    _check_ranges("ranges", m.ranges, dim)


def _check_tokens(m: Manifest) -> None:
    if (tokens := m.tokens) is None:
        return
    name, dim, grid = tokens.name, tokens.dim, tokens.grid
    _require("tokens.name", "another than the output's", name, holds=name != m.output.name)
    _require("tokens.dim", "1 or more", dim, holds=dim > 0)
    if m.modality == "text":
        _require("tokens.grid", "null for text", grid, holds=grid is None)
    else:
        shape = list(grid or ())
        sized = len(shape) == 2 and min(shape) > 0
        _require("tokens.grid", "rows and columns, 1 or more of each", shape, holds=sized)
    _check_ranges("tokens.ranges", tokens.ranges, dim)


def _check_ranges(where: str, ranges: Ranges | None, dim: int) -> None:
    if ranges is None:
        return
    low, high = ranges.low, ranges.high
    sizes = [len(low), len(high)]
    _require(where, f"{dim} low and {dim} high", sizes, holds=sizes == [dim, dim])
    for i, (least, most) in enumerate(zip(low, high, strict=True)):
        _require(f"{where}[{i}]", "low below high", [least, most], holds=least < most)


def _check_variants(m: Manifest) -> None:
    names = [variant.name for variant in m.variants]
    for variant in m.variants:
        where = f"variants[{variant.name}]"
        _check_name("variants.name", variant.name)
        if names.count(variant.name) > 1:
            raise BundleRefused("duplicate-variant", f"two variants are called {variant.name}")
        is_graph = variant.file.endswith(".onnx")
        _require(f"{where}.file", "an .onnx file", variant.file, holds=is_graph)
        _check_listed(m, f"{where}.file", variant.file)
        for name in ("latency", "latency_all_threads"):
            latency = getattr(variant, name)
            if latency is not None:
                p50 = latency.p50_ms
                _require(f"{where}.{name}.p50_ms", "positive", p50, holds=p50 > 0)
    _require("reference", f"one of the variants {names}", m.reference, holds=m.reference in names)


def _check_compatible(m: Manifest) -> None:
    entries = m.compatible_with
    expected = f"at most {MAX_COMPATIBLE} entries"
    _require("compatible_with", expected, len(entries), holds=len(entries) <= MAX_COMPATIBLE)
    for i, entry in enumerate(entries):
        where, other = f"compatible_with[{i}]", entry.fingerprint
        is_hash = bool(_FINGERPRINT.fullmatch(other))
        _require(f"{where}.fingerprint", "sha256: and 64 hex digits", other, holds=is_hash)
        is_other = other != m.fingerprint
        _require(f"{where}.fingerprint", "of another space than its own", other, holds=is_other)
        is_new = other not in {earlier.fingerprint for earlier in entries[:i]}
        _require(f"{where}.fingerprint", "listed once", other, holds=is_new)
        measured = entry.query_fingerprint
        expected = f"the bundle's own fingerprint {m.fingerprint}: measure again"
        _require(f"{where}.query_fingerprint", expected, measured, holds=measured == m.fingerprint)
        _require(f"{where}.cosine", "above 0, up to 1", entry.cosine, holds=0 < entry.cosine <= 1)
        recall, where = entry.recall_at_10, f"{where}.recall_at_10"
        _require(where, "from 0 to 1", recall, holds=0 <= recall <= 1)
