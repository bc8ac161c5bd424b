"""Normal items: those that an anomaly is compared with."""

import numpy as np
import torch

from attar.errors import InvalidInput

from .source import Rows, Source, subset


def normal_items(data: Source) -> Rows:
    """Give the training items labelled 0, or all where none has a label.

    Raises InvalidInput where there are labels and none is 0.
    """
    if data.train_labels is None:
        return data.train
    names = () if data.summary is None else data.summary.classes
    if not (data.train_labels == 0).any() or (names and "0" not in names):
        raise InvalidInput(
            "items of label 0 are the normal ones, which the probe compares with; there are none"
            + (f", but {', '.join(names)}: write 0 for normal" if names else "")
            + ", or read without labels by labels=none"
        )
    return subset(data.train, torch.from_numpy(np.flatnonzero(data.train_labels == 0)))
