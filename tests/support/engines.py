"""A stand-in for NVIDIA's tensorrt module, which needs a GPU: ONNX Runtime does its sums.

It is held to the same protocols as the module, stores what it received, and reads and writes
tensors by their addresses as an engine does.
"""

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from attar.export.targets.tensorrt.engine import Gpu, Machine
from attar.export.targets.tensorrt.profiles import Shape

Ranges = dict[str, dict[str, Shape]]


class CreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(IntEnum):
    TF32 = 7


class Level(IntEnum):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


@dataclass
class Network:
    flags: int
    graph: bytes = b""


@dataclass
class Timings:
    data: bytes

    def serialize(self) -> bytes:
        return self.data + b"+"


@dataclass
class Profile:
    shapes: Ranges = field(default_factory=dict)

    def set_shape(self, name: str, /, min: Shape, opt: Shape, max: Shape) -> None:
        self.shapes[name] = {"min": min, "opt": opt, "max": max}


class Config:
    def __init__(self, device: str) -> None:
        self.device = device
        self.hardware_compatibility_level: Any = Level.NONE
        self.cleared: set[Any] = set()
        self.profiles: list[Ranges] = []
        self.timings: Timings | None = None

    def clear_flag(self, flag: Any, /) -> None:
        self.cleared.add(flag)

    def add_optimization_profile(self, profile: Any, /) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized: bytes, /) -> Timings:
        return Timings(serialized)

    def set_timing_cache(self, cache: Any, /, ignore_mismatch: bool) -> bool:
        if b"another device" in cache.data and not ignore_mismatch:
            return False
        self.timings = cache
        return True


@dataclass
class ParserError:
    node: str
    operator: str
    text: str

    def desc(self) -> str:
        return self.text

    def node_name(self) -> str:
        return self.node

    def node_operator(self) -> str:
        return self.operator


@dataclass
class Parser:
    network: Network
    errors: list[ParserError]

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def parse(self, model: bytes, /) -> bool:
        onnx.checker.check_model(onnx.load_from_string(model))
        self.network.graph = model
        return not self.errors

    def get_error(self, index: int, /) -> ParserError:
        return self.errors[index]


class Builder:
    def __init__(self, module: "StandIn") -> None:
        self._module = module

    def create_network(self, flags: int, /) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config(self._module.__version__)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: Any, /) -> bytes | None:
        self._module.built.append((network, config))
        if self._module.fails:
            return None
        head = json.dumps(config.profiles).encode()
        return len(head).to_bytes(4, "little") + head + self._module.spoilt(network.graph)


class Context:
    """Runs a batch from the addresses it was given to the address it was given."""

    def __init__(self, engine: bytes) -> None:
        size = int.from_bytes(engine[:4], "little")
        self._profiles: list[Ranges] = json.loads(engine[4 : 4 + size])
        self._session = ort.InferenceSession(engine[4 + size :], providers=["CPUExecutionProvider"])
        self._profile: Ranges = {}
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self.ran: list[tuple[int, Mapping[str, Shape]]] = []
        self._index = -1

    def set_optimization_profile_async(self, index: int, stream: int, /) -> bool:
        self._index, self._profile = index, self._profiles[index]
        return True

    def set_input_shape(self, name: str, shape: Shape, /) -> bool:
        self._shapes[name] = shape
        least, largest = self._profile[name]["min"], self._profile[name]["max"]
        return all(a <= b <= c for a, b, c in zip(least, shape, largest, strict=True))

    def set_tensor_address(self, name: str, address: int, /) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int, /) -> bool:
        kinds = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
        feed = {
            tensor.name: _at(
                self._addresses[tensor.name], self._shapes[tensor.name], kinds[tensor.type]
            ).copy()
            for tensor in self._session.get_inputs()
        }
        (result,) = self._session.run(None, feed)
        (output,) = self._session.get_outputs()
        _at(self._addresses[output.name], result.shape, np.float32)[:] = result
        self.ran.append((self._index, dict(self._shapes)))
        return True


@dataclass
class Engine:
    data: bytes

    def create_execution_context(self) -> Context:
        return Context(self.data)


class Runtime:
    def deserialize_cuda_engine(self, serialized: bytes, /) -> Engine | None:
        return Engine(serialized)


class StandIn:
    """The module: `built` holds every build, `fails` and `errors` make the next one go wrong."""

    NetworkDefinitionCreationFlag: Any = CreationFlag
    BuilderFlag: Any = BuilderFlag
    HardwareCompatibilityLevel: Any = Level

    def __init__(self, version: str = "11.4.0") -> None:
        self.__version__ = version
        self.built: list[tuple[Network, Config]] = []
        self.fails = False
        self.errors: list[ParserError] = []
        self.replaced: bytes | None = None

    def spoilt(self, graph: bytes) -> bytes:
        """Give the graph that will run: another where the library is to compile wrongly."""
        return self.replaced or graph

    def Logger(self) -> object:
        return object()

    def Builder(self, logger: Any, /) -> Builder:
        return Builder(self)

    def OnnxParser(self, network: Any, logger: Any, /) -> Parser:
        return Parser(network, self.errors)

    def Runtime(self, logger: Any, /) -> Runtime:
        return Runtime()


def machine(trt: StandIn, *, name: str = "Test GPU", compute: tuple[int, int] = (9, 0)) -> Machine:
    """Give a machine with that module, whose device memory is the CPU's."""
    return Machine(trt=trt, gpu=Gpu(name=name, compute=compute), device="cpu")


def _at(address: int, shape: Shape, kind: Any) -> Any:
    """See memory as an array."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), kind).reshape(shape)
