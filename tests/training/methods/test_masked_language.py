"""Masked language modelling scores the masked tokens alone; seed and step decide a batch."""

import torch
from torch.nn import functional as F

from attar.training.data.text import pad
from attar.training.methods.masked_language import MaskedLanguage, mask_batches
from benchmarks.support.encoders import random_rows, tiny_encoder, tiny_shape

MASK = tiny_shape().vocabulary - 1
TOKENS = pad(random_rows(8, length=(4, 12), seed=0))
VIEWS = mask_batches(0, blank=MASK, vocabulary=MASK, rate=0.3)


def test_the_loss_is_the_cross_entropy_of_the_masked_tokens() -> None:
    method = MaskedLanguage(tiny_encoder())
    batch = VIEWS(TOKENS, 0)
    states = method.encoder.transformer(
        method.encoder.tokens(batch.masked.ids), batch.masked.mask.bool()
    )
    labels = batch.ids.masked_fill(~batch.hidden, -100)
    every = F.cross_entropy(method.head(states).flatten(0, 1), labels.flatten())
    loss, logged = method.loss(batch, 0)
    torch.testing.assert_close(loss, every)
    assert 0 <= float(logged["named"]) <= 1


def test_a_batch_depends_on_the_seed_and_the_step() -> None:
    again = mask_batches(0, blank=MASK, vocabulary=MASK, rate=0.3)(TOKENS, 0)
    other = mask_batches(1, blank=MASK, vocabulary=MASK, rate=0.3)(TOKENS, 0)
    first, later = VIEWS(TOKENS, 0), VIEWS(TOKENS, 1)
    assert torch.equal(again.masked.ids, first.masked.ids)
    assert not torch.equal(other.hidden, first.hidden)
    assert not torch.equal(later.hidden, first.hidden)
