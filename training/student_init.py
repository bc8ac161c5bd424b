"""A student starts from its teacher: the token table projected, some layers copied and thinned."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput

from .checkpoints.encoder_folder import TextModel
from .data.text import Row, pad
from .encoders.students import MAX_LENGTH, student_of
from .encoders.text import TextConfig, TextEncoder
from .encoders.transformer import Block
from .sampler import evenly
from .text_data import TextData

LAYERS = 2  # of a student, by default
SAMPLE = 64  # texts that decide which feed-forward units a student keeps


def chosen_layers(layers: int | Sequence[int] | None, *, depth: int) -> tuple[int, ...]:
    """Give which of a teacher's `depth` layers its student copies, by their numbers from 0.

    A number of layers is spread from the first to the last, as DistilBERT's are; None is two, or
    the one that there is. Raises InvalidInput for no layer, or one that the teacher lacks.
    """
    if layers is None:
        layers = min(LAYERS, depth)
    if isinstance(layers, int):
        if not 1 <= layers <= depth:
            raise InvalidInput(
                f"layers must be from 1 to {depth}, as many as the teacher has; got {layers}"
            )
        return tuple(round(layer) for layer in np.linspace(0, depth - 1, layers))
    if not layers or not all(0 <= layer < depth for layer in layers):
        raise InvalidInput(
            f"layers must be numbers from 0 to {depth - 1}, those of the teacher; got "
            f"{','.join(map(str, layers)) or 'none'}"
        )
    return tuple(layers)


def start_student(
    teacher: TextModel[TextEncoder],
    texts: TextData,
    *,
    layers: int | Sequence[int] | None = None,
    max_length: int = MAX_LENGTH,
) -> TextEncoder:
    """Build a student from its teacher's `layers`, by default the first and the last."""
    sample = evenly(texts.pairs.second, SAMPLE)
    theirs = teacher.encoder.shape
    copied = chosen_layers(layers, depth=theirs.transformer.depth)
    shape = student_of(theirs, depth=len(copied), max_length=max_length)
    return student_from_teacher(teacher.encoder, shape, layers=copied, sample=sample)


@torch.no_grad()
def student_from_teacher(
    teacher: TextEncoder, shape: TextConfig, *, layers: Sequence[int], sample: Sequence[Row]
) -> TextEncoder:
    """Give an encoder of `shape` that starts where the teacher is.

    A factorised token table is the teacher's projected onto its `rank` principal directions, which
    is the nearest table of that rank (Eckart and Young 1936). Block i copies the teacher's block
    `layers[i]`, as DistilBERT does (Sanh et al. 2019, arXiv:1910.01108), and keeps the `hidden`
    feed-forward units that carry most on `sample`: root mean square activation times the length of
    the outgoing weights. With every layer, full rank and every unit the student is the teacher.

    Raises InvalidInput when the student's sizes do not fit the teacher's or a layer does not exist.
    """
    _check(teacher.shape, shape, layers)
    assert teacher.tokens.position is not None
    table = teacher.tokens.expand(teacher.tokens.table.weight)  # (vocabulary, width)
    weights = {
        "tokens.table.weight": table,
        "tokens.position.weight": teacher.tokens.position.weight[: shape.max_length],
        **_renamed(teacher.tokens.norm.state_dict(), "tokens.norm."),
        **_renamed(teacher.head.state_dict(), "head."),
        **_renamed(teacher.project.state_dict(), "project."),
    }
    if shape.rank is not None:
        directions = torch.linalg.eigh(table.T @ table)[1][:, -shape.rank :]  # (width, rank)
        weights["tokens.table.weight"] = table @ directions
        weights["tokens.expand.weight"] = directions
    activity = _activity(teacher, sample)
    for index, layer in enumerate(layers):
        thinned = _thinned(
            teacher.transformer.blocks[layer], activity[layer], shape.transformer.hidden
        )
        weights |= _renamed(thinned, f"transformer.blocks.{index}.")
    student = TextEncoder(shape)
    student.load_state_dict(weights)  # strict: nothing stays at its random start
    return student


def _check(teacher: TextConfig, student: TextConfig, layers: Sequence[int]) -> None:
    ours, theirs = student.transformer, teacher.transformer
    if theirs.norm != "post":
        raise InvalidInput(f"a teacher must be post-norm; got {theirs.norm!r}")
    if not (teacher.positions and student.positions):
        raise InvalidInput("a teacher and its student must have learned positions")
    for name, mine, its in (
        ("width", ours.width, theirs.width),
        ("heads", ours.heads, theirs.heads),
        ("norm", ours.norm, theirs.norm),
        ("norm_eps", ours.norm_eps, theirs.norm_eps),
        ("vocabulary", student.vocabulary, teacher.vocabulary),
        ("dim", student.dim, teacher.dim),
        ("head", student.head, teacher.head),
        ("normalized", student.normalized, teacher.normalized),
    ):
        if mine != its:
            raise InvalidInput(f"a student has its teacher's {name}, {its}; got {mine}")
    for name, mine, most in (
        ("hidden", ours.hidden, theirs.hidden),
        ("max_length", student.max_length, teacher.max_length),
        ("rank", student.rank or 1, theirs.width),
    ):
        if mine > most:
            raise InvalidInput(f"a student's {name} is at most {most}, its teacher's; got {mine}")
    if len(layers) != ours.depth or not all(0 <= layer < theirs.depth for layer in layers):
        raise InvalidInput(
            f"layers must name {ours.depth} of the teacher's {theirs.depth} blocks, one for each "
            f"of the student's; got {tuple(layers)}"
        )


def _activity(teacher: TextEncoder, sample: Sequence[Row]) -> list[Float[Tensor, "hidden"]]:
    """Give each block's root mean square feed-forward activations over the sample's tokens."""
    device = teacher.tokens.table.weight.device
    ids, mask = (tensor.to(device) for tensor in pad(sample))
    mask = mask.bool()
    x = teacher.tokens(ids)
    activity = []
    for block in teacher.transformer.blocks:
        attended = block.attention_norm(x + block.attention(x, mask))  # post-norm, says _check
        activity.append(F.gelu(block.expand(attended))[mask].square().mean(0).sqrt())
        x = block(x, mask)
    return activity


def _thinned(block: Block, activity: Float[Tensor, "units"], hidden: int) -> dict[str, Tensor]:
    """Give the block's weights with those `hidden` of its feed-forward units that carry most."""
    weights = block.state_dict()
    carried = activity * block.contract.weight.norm(dim=0)
    units = carried.topk(hidden).indices.sort().values
    weights["expand.weight"] = weights["expand.weight"][units]
    weights["expand.bias"] = weights["expand.bias"][units]
    weights["contract.weight"] = weights["contract.weight"][:, units]
    return weights


def _renamed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}
