"""The molecule recipe: what is hidden and named, what is read off, and made-up molecules."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput
from attar.training.checkpoints.encoder_folder import TextModel, attention_kinds, load_text, save
from attar.training.claims.molecule.molformer import ATTENTIONS, counts
from attar.training.data.molecules import Molecules, Property, read_property, read_smiles
from attar.training.data.text import tokenize
from attar.training.datasets.synthetic_molecules import (
    AMIDE,
    KETONE,
    META,
    PARA,
    synthetic_molecules,
)
from attar.training.encoders.smiles import RotaryAttention
from attar.training.encoders.text import TextEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.loop import fit
from attar.training.probes.linear import linear_auroc
from attar.training.probes.molecules import read_off
from attar.training.probes.regression import ridge_error
from attar.training.probes.text_retrieval import embed
from attar.training.recipes.molecule import molformer
from attar.training.tokenizers.smiles import MASK, smiles_tokenizer

BLOCKS = TransformerConfig(width=8, depth=1, heads=2, hidden=8, norm="pre", norm_eps=1e-5)
SETTINGS = molformer.Settings(steps=3, warmup=1, batch_size=16, transformer=BLOCKS)


@pytest.fixture(scope="module")
def data() -> Molecules:
    return synthetic_molecules(pretrained=64, train=40, test=40)


def test_either_kind_of_piece_has_the_same_characters() -> None:
    assert sorted(AMIDE) == sorted(KETONE)
    assert sorted(PARA) == sorted(META)


def test_molecules_are_decided_by_their_seed_and_close_what_they_open(data: Molecules) -> None:
    assert synthetic_molecules(pretrained=64, train=40, test=40).train == data.train
    assert synthetic_molecules(pretrained=64, train=40, test=40, seed=1).train != data.train
    for smiles in data.train:
        assert smiles.count("(") == smiles.count(")")
        assert smiles.count("1") % 2 == 0
        assert b"[UNK]" not in smiles.encode()
    assert {known.name: known.classes for known in data.properties} == {"amide": True, "para": True}


def test_a_batch_depends_on_the_step_and_nothing_else(data: Molecules) -> None:
    one, other = (molformer.build(data, SETTINGS) for _ in range(2))
    other.views(other.batches(0), 0)
    torch.rand(3)
    given, again, later = (
        run.views(run.batches(step), step) for run, step in ((one, 5), (other, 5), (one, 6))
    )
    assert torch.equal(given.masked.ids, again.masked.ids)
    assert torch.equal(given.hidden, again.hidden)
    assert given.ids.shape != later.ids.shape or not torch.equal(given.ids, later.ids)
    assert torch.equal(given.masked.ids[~given.hidden], given.ids[~given.hidden])
    assert (given.masked.ids[given.hidden] == 4).float().mean() > 0.5


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_short_run_logs_its_probes_and_its_encoder_is_saved(
    data: Molecules, attention: RotaryAttention, tmp_path: Path
) -> None:
    training = molformer.build(data, replace(SETTINGS, attention=attention))
    history = fit(training, log_every=1, accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("amide_auroc")] == [0, 3]
    assert set(history.rows[-1]) == {"step", "rankme", "amide_auroc", "para_auroc"}
    assert len(history.series("named")) == 3
    encoder = cast("TextEncoder", training.method.encoder.eval())
    words = smiles_tokenizer(data.train)
    assert MASK.encode() in words
    save(TextModel(encoder=encoder, tokenizer=words), tmp_path)
    again = load_text(tmp_path)
    assert attention_kinds(again.encoder) == attention
    rows = tokenize(data.train, again.tokenizer, max_length=202)
    np.testing.assert_array_equal(embed(again.encoder, rows), embed(encoder, rows))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_positions_are_rotary_alone_and_tell_orders_apart(
    data: Molecules, attention: RotaryAttention
) -> None:
    training = molformer.build(data, replace(SETTINGS, attention=attention))
    encoder = cast("TextEncoder", training.method.encoder.eval())
    assert not encoder.shape.positions
    assert "tokens.position.weight" not in encoder.state_dict()
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 5, 5, 5, 3]])
    tokens = encoder.tokens(ids)
    assert torch.equal(tokens[1, 1], tokens[1, 3])  # one token is one vector at any position
    one, other = (
        encoder(ids[:1, order], torch.ones(1, 5)) for order in ([0, 1, 2, 3, 4], [0, 3, 1, 2, 4])
    )
    assert not torch.allclose(one, other, atol=1e-5)


def test_a_bag_counts_tokens_wherever_they_are(data: Molecules) -> None:
    bags = counts(smiles_tokenizer(data.train), (AMIDE, KETONE, AMIDE + "C"), 202)
    np.testing.assert_array_equal(bags[0], bags[1])
    assert np.abs(bags[2] - bags[0]).sum() == 1


def test_a_number_has_an_error_and_two_classes_an_auroc() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(200, 3)).astype(np.float32)
    line = rows @ [1.0, -2.0, 0.5] + draw.normal(scale=0.1, size=200)
    known = Property(name="x", train=(), train_values=line[:100], test=(), test_values=line[100:])
    (name, error), *_ = read_off(known, rows[:100], rows[100:]).items()
    assert name == "x_error"
    assert error == pytest.approx(0.1, rel=0.3)
    assert error == ridge_error(rows[:100], line[:100], rows[100:], line[100:])
    sides = (line > 0).astype(float)
    halves = replace(known, train_values=sides[:100], test_values=sides[100:])
    figures = read_off(halves, rows[:100], rows[100:])
    assert figures == {"x_auroc": linear_auroc(rows[:100], sides[:100], rows[100:], sides[100:])}
    assert figures["x_auroc"] > 0.98


def test_a_table_of_molecules_is_read_by_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "esol.csv"
    path.write_text("smiles,logS,scaffold_split\nCC,-1.5,train\nCO,0.5,valid\nCN,2,test\n")
    known = read_property(path, name="logS")
    assert (known.train, known.test) == (("CC",), ("CN",))
    assert (known.train_values.tolist(), known.test_values.tolist()) == ([-1.5], [2.0])
    assert not known.classes
    assert read_smiles(path) == ("CC", "CO", "CN")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("smiles,scaffold_split\nCC,train\n", "has no column logS; it has smiles"),
        ("smiles,logS,scaffold_split\nCC,low,train\n", "logS must be numbers.*low"),
        ("smiles,logS,scaffold_split\nCC,1,train\n", "must say train of some rows and test"),
    ],
)
def test_a_table_without_the_requested_column_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "esol.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=message):
        read_property(path, name="logS")
