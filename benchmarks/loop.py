"""What the loop costs over one written by hand: the same method, batches and optimiser.

    python -m benchmarks.loop --out benchmarks/results/loop.json

Both sides train from the same weights, in turn, several times; each figure is the median over the
rounds of the time of a step. The hand-written side has no log, no checkpoint and no check that the
loss is finite.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attar.host import describe
from attar.training.datasets.digits import digits
from attar.training.loop import Training, fit
from attar.training.recipes.image import barlow_twins, simclr
from attar.training.sampler import seed_at

ROUNDS = 7


def by_hand(training: Training[Any]) -> None:
    """Train without attar's loop, step by step alike."""
    method, optimiser = training.method, training.optimiser
    method.train()
    for step in range(training.steps):
        torch.manual_seed(seed_at(training.seed, step))
        for group in optimiser.param_groups:
            group["lr"] = training.rate(step)
        loss, _ = method.loss(training.views(training.batches(step), step), step)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        method.after_step(step)


def by_fit(training: Training[Any]) -> None:
    """Train by attar's."""
    fit(training, accelerator="cpu", progress=False)


def step_seconds(run: Callable[[Training[Any]], None], training: Training[Any]) -> float:
    """Give the time of a step."""
    began = time.perf_counter()
    run(training)
    return (time.perf_counter() - began) / training.steps


def main() -> None:
    """Compare the loops on two recipes, of which one has batches so small that a step is short."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = digits()
    runs = {
        "barlow_twins, batch 128": (barlow_twins, 128, 100),
        "barlow_twins, batch 512": (barlow_twins, 512, 40),
        "simclr, batch 16": (simclr, 16, 200),
    }
    rows = []
    for name, (recipe, batch, steps) in runs.items():
        settings = replace(recipe.Settings(), steps=steps, warmup=5, batch_size=batch)
        times: dict[str, list[float]] = {"hand": [], "fit": []}
        for turn in range(ROUNDS + 1):
            for side, run in (("hand", by_hand), ("fit", by_fit)):
                training = replace(recipe.build(data, settings), probe=None)
                took = step_seconds(run, training)
                if turn:  # the first round warms up
                    times[side].append(took)
        hand, ours = (statistics.median(times[side]) for side in ("hand", "fit"))
        ratios = [a / b for a, b in zip(times["fit"], times["hand"], strict=True)]
        row = {
            "run": name,
            "hand_ms": hand * 1e3,
            "fit_ms": ours * 1e3,
            "ratio": statistics.median(ratios),
            "ratios": ratios,
        }
        rows.append(row)
        print(row, flush=True)
    report = {
        "command": "python -m benchmarks.loop --out OUT",
        "machine": {**describe(), "torch": torch.__version__},
        "threads": arguments.threads,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
