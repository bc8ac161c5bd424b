"""A bundle becomes a Triton model repository: texts or tensors in, embeddings out.

A text bundle gives two models.  NAME, of the Python backend, takes texts (BYTES) and is the one to
call; NAME_graph, of the ONNX Runtime backend, takes token ids and mask.  Texts are ragged, and
Triton's batcher joins only requests of one shape.  So an ensemble of tokenizer and graph would
batch almost nothing: once tokenised, every request has another shape.  Here requests are
joined while they are texts, all of shape [1]; then NAME tokenises the lot, sorts it by length and
pads like with like.  On a CPU it runs the graph itself, as `attar.load` does, so that no tensor
crosses a process; on a GPU it calls NAME_graph, Triton's business logic scripting.  A tensor bundle
needs no host step: NAME is its graph on the ONNX Runtime backend.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias

from attar.bundle import Bundle
from attar.errors import AlreadyExists, InvalidInput
from attar.manifest import Manifest, TensorSpec, TokenOutput

Device: TypeAlias = Literal["cpu", "gpu"]

MAX_BATCH = 64
MAX_QUEUE = 1024  # requests: more are refused immediately rather than late

BATCH_TOKENS: Mapping[Device, int] = {"cpu": 1024, "gpu": 16384}
"""Padded tokens in one run of the graph: a CPU's caches, and enough to fill a GPU."""

_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "float64": "TYPE_FP64",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "int16": "TYPE_INT16",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}


class Word(str):
    """An enumerator of a protobuf text, which stands without quotes."""

    __slots__ = ()


Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"
Message: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What was written: the repository, its models with the one to call first, their version."""

    path: Path
    models: tuple[str, ...]
    version: int


def export_triton(
    bundle: Bundle,
    path: Path,
    *,
    variant: str | None = None,
    device: Device = "cpu",
    max_batch: int = MAX_BATCH,
) -> Repository:
    """Write `bundle` into the model repository `path`, which may hold other models and versions.

    The version is the bundle's if that is a whole number, else 1; a model that stands already gets
    it as a new one when its configuration stays the same. Without a `variant`, NAME picks its own
    as `attar.load` does, on the machine that serves; NAME_graph is the reference. `device` is where
    the graph runs, and `max_batch` the most rows of one request.

    Raises NotFound for an unknown variant, InvalidInput for a `max_batch` below 1, AlreadyExists
    for a version that stands or a configuration that would change; nothing is written then.
    """
    if max_batch < 1:
        raise InvalidInput(f"max_batch must be 1 or more; got {max_batch}")
    manifest = bundle.manifest
    manifest.require_encoder("a Triton model repository")
    graph = bundle.read(bundle.variant(variant or manifest.reference).file)
    version = _version(manifest)
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        models: dict[str, tuple[Message, dict[str, bytes]]]
        if manifest.preprocessing.tokenizer is None:
            config = graph_config(manifest, manifest.name, device=device, max_batch=max_batch)
            models = {manifest.name: (config, {"model.onnx": graph})}
        else:
            name = f"{manifest.name}_graph"
            config = graph_config(manifest, name, device=device, max_batch=max_batch)
            packed = Bundle.pack(bundle.path, Path(scratch) / "bundle.zip").path.read_bytes()
            code = files("attar.export.targets").joinpath("triton_model.py").read_bytes()
            models = {
                manifest.name: (
                    text_config(manifest, variant=variant, device=device, max_batch=max_batch),
                    {"model.py": code, "bundle.zip": packed},
                ),
                name: (config, {"model.onnx": graph}),
            }
    _write(path, {n: (to_pbtxt(c).encode(), f) for n, (c, f) in models.items()}, version)
    return Repository(path=path, models=tuple(models), version=version)


def text_config(
    manifest: Manifest, *, variant: str | None, device: Device, max_batch: int
) -> Message:
    """Give the ModelConfig of the model that takes texts: what triton_model.py reads and answers.

    Each text is one row [1] of BYTES; with its embedding come its tokens, whether it was cut, and
    the fingerprint of the space, which a store of vectors holds new ones to.
    """
    parameters = {"batch_tokens": str(BATCH_TOKENS[device])}
    if device == "gpu":
        parameters["graph"] = f"{manifest.name}_graph"
    elif variant is not None:
        parameters["variant"] = variant
    return {
        "name": manifest.name,
        "backend": "python",
        "max_batch_size": max_batch,
        "input": [_tensor("text", "TYPE_STRING", [1])],
        "output": [
            _tensor(manifest.output.name, "TYPE_FP32", [manifest.output.dim]),
            _tensor("tokens", "TYPE_INT32", [1]),
            _tensor("truncated", "TYPE_BOOL", [1]),
            _tensor("fingerprint", "TYPE_STRING", [1]),
        ],
        # While one instance waits for the GPU, the other tokenises; a CPU has no one to wait for.
        "instance_group": [{"count": 2 if device == "gpu" else 1, "kind": Word("KIND_CPU")}],
        **_scheduling(versions=1),
        "parameters": [
            {"key": key, "value": {"string_value": value}} for key, value in parameters.items()
        ],
    }


def graph_config(manifest: Manifest, name: str, *, device: Device, max_batch: int) -> Message:
    """Give the ModelConfig of the bare graph: the manifest's tensors without their batch axis."""
    return {
        "name": name,
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": max_batch,
        "input": [_tensor(spec.name, _TYPES[spec.dtype], _dims(spec)) for spec in manifest.inputs],
        "output": [
            _tensor(manifest.output.name, "TYPE_FP32", [manifest.output.dim]),
            *_token_output(manifest.tokens),
        ],
        "instance_group": [{"count": 1, "kind": Word(f"KIND_{device.upper()}")}],
        # The model of texts asks for the graph of its own version: both stay until it has changed.
        **_scheduling(versions=2),
    }


def to_pbtxt(message: Message, indent: str = "") -> str:
    """Write a message in protobuf's text format, a field a line; a list repeats its field."""
    lines = []
    for name, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{indent}{name} {{\n{to_pbtxt(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Word):
        return str(value)
    # Bytes that are not plain ASCII, quotes and backslashes are written in octal: nothing ends the
    # string before its end.
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in _utf8(value))
    return f'"{"".join(plain)}"'


def _utf8(value: object) -> bytes:
    return str(value).encode()


def _tensor(name: str, kind: str, dims: list[int]) -> Message:
    return {"name": name, "data_type": Word(kind), "dims": dims}


def _token_output(tokens: TokenOutput | None) -> list[Message]:
    """Give the tensor of token vectors, of any number for a text, where the graph has it."""
    if tokens is None:
        return []
    count = tokens.grid[0] * tokens.grid[1] if tokens.grid else -1
    return [_tensor(tokens.name, "TYPE_FP32", [count, tokens.dim])]


def _dims(spec: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in spec.shape[1:]]


def _scheduling(*, versions: int) -> Message:
    """Batch by back-pressure: what queued while an instance was busy, without a timer."""
    policy = {"max_queue_size": MAX_QUEUE, "allow_timeout_override": True}
    return {
        "dynamic_batching": {"default_queue_policy": policy},
        "version_policy": {"latest": {"num_versions": versions}},
    }


def _version(manifest: Manifest) -> int:
    """Triton's versions are whole numbers from 1."""
    text = manifest.version
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else 1


def _write(
    path: Path, models: Mapping[str, tuple[bytes, Mapping[str, bytes]]], version: int
) -> None:
    """Write every model, or none where one of them is in the way."""
    for name, (config, _) in models.items():
        folder = path / name
        if (folder / str(version)).exists():
            raise AlreadyExists(
                f"{folder} has version {version}; give the bundle another whole number as its "
                "version, or choose another repository"
            )
        stands = folder / "config.pbtxt"
        if stands.exists() and stands.read_bytes() != config:
            raise AlreadyExists(
                f"{stands} describes another model, and all versions share it; "
                "give the bundle another name, or choose another repository"
            )
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        for name, (config, content) in models.items():
            new = Path(scratch) / name
            new.mkdir()
            for file, data in content.items():
                (new / file).write_bytes(data)
            (path / name).mkdir(exist_ok=True)
            (path / name / "config.pbtxt").write_bytes(config)
            new.rename(path / name / str(version))  # a server that polls sees it whole
