"""A checkpoint: one safetensors file with the weights, the optimiser's state, step and lineage.

Tensors are named `method.NAME` and `optimiser.PARAMETER.NAME`; the rest is JSON in the header. One
file, renamed into place, is never half of two states; nothing in it is code.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from attar.errors import InvalidInput

from ..fsdp import full_tensor, shard_like
from ..lineage import FRESH, Lineage, refuse_other

CHECKPOINT: Final = "checkpoint.safetensors"
METHOD, OPTIMISER = "method.", "optimiser."
PER_RUN: Final = {"params", "lr"}  # of a group of parameters: the rate follows the step
RENAMED: Final = {
    "slow.": "target.",
    "answer.": "classifier.",
    "predictor.asked": "predictor.query",
    "predictor.place": "predictor.position",
}
"""Old and new names of parameters of methods: older checkpoints have the old ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a checkpoint records of its run.

    `lineage` is what the run was made of, besides its seed; `stretches` are its parts in order, as
    `lineage.stretch` describes them.
    """

    seed: int
    step: int
    lineage: Lineage = field(default_factory=dict)
    stretches: Sequence[Mapping[str, object]] = ()

    @property
    def story(self) -> dict[str, object]:
        """The lineage of the weights in the checkpoint."""
        return {
            **self.lineage,
            "seed": self.seed,
            "steps": self.step,
            "stretches": list(self.stretches),
        }


def read_record(path: Path) -> Record:
    """Read the record of a checkpoint; raises InvalidInput when it is damaged."""
    return _read(path)[0]


def save_checkpoint(
    path: Path,
    *,
    method: nn.Module,
    optimiser: Optimizer,
    record: Record,
    write: bool = True,
) -> None:
    """Write the state of a run to `path`, completely or not at all.

    The file of a sharded method holds complete tensors, which any number of processes can load.
    All processes must call this, and all but one with `write` false.
    """
    tensors = {METHOD + name: tensor for name, tensor in method.state_dict().items()}
    numbers: dict[str, dict[str, float]] = {}
    state = optimiser.state_dict()
    for parameter, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMISER}{parameter}.{name}"] = value
            else:
                numbers.setdefault(str(parameter), {})[name] = value
    header = {**asdict(record), "groups": state["param_groups"], "numbers": numbers}
    copies = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor.detach())
        if write:  # a copy each: tied weights share their storage, and safetensors refuses that
            copies[name] = full.cpu().contiguous().clone()
    if not write:
        return
    draft = path.with_suffix(".partial")
    save_file(copies, draft, metadata={"attar": json.dumps(header)})
    draft.replace(path)


def load_checkpoint(
    path: Path, *, method: nn.Module, optimiser: Optimizer, seed: int, lineage: Lineage, steps: int
) -> Record:
    """Load the state in `path` into `method` and `optimiser`, and give its record.

    Raises:
        InvalidInput: the file is damaged; or was written by a run with another seed, lineage,
            settings of the optimiser or parameters; or has more than `steps` steps. The message
            names each difference and says how to start again.
    """
    record, header = _read(path)
    refuse_other(path, {"seed": record.seed, **record.lineage}, {"seed": seed, **lineage})
    if record.step > steps:
        raise InvalidInput(
            f"{path} has made {record.step} steps, more than the {steps} of this run; "
            f"give it {record.step} or more, or {FRESH}"
        )
    _refuse_other_groups(path, header["groups"], optimiser.state_dict()["param_groups"])
    with _naming(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    state: dict[int, dict[str, Any]] = {int(p): dict(v) for p, v in header["numbers"].items()}
    for key, tensor in tensors.items():
        if key.startswith(OPTIMISER):
            parameter, name = key.removeprefix(OPTIMISER).split(".", 1)
            state.setdefault(int(parameter), {})[name] = tensor
    weights = _weights(tensors, method)
    _part(weights, state, method, optimiser)
    try:
        method.load_state_dict(weights)
        optimiser.load_state_dict({"state": state, "param_groups": header["groups"]})
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(
            f"{path} has other parameters than this run ({error}); {FRESH}"
        ) from error
    return record


def _weights(tensors: Mapping[str, Tensor], method: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of the method by their present names."""
    weights = {k.removeprefix(METHOD): t for k, t in tensors.items() if k.startswith(METHOD)}
    own = method.state_dict().keys()
    for old, new in RENAMED.items():
        for name in [name for name in weights if name.startswith(old) and name not in own]:
            weights[new + name.removeprefix(old)] = weights.pop(name)
    return weights


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise InvalidInput that names this file for any error in reading it."""
    try:
        yield
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InvalidInput(f"{path} is not a checkpoint of attar ({error}); {FRESH}") from error


def _read(path: Path) -> tuple[Record, dict[str, Any]]:
    """Read a checkpoint's header."""
    with _naming(path), safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["attar"])
        record = Record(
            seed=int(header["seed"]),
            step=int(header["step"]),
            lineage=dict(header.get("lineage", {})),
            stretches=tuple(header.get("stretches", ())),
        )
    return record, header


def _refuse_other_groups(path: Path, then: Any, now: Any) -> None:
    """Refuse an optimiser with other settings, which loading would silently replace."""
    facts: tuple[dict[str, object], dict[str, object]] = {}, {}
    for number, groups in enumerate(zip(then, now, strict=False)):
        # Another version of torch may have more settings, so only those that both have.
        for name in set.intersection(*map(set, groups)) - PER_RUN:
            for group_facts, group in zip(facts, groups, strict=True):
                group_facts[f"optimiser.{number}.{name}"] = group[name]
    refuse_other(path, *facts)


def _part(
    weights: dict[str, Tensor],
    state: dict[int, dict[str, Any]],
    method: nn.Module,
    optimiser: Optimizer,
) -> None:
    """Keep this process's shard of the tensors that were read for a sharded method."""
    own = method.state_dict()
    weights |= {name: shard_like(t, own[name]) for name, t in weights.items() if name in own}
    for index, parameter in enumerate(
        p for group in optimiser.param_groups for p in group["params"]
    ):
        values = state.get(index, {})
        values |= {k: shard_like(v, parameter) for k, v in values.items() if isinstance(v, Tensor)}
