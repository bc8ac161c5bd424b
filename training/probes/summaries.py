"""The retrieval task of a corpus of pairs, for a torch encoder, a bundle or a server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from attar.inputs import Role

from ..data.pairs import Split
from ..sampler import evenly
from .retrieval import scores

Embed = Callable[[Sequence[str], Role], NDArray[Any]]  # texts in a role to embeddings (n, d)


@dataclass(frozen=True, slots=True)
class SummaryRetrieval:
    """Held-out summaries must find their own bodies among the bodies of the whole corpus."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]

    @classmethod
    def of(cls, parts: Split, *, most: int | None = None) -> "SummaryRetrieval":
        """Ask for the held-out pairs; their bodies come first, so that query i wants document i.

        With `most`, other bodies are left out, here and there, until that many are searched.
        """
        others = parts.train
        if most is not None:
            others = tuple(evenly(others, max(0, most - len(parts.held_out))))
        return cls(
            queries=tuple(pair.summary for pair in parts.held_out),
            documents=tuple(pair.body for pair in (*parts.held_out, *others)),
        )

    def __call__(self, embed: Embed) -> dict[str, float]:
        """Give recall at 1 and 10, MRR, and RankMe of the documents."""
        return scores(embed(self.queries, "query"), embed(self.documents, "passage"))
