"""Dropout comes for a time, at BERT's places, and goes without a trace."""

import torch

from attar.training.data.text import pad
from attar.training.encoders.dropout import hidden_dropout
from benchmarks.support.encoders import random_rows, tiny_encoder

TOKENS = pad(random_rows(6, seed=0))


def test_two_passes_differ_while_it_is_open_and_are_equal_for_equal_seeds() -> None:
    encoder = tiny_encoder()
    before = encoder(*TOKENS)
    with hidden_dropout(encoder, 0.1):
        passes = []
        for seed in (0, 1, 0):
            torch.manual_seed(seed)
            passes.append(encoder(*TOKENS))
    assert not passes[0].allclose(passes[1])
    assert passes[0].equal(passes[2])
    assert encoder(*TOKENS).equal(before)


def test_a_rate_of_0_changes_no_bit() -> None:
    encoder = tiny_encoder()
    with hidden_dropout(encoder, 0.0):
        inside = encoder(*TOKENS)
    assert inside.equal(encoder(*TOKENS))


def test_it_goes_where_an_error_leaves_it() -> None:
    encoder = tiny_encoder()
    before = encoder(*TOKENS)
    try:
        with hidden_dropout(encoder, 0.5):
            raise ValueError
    except ValueError:
        pass
    assert encoder(*TOKENS).equal(before)
