"""The sizes of small text encoders: that of the recipes, and a teacher's student."""

from dataclasses import replace

from .static import StaticConfig
from .text import TextConfig
from .transformer import TransformerConfig

MAX_LENGTH = 64  # tokens: a summary and the first sentences of a body
RANK = 128  # of a student's token table
VOCABULARY = 30522  # BERT's word pieces, which all-MiniLM and many teachers share

STUDENT = TextConfig(
    vocabulary=VOCABULARY,
    max_length=MAX_LENGTH,
    rank=RANK,
    transformer=TransformerConfig(width=384, depth=2, heads=12, hidden=1024),
)
"""6.7 million parameters: two of all-MiniLM's layers, the table factorised, the middle thinner."""

STATIC = StaticConfig(vocabulary=VOCABULARY, dim=256)
"""7.8 million parameters, of which a text uses the rows of its own tokens."""


def student_of(teacher: TextConfig, *, depth: int, max_length: int = MAX_LENGTH) -> TextConfig:
    """Give the student of a teacher's own width and vocabulary: `STUDENT` for all-MiniLM's."""
    theirs = teacher.transformer
    return replace(
        teacher,
        max_length=min(max_length, teacher.max_length),
        rank=RANK if theirs.width > RANK else None,
        transformer=replace(
            theirs, depth=depth, hidden=min(STUDENT.transformer.hidden, theirs.hidden)
        ),
    )
