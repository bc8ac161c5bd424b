"""Texts become padded ids and embeddings in their order, and batches of like length."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.training.data.pairs import Pair, split
from attar.training.data.text import TextPairs, pad, tokenize
from attar.training.probes.text_retrieval import embed
from attar.training.sampler import Sampler, evenly
from attar.training.text_data import text_data
from attar.training.tokenizers.wordpiece import train_tokenizer
from benchmarks.support.bundles import tokenizer_json
from benchmarks.support.encoders import ATTENTIONS, random_rows, random_texts, rows_of, tiny_encoder

CORPUS = ("The cat sat on the mat.", "Le café était œuvré: naïve!", "Cats and mats, sat upon.")


def trained(vocabulary: int = 96) -> Tokenizer:
    return Tokenizer.from_str(train_tokenizer(CORPUS, vocabulary=vocabulary).decode())


def test_a_trained_tokenizer_pads_with_zero_and_frames_every_text() -> None:
    tokenizer = trained()
    assert tokenizer.token_to_id("[PAD]") == 0
    for text in (*CORPUS, "", "unseen 日本 words"):
        tokens = tokenizer.encode(text).tokens
        assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
        assert not {"[CLS]", "[SEP]", "[PAD]"} & set(tokens[1:-1])


def test_a_trained_tokenizer_gives_back_the_words_of_its_corpus() -> None:
    tokenizer = trained()
    for text in CORPUS:
        pieces = tokenizer.encode(text, add_special_tokens=False).tokens
        assert "[UNK]" not in pieces
        word = "".join(piece.removeprefix("##") for piece in pieces)
        assert word == tokenizer.normalizer.normalize_str(text).replace(" ", "")


def test_case_and_accents_make_no_difference_to_a_trained_tokenizer() -> None:
    tokenizer = trained()
    assert tokenizer.encode("Café CAT").ids == tokenizer.encode("cafe cat").ids


@pytest.mark.parametrize("vocabulary", [64, 80, 200])
def test_a_trained_vocabulary_is_no_larger_than_requested(vocabulary: int) -> None:
    foreign = ["".join(chr(0x4E00 + i) for i in range(400)), *random_texts(50)]
    tokenizer = Tokenizer.from_str(train_tokenizer(foreign, vocabulary=vocabulary).decode())
    assert tokenizer.get_vocab_size() <= vocabulary
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))


def test_a_vocabulary_too_small_for_an_alphabet_is_refused() -> None:
    with pytest.raises(InvalidInput, match="vocabulary must be at least 64; got 63"):
        train_tokenizer(CORPUS, vocabulary=63)


def test_the_same_texts_train_the_same_tokenizer_in_every_process() -> None:
    texts = random_texts(60)
    code = (
        "import json, sys; from attar.training.tokenizers import wordpiece;"
        "sys.stdout.buffer.write(wordpiece.train_tokenizer(json.load(sys.stdin), vocabulary=120))"
    )
    again = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(texts).encode(),
        capture_output=True,
        check=True,
    )
    assert again.stdout == train_tokenizer(texts, vocabulary=120)
    assert again.stdout == train_tokenizer(reversed(texts), vocabulary=120)


def test_texts_are_cut_to_the_limit_with_their_ends_kept() -> None:
    (row,) = tokenize(["the cat sat on the mat"], tokenizer_json(), max_length=5)
    whole = tokenize(["the cat sat on the mat"], tokenizer_json(), max_length=64)[0]
    assert row.tolist() == [*whole[:4], whole[-1]]


def test_padding_is_zero_on_the_right_and_masked() -> None:
    tokens = pad(rows_of(["cat", "the cat sat"]))
    assert tokens.ids.dtype == tokens.mask.dtype == torch.int64
    assert tokens.mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert tokens.ids[0, 3:].tolist() == [0, 0]
    assert (tokens.ids[tokens.mask.bool()] != 0).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_embedding_many_keeps_their_order_and_equals_one_by_one(name: str) -> None:
    encoder = tiny_encoder(attention=ATTENTIONS[name]).double()
    rows = random_rows(600, length=(0, 14))  # more than one batch
    together = embed(encoder, rows)
    assert together.dtype == np.float32
    alone = np.concatenate([embed(encoder, [row]) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


class Forgetful(nn.Module):
    """An encoder that is not the same twice while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = tiny_encoder()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.dropout(self.encoder(ids, mask), 0.5, training=self.training)


def test_embedding_evaluates_and_leaves_the_mode_as_it_was() -> None:
    encoder = Forgetful()
    rows = random_rows(4)
    for training in (True, False):
        encoder.train(training)
        np.testing.assert_array_equal(embed(encoder, rows), embed(encoder, rows))
        assert encoder.training is training


def test_views_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(InvalidInput, match="views must pair up; got 3 and 2 texts"):
        TextPairs(first=random_rows(3), second=random_rows(2))


def test_a_batch_holds_the_two_views_of_the_same_rows() -> None:
    pairs = TextPairs(first=random_rows(9, seed=1), second=random_rows(9, seed=2))
    first, second = pairs.batch(torch.tensor([7, 0]))
    for view, rows in ((first, pairs.first), (second, pairs.second)):
        for place, row in enumerate((7, 0)):
            assert view.ids[place][view.mask[place].bool()].tolist() == rows[row].tolist()


def test_the_probe_holds_only_what_training_does_not_see() -> None:
    texts = random_texts(40)
    corpus = [Pair(str(i), "", f"query {text}", text) for i, text in enumerate(texts)]
    parts = split(corpus, held_out=10)
    data = text_data(parts, tokenizer_json(), max_length=12)
    assert len(data.pairs.first) == len(data.pairs.second) == 30
    assert (len(data.probe.queries), len(data.probe.documents)) == (10, 40)
    assert data.probe.relevant.tolist() == list(range(10))
    held_out = tokenize([pair.body for pair in parts.held_out], tokenizer_json(), max_length=12)
    found = data.probe.documents[:10]
    assert all(np.array_equal(a, b) for a, b in zip(found, held_out, strict=True))
    scores = data.probe(tiny_encoder())
    assert set(scores) == {"recall_at_1", "recall_at_10", "mrr", "rankme"}


@given(st.integers(0, 400), st.integers(1, 50))
def test_an_even_sample_leaves_no_stretch_of_the_corpus_out(items: int, count: int) -> None:
    picked = evenly(range(items), count)
    assert len(picked) == min(items, count)
    gaps = np.diff([-1, *picked, items])
    assert gaps.min() >= 1
    assert gaps.max() <= -(-items // count) + 1


lengths = st.lists(st.integers(1, 64), min_size=1, max_size=80)


@given(lengths, st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_by_length_serves_each_row_at_most_once_in_whole_batches(
    drawn: list[int], batch_size: int, seed: int
) -> None:
    batch_size = min(batch_size, len(drawn))
    sampler = Sampler(items=len(drawn), batch_size=batch_size, seed=seed, lengths=tuple(drawn))
    steps = sampler.steps_per_epoch
    for epoch in range(2):
        batches = [sampler(epoch * steps + step).tolist() for step in range(steps)]
        assert all(len(batch) == batch_size for batch in batches)
        served = Counter(row for batch in batches for row in batch)
        assert set(served) <= set(range(len(drawn)))
        assert max(served.values()) == 1


@given(st.integers(0, 10_000))
def test_batches_by_length_pad_no_more_than_uniform_ones(seed: int) -> None:
    draw = np.random.default_rng(seed)
    drawn = draw.geometric(0.08, size=700).clip(2, 64)
    by_length = Sampler(items=700, batch_size=16, seed=seed, lengths=tuple(drawn.tolist()))
    uniform = replace(by_length, lengths=None)
    steps = range(by_length.steps_per_epoch)
    # The same rows make either epoch, so that the longest of each batch are what is compared.
    padded = [sum(drawn[s(step)].max() for step in steps) for s in (by_length, uniform)]
    assert padded[0] <= padded[1]
    assert padded[0] < 0.8 * padded[1]


def test_batches_by_length_come_in_no_order_of_length() -> None:
    drawn = tuple(range(1, 129))
    sampler = Sampler(items=128, batch_size=8, seed=0, lengths=drawn)
    longest = [max(drawn[row] for row in sampler(step).tolist()) for step in range(16)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_batches_by_length_keep_changing_company() -> None:
    drawn = tuple(np.random.default_rng(0).integers(2, 64, size=256).tolist())
    sampler = Sampler(items=256, batch_size=16, seed=0, lengths=drawn)
    epochs = [
        {frozenset(sampler(16 * epoch + step).tolist()) for step in range(16)} for epoch in range(3)
    ]
    assert not epochs[0] & epochs[1]
    assert not epochs[1] & epochs[2]


def test_a_step_by_length_depends_on_the_step_and_the_seed_alone() -> None:
    drawn = tuple(range(1, 65))
    one, other = (Sampler(items=64, batch_size=8, seed=3, lengths=drawn) for _ in range(2))
    other(0)
    assert torch.equal(one(11), other(11))
    assert not torch.equal(one(11), replace(one, seed=4)(11))


def test_lengths_that_do_not_match_the_rows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="lengths must be one an item; got 3 of 4 items"):
        Sampler(items=4, batch_size=2, seed=0, lengths=(1, 2, 3))
