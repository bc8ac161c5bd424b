"""Providers: what runs a graph, by name; a caller gets the provider that it names, or an error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

import onnxruntime as ort

from .errors import InvalidInput, NotSupported

Provider: TypeAlias = Literal["cpu", "cuda", "tensorrt", "openvino"]

CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
CHAINS: Final[Mapping[Provider, tuple[str, ...]]] = MappingProxyType(
    {
        # Each with those that take the operators it has no kernel for.
        "cpu": (CPU,),
        "cuda": (_CUDA, CPU),
        "tensorrt": ("TensorrtExecutionProvider", _CUDA, CPU),
        "openvino": ("OpenVINOExecutionProvider", CPU),
    }
)
_BUILDS: Final[Mapping[Provider, str]] = MappingProxyType(
    {
        "cpu": "pip install onnxruntime",
        "cuda": "pip install 'attar[gpu]' in an environment without onnxruntime",
        "tensorrt": "pip install 'attar[gpu]' and TensorRT, in an environment without onnxruntime",
        "openvino": "pip install onnxruntime-openvino in an environment without onnxruntime",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A provider, its device, and options of the provider as ONNX Runtime spells them."""

    provider: Provider = "cpu"
    device_id: int = 0
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no provider takes."""
        if self.provider not in get_args(Provider):
            raise InvalidInput(
                f"provider must be one of {', '.join(get_args(Provider))}; got {self.provider!r}"
            )
        if self.device_id < 0:
            raise InvalidInput(f"device_id counts from 0; got {self.device_id}")
        if self.device_id and _CUDA not in self.names:
            raise InvalidInput(
                f"device_id {self.device_id} is a CUDA device, and the provider is {self.provider};"
                " OpenVINO takes its device in provider_options, as device_type"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """ONNX Runtime's names: the provider, then those that take what it cannot run."""
        return CHAINS[self.provider]

    def chain(self) -> list[tuple[str, dict[str, str]]]:
        """The providers for ONNX Runtime; the options are the first one's.

        Raises NotSupported, by name, when this build of ONNX Runtime lacks the provider.
        """
        available = ort.get_available_providers()
        first, *others = self.names
        if first not in available:
            raise NotSupported(
                f"provider {self.provider} needs {first}, and this ONNX Runtime {ort.__version__}"
                f" has {', '.join(available)}; {_BUILDS[self.provider]}"
            )
        device = {"device_id": str(self.device_id)} if _CUDA in self.names else {}
        return [
            (first, {**device, **self.options}),
            *((name, device if name == _CUDA else {}) for name in others),
        ]
