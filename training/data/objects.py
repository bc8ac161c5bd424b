"""Objects: the same things seen in several modalities, and those that probe what was learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .source import Labels, Rows, Source

Modalities: TypeAlias = Mapping[str, Rows]  # by name; row i of each is of object i


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Objects to train on, others to test with, and some that are of no class among them.

    All parts have the same modalities. Training itself looks at no label.
    """

    train: Modalities
    train_labels: Labels
    test: Modalities
    test_labels: Labels
    novel: Modalities

    def source(self, modality: str) -> Source:
        """Give one modality alone."""
        return Source(
            train=self.train[modality],
            train_labels=self.train_labels,
            test=self.test[modality],
            test_labels=self.test_labels,
        )
