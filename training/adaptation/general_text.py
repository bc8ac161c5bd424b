"""General text, of no subject in particular: it shows what an adapted encoder still knows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attar.errors import InvalidInput

from ..data.corpus import file_text
from ..data.text import Row
from ..datasets import package_descriptions
from ..probes.agreement import Agreement, agreement
from ..probes.text_retrieval import embed

GENERAL = 200  # texts, which make 19,900 pairs of them


@dataclass(frozen=True, slots=True)
class GeneralText:
    """Texts of no subject in particular, and the base encoder's embeddings (n, d) of them."""

    source: str
    rows: tuple[Row, ...]
    embeddings: NDArray[np.float32]

    @classmethod
    def of(cls, source: str, rows: tuple[Row, ...], base: nn.Module) -> Self:
        """Embed the texts by the base."""
        return cls(source, rows, embed(base, rows))

    def agreement(self, encoder: nn.Module) -> Agreement:
        """Compare an encoder with the base."""
        return agreement(self.embeddings, embed(encoder, self.rows))


def general_texts(path: Path | None) -> tuple[str, tuple[str, ...]]:
    """Give the name and the texts of no subject in particular: a file's lines, or descriptions.

    Raises InvalidInput for fewer than three texts.
    """
    if path is None:
        name, texts = "descriptions of installed packages", package_descriptions.read(GENERAL)
    else:
        lines = (line.strip() for line in file_text(path).split("\n"))
        name, texts = path.name, tuple(dict.fromkeys(filter(None, lines)))[:GENERAL]
    if len(texts) < 3:
        raise InvalidInput(
            f"{name}: {len(texts)} general texts, and three are the least; give a file of a text a "
            "line by --general"
        )
    return name, texts
