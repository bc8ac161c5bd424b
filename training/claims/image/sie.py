"""SIE keeps rotations in its equivariant part, on digits."""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from ...claim import Claim, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...encoders.encoder import TensorEncoder
from ...loop import fit
from ...recipes.image.sie import recipe
from ...views.image import distortion

DEGREES = 20  # to either side


def rotation_r2(encoder: nn.Module, data: Source, columns: slice) -> float:
    """Give R² of the angle by which test images were turned, by linear regression.

    It sees some columns of the embeddings of the images before and after, of which those of the
    train images fit it.
    """
    turn = distortion(degrees=DEGREES, translate=0, scale=(1.0, 1.0), shear=0, erase=0, noise=0)
    generator = torch.Generator().manual_seed(0)

    def pairs(images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        view = turn(images, generator)
        matrix = view.params["affine"]
        with torch.no_grad():
            both = [encoder(part)[:, columns] for part in (images, view.data)]
        return torch.cat(both, 1).numpy(), torch.atan2(matrix[:, 0, 1], matrix[:, 0, 0]).numpy()

    encoder.eval()
    assert data.test is not None
    parts = data.train, data.test
    train, test = (pairs(part[torch.arange(len(part))]) for part in parts)
    scale = train[0].std(0) + 1e-6
    return float(Ridge().fit(train[0] / scale, train[1]).score(test[0] / scale, test[1]))


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train once, and read the angle from either part before and after."""
    training = recipe.build(data, replace(recipe.settings, seed=seed))
    encoder = training.method.encoder
    assert isinstance(encoder, TensorEncoder)
    half = encoder.dim // 2
    parts = {"invariant": slice(half), "equivariant": slice(half, None)}
    figures = {}
    for stage in ("untrained", "pretrained"):
        if stage == "pretrained":
            fit(training, accelerator="cpu", progress=False)
        for part, columns in parts.items():
            figures[f"{stage}/{part}_rotation_r2"] = rotation_r2(encoder, data, columns)
    return figures


claim: Final = Claim(
    "a linear map reads more of the angle between two views of held-out digits (R²) from the "
    "equivariant part of the embedding than from the invariant one",
    digits,
    trial,
    effects=(difference("pretrained/equivariant_rotation_r2", "pretrained/invariant_rotation_r2"),),
)
