"""MoLFormer knows more of molecules than counts of tokens, and linear attention is no worse."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ...claim import Claim, Effect
from ...data.molecules import Molecules, read_property, read_smiles
from ...data.text import tokenize
from ...datasets.synthetic_molecules import synthetic_molecules
from ...encoders.smiles import RotaryAttention
from ...loop import fit
from ...probes.molecules import read_off
from ...recipes.molecule.molformer import SMALL, build
from ...tokenizers.smiles import smiles_tokenizer

LATE = 5  # losses that are averaged
DELTA = 0.05  # of AUROC, that linear attention may fall short of softmax
ATTENTIONS: tuple[RotaryAttention, ...] = ("softmax", "linear")  # of the last, untrained too
SCORED = "_auroc", "_error"


def counts(tokenizer: bytes, smiles: tuple[str, ...], max_length: int) -> NDArray[np.float32]:
    """Give how often each token of the vocabulary is in each molecule: a bag of characters."""
    size = Tokenizer.from_str(tokenizer.decode()).get_vocab_size()
    rows = tokenize(smiles, tokenizer, max_length=max_length)
    return np.stack([np.bincount(row, minlength=size) for row in rows]).astype(np.float32)


def trial(data: Molecules, seed: int) -> dict[str, float]:
    """Read properties off bags, an untrained encoder, and encoders of either attention.

    `loss` is the mean of the last ones that were logged of masked language modelling.
    """
    default = replace(SMALL, seed=seed)
    tokenizer = smiles_tokenizer(data.train)
    figures: dict[str, float] = {}
    for target in data.properties:
        bags = (counts(tokenizer, part, default.max_length) for part in (target.train, target.test))
        figures |= {f"bag/{name}": value for name, value in read_off(target, *bags).items()}
    for attention in ATTENTIONS:
        training = build(data, replace(default, attention=attention))
        history = fit(training, accelerator="cpu", progress=False)
        rows, losses = history.rows, [loss for _, loss in history.series("loss")]
        figures[f"{attention}/loss"] = fmean(losses[-LATE:])
        probed = [row for row in rows if "rankme" in row]
        for stage, row in zip(("untrained", attention), probed, strict=True):
            wanted = {name: value for name, value in row.items() if name.endswith(SCORED)}
            figures |= {f"{stage}/{name}": value for name, value in wanted.items()}
    return figures


def molecule_net(folder: Path) -> Molecules:
    """Read HIV's SMILES to pretrain on, and BBBP and ESOL in scaffold splits, for `trial`."""
    return Molecules(
        train=read_smiles(folder / "hiv.csv.gz"),
        properties=(
            read_property(folder / "bbbp.csv.gz", name="BBBP"),
            read_property(folder / "esol.csv.gz", name="logS"),
        ),
    )


def _least(other: str, figures: Mapping[str, float]) -> float:
    """Give the least gain of linear attention over another encoder, in the probes of the data."""
    gains = []
    for name in figures:
        if name.startswith("bag/"):
            probe = name.removeprefix("bag/")
            gain = figures[f"linear/{probe}"] - figures[f"{other}/{probe}"]
            gains.append(-gain if probe.endswith("_error") else gain)
    return min(gains)


claim: Final = Claim(
    "a linear probe separates molecules of amides from molecules of ketones next to amines, "
    "and para from other links of rings, on average better on the embedding than on counts of "
    f"tokens and than before training, and with linear attention its AUROC is at most {DELTA} "
    "lower than with softmax",
    synthetic_molecules,
    trial,
    effects=(
        Effect("linear - bag, the least of the probes", partial(_least, "bag")),
        Effect("linear - untrained, the least of the probes", partial(_least, "untrained")),
        Effect(
            "linear - softmax, the least of the probes", partial(_least, "softmax"), above=-DELTA
        ),
    ),
)
