"""FSDP: parameters, gradients and optimiser state split among processes, whole when needed.

Every process keeps one part of each parameter; a transformer's blocks are put together one after
another as they run, and all else when a step begins. Gradients are averaged over processes, as in
DDP. Rajbhandari et al. 2020 (arXiv:1910.02054); torch's `fully_shard` (FSDP2), which, as it parts
each parameter by itself, lets a target follow its student part by part.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.distributed._composable_state import _module_state_mapping
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from .encoders.transformer import Block
from .method import Method

FORWARD = ("loss", "during")  # what sees whole parameters


class Sharded:
    """A method whose parameters are sharded over a one-dimensional mesh of processes, until `undo`.

    The parameters of `optimiser` are replaced by their shards; it must not have made a step. `loss`
    and `during` see complete parameters, all other code sees the shards as `DTensor`.
    """

    def __init__(self, method: Method[Any], optimiser: Optimizer, mesh: DeviceMesh) -> None:
        self._method = method
        self._plain = [_Plain.of(module) for module in method.modules()]
        names = {parameter: name for name, parameter in method.named_parameters()}
        for module in method.modules():
            if isinstance(module, Block):
                fully_shard(module, mesh=mesh)
        fully_shard(method, mesh=mesh)
        for name in FORWARD:
            register_fsdp_forward_method(method, name)
        parts = dict(method.named_parameters())
        for group in optimiser.param_groups:
            group["params"] = [parts[names[parameter]] for parameter in group["params"]]
        self._added = [set(vars(plain.module)) - plain.names for plain in self._plain]

    def reshard(self) -> None:
        """Shard the parameters again that `during` gathered."""
        for module in self._method.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    @torch.no_grad()
    def undo(self) -> None:
        """Gather the method in every process, as a plain module.

        The optimiser keeps its shards, and cannot be used any more.
        """
        self.reshard()
        wholes = {
            part: nn.Parameter(full_tensor(part.detach()), requires_grad=part.requires_grad)
            for part in self._method.parameters()
        }
        for plain, added in zip(self._plain, self._added, strict=True):
            plain.restore(added)
            for name, part in list(plain.module.named_parameters(recurse=False)):
                setattr(plain.module, name, wholes[part])


@dataclass(frozen=True, slots=True)
class _Plain:
    """What a module was before `fully_shard`, which changes it in place and cannot be undone."""

    module: nn.Module
    kind: type[nn.Module]
    names: frozenset[str]
    hooks: Mapping[str, Mapping[Any, Any]]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        hooks = {
            name: dict(value)
            for name, value in vars(module).items()
            if "_hooks" in name and isinstance(value, dict)
        }
        return cls(module, type(module), frozenset(vars(module)), hooks)

    def restore(self, added: Collection[str]) -> None:
        self.module.__class__ = self.kind
        for name in added:
            vars(self.module).pop(name, None)
        for name, hooks in self.hooks.items():
            now = vars(self.module)[name]
            now.clear()
            now.update(hooks)
        _module_state_mapping.pop(self.module, None)  # or it could not be sharded again


def full_tensor(tensor: Tensor) -> Tensor:
    """Give the complete tensor of a `DTensor`; every process must call this."""
    if not isinstance(tensor, DTensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()
    return gathered


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Give this process's shard of a complete tensor, if `like`, of the same shape, is sharded."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every process has the complete tensor, so that none has to send it.
    part = distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
    return cast("Tensor", part)
