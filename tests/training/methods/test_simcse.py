"""SimCSE contrasts two passes of a text under other dropouts."""

import pytest
import torch
from torch import nn

from attar.training.data.text import pad
from attar.training.gradient_cache import micro_batches
from attar.training.methods.simcse import SimCse
from attar.training.objectives.info_nce import info_nce
from benchmarks.support.encoders import random_rows, tiny_encoder

TOKENS = pad(random_rows(8, length=(6, 12), seed=0))


def method(dropout: float) -> SimCse:
    return SimCse(tiny_encoder(), nn.Identity(), temperature=0.05, dropout=dropout)


def test_without_dropout_a_text_is_compared_with_itself() -> None:
    plain = method(0.0)
    embeddings = plain.encoder(*TOKENS)
    loss, metrics = plain.train().loss(TOKENS, 0)
    torch.testing.assert_close(loss, info_nce(embeddings, embeddings, temperature=0.05))
    assert metrics["alignment"] == pytest.approx(1)
    assert metrics["in_batch"] == 1


def test_the_two_passes_differ_in_training_and_not_in_evaluation() -> None:
    dropped = method(0.2)
    before = dropped.encoder(*TOKENS)
    torch.manual_seed(0)
    _, training = dropped.train().loss(TOKENS, 0)
    _, evaluating = dropped.eval().loss(TOKENS, 0)
    assert float(training["alignment"]) < 0.999
    assert float(evaluating["alignment"]) == pytest.approx(1)
    assert dropped.encoder(*TOKENS).equal(before)


def test_activations_that_are_computed_again_are_dropped_alike() -> None:
    """With one part of all rows, what the backward pass computes again must draw the same."""
    gradients = []
    for rows in (None, len(TOKENS.ids) - 1):
        dropped = method(0.2).train()
        torch.manual_seed(0)
        if rows is None:
            loss, _ = dropped.loss(TOKENS, 0)
            torch.autograd.backward(loss)
        else:
            with micro_batches(dropped.encoder, rows):
                loss, _ = dropped.loss(TOKENS, 0)
                torch.autograd.backward(loss)
        gradients.append([p.grad for p in dropped.parameters() if p.grad is not None])
        assert loss.isfinite()
    whole, parts = gradients
    assert len(whole) == len(parts)
    assert all(gradient.isfinite().all() for gradient in parts)
