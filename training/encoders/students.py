"""The sizes of text encoders: BERT's, those of the recipes, a teacher's student, a generator."""

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

BERT_BASE = TextConfig(
    vocabulary=VOCABULARY,
    max_length=512,
    transformer=TransformerConfig(width=768, depth=12, heads=12, hidden=3072),
)
"""Of which the papers of the text recipes say most (Devlin et al. 2019, arXiv:1810.04805)."""

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


def generator_of(discriminator: TextConfig) -> TextConfig:
    """Give the generator of a discriminator: a quarter of its heads, of the same width each.

    Clark et al. 2020 (ELECTRA), arXiv:2003.10555, section 3.2.
    """
    theirs = discriminator.transformer
    heads = max(1, theirs.heads // 4)
    transformer = replace(
        theirs,
        width=theirs.width // theirs.heads * heads,
        heads=heads,
        hidden=max(1, theirs.hidden // 4),
    )
    return replace(discriminator, dim=None, transformer=transformer)
