"""The digits as tensors, for tests that cut and compare them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attar.training.data.source import Labels, Source
from attar.training.datasets import digits


@dataclass(frozen=True, slots=True)
class Digits:
    train: Tensor
    train_labels: Labels
    test: Tensor
    test_labels: Labels

    @property
    def source(self) -> Source:
        return Source(
            train=self.train,
            train_labels=self.train_labels,
            test=self.test,
            test_labels=self.test_labels,
        )


def load() -> Digits:
    source = digits.digits()
    assert source.test is not None
    assert source.train_labels is not None
    assert source.test_labels is not None
    train, test = (part[torch.arange(len(part))] for part in (source.train, source.test))
    return Digits(train, source.train_labels, test, source.test_labels)
