"""ONNX programs of torch modules: modules that differ in weights alone are traced once a session.

A trace takes seconds of Python however small the module is, and does not look at a weight: torch
passes parameters and buffers in as inputs. So the program of one module is that of every other of
its structure, once the other's weights are in their places. What follows, the exporter's optimizer
among it, is done for each.
"""

import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from .session_cache import once

MOST_BYTES = 2**24  # of the weights of a module whose program is kept
TRACE = torch.onnx.export


def export(
    module: nn.Module, args: Sequence[Tensor], **options: Any
) -> torch.onnx.ONNXProgram | None:
    """Give what `torch.onnx.export` gives."""
    structure = _structure(module, args, options)
    if structure is None:
        return TRACE(module, tuple(args), **options)

    def trace() -> bytes:
        program = TRACE(module, tuple(args), optimize=False, **options)
        assert program is not None
        # Before it is optimised, a value may have the name of a weight.
        weights = program.model.graph.initializers
        for value in (value for node in program.model.graph for value in node.outputs):
            if value.name in weights:
                value.name = f"{value.name}.inner"
        return ir.to_proto(program.model).SerializeToString()

    model = ir.from_proto(onnx.load_from_string(once(f"trace-{structure}", trace)))
    for name, value in _weights(module):
        if name in model.graph.initializers:
            model.graph.initializers[name].const_value = ir.tensor(value.numpy(), name=name)
    program = torch.onnx.ONNXProgram(model, None)
    program.optimize()
    return program


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Give parameters and buffers by each of their names."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        yield name, parameter.detach()
    yield from module.named_buffers(remove_duplicate=False)


def _structure(module: nn.Module, args: Sequence[Tensor], options: Mapping[str, Any]) -> str | None:
    """Give a digest of all that a trace may depend on; None where that cannot be told."""
    weights = [tensor for _, tensor in _weights(module)]
    if sum(tensor.nbytes for tensor in weights) > MOST_BYTES:
        return None
    written = io.BytesIO()
    pickler = _Pickler(written, {tensor.data_ptr() for tensor in weights})
    try:
        pickler.dump((module, tuple(args), sorted((k, repr(v)) for k, v in options.items())))
    # A function of a test, or a parametrized module, which refuses it.
    except (AttributeError, TypeError, RuntimeError, pickle.PicklingError):
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()


class _Pickler(pickle.Pickler):
    """Writes a weight's type and shape, and of any other tensor its values too."""

    def __init__(self, file: io.BytesIO, weights: set[int]) -> None:
        super().__init__(file, protocol=4)
        self._weights = weights

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        content = "" if value.data_ptr() in self._weights else repr(value.detach().tolist())
        return str, (repr((value.dtype, value.shape, value.stride(), content)),)
