"""A torch module becomes one ONNX graph of standard operators, with named inputs and axes."""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn

from attar.manifest import TensorSpec

OPSET = 20


def to_onnx(module: nn.Module, example: Sequence[Tensor], inputs: Sequence[TensorSpec], *, output: str) -> bytes:
    """Export `module` called on `example` to a serialized ONNX model with dynamic named axes.

    Axes that a spec names rather than sizes stay free, and one name means one size.  The examples
    must be distinct tensors: torch.export treats one object passed twice as one input.
    """
    axes = {axis: torch.export.Dim(axis) for spec in inputs for axis in spec.shape if isinstance(axis, str)}
    dynamic = [
        {place: axes[axis] for place, axis in enumerate(spec.shape) if isinstance(axis, str)} for spec in inputs
    ]
    # Exporting must not leave the module in another mode than it found it.
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet_exporter():
            warnings.simplefilter("ignore")  # the exporter warns about its own use of torch
            program = torch.onnx.export(
                module,
                tuple(example),
                dynamo=True,
                input_names=[spec.name for spec in inputs],
                dynamic_shapes=tuple(dynamic),
                opset_version=OPSET,
            )
    finally:
        module.train(training)
    if program is None:
        raise RuntimeError("the exporter gave no program; this is a bug in attar")
    graph = program.model.graph
    _name_output(graph, output)
    for node in graph:  # file and line of the exporting machine say nothing to a user
        node.metadata_props.clear()
        node.doc_string = None
    return bytes(ir.to_proto(program.model).SerializeToString())


def _name_output(graph: ir.Graph, name: str) -> None:
    """Give the only output its name, and whatever inside was called so another one."""
    for node in graph:
        for value in node.outputs:
            if value.name == name:
                value.name = f"{name}.inner"
    (value,) = graph.outputs
    value.name = name


@contextlib.contextmanager
def _quiet_exporter():  # noqa: ANN202
    """Silence notes on optional packages that attar does not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
