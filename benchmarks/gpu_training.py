"""Images a second and share of peak of ViT-S/16 at 224 pixels under the loop, on one GPU.

    python -m benchmarks.gpu_training --out benchmarks/results/gpu_training.json

Synthetic images that lie on the device, batch 256, Barlow Twins and SimCLR; with and without the
views, so that their share is seen, in float32 and bfloat16, compiled and not. The share of peak is
of the multiplications that forward and backward need, counted once, not of what was computed. With
`--device cpu` it runs on a few small batches, to show that it runs.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from attar.host import describe
from attar.training.data.source import Source
from attar.training.loop import Precision, Training, fit
from attar.training.recipes.image import barlow_twins, simclr

PEAK = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}  # dense bfloat16, data sheets
SIDE = 224
RECIPES = {"barlow_twins": barlow_twins, "simclr": simclr}


def training(name: str, batch: int, steps: int, data: Source, *, views: bool) -> Training[Any]:
    """Compose a recipe with a ViT-S/16 on images that are already where they are needed."""
    recipe = RECIPES[name]
    settings = replace(
        recipe.Settings(),
        encoder="vit_small",
        views="natural",
        dim=384,
        batch_size=batch,
        steps=steps,
        warmup=1,
    )
    made: Training[Any] = replace(recipe.build(data, settings), probe=None)
    if views:
        return made
    return replace(made, views=lambda images, _step: ((images,), (images,)))


def flops(training: Training[Any], device: str) -> float:
    """Count the operations of one step's forward and backward pass."""
    training.method.to(device)
    with FlopCounterMode(display=False) as counter:
        loss, _ = training.method.loss(training.views(training.batches(0), 0), 0)
        torch.autograd.backward(loss)
    return float(counter.get_total_flops())


def seconds(training: Training[Any], device: str, precision: Precision, *, compiled: bool) -> float:
    """Give the time of a step, the second half of the steps alone."""
    times: list[float] = []

    def clocked(step: int) -> Any:
        if device == "cuda" and step == training.steps // 2:
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        return training.batches(step)

    fit(
        replace(training, batches=clocked),
        accelerator=device,
        precision=precision,
        compiled=compiled,
        progress=False,
    )
    if device == "cuda":
        torch.cuda.synchronize()
    half = training.steps // 2
    return (time.perf_counter() - times[half]) / (training.steps - half)


def rows(device: str, batch: int, steps: int) -> Sequence[dict[str, Any]]:
    """Measure every combination."""
    images = torch.rand(4 * batch, 3, SIDE, SIDE, device=device)
    data = Source(train=images)
    found = []
    precisions: tuple[Precision, ...] = ("32-true", "bf16-mixed")
    for name in RECIPES:
        work = flops(training(name, batch, steps, data, views=False), device)
        for precision in precisions:
            for compiled in (False, True) if device == "cuda" else (False,):
                for views in (False, True):
                    made = training(name, batch, steps, data, views=views)
                    took = seconds(made, device, precision, compiled=compiled)
                    peak = PEAK.get(torch.cuda.get_device_name()) if device == "cuda" else None
                    row = {
                        "recipe": name,
                        "precision": precision,
                        "compiled": compiled,
                        "views": views,
                        "images_per_second": batch / took,
                        "step_ms": took * 1e3,
                        "tflops": work / took / 1e12,
                        "share_of_peak": work / took / peak if peak else None,
                    }
                    print(row, flush=True)
                    found.append(row)
    return found


def main() -> None:
    """Measure, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    batch, steps = (256, 40) if arguments.device == "cuda" else (4, 2)
    report = {
        "command": "python -m benchmarks.gpu_training --out OUT",
        "machine": {**describe(), "torch": torch.__version__},
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "batch": batch,
        "rows": rows(arguments.device, batch, steps),
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
