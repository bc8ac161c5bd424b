"""A random teacher: a student that matches a frozen, untrained network, and probes better than it.

Sarnthein et al., ICML 2023, arXiv:2302.12091, section 3.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..method import Method, Metrics
from ..objectives.soft_labels import soft_labels
from ..targets import Frozen
from .siamese import Inputs


def images_or_noise(images: Tensor, draw: torch.Generator, *, noise: bool) -> tuple[Inputs]:
    """Give the batch of these images, or with `noise` of uniform noise of their shape."""
    if not noise:
        return ((images,),)
    return ((torch.rand(images.shape, generator=draw).to(images.device),),)


class RandomTeacher(Method[tuple[Inputs]]):
    """Match the output distribution of a frozen, randomly initialised teacher; one view, no labels.

    The student starts at (1 - `distance`) x the teacher's weights + `distance` x those of another
    random network: at 0 it is the teacher, and only batch norm makes the loss differ from its
    minimum; at 1 it is independent of the teacher. A batch is the inputs of one view.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, distance: float, seed: int) -> None:
        super().__init__()
        self.teacher = Frozen(nn.Sequential(deepcopy(encoder), deepcopy(head)))
        self.encoder = encoder
        self.head = head
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            for module in nn.ModuleList([encoder, head]).modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    random = deepcopy(module)
                    random.reset_parameters()
                    for weight, end in zip(module.parameters(), random.parameters(), strict=True):
                        weight.lerp_(end, distance)

    def loss(self, batch: tuple[Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Compare the student's distribution with the teacher's."""
        ((image,),) = batch
        loss = soft_labels(self.head(self.encoder(image)), self.teacher(image))
        return loss, {}
