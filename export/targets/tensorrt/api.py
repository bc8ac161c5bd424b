"""The part of NVIDIA's `tensorrt` module that attar calls, typed: TensorRT 10 and 11.

The names and arguments are those of the Python API reference, held to the bindings of 11.4 by eye.
Not run here: the tests' engine answers to these protocols and lets ONNX Runtime do the sums.
"""

from typing import Any, Protocol

from .profiles import Shape


class HostMemory(Protocol):
    """Bytes of the library's own: `bytes(memory)` copies them."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """Give a view of the memory."""
        ...


class Network(Protocol):
    """What a parser fills and a builder compiles."""


class Timings(Protocol):
    """How long kernels took, so that another build need not try them again."""

    def serialize(self) -> HostMemory:
        """Give the cache as bytes."""
        ...


class BuilderConfig(Protocol):
    """How a network is to be compiled."""

    hardware_compatibility_level: Any

    def clear_flag(self, flag: Any, /) -> None:
        """Switch an option off."""
        ...

    def add_optimization_profile(self, profile: Any, /) -> int:
        """Add a range of shapes: its index, or -1 for one that is not complete."""
        ...

    def create_timing_cache(self, serialized: bytes, /) -> Timings:
        """Read a cache; of no bytes, an empty one."""
        ...

    def set_timing_cache(self, cache: Timings, /, ignore_mismatch: bool) -> bool:
        """Use a cache: False for one of another device or version."""
        ...


class OptimizationProfile(Protocol):
    """Least, likeliest and largest shape of every input."""

    def set_shape(self, name: str, /, min: Shape, opt: Shape, max: Shape) -> None:
        """Give one input's shapes."""
        ...


class Builder(Protocol):
    """Compiles networks for the GPU of this machine."""

    def create_network(self, flags: int, /) -> Network:
        """Give an empty network."""
        ...

    def create_builder_config(self) -> BuilderConfig:
        """Give the usual options."""
        ...

    def create_optimization_profile(self) -> OptimizationProfile:
        """Give a profile without shapes."""
        ...

    def build_serialized_network(
        self, network: Network, config: BuilderConfig, /
    ) -> HostMemory | None:
        """Compile, in minutes: None when it failed, and the logger has said why."""
        ...


class ParserError(Protocol):
    """Why a node could not be read."""

    def desc(self) -> str:
        """Say it."""
        ...

    def node_name(self) -> str:
        """Name the node."""
        ...

    def node_operator(self) -> str:
        """Name its operator."""
        ...


class OnnxParser(Protocol):
    """Reads a graph into a network."""

    @property
    def num_errors(self) -> int:
        """How many nodes could not be read."""
        ...

    def parse(self, model: bytes, /) -> bool:
        """Read a serialised model: False when something in it could not be read."""
        ...

    def get_error(self, index: int, /) -> ParserError:
        """Give one of `num_errors`."""
        ...


class ExecutionContext(Protocol):
    """One run at a time of an engine."""

    def set_optimization_profile_async(self, index: int, stream: int, /) -> bool:
        """Choose the profile that the next shapes lie in."""
        ...

    def set_input_shape(self, name: str, shape: Shape, /) -> bool:
        """Give one input's shape: False when the profile does not take it."""
        ...

    def set_tensor_address(self, name: str, address: int, /) -> bool:
        """Say where on the device a tensor lies."""
        ...

    def execute_async_v3(self, stream: int, /) -> bool:
        """Queue a run on a CUDA stream."""
        ...


class CudaEngine(Protocol):
    """A compiled network."""

    def create_execution_context(self) -> ExecutionContext:
        """Give what runs it."""
        ...


class Runtime(Protocol):
    """Loads engines."""

    def deserialize_cuda_engine(self, serialized: bytes, /) -> CudaEngine | None:
        """Load an engine: None for one of another version or device."""
        ...


class TensorRT(Protocol):
    """The module itself; enumerations are looked up by name and handed back as they are."""

    __version__: str
    NetworkDefinitionCreationFlag: Any  # STRONGLY_TYPED
    BuilderFlag: Any  # TF32
    HardwareCompatibilityLevel: Any  # NONE, SAME_COMPUTE_CAPABILITY, AMPERE_PLUS

    def Logger(self) -> Any:
        """Give what writes warnings to stderr."""
        ...

    def Builder(self, logger: Any, /) -> Builder:
        """Give a builder."""
        ...

    def OnnxParser(self, network: Network, logger: Any, /) -> OnnxParser:
        """Give a parser that fills `network`."""
        ...

    def Runtime(self, logger: Any, /) -> Runtime:
        """Give a runtime."""
        ...
