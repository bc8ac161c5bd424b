"""Pretrain an encoder on a folder of your images, without labels, and find the most similar ones.

python examples/pretrain_your_images.py IMAGES OUT
"""

import sys
from pathlib import Path

import numpy as np
import torch

import attar
from attar.export import export
from attar.training import pretrain
from attar.training.reading import read


def main(images: str, out: str, side: int = 64, steps: int | None = None) -> None:
    """Pretrain with SimCLR, export, and print each image's nearest neighbour."""
    words = [f"side={side}"]
    run = pretrain("image/simclr", Path(out) / "run", data=images, reading=words, steps=steps)
    bundle = export(run, Path(out) / "images.attar", data=images, reading=words).bundle

    pictures = read(images, side=side, labels="none").train
    items = pictures[torch.arange(min(len(pictures), 100))].numpy()
    vectors = attar.load(bundle.path).embed(items).vectors
    similar = vectors @ vectors.T - 2 * np.eye(len(vectors))
    for i, nearest in enumerate(similar.argmax(axis=1)[:10]):
        print(f"image {i} is most like image {nearest}, cosine {similar[i, nearest]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
