"""An encoder learns to find the passages of queries, with hard negatives or without."""

import pytest
import torch

from attar.errors import InvalidInput
from attar.training.adaptation.passage_pairs import PassagePairs
from attar.training.loop import fit
from attar.training.methods.dense_retrieval import DenseRetrieval
from attar.training.objectives.matryoshka import matryoshka
from attar.training.probes.text_retrieval import Retrieval
from attar.training.recipes.text import adapt
from benchmarks.support.encoders import random_rows, tiny_encoder

QUERIES, PASSAGES = random_rows(24, seed=1), random_rows(24, seed=2)
NEGATIVES = torch.arange(48).view(24, 2).add(1).remainder(24).numpy()
PAIRS = PassagePairs(queries=QUERIES, passages=PASSAGES, negatives=NEGATIVES)
TASK = Retrieval(queries=QUERIES, documents=PASSAGES, relevant=torch.arange(24).numpy())
SETTINGS = adapt.Settings(steps=20, warmup=2, batch_size=12, rate=3e-3, widths=(8, 16))


def test_the_loss_is_the_objectives_over_the_batch_and_its_negatives() -> None:
    encoder = tiny_encoder()
    rows = torch.tensor([3, 0, 5])
    batch = PAIRS.batch(rows, negatives=2)
    loss, _ = DenseRetrieval(encoder, widths=(8, 16), temperature=0.1).loss(batch, 0)
    assert batch.negatives is not None
    hard = torch.stack(
        [
            encoder(*PAIRS.batch(torch.from_numpy(NEGATIVES[row]), negatives=0).passages)
            for row in rows
        ]
    )
    expected = matryoshka(
        encoder(*batch.queries),
        encoder(*batch.passages),
        hard,
        widths=(8, 16),
        temperature=0.1,
    )
    torch.testing.assert_close(loss, expected)


def test_more_negatives_than_were_mined_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match="3 hard negatives of a query are wanted, and there are 2"
    ):
        PAIRS.batch(torch.arange(2), negatives=3)
    with pytest.raises(InvalidInput, match="must pair up; got 24 and 23"):
        PassagePairs(queries=QUERIES, passages=PASSAGES[:23])


@pytest.mark.parametrize("negatives", [0, 1])
def test_a_few_steps_find_more_passages(negatives: int) -> None:
    encoder = tiny_encoder()
    settings = adapt.Settings(
        **SETTINGS.only("steps", "warmup", "batch_size", "rate", "widths"), negatives=negatives
    )
    run = adapt.build(PAIRS, TASK, encoder, settings)
    history = fit(run, log_every=1, accelerator="cpu", progress=False)
    before, after = (value for _, value in history.series("mrr"))
    assert after > before + 0.1
    assert len(history.series("in_batch")) == 20


def test_only_the_last_layers_learn_where_so_many_are_named() -> None:
    encoder = tiny_encoder()
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    settings = adapt.Settings(steps=2, warmup=0, batch_size=12, rate=3e-3, layers=1)
    fit(adapt.build(PAIRS, TASK, encoder, settings), accelerator="cpu", progress=False)
    moved = {
        name for name, weight in encoder.state_dict().items() if not weight.equal(before[name])
    }
    last = len(encoder.transformer.blocks) - 1
    assert moved
    assert all(
        name.startswith((f"transformer.blocks.{last}.", "project.", "head.")) for name in moved
    )


def test_equal_texts_differ_by_dropout_while_training_and_the_encoder_is_unchanged_after() -> None:
    encoder = tiny_encoder()
    same = PassagePairs(queries=QUERIES, passages=QUERIES)
    batch = same.batch(torch.arange(12), negatives=0)
    before = encoder(*batch.queries)
    losses = []
    for dropout in (0.0, 0.5, 0.5):
        method = DenseRetrieval(encoder, widths=(16,), temperature=0.05, dropout=dropout)
        losses.append(method.loss(batch, 0)[0].item())
    assert losses[0] < min(losses[1:])
    assert losses[1] != losses[2]
    assert encoder(*batch.queries).equal(before)
