"""Train on the same batches by attar's objectives and by lightly's: curves and times of a step.

    python -m benchmarks.lightly_losses --out benchmarks/results/lightly.json

lightly itself cannot be imported without torchvision, of which there may be no build for a CPU, so
its wheel is unpacked and its modules of losses are loaded without the package around them. Curves
are in float64, where rounding does not grow into differences within a run; times are of float32,
both sides in turn, the median of many steps.
"""

import argparse
import copy
import importlib
import json
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.host import describe
from attar.training.datasets.digits import digits
from attar.training.encoders.conv import SmallConv, SmallConvConfig
from attar.training.encoders.mlp import mlp
from attar.training.objectives.alignment import cosine_alignment
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.objectives.dino import dino, moved_centre
from attar.training.objectives.nt_xent import nt_xent
from attar.training.objectives.swav import swav
from attar.training.objectives.vicreg import vicreg
from attar.training.sampler import Sampler, seed_at
from attar.training.views.image import distortion

VERSION = "1.6.0"
SHARP, SOFT = 1 / 32, 1 / 8  # DINO's temperatures: lightly keeps the teacher's in float32
STEPS, BATCH, WIDTH = 100, 128, 128  # of the curves; WIDTH of the projections
TIMED, TIMED_BATCH, TIMED_WIDTH = 60, 512, 1024
Loss = Callable[[Tensor, Tensor], Tensor]


def unpacked(folder: Path) -> None:
    """Fetch lightly's wheel into `folder`, and let its modules be found without their packages."""
    if not (folder / "lightly").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*pip, str(folder), f"lightly=={VERSION}"], check=True)
    for name in ("lightly", "lightly.loss", "lightly.models", "lightly.models.modules"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    # The memory bank, which nothing here has, is what needs this module and so torchvision.
    utilities = types.ModuleType("lightly.models.utils")
    sys.modules[utilities.__name__] = utilities
    vars(sys.modules["lightly.models"])["utils"] = utilities


def theirs() -> dict[str, Callable[[], Loss]]:
    """Give lightly's losses with the numbers that ours have by default."""

    def built(module: str, name: str, **numbers: Any) -> Any:
        return getattr(importlib.import_module(f"lightly.loss.{module}"), name)(**numbers)

    def cosine() -> Loss:
        loss = built("negative_cosine_similarity", "NegativeCosineSimilarity")
        return lambda a, b: 2 + 2 * loss(a, b.detach())

    def prototypes() -> Loss:
        loss = built("swav_loss", "SwaVLoss")
        return lambda a, b: loss([unit(a), unit(b)], [])

    def centred() -> Loss:
        loss = built(
            "dino_loss", "DINOLoss", output_dim=WIDTH, teacher_temp=SHARP, student_temp=SOFT
        ).double()
        # It compares every view of the student with the teacher's others.
        return lambda a, b: loss([a.detach(), b.detach()], [a, b])

    return {
        "nt_xent": lambda: built("ntx_ent_loss", "NTXentLoss", temperature=0.1),
        "barlow_twins": lambda: built("barlow_twins_loss", "BarlowTwinsLoss"),
        "vicreg": lambda: built("vicreg_loss", "VICRegLoss"),
        "swav": prototypes,
        "dino": centred,
        "cosine_alignment": cosine,
    }


def ours() -> dict[str, Callable[[], Loss]]:
    """Give attar's, called as lightly's are."""

    def centred() -> Loss:
        centre = torch.zeros(WIDTH)

        def loss(a: Tensor, b: Tensor) -> Tensor:
            nonlocal centre
            centre = centre.to(a)
            both = {"teacher_temperature": SHARP, "student_temperature": SOFT}
            value = (dino(a, b, centre, **both) + dino(b, a, centre, **both)) / 2
            centre = moved_centre(centre, torch.cat([a, b]).detach())
            return value

        return loss

    return {
        "nt_xent": lambda: nt_xent,
        "barlow_twins": lambda: barlow_twins,
        "vicreg": lambda: vicreg,
        "swav": lambda: lambda a, b: swav(unit(a), unit(b)),
        "dino": centred,
        "cosine_alignment": lambda: lambda a, b: cosine_alignment(a, b.detach()),
    }


def unit(z: Tensor) -> Tensor:
    """Keep scores where cosines are."""
    return nn.functional.normalize(z, dim=1)


def curve(loss: Loss, start: nn.Module) -> list[float]:
    """Train a copy of `start` and give its loss at every step."""
    net = copy.deepcopy(start)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    data, view = digits(), distortion()
    sampler = Sampler(items=len(data.train), batch_size=BATCH, seed=0)
    values = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(seed_at(0, step))
        images = data.train[sampler(step)]
        a, b = (net(view(images, generator).data.double()) for _ in range(2))
        value = loss(a, b)
        optimiser.zero_grad()
        torch.autograd.backward(value.sum())
        optimiser.step()
        values.append(value.item())
    return values


def seconds(sides: tuple[Loss, Loss]) -> tuple[float, float]:
    """Give the median time of either side's value and gradient, both in turn."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, TIMED_BATCH, TIMED_WIDTH, generator=generator)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMED + 5):
        for side, took in zip(sides, times, strict=True):
            first, second = a.clone().requires_grad_(), b.clone().requires_grad_()
            began = time.perf_counter()
            torch.autograd.backward(side(first, second).sum())
            took.append(time.perf_counter() - began)
    mine, other = (statistics.median(took[5:]) for took in times)
    return mine, other


def main() -> None:
    """Compare every objective that both have."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lightly", type=Path, default=Path("build/lightly"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    unpacked(arguments.lightly)
    torch.manual_seed(0)
    encoder = SmallConv(SmallConvConfig(side=8, pooling="flat", dim=64))
    start = nn.Sequential(encoder, mlp(64, 256, WIDTH)).double()
    rows = []
    mine, other = ours(), theirs()
    for name in mine:
        a, b = curve(mine[name](), start), curve(other[name](), start)
        apart = max(abs(x - y) / abs(y) for x, y in zip(a, b, strict=True))
        row = {"objective": name, "first": a[0], "last": a[-1], "apart": apart}
        if name != "dino":  # lightly's keeps a centre of one width
            ours_s, theirs_s = seconds((mine[name](), other[name]()))
            row |= {"ms": ours_s * 1e3, "lightly_ms": theirs_s * 1e3, "ratio": ours_s / theirs_s}
        rows.append(row)
        print(row, flush=True)
    report = {
        "command": "python -m benchmarks.lightly_losses --out OUT",
        "machine": {**describe(), "torch": torch.__version__},
        "versions": {"lightly": VERSION},
        "steps": STEPS,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
