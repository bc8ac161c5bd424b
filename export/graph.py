"""A torch module becomes one ONNX graph of standard operators, with named inputs and axes."""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

OPSET = 20


def to_onnx(
    module: nn.Module,
    example: Sequence[Tensor],
    inputs: Sequence[TensorSpec],
    *,
    output: str,
    tokens: str | None = None,
) -> bytes:
    """Give a serialized ONNX model of `module` in evaluation mode, with free named axes.

    `example` is one tensor for each spec, of at least two rows; an axis that a spec names rather
    than sizes stays free, and one name means one size. `output` names the result. With
    `tokens` there is a second of that name: the module is then called by its `with_tokens`. The
    same module gives the same bytes, which say nothing of the machine or the code they came from.

    Raises InvalidInput when an example is passed twice: torch.export takes it for one input.
    """
    if len({id(tensor) for tensor in example}) != len(inputs):
        raise InvalidInput(
            f"every input needs an example tensor of its own; got {len(example)} for "
            f"{', '.join(spec.name for spec in inputs)}, or one tensor twice"
        )
    # A copy: the caller's may be training, part by part, and on another device.
    module = copy.deepcopy(module).cpu().eval()
    if tokens is not None:
        module.forward = module.with_tokens  # type: ignore[assignment]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            tuple(example),
            dynamo=True,
            verbose=False,
            input_names=[spec.name for spec in inputs],
            dynamic_shapes=_free_axes(inputs),
            opset_version=OPSET,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program; this is a bug in attar")
    names = (output,) if tokens is None else (output, tokens)
    _name_outputs(program.model.graph, names)
    _forget_origin(program.model)
    serialized: bytes = ir.to_proto(program.model).SerializeToString(deterministic=True)
    return serialized


def _free_axes(inputs: Sequence[TensorSpec]) -> tuple[dict[int, Any], ...]:
    """Give each input's free axes by their positions; one name is one axis."""
    axes = {
        axis: torch.export.Dim(axis)
        for spec in inputs
        for axis in spec.shape
        if isinstance(axis, str)
    }
    return tuple(
        {position: axes[axis] for position, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in inputs
    )


def _name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give the outputs their names, and whatever inside had those names others.

    The exporter's own `output_names` does not look inside, and leaves two values of one name.
    """
    inside = [value for node in graph for value in node.outputs]
    for value in (*graph.initializers.values(), *inside):
        if value.name in names:
            value.name = f"{value.name}.inner"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def _forget_origin(model: ir.Model) -> None:
    """Take out the notes that tie a graph to the code and the files it was traced from."""
    ClearMetadataAndDocStringPass()(model)
    inside = (value for node in model.graph for value in node.outputs)
    for value in (*model.graph.inputs, *model.graph.initializers.values(), *inside):
        value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: its warnings about its own code, and about packages attar lacks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
