"""What each process of tests/test_world.py does: started by torchrun with the folder to write."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from attar.training.loop import Training, fit
from attar.training.method import Method
from attar.training.methods.asymmetric import Asymmetric
from attar.training.methods.clusters import Swav
from attar.training.methods.distillation import Distillation
from attar.training.methods.momentum import MomentumContrast
from attar.training.methods.random_teacher import RandomTeacher
from attar.training.methods.twins import Twins
from attar.training.objectives.alignment import cosine_alignment, squared_alignment
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.objectives.clip import clip
from attar.training.objectives.dino import dino
from attar.training.objectives.distillation import embedding_match, similarity_match
from attar.training.objectives.info_nce import info_nce
from attar.training.objectives.knowledge import jensen_shannon, soft_labels
from attar.training.objectives.nt_xent import nt_xent
from attar.training.objectives.swav import swav
from attar.training.objectives.vicreg import vicreg
from attar.training.predictors import DirectPred
from attar.training.sampler import Sampler
from attar.training.schedules import constant
from attar.training.targets import Queue
from attar.training.world import gather, share, size

Objective = Callable[[Tensor, Tensor], Tensor]

ITEMS = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
BATCH, STEPS = 12, 4
OBJECTIVES: dict[str, Objective] = {
    "barlow_twins": barlow_twins,
    "clip": lambda a, b: clip([a, b], torch.zeros(1, dtype=a.dtype)),
    "cosine_alignment": cosine_alignment,
    "dino": lambda a, b: dino(a, b, centre=torch.zeros(b.shape[1], dtype=b.dtype)),
    "embedding_match": embedding_match,
    "info_nce": info_nce,
    "jensen_shannon": jensen_shannon,
    "nt_xent": nt_xent,
    "similarity_match": similarity_match,
    "soft_labels": soft_labels,
    "squared_alignment": squared_alignment,
    "swav": swav,
    "vicreg": vicreg,
}


def value_and_gradient(objective: Objective) -> tuple[float, Tensor]:
    """Compare two noisy views of this process's items under one linear map."""
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight.requires_grad_()
    items = ITEMS[share(torch.arange(BATCH))].double()
    first, second = items @ weight, (items + items.roll(1, dims=1) / 4) @ weight
    loss = objective(gather(first), gather(second))
    torch.autograd.backward(loss)
    assert weight.grad is not None
    if size() > 1:  # what DDP does
        dist.all_reduce(weight.grad)
    return loss.item(), weight.grad / size()


def methods() -> dict[str, Callable[[], Method[Any]]]:
    """Give every method around networks without batch statistics."""
    return {
        "twins": lambda: Twins(encoder(), nn.Linear(4, 4), partial(barlow_twins, redundancy=0.1)),
        "byol": lambda: Asymmetric(
            encoder(), nn.Linear(4, 4), nn.Linear(4, 4), momentum=constant(0.9)
        ),
        "direct_pred": lambda: Asymmetric(
            encoder(), nn.Linear(4, 4), DirectPred(4, momentum=constant(0.3))
        ),
        "moco": lambda: MomentumContrast(
            encoder(),
            nn.Linear(4, 4),
            queue=Queue(24, 4),
            momentum=constant(0.9),
            temperature=0.2,
        ),
        "swav": lambda: Swav(encoder(), nn.Linear(4, 4), dim=4, prototypes=5),
        "random_teacher": lambda: RandomTeacher(encoder(), nn.Linear(4, 4), distance=0.5, seed=0),
        "distillation": lambda: Distillation(encoder(), temperature=0.1),
    }


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))


def trained(method: Callable[[], Method[Any]], out: Path | None = None, steps: int = STEPS) -> Any:
    """Train a method and give the rows of its log and its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        made = method()
    sampler = Sampler(items=len(ITEMS), batch_size=BATCH, seed=0)

    def views(items: Tensor, step: int) -> Any:
        first, second = items, items + items.roll(1, dims=1) / (2 + step)
        match made:
            case RandomTeacher():
                return ((first,),)
            case Distillation():
                return (first,), (second,), first[:, :4], second[:, :4]
        return (first,), (second,)

    training = Training(
        method=made,
        batches=lambda step: ITEMS[share(sampler(step))],
        views=views,
        optimiser=torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1),
        rate=constant(0.1),
        steps=steps,
        seed=0,
    )
    history = fit(training, accelerator="cpu", log_every=1, progress=False, out=out)
    return [row["loss"] for row in history.rows], made.state_dict()


def main(out: Path) -> None:
    found = {
        "methods": {name: trained(method) for name, method in methods().items()},
        "objectives": {name: value_and_gradient(it) for name, it in OBJECTIVES.items()},
    }
    trained(methods()["twins"], out / "half", steps=2)
    if dist.get_rank() == 0:
        torch.save(found, out / "found.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
