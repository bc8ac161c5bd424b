"""Images that are here without a download: scikit-learn's digits."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from .source import Source


def digits() -> Source:
    """Give the 1797 8x8 digits that scikit-learn ships, 30 % held out, always the same split."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32)).view(-1, 1, 8, 8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0
    )
    return Source(
        train=images[train],
        train_labels=labels[train],
        test=images[test],
        test_labels=labels[test],
    )
