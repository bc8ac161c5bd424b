"""A static encoder sums rows: order, padding and special tokens change nothing.

Its start is the teacher's embedding of each token, held to a transcription in numpy.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from attar.errors import InvalidInput
from attar.training.checkpoints.encoder_folder import (
    TextModel,
    attention_kinds,
    load,
    load_text,
    save,
)
from attar.training.data.text import pad, special_tokens
from attar.training.encoders.static import StaticConfig, StaticEncoder
from attar.training.objectives.matryoshka import matryoshka
from attar.training.probes.text_retrieval import embed
from attar.training.static_init import static_from_teacher, static_shape
from benchmarks.support.bundles import VOCABULARY, tokenizer_json
from benchmarks.support.encoders import random_rows, rows_of, tiny_encoder

SPECIAL = special_tokens(tokenizer_json())
SHAPE = StaticConfig(vocabulary=len(VOCABULARY), dim=8, max_length=16, special=SPECIAL)


@pytest.fixture
def encoder() -> StaticEncoder:
    torch.manual_seed(0)
    return StaticEncoder(SHAPE).eval()


def oracle(table: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Embed one text in float64, a token at a time."""
    total = np.zeros(table.shape[1])
    for token in ids:
        if token not in SPECIAL:
            total += table[token]
    length = float(np.sqrt((total**2).sum()))
    if length <= 1e-6:
        total[0], length = 1, 1
    unit: NDArray[np.float64] = total / length
    return unit


@pytest.mark.parametrize("training", [False, True])
def test_an_embedding_is_the_direction_of_the_sum_of_the_rows(
    encoder: StaticEncoder, training: bool
) -> None:
    rows = random_rows(40)
    encoder.train(training)
    with torch.no_grad():
        vectors = encoder(*pad(rows)).numpy()
    table = encoder.table.weight.detach().numpy()
    np.testing.assert_allclose(vectors, [oracle(table, row) for row in rows], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_the_order_of_tokens_and_what_stands_on_padding_change_nothing(
    encoder: StaticEncoder,
) -> None:
    ids, mask = pad(random_rows(20))
    expected = encoder(ids, mask)
    order = torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))
    for training in (False, True):
        encoder.train(training)
        torch.testing.assert_close(encoder(ids[:, order], mask[:, order]), expected)
        torch.testing.assert_close(encoder(torch.where(mask == 1, ids, 7), mask), expected)
        wider = (torch.nn.functional.pad(part, (0, 5)) for part in (ids, mask))
        torch.testing.assert_close(encoder(*wider), expected)


def test_special_tokens_count_nothing_and_do_not_learn(encoder: StaticEncoder) -> None:
    first, second = pad(random_rows(16, seed=1)), pad(random_rows(16, seed=2))
    before = encoder.table.weight.detach().clone()
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    for _ in range(3):
        encoder.train()
        optimiser.zero_grad()
        loss = matryoshka(encoder(*first), encoder(*second), widths=(8, 4))
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimiser.step()
    table = encoder.table.weight.detach()
    moved = (table != before).any(1)
    assert not table[list(SPECIAL)].any()
    assert moved[[token for token in range(len(table)) if token not in SPECIAL]].any()
    inner = random_rows(10, seed=3)
    bare = [row[1:-1] for row in inner]
    encoder.eval()
    np.testing.assert_allclose(embed(encoder, bare), embed(encoder, inner), atol=1e-6)


def test_a_text_of_no_tokens_is_the_first_axis_at_every_width(encoder: StaticEncoder) -> None:
    empty, blank = rows_of(["", "   "])
    for vector in embed(encoder, [empty, blank, empty[:1]]):
        assert vector.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_a_static_encoder_comes_back_from_disk_with_equal_bits(
    encoder: StaticEncoder, tmp_path: Path
) -> None:
    model = TextModel(encoder=encoder, tokenizer=tokenizer_json(), dims=(4,), lineage={"seed": 3})
    save(model, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, TextModel)
    assert isinstance(again.encoder, StaticEncoder)
    assert again.encoder.shape == SHAPE
    assert (again.tokenizer, again.dims, again.lineage) == (model.tokenizer, (4,), {"seed": 3})
    assert not again.encoder.training
    tokens = pad(random_rows(8))
    assert torch.equal(again.encoder(*tokens), encoder(*tokens))
    assert attention_kinds(again.encoder) is None
    with pytest.raises(InvalidInput, match="static, a table of tokens without attention"):
        load_text(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"vocabulary": 0}, {"dim": 0}, {"max_length": 0}, {"special": (len(VOCABULARY),)}]
)
def test_sizes_that_no_table_has_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        StaticConfig(**{"vocabulary": len(VOCABULARY), **wrong})  # type: ignore[arg-type]


def test_the_start_is_the_teachers_tokens_projected_and_weighted() -> None:
    teacher, corpus = tiny_encoder(), random_rows(60)
    shape = static_shape(tokenizer_json(), dim=6, max_length=16)
    static = static_from_teacher(teacher, tokenizer_json(), corpus, shape=shape)

    start, end = corpus[0][0], corpus[0][-1]
    plain = [token for token in range(len(VOCABULARY)) if token not in SPECIAL]
    alone = embed(teacher, [np.array([start, token, end]) for token in plain])
    counts = np.array([1 + sum(int((row == token).sum()) for row in corpus) for token in plain])
    weights = 1e-3 / (1e-3 + counts / counts.sum())
    expected = PCA(6, svd_solver="full").fit_transform(alone.astype(np.float64)) * weights[:, None]

    table = static.table.weight.detach().numpy()
    # A principal component has no sign, and the whole table no scale.
    signs = np.sign((table[plain] * expected).sum(axis=0))
    scale = float(np.linalg.norm(table[plain]) / np.linalg.norm(expected))
    np.testing.assert_allclose(table[plain], expected * signs * scale, atol=1e-4 * scale)
    assert not table[list(SPECIAL)].any()
    assert static.shape == replace(SHAPE, dim=6)


def test_a_table_wider_than_its_teacher_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most as wide as its teacher, 16; got 17"):
        static_from_teacher(
            tiny_encoder(), tokenizer_json(), random_rows(4), shape=replace(SHAPE, dim=17)
        )
