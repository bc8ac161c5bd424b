"""Label efficiency on CIFAR-10: how far 1, 10 and 100 % of the labels go, by which road.

    python -m benchmarks.labels --data IMAGES --out benchmarks/results/labels.json

IMAGES is a folder or file that `attar.training.reading.read` takes, 32x32. Roads, as in
SimCLRv2 (arXiv:2006.10029): a small and a big network on labels alone; a linear probe on the big
one, pretrained without labels; that fine-tuned from its projector's first layer; the small one
distilled from it on all images, by soft labels and by Jensen-Shannon; and that one as a bundle in
int8, with softmax and with binarized attention. The lists of labels are fixed by their seed.

Everything is kept in WORK as it is made, so a run that is cut short goes on, and several processes
may share the seeds. The defaults are for a
GPU; for a CPU choose fewer images and steps by `--set`, and the file says which.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import attar
from attar.bundle import Bundle
from attar.export.graph import to_onnx
from attar.export.passes.binarized import quantize_binarized
from attar.export.passes.quantize import quantize_int8
from attar.host import describe
from attar.manifest import Manifest, Output, Variant
from attar.training.binarizing import Conversion, convert
from attar.training.data.source import Source, embed, subset
from attar.training.encoders.classifier import Classifier
from attar.training.encoders.encoder import TensorEncoder
from attar.training.encoders.mlp import mlp
from attar.training.encoders.resnet import ResNet, ResNetConfig
from attar.training.encoders.text import parameter_count
from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.hashing import Hashing
from attar.training.loop import Training, fit
from attar.training.methods.label_distillation import LabelDistillation
from attar.training.methods.siamese import Inputs, Siamese
from attar.training.objectives.nt_xent import nt_xent
from attar.training.objectives.soft_labels import jensen_shannon, soft_labels
from attar.training.optimisers import adamw
from attar.training.overrides import override
from attar.training.precision import best_precision
from attar.training.probes.finetune import accuracy, fine_tune
from attar.training.probes.interval import interval
from attar.training.probes.linear import linear_accuracy
from attar.training.reading import read
from attar.training.sampler import Sampler, seed_at
from attar.training.samplers.labels import label_lists
from attar.training.schedules import warmup_cosine
from attar.training.views.image import natural

Network = TypeVar("Network")

RESULTS = "accuracies.json"
SHARES = (0.01, 0.1, 1.0)
SIDE, CLASSES = 32, 10
RATE = 1e-3
TIMED = 200  # single images, of which the median is reported
HASHED = 64  # images that hash functions are learned from
CALIBRATED = 256  # images that int8 is calibrated on
ROADS = {
    "supervised small": "small",
    "supervised big": "big",
    "SSL linear": "big",
    "SSL fine-tuned": "big",
    "distilled small (KD)": "small",
    "distilled small (JS)": "small",
    "distilled small int8": "small",
    "distilled small binarized int8": "small",
}
"""Each row's name, and whose parameters it has; the last four go on from the fine-tuned network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What a run costs: change any by `--set name=value`."""

    images: int = 50_000  # training images
    width: int = 64  # of the big network's first blocks
    batch: int = 512
    pretrain_steps: int = 40_000
    tune_steps: int = 2_000
    supervised_steps: int = 20_000  # from scratch, which takes longer
    distil_steps: int = 20_000
    recover_steps: int = 4_000
    small_width: int = 128
    small_depth: int = 6
    bits: int = 16


@dataclass(frozen=True, slots=True)
class Bench:
    """The data, the scale, and the folder in which everything is kept."""

    data: Source
    scale: Scale
    work: Path

    def big(self, seed: int) -> TensorEncoder:
        """Make the teacher's network."""
        return built(seed, lambda: ResNet(ResNetConfig(side=SIDE, width=self.scale.width)))

    def small(self, seed: int) -> TensorEncoder:
        """Make the student's network: tokens, so that its attention can be binarized."""
        width = self.scale.small_width
        shape = VitConfig(
            side=SIDE,
            patch=4,
            transformer=TransformerConfig(
                width=width, depth=self.scale.small_depth, heads=4, hidden=2 * width, norm="pre"
            ),
        )
        return built(seed, lambda: VitEncoder(shape))

    def pretrained(self, seed: int) -> Siamese:
        """Pretrain the big network without labels, or take what was kept of that."""
        scale = self.scale
        encoder = self.big(seed)
        projector = built(seed + 1, lambda: mlp(encoder.dim, 512, 512, 128))
        method = Siamese(encoder, projector, partial(nt_xent, temperature=0.5))
        view = natural(SIDE, colour=(0.4, 0.4, 0.4, 0.1), blur=0.0)

        def views(images: Tensor, step: int) -> tuple[Inputs, Inputs]:
            draw = torch.Generator().manual_seed(seed_at(seed, step, 1))
            return (view(images, draw).data,), (view(images, draw).data,)

        self.run(method, views, f"{seed}/pretrain", steps=scale.pretrain_steps, seed=seed)
        return method

    def run(
        self,
        method: Any,
        views: Callable[[Tensor, int], Any],
        name: str,
        *,
        steps: int,
        seed: int,
    ) -> None:
        """Train on all images, without a label."""
        size = min(self.scale.batch, len(self.data.train))
        sampler = Sampler(items=len(self.data.train), batch_size=size, seed=seed)
        training = Training(
            method=method,
            batches=lambda step: self.data.train[sampler(step)],
            views=views,
            optimiser=adamw(method, weight_decay=1e-4),
            rate=warmup_cosine(RATE, max(1, steps // 20), steps),
            steps=steps,
            seed=seed,
        )
        fit(training, out=self.work / name, precision=best_precision())
        method.eval()

    def tuned(
        self, encoder: nn.Module, rows: NDArray[np.int64], seed: int, projector: Any = None
    ) -> Classifier:
        """Train a network on labels, a pretrained one with its projector; crops and flips alone."""
        steps = self.scale.tune_steps if projector else self.scale.supervised_steps
        view = natural(SIDE, area=(0.4, 1.0), jitter=0.0, grey=0.0, blur=0.0)
        found = fine_tune(
            encoder,
            self.data,
            rows,
            projector=projector,
            steps=steps,
            batch_size=min(128, len(rows)),
            seed=seed,
            view=view,
            precision=best_precision(),
        )
        return found.classifier

    def distilled(
        self, teacher: Classifier, seed: int, name: str, objective: Any, start: nn.Module
    ) -> Classifier:
        """Teach a small network on all images."""
        student = copy.deepcopy(start)
        if not isinstance(student, Classifier):
            width = self.small(seed).dim
            student = Classifier(student, nn.Identity(), width=width, classes=CLASSES)
        method = LabelDistillation(student, copy.deepcopy(teacher), objective)
        view = natural(SIDE, area=(0.4, 1.0), jitter=0.0, grey=0.0, blur=0.0)
        steps = self.scale.recover_steps if "binarized" in name else self.scale.distil_steps

        def views(images: Tensor, step: int) -> Tensor:
            draw = torch.Generator().manual_seed(seed_at(seed, step, 1))
            return view(images, draw).data

        self.run(method, views, name, steps=steps, seed=seed)
        return student

    def accuracy(self, classify: Callable[[Tensor], NDArray[np.float32]]) -> float:
        """Give the share of test images that are named rightly, by logits in order of class."""
        assert self.data.test is not None
        rows = torch.split(torch.arange(len(self.data.test)), 256)
        found = [classify(self.data.test[part]).argmax(1) for part in rows]
        return float((np.concatenate(found) == self.data.test_labels).mean())

    def score(self, classifier: Classifier) -> dict[str, float]:
        """Give a classifier's accuracy."""
        return {"accuracy": accuracy(classifier.eval(), self.data)}

    def linear(self, encoder: nn.Module, rows: NDArray[np.int64]) -> float:
        """Give the accuracy of a linear probe that saw the labels of `rows`."""
        assert self.data.test is not None
        assert self.data.train_labels is not None
        assert self.data.test_labels is not None
        seen = embed(encoder, subset(self.data.train, torch.from_numpy(rows)))
        asked = embed(encoder, self.data.test)
        return linear_accuracy(seen, self.data.train_labels[rows], asked, self.data.test_labels)

    def hashed(self, encoder: nn.Module) -> nn.Module:
        """Give the encoder with the attention of every layer binarized, not yet recovered."""
        inputs = (self.data.train[torch.arange(HASHED)],)
        settings = Conversion(
            layers=tuple(range(self.scale.small_depth)), hashing=Hashing(bits=self.scale.bits)
        )
        return convert(encoder.cpu(), inputs, settings).encoder

    def exported(self, student: Classifier, *, binarized: bool) -> dict[str, float]:
        """Export the student's encoder as a bundle in int8; its head is applied to embeddings."""
        encoder = cast("TensorEncoder", student.encoder.cpu().eval())
        (spec, items) = encoder.input, self.data.train[torch.arange(CALIBRATED)]
        graph = to_onnx(encoder, (items[:2],), (spec,), output="embedding")
        quantize = quantize_binarized if binarized else quantize_int8
        made_int8 = quantize(graph, [{spec.name: part.numpy()} for part in torch.split(items, 64)])
        weight = student.head.weight.detach().cpu().numpy()
        bias = student.head.bias.detach().cpu().numpy()
        variant = Variant(
            name="int8",
            file="int8.onnx",
            precision="int8",
            attention="binarized" if binarized else "softmax",
        )
        manifest = Manifest(
            name="student",
            version="1",
            modality="image",
            inputs=(spec,),
            output=Output(name="embedding", dim=encoder.dim, dims=(encoder.dim,), normalized=True),
            reference="int8",
            variants=(variant,),
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "student.attar"
            Bundle.write(path, manifest, {variant.file: made_int8})
            runtime = attar.load(path, threads=1)

            def classify(images: Tensor) -> NDArray[np.float32]:
                logits: NDArray[np.float32] = (
                    runtime.embed(images.numpy()).vectors @ weight.T + bias
                )
                return logits

            took = []
            for row in range(TIMED):
                image = self.data.train[torch.tensor([row])]
                began = time.perf_counter()
                classify(image)
                took.append(time.perf_counter() - began)
            return {
                "accuracy": self.accuracy(classify),
                "bytes": float((path / variant.file).stat().st_size),
                "p50_ms": statistics.median(took) * 1e3,
            }


def built(seed: int, make: Callable[[], Network]) -> Network:
    """Make a network, always the same of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def measured(bench: Bench, seed: int, share: float) -> dict[str, dict[str, float]]:
    """Take every road with one seed and share of the labels: accuracy, and of bundles more."""
    labels = bench.data.train_labels
    assert labels is not None
    rows = label_lists(labels, share, seed).rows
    pretrained = bench.pretrained(seed)
    teacher = bench.tuned(pretrained.encoder, rows, seed, pretrained.projector)
    found = {
        "supervised small": bench.score(bench.tuned(bench.small(seed), rows, seed)),
        "supervised big": bench.score(bench.tuned(bench.big(seed), rows, seed)),
        "SSL linear": {"accuracy": bench.linear(pretrained.encoder, rows)},
        "SSL fine-tuned": bench.score(teacher),
    }
    folder = f"{seed}/{share:g}"
    start = bench.small(seed)
    students = {
        name: bench.distilled(teacher, seed, f"{folder}/{name}", objective, start)
        for name, objective in (("KD", soft_labels), ("JS", jensen_shannon))
    }
    found |= {f"distilled small ({name})": bench.score(one) for name, one in students.items()}
    student = students["KD"]
    found["distilled small int8"] = bench.exported(student, binarized=False)
    hashed = copy.deepcopy(student)
    hashed.encoder = bench.hashed(student.encoder)
    recovered = bench.distilled(teacher, seed, f"{folder}/binarized", soft_labels, hashed)
    found["distilled small binarized int8"] = bench.exported(recovered, binarized=True)
    return found


def results_of(work: Path) -> dict[tuple[int, float], Any]:
    """Give what was measured so far, here or by another process, by seed and share."""
    return {
        (int(path.parts[-3]), float(path.parts[-2])): json.loads(path.read_text())
        for path in sorted(work.glob(f"*/*/{RESULTS}"))
    }


def table(bench: Bench, results: Mapping[tuple[int, float], Any]) -> list[dict[str, Any]]:
    """Give a row for each road and share, over the seeds there are."""
    sizes = {"small": parameter_count(bench.small(0)), "big": parameter_count(bench.big(0))}
    rows = []
    for road, network in ROADS.items():
        for share in SHARES:
            runs = [one[road] for (_, of), one in results.items() if of == share]
            if not runs:
                continue
            values = [run["accuracy"] for run in runs]
            over = interval(values) if len(values) > 1 else None
            rows.append(
                {
                    "road": road,
                    "labels": share,
                    "accuracy": statistics.fmean(values),
                    "low": over.low if over else None,
                    "high": over.high if over else None,
                    "values": values,
                    "parameters": sizes[network],
                    "bytes": runs[0].get("bytes"),
                    "p50_ms": runs[0].get("p50_ms"),
                }
            )
    return rows


def main() -> None:
    """Take what roads are left, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, default=Path("build/labels"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="changes")
    arguments = parser.parse_args()
    scale = override(Scale(), arguments.changes)
    bench = Bench(in_memory(read(arguments.data, side=None), scale.images), scale, arguments.work)
    for seed in arguments.seeds:
        for share in SHARES:
            path = arguments.work / f"{seed}" / f"{share:g}" / RESULTS
            if not path.exists():
                found = measured(bench, seed, share)
                path.write_text(json.dumps(found, indent=1))
            print(seed, share, path.read_text(), flush=True)
            kept = results_of(arguments.work)
            report = {
                "command": "python -m benchmarks.labels --data IMAGES --out OUT"
                + (f" --set {' '.join(arguments.changes)}" if arguments.changes else ""),
                "machine": {**describe(), "torch": torch.__version__},
                "scale": asdict(scale),
                "seeds": sorted({seed for seed, _ in kept}),
                "rows": table(bench, kept),
            }
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def in_memory(source: Source, images: int) -> Source:
    """Decode all images once; the first so many train."""
    if source.train_labels is None or source.test is None:
        raise SystemExit("labels.py needs labels, and a test part")
    count = min(images, len(source.train))
    parts = (
        torch.split(torch.arange(count), 1000),
        torch.split(torch.arange(len(source.test)), 1000),
    )
    return replace(
        source,
        train=torch.cat([source.train[rows] for rows in parts[0]]),
        train_labels=source.train_labels[:count],
        test=torch.cat([source.test[rows] for rows in parts[1]]),
    )


if __name__ == "__main__":
    main()
