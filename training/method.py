"""The interface of methods: a loss for a batch, and an update after each step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from attar.heads import Head

from .data.source import Source

Batch = TypeVar("Batch")
Result = TypeVar("Result")
Metrics = dict[str, Tensor | float]  # scalars; tensors are read (and waited for) only when logged


class Method(nn.Module, ABC, Generic[Batch]):
    """An `nn.Module` that owns its encoder, heads and targets, and gives the loss of a batch.

    A batch is whatever the recipe's `batches` and `views` make: a tensor, or tuples and dicts of
    tensors. `encoder` learns, and `exported` is what is probed and exported. `least_items` is the
    smallest batch that the method can learn from: one that compares items, or normalises over them,
    needs two.
    """

    encoder: nn.Module
    least_items: ClassVar[int] = 1

    @abstractmethod
    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Metrics]:
        """Give the scalar loss, and other metrics to log.

        Randomness comes from torch's global generator, which the loop seeds at each step.
        """

    @property
    def exported(self) -> nn.Module:
        """The network that is probed and exported: the encoder, where a method has no other."""
        return self.encoder

    def heads(self, source: Source, encoder: nn.Module) -> dict[str, Head]:
        """Give the small models on embeddings that it has learnt, by name, for the bundle.

        `encoder` is the exported one, or one of its parts, and `source` what that was trained on.
        """
        return {}

    def after_step(self, step: int) -> None:
        """Update targets, once the optimiser has made step number `step` (from 0)."""

    def during(self, work: Callable[[], Result]) -> Result:
        """Run `work` with complete parameters, as in `loss` (see `fsdp`)."""
        return work()
