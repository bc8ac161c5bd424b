"""A SMILES tokenizer cuts molecules where chemistry does, and loses nothing of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from attar.errors import InvalidInput
from attar.training.tokenizers.smiles import smiles_tokenizer

MOLECULES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@@H](C(=O)O)N",
    "[Na+].[Cl-]",
    "BrC%12CCCC%12Cl",
    r"F/C=C\F",
)


def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(smiles_tokenizer(MOLECULES).decode())


@pytest.mark.parametrize(
    ("molecule", "pieces"),
    [
        ("C[C@@H](N)O", ["C", "[C@@H]", "(", "N", ")", "O"]),
        ("BrC%12CCl", ["Br", "C", "%12", "C", "Cl"]),
        ("[Na+].[Cl-]", ["[Na+]", ".", "[Cl-]"]),
        (r"F/C=C\F", ["F", "/", "C", "=", "C", "\\", "F"]),
        ("c1ccccc1", ["c", "1", "c", "c", "c", "c", "c", "1"]),
    ],
)
def test_atoms_bonds_and_rings_are_tokens(molecule: str, pieces: list[str]) -> None:
    assert tokenizer().encode(molecule).tokens == ["[CLS]", *pieces, "[SEP]"]


def test_what_is_new_or_no_smiles_is_unknown_and_in_its_place() -> None:
    found = tokenizer().encode("C[13C]!C")
    assert found.tokens == ["[CLS]", "C", "[UNK]", "[UNK]", "C", "[SEP]"]
    assert [found.ids[0], found.ids[2], found.ids[-1]] == [2, 1, 3]


@given(st.lists(st.sampled_from(["C", "Cl", "Br", "c", "(", ")", "=", "1", "[C@@H]", "N"])))
def test_tokens_put_together_are_the_molecule(pieces: list[str]) -> None:
    molecule = "".join(pieces)
    tokens = tokenizer().encode(molecule, add_special_tokens=False).tokens
    assert "".join(tokens) == molecule


def test_the_same_molecules_in_any_order_give_the_same_bytes() -> None:
    assert smiles_tokenizer(MOLECULES) == smiles_tokenizer(MOLECULES[::-1])


def test_the_rarest_tokens_are_left_out() -> None:
    small = Tokenizer.from_str(smiles_tokenizer(MOLECULES, vocabulary=7).decode())
    assert sorted(small.get_vocab().values()) == list(range(7))
    assert small.encode("C").tokens[1] == "C"
    assert small.encode("[Na+]").tokens[1] == "[UNK]"


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(InvalidInput, match="vocabulary must be above 5; got 5"):
        smiles_tokenizer(MOLECULES, vocabulary=5)
