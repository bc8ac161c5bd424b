"""Sharding: parameters, gradients and optimiser state parted among processes, whole when needed.

Every process keeps one part of each parameter; a transformer's blocks are put together one after
another as they run, and all else when a step begins. Gradients are averaged over processes, as in
DDP. Rajbhandari et al. 2020 (arXiv:1910.02054); torch's `fully_shard` (FSDP2), which, as it parts
each parameter by itself, lets a target follow its student part by part.
"""

from typing import Any, cast

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from .encoders.transformer import Block
from .method import Method


def shard(method: Method[Any], optimiser: Optimizer, mesh: DeviceMesh) -> None:
    """Part a method among the processes of a one-dimensional mesh, and let `optimiser` know.

    The optimiser must not have made a step yet. From here on `loss` and `during` see whole
    parameters; all else sees the parts, as `DTensor`.
    """
    names = {parameter: name for name, parameter in method.named_parameters()}
    for module in method.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(method, mesh=mesh)
    for name in ("loss", "during"):
        register_fsdp_forward_method(method, name)
    parts = dict(method.named_parameters())
    for group in optimiser.param_groups:
        group["params"] = [parts[names[whole]] for whole in group["params"]]


def reshard(method: Method[Any]) -> None:
    """Give up what was put together and not parted again, which is so after `during`."""
    if isinstance(method, FSDPModule):
        method.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Give a tensor whole; every process must ask for that of a part."""
    if not isinstance(tensor, DTensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()
    return gathered


def parted_as(tensor: Tensor, like: Tensor) -> Tensor:
    """Give this process's part of a whole tensor, where `like` of the same shape is parted."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every process has read it all, so nobody needs to send it.
    part = distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
    return cast("Tensor", part)
