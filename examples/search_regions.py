"""Search regions of images by a picture, on a server of a bundle that was exported with --tokens.

python examples/search_regions.py 127.0.0.1:8001 photographs part.png 64
"""

import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import attar

BOXES = [[left, top, left + 0.5, top + 0.5] for top in (0.0, 0.5) for left in (0.0, 0.5)]


def main(server: str, folder: str, query: str, side: str) -> None:
    """Store the quarters of each image with their boxes, and print those most like the query."""

    def pixels(path: str | Path) -> np.ndarray:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (int(side), int(side)))
        return np.asarray(fitted, np.float32).transpose(2, 0, 1)[None] / 255

    with attar.Client(server) as client:
        client.create_collection("regions")
        for i, path in enumerate(sorted(Path(folder).iterdir())):
            with suppress(OSError):  # a damaged image is left out
                cells = client.embed_tokens(pixels(path), pooling="grid", grid=(2, 2))
                boxes = [{"image": path.name, "box": box} for box in BOXES]
                client.upsert("regions", range(4 * i, 4 * i + 4), vectors=cells, payloads=boxes)
        whole = client.embed_tokens(pixels(query), pooling="grid", grid=(1, 1))
        for hit in client.search("regions", vectors=whole, limit=3)[0]:
            print(f"{hit.score:.2f}", hit.payload["image"], hit.payload["box"])


if __name__ == "__main__":
    main(*sys.argv[1:5])
