"""Weights on the line between two networks, and which of them an adaptation takes."""

import numpy as np
import pytest
import torch
from torch import nn

from attar.errors import InvalidInput
from attar.training.adaptation.general_text import GeneralText
from attar.training.adaptation.soup import interpolate
from attar.training.adaptation.weights import MIN_AGREEMENT, choose
from attar.training.probes.text_retrieval import Retrieval, embed
from benchmarks.support.encoders import random_rows, tiny_encoder


def test_the_ends_of_the_line_are_the_networks_and_between_is_linear() -> None:
    start, end = (nn.Linear(2, 2).state_dict() for _ in range(2))
    for share, expected in ((0.0, start), (1.0, end)):
        torch.testing.assert_close(interpolate(start, end, share), dict(expected))
    middle = interpolate(start, end, 0.25)
    torch.testing.assert_close(middle["bias"], 0.75 * start["bias"] + 0.25 * end["bias"])


def test_networks_of_other_shapes_have_no_line() -> None:
    start, end = nn.Linear(2, 2).state_dict(), nn.Linear(3, 2).state_dict()
    with pytest.raises(InvalidInput, match="other names or shapes"):
        interpolate(start, end, 0.5)
    with pytest.raises(InvalidInput, match=r"share must be in \[0, 1\]; got 2"):
        interpolate(start, start, 2)


def test_the_weights_that_validate_best_are_taken_of_those_that_keep_the_base() -> None:
    base, other = tiny_encoder(), tiny_encoder(seed=1)  # another one is no copy of the base
    queries, texts = random_rows(8, seed=1), random_rows(20, seed=2)
    general = GeneralText("made", texts, embed(base, texts))
    task = Retrieval(queries=queries, documents=queries, relevant=np.arange(8))
    start = {name: weight.clone() for name, weight in base.state_dict().items()}
    chosen, trials = choose(
        base,
        start,
        other.state_dict(),
        task=task,
        figure="mrr",
        values={0.0: 0.0, 1.0: 9.0},
        general=general,
    )
    assert [trial.share for trial in trials] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [trial.value for trial in trials] == [0.0, 1.0, 1.0, 1.0, 9.0]
    agreements = [trial.agreement.spearman for trial in trials]
    assert agreements[0] == pytest.approx(1)
    assert agreements[-1] < MIN_AGREEMENT  # so the best at home is not taken
    assert chosen.share < 1
    torch.testing.assert_close(
        dict(base.state_dict()), interpolate(start, other.state_dict(), chosen.share)
    )
