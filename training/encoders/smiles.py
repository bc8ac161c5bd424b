"""Encoders of SMILES: the token transformer with rotary positions alone, softmax or linear."""

from functools import partial
from typing import Literal, TypeAlias

from .attention import LinearAttention, SoftmaxAttention
from .text import TextConfig, TextEncoder
from .transformer import TransformerConfig

RotaryAttention: TypeAlias = Literal["softmax", "linear"]


def smiles_encoder(
    vocabulary: int,
    *,
    max_length: int,
    transformer: TransformerConfig,
    attention: RotaryAttention,
    features: int,
) -> TextEncoder:
    """Make the encoder of a vocabulary's size; linear attention has so many random `features`."""
    shape = TextConfig(
        vocabulary=vocabulary, max_length=max_length, transformer=transformer, positions=False
    )
    if attention == "softmax":
        return TextEncoder(shape, attention=partial(SoftmaxAttention, rotary=True))
    return TextEncoder(shape, attention=partial(LinearAttention, features=features))
