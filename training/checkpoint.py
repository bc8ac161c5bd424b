"""A checkpoint: one safetensors file with the weights, the optimiser's state and the step.

Tensors are named `method.NAME` and `optimiser.PARAMETER.NAME`; the rest is JSON in the header. One
file, renamed into place, is never half of two states; nothing in it is code.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from attar.errors import InvalidInput

from .sharding import parted_as, whole

METHOD, OPTIMISER = "method.", "optimiser."
MEND = "start with resume=False, or in another folder"


def save_checkpoint(
    path: Path,
    *,
    method: nn.Module,
    optimiser: Optimizer,
    seed: int,
    step: int,
    write: bool = True,
) -> None:
    """Write where a run with `seed` stands after `step` steps to `path`, whole or not at all.

    Of a method that is parted among processes the file holds it whole, and any number of processes
    can read it. All of them must call this, and all but one with `write` false.
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
    header = {"step": step, "seed": seed, "groups": state["param_groups"], "numbers": numbers}
    copies = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if write:  # a copy each: tied weights share their storage, and safetensors refuses that
            copies[name] = full.cpu().contiguous().clone()
    if not write:
        return
    draft = path.with_suffix(".partial")
    save_file(copies, draft, metadata={"attar": json.dumps(header)})
    draft.replace(path)


def load_checkpoint(path: Path, *, method: nn.Module, optimiser: Optimizer, seed: int) -> int:
    """Put the state in `path` into `method` and `optimiser`, and give the steps made so far.

    Raises:
        InvalidInput: the file is damaged, or was written by a run with another seed or other
            parameters; the message says how to start afresh.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads(file.metadata()["attar"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InvalidInput(f"{path} is not a checkpoint of attar ({error}); {MEND}") from error
    if header["seed"] != seed:
        raise InvalidInput(f"{path} is a run with seed {header['seed']}, not {seed}; {MEND}")
    state: dict[int, dict[str, Any]] = {int(p): dict(v) for p, v in header["numbers"].items()}
    for key, tensor in tensors.items():
        if key.startswith(OPTIMISER):
            parameter, name = key.removeprefix(OPTIMISER).split(".", 1)
            state.setdefault(int(parameter), {})[name] = tensor
    weights = {k.removeprefix(METHOD): t for k, t in tensors.items() if k.startswith(METHOD)}
    _part(weights, state, method, optimiser)
    try:
        method.load_state_dict(weights)
        optimiser.load_state_dict({"state": state, "param_groups": header["groups"]})
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(
            f"{path} has other parameters than this run ({error}); {MEND}"
        ) from error
    return int(header["step"])


def _part(
    weights: dict[str, Tensor],
    state: dict[int, dict[str, Any]],
    method: nn.Module,
    optimiser: Optimizer,
) -> None:
    """Leave this process's part of what a method that is parted among several has read."""
    own = method.state_dict()
    weights |= {name: parted_as(t, own[name]) for name, t in weights.items() if name in own}
    for place, its in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        values = state.get(place, {})
        values |= {k: parted_as(v, its) for k, v in values.items() if isinstance(v, Tensor)}
