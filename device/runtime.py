"""One encoder, the same numbers everywhere: a bundle's variant run by ONNX Runtime.

Device and server use the same three steps, `prepare`, `infer` and `finish`; `embed` is their sum.
"""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias
from weakref import WeakSet

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from .bundle import HEADS, Bundle
from .encodings import ENCODINGS, Encoding, Vectors, encode, slice_dims
from .errors import (
    AttarError,
    BackendError,
    BundleRefused,
    InvalidInput,
    NotSupported,
    ShapeError,
    SpaceMismatch,
)
from .heads import Head, read_head
from .host import cpu_flags, instruction_set
from .host_step import host_step
from .inputs import Items, Prepared, Role, TextPair, Truncation, as_text, listed
from .manifest import Manifest, TensorSpec, Variant
from .native import LIBRARY, library_path
from .providers import CPU, Execution, Provider
from .ranking import Ranking, activated, best, check_top_n, cosines, scorer_of
from .token_vectors import (
    Grid,
    Pooling,
    TokenEmbeddings,
    at_unit_length,
    check_pooling,
    grid_means,
)

_LEFT_OUT = ["ConstantFolding"]
"""What a file's constants make a session compute as it opens is bounded before: see
`onnx_scan.constant_folding`."""

_WEIGHTS_FOLDER = ("session.model_external_initializers_file_folder_path", os.devnull)
"""Where a session looks for weights outside its file: where none can lie, not where we work."""

_ONNX_ALONE = ("session.load_model_format", "ONNX")
"""A session looks for the mark of ONNX Runtime's own format otherwise, where a check saw ONNX."""

_SLOWER_ON_A_CPU = ["SkipLayerNormFusion"]
"""A fusion of ONNX Runtime 1.32 whose kernel for CPUs costs more than what it replaces."""

_BATCH_TOKENS = 1024
"""Padded tokens in one run of `embed`; more leave a CPU's caches.

Six layers of width 384 embed 8,300 tokens a second on one core of an AMD EPYC with AVX-512 at
1024, 6,800 at 4096 and 6,200 at 16384.
"""

_ORT_TYPES = {"float32": "tensor(float)", "float64": "tensor(double)"}  # the others: tensor(dtype)


Graph: TypeAlias = Callable[[Mapping[str, NDArray[Any]], str], Vectors]
"""Runs a graph: from its inputs by name, each (n, ...), to its output of a name, float32."""


def load(
    path: str | os.PathLike[str] | Bundle,
    *,
    variant: str | None = None,
    max_latency_ms: float | None = None,
    max_bytes: float | None = None,
    threads: int | None = None,
    provider: Provider | None = None,
    device_id: int = 0,
    provider_options: Mapping[str, str] | None = None,
    allow_token_ids: bool = False,
    require_signature: str | os.PathLike[str] | None = None,
) -> "Encoder":
    """Open a bundle, folder or zip, unless it is given opened, and give its encoder, ready to run.

    Without a `variant`, the fastest one by its recorded median latency that this machine can run
    and that keeps within `max_latency_ms` and `max_bytes` (of its file); where none has a recorded
    latency, the reference if it fits, else the smallest. Variants whose numbers hold here come
    first: those in float32, and others if they were proven on this CPU's instruction set. Latency
    was recorded on the bundle's host and is not scaled to this one. `threads` share one run; None
    leaves it to ONNX Runtime: one for each physical core.

    `provider` is what runs the graph: cpu, cuda, tensorrt (both on CUDA device `device_id`) or
    openvino, with `provider_options` as ONNX Runtime spells them; None is the one that the variant
    requires, else cpu. On another one than the CPU, variants made for it come first, then the
    float32 ones. The provider obtained is the requested one.

    An item may be token ids where they can be this tokenizer's own output: its special tokens
    around, and the same ids when they are spelled and cut again. `allow_token_ids` takes any.

    With `require_signature`, a PEM file of public keys, one of those must have signed the bundle.

    Raises BundleRefused, NotFound (no such path or variant), NotSupported (this machine lacks what
    the variant requires, or the provider) or InvalidInput (no variant fits; the message has each
    one's number).

    Example:
        >>> encoder = attar.load("student.attar")
        >>> encoder.embed(["the cat", "the dog"]).vectors.shape
        (2, 16)
    """
    for name, value in (("threads", threads), ("device_id", device_id)):
        _hold(name, value, int | np.integer, "a whole number")
    _hold("max_bytes", max_bytes, int | float | np.number, "bytes")  # 50e6 is how people write it
    _hold("max_latency_ms", max_latency_ms, int | float | np.number, "milliseconds")
    if not isinstance(allow_token_ids, bool):
        raise InvalidInput(f"allow_token_ids is {allow_token_ids!r:.80}; give True or False")
    if threads is not None and threads < 1:
        raise InvalidInput(f"threads must be 1 or more, or None for all cores; got {threads}")
    execution = _execution(provider, device_id, provider_options)
    bundle = _opened(path, require_signature)
    if variant is None:
        chosen = _choose(
            bundle.manifest,
            max_latency_ms=max_latency_ms,
            max_bytes=max_bytes,
            execution=execution,
        )
    elif max_latency_ms is None and max_bytes is None:
        chosen = _named(bundle, variant, execution)
    else:
        raise InvalidInput(
            f"variant {variant!r} is named, so max_latency_ms and max_bytes have nothing "
            "to choose; pass the one or the others"
        )
    return Encoder(
        bundle, chosen, threads=threads, execution=execution, allow_token_ids=allow_token_ids
    )


def _execution(
    provider: Provider | None, device_id: int, options: Mapping[str, str] | None
) -> Execution | None:
    """Give what runs the graph, None for what the variant requires; refused before reading."""
    _hold("provider_options", options, Mapping, "names and values")
    if provider is not None:
        execution = Execution(provider=provider, device_id=device_id, options=options or {})
        execution.chain()
        return execution
    if device_id or options:
        raise InvalidInput("device_id and provider_options are a provider's; name the provider")
    return None


def _named(bundle: Bundle, variant: str, execution: Execution | None) -> Variant:
    """Give a variant by name; raises NotSupported where this machine cannot run it."""
    chosen = bundle.variant(variant)
    if lacks := _lacks(chosen, execution):
        fix = f"pip install {LIBRARY}, or " if LIBRARY in lacks else ""
        raise NotSupported(
            f"variant {variant} needs {lacks}, which this machine lacks; {fix}choose another"
        )
    return chosen


def _opened(
    path: str | os.PathLike[str] | Bundle, require_signature: str | os.PathLike[str] | None
) -> Bundle:
    if not isinstance(path, Bundle):
        return Bundle.open(path, require_signature=require_signature)
    if require_signature is None:
        return path
    raise InvalidInput("a bundle is held to its keys as it is opened; give them to Bundle.open")


def _hold(name: str, value: object, kind: Any, what: str) -> None:
    """Refuse an option of another type."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
        raise InvalidInput(f"{name} is {value!r:.80}, a {type(value).__name__}; give {what}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Embeddings:
    """Encoded vectors, one a row, with what happened to each item and the space they live in."""

    vectors: NDArray[Any]
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    encoding: Encoding
    dims: int
    fingerprint: str
    variant: str

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    def __getitem__(self, index: int | slice | NDArray[Any]) -> NDArray[Any]:
        """Give a row's vector, or several, as numpy indexes them."""
        rows: NDArray[Any] = self.vectors[index]
        return rows

    def __array__(
        self,
        dtype: DTypeLike | None = None,
        copy: bool | None = None,
    ) -> NDArray[Any]:
        """Be the vectors wherever numpy expects an array."""
        return np.array(self.vectors, dtype=dtype, copy=copy)


class Encoder:
    """A loaded variant; any number of threads may use one encoder at the same time.

    A process forked from this one opens the bundle again at its first use there: the session's
    threads stay with the parent. A pickled encoder is the bundle's path and what was chosen, so
    opening it needs the same bundle at the same path, else SpaceMismatch or what `load` raises.
    """

    def __init__(
        self,
        bundle: Bundle,
        variant: Variant,
        *,
        threads: int | None = None,
        execution: Execution | None = None,
        graph: Callable[[], Graph] | None = None,
        allow_token_ids: bool = False,
    ) -> None:
        """Start a session for `variant` of `bundle`; `load` also chooses one and checks the CPU.

        `threads` and `allow_token_ids` are as `load` takes them, and `execution` is the provider
        with its options. `graph` opens what runs the graph instead, somewhere else. Raises what
        `load` does where the graph cannot be opened.
        """
        self.bundle = bundle
        self._path = str(bundle.path.absolute())  # of the folder that the process works in now
        self.manifest: Manifest = bundle.manifest
        self.variant = variant
        self.fingerprint = self.manifest.fingerprint
        self.dim = self.manifest.output.dim
        self.dims = self.manifest.output.dims
        self.max_length = self.manifest.max_length
        self.modality = self.manifest.modality
        self._allow_token_ids = allow_token_ids
        self._inputs = host_step(bundle, allow_token_ids=allow_token_ids)
        self._elsewhere = graph is not None
        self._threads, self._execution = threads, execution
        self._open = graph or partial(_graph, bundle, variant, threads, execution)
        self._graph: Graph | None = self._open()
        _ENCODERS.add(self)

    def reopened(self) -> "Encoder":
        """Give the same encoder with its own session, read from the bundle once more.

        It needs the bundle where it was; raises what `load` does.

        Example:
            >>> encoder = attar.load("student.attar")
            >>> encoder.reopened().fingerprint == encoder.fingerprint
            True
        """
        return Encoder(
            self.bundle,
            self.variant,
            threads=self._threads,
            execution=self._execution,
            graph=self._open if self._elsewhere else None,
            allow_token_ids=self._allow_token_ids,
        )

    def __reduce__(self) -> tuple[Callable[..., "Encoder"], tuple[object, ...]]:
        """Pickle the path and the choices; NotSupported for one that runs somewhere else."""
        if self._elsewhere:
            raise NotSupported(
                f"an encoder of {self.manifest.name} that another process runs cannot be pickled; "
                "open it where it is used"
            )
        execution = self._execution
        chosen = {
            "variant": self.variant.name,
            "threads": self._threads,
            "provider": execution.provider if execution else None,
            "device_id": execution.device_id if execution else 0,
            "provider_options": execution.options if execution else None,
            "allow_token_ids": self._allow_token_ids,
            "require_signature": self.bundle.require_signature,
        }
        return _unpickled, (self._path, self.fingerprint, chosen)

    @cached_property
    def heads(self) -> Mapping[str, Head]:
        """The bundle's own classifiers and detectors, by the names of their files in heads/.

        Classifiers and detectors take the embeddings of this encoder, at full width, and
        `CodeSurprise` the states of tokens. Raises BundleRefused for a damaged one.

        Example:
            >>> sorted(attar.load("student.attar").heads)
            []
        """
        return read_heads(self.bundle)

    def embed(
        self,
        items: Items,
        *,
        dims: int | None = None,
        encoding: Encoding = "f32",
        role: Role = "passage",
        truncation: Truncation = "truncate",
    ) -> Embeddings:
        """Embed `items`, texts, or arrays for a tensor modality: (n, dims), a row an item.

        `dims` cuts to a width the bundle declares; `encoding` is how a row is stored; `role` picks
        the prompt, "passage", "query" or another that the bundle names; `truncation` cuts an item
        at `max_length` tokens and flags it, or raises.
        Raises InvalidInput that names the bad option, or the first bad item by its index, and
        NotSupported for a cross-encoder, which scores pairs of texts (`rank`).

        Example:
            >>> encoder = attar.load("student.attar")
            >>> encoder.embed(["the cat"], encoding="binary").vectors.shape  # 16 bits
            (1, 2)
        """
        self.manifest.require_encoder("embed")
        self._check(dims, encoding)
        rows = self.prepare(items, role=role, truncation=truncation)
        tokens = np.array([row.tokens for row in rows], np.int32)
        vectors = self._infer_all(rows, tokens)
        return Embeddings(
            vectors=self.finish(vectors, dims=dims, encoding=encoding),
            tokens=tokens,
            truncated=np.array([row.truncated for row in rows], np.bool_),
            encoding=encoding,
            dims=dims or self.dim,
            fingerprint=self.fingerprint,
            variant=self.variant.name,
        )

    def embed_tokens(
        self,
        items: Items,
        *,
        pooling: Pooling = "none",
        grid: Grid | None = None,
        encoding: Encoding = "f32",
        role: Role = "passage",
        truncation: Truncation = "truncate",
    ) -> TokenEmbeddings:
        """Embed the parts of `items`: the patches of an image, or the tokens of a text.

        With `pooling` "none" each token has a vector, a text's special tokens included; with "grid"
        an image has the means of the cells of `grid`, (rows, columns), at most those that its
        tokens lie in. All have unit length. `encoding`, `role` and `truncation` are those of
        `embed`; int8 has the ranges of tokens.

        Raises NotSupported for a bundle that was exported without token vectors, and what `embed`
        raises.

        Example:
            >>> encoder = attar.load("student.attar")
            >>> encoder.embed_tokens(["the cat", "a"]).lengths  # [CLS] and [SEP] have one each
            array([4, 3], dtype=int32)
        """
        _, cells = check_pooling(self.manifest, pooling, grid)
        self.finish_tokens(np.zeros((1, self.token_dim), np.float32), encoding=encoding)
        rows = self.prepare(items, role=role, truncation=truncation)
        parts: list[Vectors] = [np.empty(0, np.float32)] * len(rows)
        for batch in _batches(np.array([row.tokens for row in rows], np.int32)):
            tokens = self.infer_tokens([rows[i] for i in batch], pooling=pooling, grid=grid)
            for i, part in zip(batch, tokens, strict=True):
                parts[i] = part
        vectors = np.concatenate([np.empty((0, self.token_dim), np.float32), *parts])
        return TokenEmbeddings(
            vectors=self.finish_tokens(vectors, encoding=encoding),
            lengths=np.array([len(part) for part in parts], np.int32),
            truncated=np.array([row.truncated for row in rows], np.bool_),
            grid=cells if cells[0] else None,
            encoding=encoding,
            dim=self.token_dim,
            fingerprint=self.fingerprint,
            variant=self.variant.name,
        )

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        truncation: Truncation = "truncate",
    ) -> Ranking:
        """Score `documents` for a `query`, and give the `top_n` best of them, or all.

        A cross-encoder reads the query with each document, and its scores are those of
        sentence_transformers' CrossEncoder.predict. Of another encoder of texts they are the
        cosines of its embeddings; the ranking's `scorer` says which. `truncation` cuts what is
        longer than `max_length` tokens, or raises. Raises InvalidInput that names the bad option or
        document, and NotSupported where the bundle takes no texts.

        Example:
            >>> ranking = attar.load("student.attar").rank("the cat", ["the dog", "the cat"])
            >>> ranking.indices.tolist()
            [1, 0]
        """
        top_n = check_top_n(top_n)
        if isinstance(query, str):
            as_text(query, 0)
        else:
            raise InvalidInput(f"query must be a string; got {type(query).__name__}")
        texts = [as_text(document, i) for i, document in enumerate(listed(documents))]
        if self.manifest.scores_pairs:
            pairs = [TextPair(query, text) for text in texts]
            rows = self.prepare(pairs, truncation=truncation)
            tokens = np.array([row.tokens for row in rows], np.int32)
            logits = self.finish(self._infer_all(rows, tokens))[:, 0]
            scores = activated(logits, self.manifest.output.activation)
            truncated = np.array([row.truncated for row in rows], np.bool_)
        else:
            self._require_texts()
            embedded = self.embed(texts, truncation=truncation)
            asked = self.embed([query], role="query", truncation=truncation)
            scores = cosines(asked.vectors[0], embedded.vectors)
            tokens, truncated = embedded.tokens, embedded.truncated
        order = best(scores, top_n)
        return Ranking(
            indices=order,
            scores=scores[order],
            tokens=tokens,
            truncated=truncated,
            scorer=scorer_of(self.manifest),
            fingerprint=self.fingerprint,
            variant=self.variant.name,
        )

    def _require_texts(self) -> None:
        if self.modality != "text":
            raise NotSupported(
                f"{self.manifest.name} takes {self.modality}, and a ranking is of texts"
            )

    def _infer_all(self, rows: Sequence[Prepared], tokens: NDArray[np.int32]) -> Vectors:
        """Run rows in batches of like length: (n, dim)."""
        vectors = np.empty((len(rows), self.dim), np.float32)
        for batch in _batches(tokens):
            vectors[batch] = self.infer([rows[i] for i in batch])
        return vectors

    @property
    def token_dim(self) -> int:
        """The width of token vectors; 0 for a bundle without them."""
        return self.manifest.tokens.dim if self.manifest.tokens else 0

    def prepare(
        self, items: Items, *, role: Role = "passage", truncation: Truncation = "truncate"
    ) -> list[Prepared]:
        """Take the host's step for all `items`; InvalidInput names the first bad one's index.

        `role` and `truncation` are those of `embed`.

        Examples:
            >>> [row.tokens for row in attar.load("student.attar").prepare(["the cat"])]
            [4]
        """
        return self._inputs.prepare(items, role=role, truncation=truncation)

    def infer(self, rows: Sequence[Prepared]) -> Vectors:
        """Run prepared rows as one batch, padded to the longest: (n, dim) float32.

        Tensors of different shapes cannot share a batch; they run shape by shape. A row that the
        graph turns into NaN is given as it is, for its batch-mates are sound: `finish` refuses it.
        Raises BackendError.

        Example:
            >>> encoder = attar.load("student.attar")
            >>> encoder.infer(encoder.prepare(["the cat", "the dog"])).shape
            (2, 16)
        """
        vectors = np.empty((len(rows), self.dim), np.float32)
        output = self.manifest.output
        for group in self._groups(rows):
            arrays = self._inputs.batch([rows[i] for i in group])
            vectors[group] = self._run(arrays, output.name, (output.dim,))
        return vectors

    def infer_tokens(
        self, rows: Sequence[Prepared], *, pooling: Pooling = "none", grid: Grid | None = None
    ) -> list[Vectors]:
        """Run prepared rows as one batch: for each its token vectors, (tokens, dim) float32.

        `pooling` and `grid` are those of `embed_tokens`, and what is said of `infer` holds. Raises
        BackendError, and what `embed_tokens` does for the options.

        Example:
            >>> encoder = attar.load("student.attar")
            >>> [len(part) for part in encoder.infer_tokens(encoder.prepare(["the cat", "a"]))]
            [4, 3]
        """
        tokens, cells = check_pooling(self.manifest, pooling, grid)
        parts: list[Vectors] = [np.empty(0, np.float32)] * len(rows)
        for group in self._groups(rows):
            arrays = self._inputs.batch([rows[i] for i in group])
            count = arrays[0].shape[1] if tokens.grid is None else tokens.grid[0] * tokens.grid[1]
            for i, states in zip(
                group, self._run(arrays, tokens.name, (count, tokens.dim)), strict=True
            ):
                own = (
                    states[: rows[i].tokens]
                    if tokens.grid is None
                    else grid_means(states, tokens.grid, cells)
                )
                parts[i] = at_unit_length(own)
        return parts

    def _groups(self, rows: Sequence[Prepared]) -> list[list[int]]:
        """Divide rows into those that may share a batch."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(self._inputs.key(row), []).append(i)
        return [*groups.values()]

    def finish(
        self, vectors: Vectors, *, dims: int | None = None, encoding: Encoding = "f32"
    ) -> NDArray[Any]:
        """Cut `vectors`, (n, dim), to `dims` with unit length again, and encode them.

        Raises ShapeError for rows of another width, InvalidInput for an undeclared `dims`,
        NotSupported for int8 without declared ranges, BackendError for rows that are not finite.

        Example:
            >>> encoder = attar.load("student.attar")
            >>> encoder.finish(np.ones((1, 16), np.float32), encoding="f16").dtype
            dtype('float16')
        """
        dims = self._check(dims, encoding)
        given: object = vectors
        if not isinstance(given, np.ndarray) or given.shape[1:] != (self.dim,):
            shape = getattr(given, "shape", type(given).__name__)
            raise ShapeError(
                f"vectors are {shape}; give an array of (n, {self.dim}), as infer does"
            )
        self._refuse_infinite(vectors)
        if dims < self.dim:
            vectors = slice_dims(vectors, dims)
        ranges = self.manifest.ranges if encoding == "int8" else None  # to cut them takes a while
        return encode(vectors, encoding, ranges and ranges.at(dims))

    def finish_tokens(self, vectors: Vectors, *, encoding: Encoding = "f32") -> NDArray[Any]:
        """Give token vectors, (n, token_dim), in an `encoding`; raises what `finish` does.

        Example:
            >>> encoder = attar.load("student.attar")
            >>> encoder.finish_tokens(np.ones((2, 16), np.float32), encoding="binary").shape
            (2, 2)
        """
        _check_encoding(encoding)
        self._refuse_infinite(vectors)
        tokens = self.manifest.tokens
        return encode(vectors, encoding, None if tokens is None else tokens.ranges)

    def _refuse_infinite(self, vectors: Vectors) -> None:
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise BackendError(
                f"variant {self.variant.name} gave NaN or infinity for rows "
                f"{np.flatnonzero(~finite)[:10].tolist()}; "
                "their values are beyond what the encoder can take, or the bundle is faulty"
            )

    def _check(self, dims: object, encoding: object) -> int:
        """Refuse options before any work is done for them."""
        dims = self.dim if dims is None else dims
        is_whole = isinstance(dims, int | np.integer) and not isinstance(dims, bool)
        if not is_whole or dims not in self.dims:
            raise InvalidInput(
                f"dims must be one that {self.manifest.name} was trained for, {list(self.dims)}; "
                f"got {dims!r:.80}"
            )
        _check_encoding(encoding)
        return int(dims)

    def _run(
        self, arrays: tuple[NDArray[Any], ...], output: str, shape: tuple[int, ...]
    ) -> Vectors:
        """Run one batch and give an output of the graph, an item of which has this shape."""
        feed = {spec.name: array for spec, array in zip(self.manifest.inputs, arrays, strict=True)}
        if self._graph is None:
            self._graph = self._open()
        try:
            vectors = self._graph(feed, output)
        except AttarError:  # it says itself what went wrong
            raise
        except Exception as error:
            raise BackendError(
                f"variant {self.variant.name} failed on a batch of {len(arrays[0])}: {error}"
            ) from error
        if vectors.shape != (expected := (len(arrays[0]), *shape)):
            raise BackendError(
                f"variant {self.variant.name} gave {output} of shape {vectors.shape}; "
                f"its manifest says {expected}"
            )
        return vectors

    def _forked(self) -> None:
        """Give up a session whose threads a fork left behind, without ending it.

        Its end would wait for those threads: so the reference that keeps it is never given back.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._graph))
        self._graph = None


def _check_encoding(encoding: object) -> None:
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        raise InvalidInput(f"encoding must be one of {', '.join(ENCODINGS)}; got {encoding!r:.80}")


_ENCODERS: "WeakSet[Encoder]" = WeakSet()


def _after_fork() -> None:
    for encoder in _ENCODERS:
        encoder._forked()  # noqa: SLF001 -- its own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _unpickled(path: str, fingerprint: str, chosen: Mapping[str, Any]) -> Encoder:
    """Open what was pickled, unless another bundle lies there by now."""
    encoder = load(path, **chosen)
    if encoder.fingerprint != fingerprint:
        raise SpaceMismatch(
            f"the encoder was pickled from {path} with fingerprint {fingerprint}, and the bundle "
            f"there has {encoder.fingerprint} now; put the bundle back, or load this one"
        )
    return encoder


def read_heads(bundle: Bundle) -> Mapping[str, Head]:
    """Read the heads of a bundle, as `Encoder.heads` gives them; BundleRefused for a damaged one.

    Example:
        >>> sorted(read_heads(Bundle.open("student.attar")))
        []
    """
    heads = {
        entry.path.removeprefix(HEADS).removesuffix(".npz"): read_head(bundle.read(entry.path))
        for entry in bundle.head_files
    }
    return {name: head for name, head in heads.items() if head is not None}


def _batches(tokens: NDArray[np.int32]) -> Iterator[NDArray[np.intp]]:
    """Give the indices of batches of like length, so that padding to the longest wastes little."""
    order = np.argsort(tokens, kind="stable")[::-1]
    start = 0
    while start < len(order):
        size = max(
            1, _BATCH_TOKENS // max(1, int(tokens[order[start]]))
        )  # the first is the longest
        yield order[start : start + size]
        start += size


def _lacks(variant: Variant, execution: Execution | None) -> str:
    """Say which of a variant's requirements this machine does not meet; nothing if it meets all."""
    flags = [flag for flag in variant.requires.cpu_flags if flag not in cpu_flags()]
    provider = variant.requires.provider
    able = execution.names if execution else ort.get_available_providers()
    missing = [provider] if provider and provider not in able else []
    library = variant.requires.library
    if library and library_path(library) is None:
        missing.append(f"the library {library}")
    return ", ".join([*(f"CPU flag {f}" for f in flags), *missing, *variant.requires.extra])


def _is_proven(variant: Variant, execution: Execution | None) -> bool:
    """Tell whether the gates that a variant passed speak for what it will run on here.

    In float32 every CPU gives the same numbers but for the order of sums; integers saturate and
    round as the instructions at hand do. What was proven on CPUs says nothing of another provider.
    """
    if execution and execution.provider != "cpu":
        return variant.precision == "fp32" or variant.requires.provider in execution.names[:-1]
    return variant.precision == "fp32" or instruction_set() in variant.proven_on


def _choose(
    manifest: Manifest,
    *,
    max_latency_ms: float | None,
    max_bytes: float | None,
    execution: Execution | None,
) -> Variant:
    accelerated = execution is not None and execution.provider != "cpu"
    fitting, verdicts = [], []
    for variant in manifest.variants:
        latency = variant.latency.p50_ms if variant.latency else None
        size = manifest.file(variant.file).bytes
        facts = [f"{latency} ms" if latency is not None else "no recorded latency", f"{size} bytes"]
        if lacks := _lacks(variant, execution):
            facts.append(f"needs {lacks}")
        if not (proven := _is_proven(variant, execution)):
            facts.append(f"not proven on {instruction_set()}")
        verdicts.append(f"{variant.name} ({', '.join(facts)})")
        quick = max_latency_ms is None or (latency is not None and latency <= max_latency_ms)
        small = max_bytes is None or size <= max_bytes
        if quick and small and not lacks:
            timed = latency is not None
            speed = latency if timed else variant.name != manifest.reference
            foreign = accelerated and variant.requires.provider is None
            rank = (not proven, foreign, not timed, speed, size)
            fitting.append((rank, variant))
    if not fitting:
        limits = f"max_latency_ms={max_latency_ms}, max_bytes={max_bytes}"
        raise InvalidInput(
            f"no variant of {manifest.name} runs here within {limits}; it has {'; '.join(verdicts)}"
        )
    return min(fitting, key=lambda pair: pair[0])[1]


def _graph(
    bundle: Bundle, variant: Variant, threads: int | None, execution: Execution | None
) -> Graph:
    """Open a session of ONNX Runtime."""
    session = _session(bundle, variant, threads, execution)

    def run(feed: Mapping[str, NDArray[Any]], output: str) -> Vectors:
        vectors: Vectors
        (vectors,) = session.run([output], feed)
        return vectors

    return run


def _session(
    bundle: Bundle, variant: Variant, threads: int | None, execution: Execution | None
) -> ort.InferenceSession:
    """Start a session, and refuse one that is not what the manifest says."""
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what fails is raised; the user's stderr is not ours
    options.add_session_config_entry(*_WEIGHTS_FOLDER)
    options.add_session_config_entry(*_ONNX_ALONE)
    graph = bundle.read(variant.file)
    if execution is not None:
        providers = execution.chain()
    else:
        providers = [(name, {}) for name in dict.fromkeys((variant.requires.provider or CPU, CPU))]
    names = [name for name, _ in providers]
    left_out = _LEFT_OUT + (_SLOWER_ON_A_CPU if names == [CPU] else [])
    library = variant.requires.library and library_path(variant.requires.library)
    try:
        if library:
            options.register_custom_ops_library(library)
        session = ort.InferenceSession(
            graph, options, providers=providers, disabled_optimizers=left_out
        )
    except Exception as error:
        raise BundleRefused(
            "unloadable", f"ONNX Runtime {ort.__version__} cannot load {variant.file}: {error}"
        ) from error
    if session.get_providers() != names:
        raise NotSupported(
            f"asked ONNX Runtime for {names}, got {session.get_providers()}; the provider's own"
            " libraries are missing or do not fit this machine"
        )
    _check_signature("input", bundle.manifest.inputs, session.get_inputs(), variant)
    _check_signature("output", _outputs(bundle.manifest), session.get_outputs(), variant)
    return session


def _outputs(manifest: Manifest) -> Iterator[TensorSpec]:
    """Give what a graph puts out: the embeddings, and token vectors where the manifest has them."""
    output, tokens = manifest.output, manifest.tokens
    yield TensorSpec(name=output.name, dtype="float32", shape=("batch", output.dim))
    if tokens is not None:
        count = tokens.grid[0] * tokens.grid[1] if tokens.grid else "length"
        yield TensorSpec(name=tokens.name, dtype="float32", shape=("batch", count, tokens.dim))


def _check_signature(
    kind: str, specs: Iterable[TensorSpec], nodes: Sequence[ort.NodeArg], variant: Variant
) -> None:
    """Hold a graph's tensors to the manifest; an axis that the graph leaves open fits any."""
    specs = list(specs)
    tensors = {tensor.name: tensor for tensor in nodes}
    if tensors.keys() != {spec.name for spec in specs} or not all(
        tensors[spec.name].type == _ORT_TYPES.get(spec.dtype, f"tensor({spec.dtype})")
        and len(tensors[spec.name].shape) == len(spec.shape)
        and all(
            size == axis
            for size, axis in zip(tensors[spec.name].shape, spec.shape, strict=True)
            if isinstance(size, int)
        )
        for spec in specs
    ):
        graph = "; ".join(f"{tensor.name} {tensor.type} {tensor.shape}" for tensor in nodes)
        says = "; ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs)
        raise BundleRefused(
            "signature", f"{variant.file} has {kind} {graph}; the manifest says {says}"
        )
