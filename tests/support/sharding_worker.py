"""What each process of test_fsdp.py does, to be compared with one process."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from attar.training.choices import Strategy
from attar.training.distributed import shard
from attar.training.encoders.joint_space import JointSpace
from attar.training.encoders.mlp import MlpConfig, MlpEncoder
from attar.training.encoders.table import TableConfig, TableEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.loop import History, Training, fit
from attar.training.method import Method
from attar.training.methods.asymmetric import Asymmetric
from attar.training.methods.cross_modal import CrossModal
from attar.training.methods.momentum import MomentumContrast
from attar.training.methods.swav import Swav
from attar.training.optimisers import Lars, OptimizerName, parameter_groups
from attar.training.predictors import DirectPred
from attar.training.sampler import Sampler
from attar.training.schedules import constant
from attar.training.targets import Queue

ITEMS = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
BATCH, STEPS = 12, 4


def methods() -> dict[str, Callable[[], Method[Any]]]:
    """Give methods with targets and predictors of every sort, the first around a transformer."""
    return {
        "moco": lambda: MomentumContrast(
            transformer(),
            nn.Linear(8, 4),
            queue=Queue(24, 4),
            momentum=constant(0.9),
            temperature=0.2,
        ),
        "direct_pred": lambda: Asymmetric(
            mlp(), nn.Linear(5, 4), DirectPred(4, momentum=constant(0.3))
        ),
        "swav": lambda: Swav(mlp(), nn.Linear(5, 4), dim=4, prototypes=5),
        "cross_modal": lambda: CrossModal(JointSpace({"a": mlp(), "b": mlp()})),
    }


def transformer() -> nn.Module:
    blocks = TransformerConfig(width=8, depth=2, heads=2, hidden=12, norm="pre", norm_eps=1e-5)
    return TableEncoder(TableConfig(numeric=6, transformer=blocks))


def mlp() -> MlpEncoder:
    return MlpEncoder(MlpConfig(features=6, hidden=(9,), dim=5))


def training(
    method: Callable[[], Method[Any]],
    steps: int = STEPS,
    optimiser: OptimizerName = "adamw",
) -> Training[Any]:
    """Compose a run whose probe embeds all items.

    LARS moves each matrix by 2 % of its norm, after the gradient of all was clipped.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        made = method()
    sampler = Sampler(items=len(ITEMS), batch_size=BATCH, seed=0)

    def views(items: Tensor, step: int) -> Any:
        first, second = items, items + items.roll(1, dims=1) / (2 + step)
        return (first, second) if isinstance(made, CrossModal) else ((first,), (second,))

    def probe(_step: int) -> dict[str, float]:
        given = (ITEMS, ITEMS) if isinstance(made, CrossModal) else (ITEMS,)
        return {"embedded": float(made.encoder(*given).abs().mean())}

    groups = parameter_groups(made, weight_decay=0.1)
    # A key's bias has no gradient but rounding, of which Adam without much eps makes whole steps.
    adamw = torch.optim.AdamW(groups, eps=1e-2, fused=True)
    return Training(
        method=made,
        batches=lambda step: ITEMS[shard(sampler(step))],
        views=views,
        optimiser=Lars(groups, trust=1.0) if optimiser == "lars" else adamw,
        clip=0.1 if optimiser == "lars" else None,
        rate=constant(0.02),
        steps=steps,
        seed=0,
        probe=probe,
    )


def trained(
    method: Callable[[], Method[Any]],
    strategy: Strategy,
    *,
    out: Path | None = None,
    steps: int = STEPS,
    micro_batch: int | None = None,
    optimiser: OptimizerName = "adamw",
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Give a run's losses and probes, and its weights."""
    run = training(method, steps, optimiser)
    history = fit(
        run,
        accelerator="cpu",
        strategy=strategy,
        log_every=1,
        probe_every=2,
        micro_batch=micro_batch,
        progress=False,
        out=out,
    )
    return figures(history), run.method.state_dict()


def figures(history: History) -> dict[str, list[float]]:
    return {name: [v for _, v in history.series(name)] for name in ("loss", "embedded")}


def held(method: Callable[[], Method[Any]]) -> float:
    """Give the share of the parameters' numbers that this process keeps between steps."""
    run = training(method, steps=3)
    shares: list[float] = []

    def batches(step: int) -> Tensor:
        parameters = list(run.method.parameters())
        parts = [p for p in parameters if isinstance(p, DTensor)]
        items: Tensor = run.batches(step)
        if not parts and not shares:  # fit counts the items of a batch before it shards anything
            return items
        assert len(parts) == len(parameters)
        moments = [state["exp_avg"] for state in run.optimiser.state.values()]
        assert len(moments) == (step > 0) * sum(p.requires_grad for p in parts)
        assert all(isinstance(moment, DTensor) for moment in moments)
        shares.append(sum(p.to_local().numel() for p in parts) / sum(p.numel() for p in parts))
        return items

    fit(replace(run, batches=batches), accelerator="cpu", strategy="fsdp", progress=False)
    assert len(shares) == run.steps
    assert len(set(shares)) == 1
    return shares[0]


def again(method: Callable[[], Method[Any]]) -> bool:
    """Say whether a method is plain after its run, and can be sharded again."""
    before = training(method, steps=2)
    layout = {name: (type(m), set(vars(m))) for name, m in before.method.named_modules()}
    made = before.method
    for _ in range(2):
        run = replace(training(method, steps=2), method=made)
        groups = parameter_groups(made, weight_decay=0.1)
        run = replace(run, optimiser=torch.optim.AdamW(groups), probe=None)
        fit(run, accelerator="cpu", strategy="fsdp", progress=False)
    copy = deepcopy(made)
    after = {name: (type(m), set(vars(m))) for name, m in copy.named_modules()}
    plain = all(type(p) is nn.Parameter for p in copy.parameters())
    alone = copy.encoder(ITEMS[: 5 + dist.get_rank()])  # nobody waits for anybody
    return plain and after == layout and bool(torch.isfinite(alone).all())


def run(out: Path) -> None:
    """Write what came of the methods in shards, and half of a run."""
    moco = methods()["moco"]
    found = {
        "runs": {name: trained(method, "fsdp") for name, method in methods().items()},
        "taken_up": trained(moco, "fsdp", out=out / "one"),
        "held": held(moco),
        "again": again(moco),
        "micro_batch": trained(moco, "fsdp", micro_batch=4),
        "lars": trained(moco, "fsdp", optimiser="lars"),
    }
    trained(moco, "fsdp", out=out / "two", steps=2)
    torch.save(found, out / f"sharding{dist.get_rank()}.pt")
