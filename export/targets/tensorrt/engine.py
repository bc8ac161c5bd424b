"""A bundle's variant becomes a TensorRT engine, built once for this machine and then reused.

Not run here: this project's machines have no GPU.  Every decision below is tested without one.

An engine is compiled for one GPU by one version of TensorRT, so it is no part of a bundle.  It lies
in a cache under a key made of all that it depends on (the graph, the profiles, the precision, the
version, the GPU), with a JSON file that states the same.  Equal keys mean that the engine
may be used as it is; anything else builds another.

Networks are strongly typed: TensorRT 11 knows no other, and computes each tensor in the type that
the graph gives it.  So the precision is the variant's: fp32, fp16 or bf16 as written, int8 by its
QuantizeLinear nodes.  TF32 is off, since fp32 should mean float32.  A new engine is run before it
is kept, and must be as near to the bundle's reference as the variant's gate asks.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from attar.bench import items
from attar.bundle import Bundle
from attar.errors import BackendError, InvalidInput, MissingExtra, NotSupported
from attar.host_step import host_step
from attar.inputs import Prepared
from attar.manifest import Manifest, Variant
from attar.runtime import load

from ...gates import FP32, INT8, Gate
from ...measure import BATCH, cosine
from ...verify import own_texts
from ..triton import MAX_BATCH
from .api import ExecutionContext, TensorRT
from .parser import refusals
from .profiles import Profile, buckets, profiles
from .symmetric import symmetric

Hardware: TypeAlias = Literal["this-gpu", "same-compute", "ampere-plus"]
"""Where an engine may run: the GPU that built it, its compute capability, or any from Ampere on."""

LEVELS: Mapping[Hardware, str] = {
    "this-gpu": "NONE",
    "same-compute": "SAME_COMPUTE_CAPABILITY",
    "ampere-plus": "AMPERE_PLUS",
}
PARITY_LENGTH = 64  # of the noise that a tensor encoder with a free axis is compared on
SETTINGS = 1  # raised when attar asks TensorRT for something else: old engines are then built again


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU by its name and its compute capability, such as 9.0 (SM 90)."""

    name: str
    compute: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """TensorRT and the device that it compiles for; `device` is torch's word for it."""

    trt: TensorRT
    gpu: Gpu
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be built, decided without the library: graph, precision and profiles."""

    name: str
    variant: str
    precision: str
    fingerprint: str
    graph: bytes
    profiles: tuple[Profile, ...]
    hardware: Hardware
    gate: Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine in the cache, and whether it was there already."""

    path: Path
    reused: bool
    parity: Mapping[str, float]


def plan(
    bundle: Bundle,
    *,
    variant: str | None = None,
    max_batch: int = MAX_BATCH,
    lengths: Sequence[int] = (),
    hardware: Hardware = "this-gpu",
) -> Plan:
    """Decide what to build of a bundle: its reference, or the `variant` named.

    `lengths` are the ends of the length buckets; a text encoder's are a few up to its maximum where
    none are given. An int8 graph is made symmetric first.

    Raises NotFound for an unknown variant, InvalidInput for profiles that cannot be or that stop
    short of the longest text, and NotSupported for a bundle with token vectors, and one that names
    each node and operator which TensorRT's parser does not take, and the variants without such.
    """
    manifest = bundle.manifest
    manifest.require_encoder("a TensorRT engine")
    _refuse_tokens(manifest)
    chosen = bundle.variant(variant or manifest.reference)
    longest = manifest.max_length
    if longest is not None:
        lengths = lengths or buckets(longest)
        if lengths[-1] != longest:
            raise InvalidInput(
                f"lengths must end at the longest text that {manifest.name} takes, {longest}; "
                f"got {[*lengths]}"
            )
    ranges = profiles(manifest.inputs, max_batch=max_batch, lengths=lengths)
    graph = _graph(bundle, chosen)
    if why := refusals(graph):
        others = [v.name for v in manifest.variants if v is not chosen]
        able = [name for name in others if not refusals(_graph(bundle, bundle.variant(name)))]
        raise NotSupported(
            f"variant {chosen.name} of {manifest.name} cannot become a TensorRT engine: "
            f"{'; '.join(why[:3])}{f'; and {len(why) - 3} more' if len(why) > 3 else ''}. "
            f"Variants that could: {', '.join(able) or 'none'}"
        )
    return Plan(
        name=manifest.name,
        variant=chosen.name,
        precision=chosen.precision,
        fingerprint=manifest.fingerprint,
        graph=graph,
        profiles=ranges,
        hardware=hardware,
        gate=_gate(bundle, chosen),
    )


def _refuse_tokens(manifest: Manifest) -> None:
    if manifest.tokens is not None:
        raise NotSupported(
            f"{manifest.name} has token vectors, and an engine gives embeddings alone; export its "
            "encoder without --tokens for it"
        )


def engine_facts(what: Plan, *, version: str, gpu: Gpu) -> dict[str, Any]:
    """Say all that an engine depends on, as JSON has it; what hardware lets differ is left out."""
    where: dict[str, Any] = {"compute": list(gpu.compute), "gpu": gpu.name}
    if what.hardware != "this-gpu":
        del where["gpu"]
    if what.hardware == "ampere-plus":
        del where["compute"]
    return {
        "settings": SETTINGS,
        "graph_sha256": sha256(what.graph).hexdigest(),
        "precision": what.precision,
        "profiles": [_plain(asdict(profile)) for profile in what.profiles],
        "hardware": what.hardware,
        "tensorrt": version,
        **where,
    }


def key(facts: Mapping[str, Any]) -> str:
    """Name what an engine is made of in 16 hexadecimal digits; equal only when all of it is."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()[:16]


def export_tensorrt(
    bundle: Bundle, cache: Path, what: Plan, *, machine: Machine | None = None
) -> Engine:
    """Give the engine of a plan from the folder `cache`, built there if it is not there yet.

    Next to NAME-VARIANT-KEY.engine are a JSON file of what it was made of, and the
    timings of kernels that speed up the next build. The engine's embeddings are compared with the
    bundle's reference on this machine.

    Raises MissingExtra without TensorRT, NotSupported without a GPU or on one too old for the
    `hardware` asked for, BackendError when the build fails or the engine is too far off; the cache
    then keeps no engine.
    """
    machine = machine or this_machine()
    if what.hardware == "ampere-plus" and machine.gpu.compute < (8, 0):
        raise NotSupported(
            f"{machine.gpu.name} has compute capability {_dotted(machine.gpu.compute)}; "
            "hardware='ampere-plus' needs 8.0"
        )
    facts = engine_facts(what, version=machine.trt.__version__, gpu=machine.gpu)
    path = cache / f"{what.name}-{what.variant}-{key(facts)}.engine"
    if (parity := cached(path, facts, what)) is not None:
        return Engine(path=path, reused=True, parity=parity)
    timings = cache / _timings(machine)
    engine, timed = build(
        machine.trt,
        what,
        timings=timings.read_bytes() if timings.is_file() else b"",
    )
    parity = _parity(bundle, what, engine, machine)
    gate = what.gate
    if not _passes(parity, gate):
        raise BackendError(
            f"the engine of variant {what.variant} is too far from the reference, so it is not "
            f"kept: mean cosine {parity['mean']:.6f}, worst {parity['worst']:.6f}, and the gate "
            f"asks for {gate.cosine_mean} and {gate.cosine_worst}"
        )
    about = {
        "made_of": facts,
        "bundle": _bundle(what),
        "built_on": {"gpu": machine.gpu.name, "compute": list(machine.gpu.compute)},
        "sha256": sha256(engine).hexdigest(),
        "parity": parity,
    }
    cache.mkdir(parents=True, exist_ok=True)
    _replace(timings, timed)
    _replace(path, engine)
    _replace(path.with_suffix(".json"), json.dumps(about, indent=2, sort_keys=True).encode())
    return Engine(path=path, reused=False, parity=parity)


def cached(path: Path, facts: Mapping[str, Any], what: Plan) -> Mapping[str, float] | None:
    """Give the recorded parity of a whole engine at `path` that was made of this, if one is there.

    The JSON is written last, so that an engine without it, or with other bytes than it says, is one
    whose writing was cut short: it is built again. So is one whose parity is to the reference of
    another bundle with the same graph, or does not pass the plan's gate.
    """
    try:
        about = json.loads(path.with_suffix(".json").read_bytes())
        whole = about["sha256"] == sha256(path.read_bytes()).hexdigest()
        parity = {name: float(about["parity"][name]) for name in ("mean", "worst")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    own = about.get("made_of") == facts and about.get("bundle") == _bundle(what)
    return parity if whole and own and _passes(parity, what.gate) else None


def build(trt: TensorRT, what: Plan, *, timings: bytes) -> tuple[bytes, bytes]:
    """Compile a plan: the engine, and the timings for the next build.

    Timings of another version or device are left aside. Raises NotSupported with the parser's own
    words, BackendError when compiling fails.
    """
    logger = trt.Logger()
    builder = trt.Builder(logger)
    # TensorRT 10 asks for it; 11 takes the flag and has nothing else.
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(what.graph):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(
            f"node {e.node_name()!r} ({e.node_operator()}) {e.desc()}" for e in errors
        )
        raise NotSupported(
            f"TensorRT {trt.__version__} cannot read variant {what.variant}: {reasons}"
        )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    level = LEVELS[what.hardware]
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    for ranges in what.profiles:
        profile = builder.create_optimization_profile()
        for name, likely in ranges.likely.items():
            profile.set_shape(name, min=ranges.least[name], opt=likely, max=ranges.largest[name])
        if config.add_optimization_profile(profile) < 0:
            raise BackendError(f"TensorRT does not take the profile {ranges}; a bug in attar")
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendError(
            f"TensorRT {trt.__version__} could not build variant {what.variant}; its messages are "
            "on stderr. When memory is short, give a smaller max_batch or fewer lengths"
        )
    return bytes(engine), bytes(cache.serialize())


def run(
    context: ExecutionContext,
    ranges: Sequence[Profile],
    feed: Mapping[str, NDArray[Any]],
    *,
    output: str,
    dim: int,
    device: str,
) -> NDArray[np.float32]:
    """Run one batch under the first profile that takes its shapes: (n, dim).

    Raises InvalidInput when none does, BackendError when TensorRT refuses the run.
    """
    shapes = {name: array.shape for name, array in feed.items()}
    index = next((i for i, profile in enumerate(ranges) if profile.takes(shapes)), None)
    if index is None:
        raise InvalidInput(f"no profile of the engine takes {shapes}; build one with larger ranges")
    rows = len(next(iter(feed.values())))
    result = torch.empty((rows, dim), dtype=torch.float32, device=device)
    tensors = {name: torch.from_numpy(array).to(device) for name, array in feed.items()}
    stream = torch.cuda.current_stream().cuda_stream if device == "cuda" else 0
    done = context.set_optimization_profile_async(index, stream)
    for name, tensor in tensors.items():
        done &= context.set_input_shape(name, tuple(tensor.shape))
        done &= context.set_tensor_address(name, tensor.data_ptr())
    done &= context.set_tensor_address(output, result.data_ptr())
    if not (done and context.execute_async_v3(stream)):
        raise BackendError(f"TensorRT refused a run of {shapes} under profile {index}")
    array: NDArray[np.float32] = result.cpu().numpy()  # waits for the stream
    return array


def provider_options(what: Plan, cache: Path) -> dict[str, str]:
    """Give the options of onnxruntime-gpu's TensorrtExecutionProvider for a plan.

    That provider builds its own engine; with these it takes the same profiles, keeps engine
    and timings in `cache` under a name of their own, and so does not build again when a new shape
    comes. The graph to load is the plan's; precision flags are read by TensorRT 10, where the
    provider's networks are weakly typed. Several profiles repeat each input's name.
    """
    kinds = {"fp16": "fp16", "bf16": "bf16", "int8": "int8"}
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache),
        "trt_engine_cache_prefix": f"{what.name}-{what.variant}-{_digest(what.graph)}",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
        "trt_engine_hw_compatible": str(what.hardware == "ampere-plus"),
        **{f"trt_{kind}_enable": str(kinds.get(what.precision) == kind) for kind in kinds},
        "trt_profile_min_shapes": _shapes([profile.least for profile in what.profiles]),
        "trt_profile_opt_shapes": _shapes([profile.likely for profile in what.profiles]),
        "trt_profile_max_shapes": _shapes([profile.largest for profile in what.profiles]),
    }


def this_machine() -> Machine:
    """Find TensorRT and the GPU; MissingExtra or NotSupported says what is not there."""
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtra("building a TensorRT engine", "tensorrt") from error
    if not torch.cuda.is_available():
        raise NotSupported(
            "torch finds no CUDA device, and TensorRT compiles on the GPU that it compiles for; "
            "run this there, with a CUDA build of torch"
        )
    gpu = Gpu(name=torch.cuda.get_device_name(), compute=torch.cuda.get_device_capability())
    return Machine(trt=cast("TensorRT", tensorrt), gpu=gpu, device="cuda")


def _graph(bundle: Bundle, variant: Variant) -> bytes:
    return symmetric(bundle.read(variant.file))


def _parity(bundle: Bundle, what: Plan, engine: bytes, machine: Machine) -> dict[str, float]:
    """Compare an engine's embeddings with the reference variant's: mean and worst cosine."""
    loaded = machine.trt.Runtime(machine.trt.Logger()).deserialize_cuda_engine(engine)
    if loaded is None:
        raise BackendError("TensorRT cannot load the engine that it has just built")
    context = loaded.create_execution_context()
    reference = load(bundle.path, variant=bundle.manifest.reference)
    host, names = host_step(bundle), [spec.name for spec in bundle.manifest.inputs]
    embeddings, expected = [], []
    size = min(BATCH, what.profiles[0].largest[names[0]][0])
    rows = _rows(bundle, what)
    for batch in (rows[start : start + size] for start in range(0, len(rows), size)):
        feed = dict(zip(names, host.batch(batch), strict=True))
        embeddings.append(
            run(
                context,
                what.profiles,
                feed,
                output=bundle.manifest.output.name,
                dim=bundle.manifest.output.dim,
                device=machine.device,
            )
        )
        expected.append(reference.infer(batch))
    cosines = cosine(np.concatenate(embeddings), np.concatenate(expected))
    return {"mean": float(cosines.mean()), "worst": float(cosines.min())}


def _gate(bundle: Bundle, variant: Variant) -> Gate:
    """Give the gate that a variant passed into the bundle, or one for its precision."""
    recorded: Any = bundle.report
    for name in ("variants", variant.name, "gate"):
        recorded = recorded.get(name) if isinstance(recorded, Mapping) else None
    try:
        return Gate(**{field.name: float(recorded[field.name]) for field in fields(Gate)})
    except (KeyError, TypeError, ValueError):
        return FP32 if variant.precision == "fp32" else INT8


def _rows(bundle: Bundle, what: Plan) -> list[Prepared]:
    """Prepare texts, or noise of one shape."""
    if bundle.manifest.preprocessing.tokenizer is None:
        (spec,) = bundle.manifest.inputs
        longest = what.profiles[-1].largest[spec.name]
        free = [n for n, axis in zip(longest, spec.shape, strict=True) if isinstance(axis, str)]
        return items(bundle, length=min(PARITY_LENGTH, free[-1]), count=BATCH)
    return host_step(bundle).prepare(own_texts(), role="passage", truncation="truncate")


def _bundle(what: Plan) -> dict[str, str]:
    """Say of which bundle a plan is."""
    return {"name": what.name, "variant": what.variant, "fingerprint": what.fingerprint}


def _passes(parity: Mapping[str, float], gate: Gate) -> bool:
    return parity["mean"] >= gate.cosine_mean and parity["worst"] >= gate.cosine_worst


def _timings(machine: Machine) -> str:
    """Name the file of timings, which are of one version on one device."""
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", machine.gpu.name).strip("-")
    return f"timings-{machine.trt.__version__}-{gpu}.cache"


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(scratch).replace(path)


def _shapes(ranges: Sequence[Mapping[str, tuple[int, ...]]]) -> str:
    """Write shapes as the provider reads them: name:1x16,name:1x64."""
    return ",".join(
        f"{name}:{'x'.join(map(str, shape))}" for shapes in ranges for name, shape in shapes.items()
    )


def _plain(value: object) -> Any:
    """Turn tuples into lists, as JSON gives them back."""
    return json.loads(json.dumps(value))


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _dotted(compute: tuple[int, int]) -> str:
    return ".".join(map(str, compute))
