"""Momentum contrast: keys from an EMA copy of the encoder, negatives from a queue of past keys.

He et al., CVPR 2020, arXiv:1911.05722; with negatives mixed from the hardest, MoCHi: Kalantidis et
al., NeurIPS 2020, arXiv:2010.01028.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.info_nce import info_nce, mix_hard
from ..schedules import Schedule
from ..targets import Ema, Queue
from .asymmetric import Chain
from .siamese import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """MoCHi's settings: from the `hardest` negatives of a query, how many new ones are mixed.

    `mixed` are mixtures of two negatives, `harder` mixtures of a negative and the query.
    """

    hardest: int
    mixed: int
    harder: int
    warmup: int  # steps without mixing: at the start the hardest negatives are random ones


class MomentumContrast(Method[tuple[Inputs, Inputs]]):
    """A query picks its key from a queue of negatives; both views are queries in turn.

    The key is the target's projection of the other view; the target is an EMA copy. It is in the
    student's mode, so its batch norm uses the batch, as in MoCo v2 without shuffling: rows of one
    batch share statistics, which the queue's other batches do not. Logs `alignment`, and `proxy`,
    the share of queries that are nearer to their key than to any negative. With `export_target` the
    EMA is what is probed and exported, instead of the encoder that learns.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        queue: Queue,
        momentum: Schedule,
        temperature: float,
        mixing: Mixing | None = None,
        export_target: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.queue = queue
        self.temperature = temperature
        self.mixing = mixing
        self.target = Ema(Chain(encoder, projector), momentum)
        self.export_target = export_target
        self._keys: list[Tensor] = []

    @property
    def exported(self) -> nn.Module:
        """The encoder, or its EMA with `export_target`."""
        return cast("Chain", self.target.copy).encoder if self.export_target else self.encoder

    def loss(self, batch: tuple[Inputs, Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Give the mean of both views' losses against the keys of the other view."""
        embeddings = [self.encoder(*view) for view in batch]
        queries = [self.projector(embedding) for embedding in embeddings]
        keys = [self.target(*view) for view in batch]
        negatives = [self._negatives(query, step) for query in queries]
        losses = [
            info_nce(query, key, others, temperature=self.temperature)
            for query, key, others in zip(queries, keys[::-1], negatives, strict=True)
        ]
        self._keys = keys
        with torch.no_grad():
            alignment = nn.functional.cosine_similarity(*embeddings).mean()
            proxy = _top1(queries[0], keys[1], negatives[0])
        return (losses[0] + losses[1]) / 2, {"alignment": alignment, "proxy": proxy}

    def after_step(self, step: int) -> None:
        """Update the target, and put the keys of the step into the queue."""
        self.target.update(Chain(self.encoder, self.projector), step)
        self.queue.push(torch.cat([gather(keys) for keys in self._keys]))

    def _negatives(self, queries: Tensor, step: int) -> Tensor:
        mixing, queue = self.mixing, self.queue.keys.to(queries)
        if mixing is None or step < mixing.warmup:
            return queue.clone()
        # The loop seeds torch's global generator at each step, and that seeds this one.
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        hard = mix_hard(
            queries,
            queue,
            hardest=mixing.hardest,
            mixed=mixing.mixed,
            harder=mixing.harder,
            generator=generator,
        )
        return torch.cat([queue.expand(len(queries), -1, -1), hard], dim=1)


def _top1(queries: Tensor, keys: Tensor, negatives: Tensor) -> Tensor:
    """Give the share of queries that are nearer to their key than to any negative."""
    q, k, others = (nn.functional.normalize(z.float(), dim=-1) for z in (queries, keys, negatives))
    nearest = (others @ q[..., None]).squeeze(-1) if others.ndim == 3 else q @ others.T
    return ((q * k).sum(dim=1) > nearest.amax(dim=1)).float().mean()
