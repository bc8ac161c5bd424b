"""A student starts from its teacher: the token table projected, some layers copied and thinned."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput

from .data.text import Row, pad
from .encoders.text import TextEncoder, TextShape
from .encoders.transformer import Block


@torch.no_grad()
def student_from_teacher(
    teacher: TextEncoder, shape: TextShape, *, layers: Sequence[int], sample: Sequence[Row]
) -> TextEncoder:
    """Give an encoder of `shape` that starts where the teacher is.

    The factorised token table is the teacher's projected onto its `rank` principal directions, which
    is the nearest table of that rank.  Block i copies the teacher's block `layers[i]` (as DistilBERT
    does, Sanh et al. 2019, arXiv:1910.01108) and keeps the `hidden` feed-forward units that carry most
    on `sample`: root mean square activation times the length of the outgoing weights.

    Raises InvalidInput when the widths differ or a layer does not exist.
    """
    _check(teacher.shape, shape, layers)
    student = TextEncoder(shape)
    table = teacher.tokens.table.weight
    if shape.rank is None:
        student.tokens.table.weight.copy_(table)
    else:
        directions = torch.linalg.eigh(table.T @ table)[1][:, -shape.rank :]  # (width, rank)
        student.tokens.table.weight.copy_(table @ directions)
        student.tokens.expand.weight.copy_(directions)
    student.tokens.position.weight.copy_(teacher.tokens.position.weight[: shape.max_length])
    student.tokens.norm.load_state_dict(teacher.tokens.norm.state_dict())
    activity = _activity(teacher, sample)
    for block, layer in zip(student.transformer.blocks, layers, strict=True):
        source = teacher.transformer.blocks[layer]
        for part in ("attention", "attention_norm", "feed_forward_norm"):
            getattr(block, part).load_state_dict(getattr(source, part).state_dict())
        _thin(block, source, activity[layer])
    return student


def _check(teacher: TextShape, student: TextShape, layers: Sequence[int]) -> None:
    ours, theirs = student.transformer, teacher.transformer
    if (ours.width, ours.heads, ours.norm) != (theirs.width, theirs.heads, "post"):
        raise InvalidInput(f"a student must be post-norm and share its teacher's width and heads; got {ours} and {theirs}")
    if len(layers) != ours.depth or not all(0 <= layer < theirs.depth for layer in layers):
        raise InvalidInput(
            f"layers must name {ours.depth} of the teacher's {theirs.depth} blocks, one for each of the "
            f"student's; got {tuple(layers)}"
        )
    if ours.hidden > theirs.hidden:
        raise InvalidInput(f"hidden must be at most the teacher's {theirs.hidden}; got {ours.hidden}")


def _activity(teacher: TextEncoder, sample: Sequence[Row]) -> list[Tensor]:
    """Give each block's mean square feed-forward activation over the sample's tokens: (hidden,)."""
    tokens = pad(sample)
    mask = tokens.mask.bool()
    x = teacher.tokens(tokens.ids)
    activity = []
    for block in teacher.transformer.blocks:
        attended = block.attention_norm(x + block.attention(x, mask))  # post-norm, which _check holds
        activity.append(F.gelu(block.expand(attended))[mask].square().mean(0))
        x = block(x, mask)
    return activity


def _thin(block: Block, source: Block, activity: Tensor) -> None:
    carried = activity.sqrt() * source.contract.weight.norm(dim=0)
    kept = carried.topk(block.expand.out_features).indices.sort().values
    block.expand.weight.copy_(source.expand.weight[kept])
    block.expand.bias.copy_(source.expand.bias[kept])
    block.contract.weight.copy_(source.contract.weight[:, kept])
    block.contract.bias.copy_(source.contract.bias)
