"""Synthetic molecules: seeded SMILES of two kinds that differ only in the order of atoms."""

import numpy as np

from ..data.molecules import Molecules, Property

AMIDE, KETONE = "CC(=O)NC", "CC(=O)CN"
PARA, META = "c1ccc(cc1)", "c1cc(ccc1)"
OTHERS = ("C", "CC", "O", "S", "C(F)", "C(Cl)", "C(O)", "C1CCCC1", "C1CCOCC1", "C1CCCCC1")
FAITHFUL = 0.9  # share of the pieces that are of their molecule's kind


def synthetic_molecules(
    *, pretrained: int = 2000, train: int = 400, test: int = 600, seed: int = 0
) -> Molecules:
    """Give molecules to pretrain on, and others with two properties, each 0 or 1.

    A molecule is a chain of four to seven pieces. Most pieces are amides (1), or ketones next to
    amines (0), and most benzene rings are linked in para position (1) or not (0). Both kinds have
    the same counts of characters, so a masked character can only be predicted from its context. All
    are valid SMILES; few could be synthesised.
    """
    draw = np.random.default_rng([seed, 83])
    count = pretrained + train + test
    kinds = draw.integers(2, size=(count, 2))
    smiles = tuple(_molecule(bool(amide), bool(para), draw) for amide, para in kinds)
    probed, tested = slice(pretrained, pretrained + train), slice(pretrained + train, None)
    return Molecules(
        train=smiles[:pretrained],
        properties=tuple(
            Property(
                name=name,
                train=smiles[probed],
                train_values=values[probed].astype(np.float64),
                test=smiles[tested],
                test_values=values[tested].astype(np.float64),
            )
            for name, values in zip(("amide", "para"), kinds.T, strict=True)
        ),
    )


def _molecule(amide: bool, para: bool, draw: np.random.Generator) -> str:
    """Write a molecule with at least one piece of either kind."""
    kinds = [0, 1, *draw.integers(3, size=draw.integers(2, 6))]
    pieces = []
    for kind in draw.permutation(kinds):
        faithful = draw.random() < FAITHFUL
        if kind == 0:
            pieces.append(AMIDE if amide == faithful else KETONE)
        elif kind == 1:
            pieces.append(PARA if para == faithful else META)
        else:
            pieces.append(str(draw.choice(OTHERS)))
    return "".join(pieces)
