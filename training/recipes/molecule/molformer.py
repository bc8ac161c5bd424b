"""MoLFormer on SMILES: masked language modelling with linear attention and rotary positions.

Ross et al. 2022, arXiv:2106.09553, with a small token transformer.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ...data.molecules import Molecules, Property, read_property, read_smiles
from ...data.text import pad, tokenize
from ...datasets.synthetic_molecules import synthetic_molecules
from ...distributed import shard, step_generator
from ...encoders.attention import LinearAttention, SoftmaxAttention
from ...encoders.text import TextConfig, TextEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training, fit
from ...methods.masked_language import MaskedLanguage, MaskedLanguageBatch
from ...optimisers import adamw
from ...probes.linear import linear_auroc
from ...probes.rankme import rankme
from ...probes.regression import ridge_error
from ...probes.text_retrieval import embed
from ...recipe import Claim, Figures, Recipe
from ...sampler import Sampler, evenly
from ...schedules import warmup_cosine
from ...tokenizers.smiles import MASK, smiles_tokenizer
from ...views.text import Tokens, mask_tokens

BLOCKS = TransformerConfig(width=64, depth=3, heads=4, hidden=64, norm="pre", norm_eps=1e-5)
PROBED = 2048  # molecules whose RankMe is taken
DELTA = 0.05  # of AUROC, that linear attention may fall short of softmax
Attention: TypeAlias = Literal["softmax", "linear"]  # the last one's untrained figures are kept
ATTENTIONS: tuple[Attention, ...] = ("softmax", "linear")
SCORED = "_auroc", "_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers."""

    steps: int = 200
    seed: int = 0
    batch_size: int = 64
    rate: float = 2e-3
    warmup: int = 20  # steps
    weight_decay: float = 0.01
    transformer: TransformerConfig = BLOCKS
    attention: Attention = "linear"  # both with rotary positions
    features: int = 32  # of linear attention
    max_length: int = 202  # tokens
    hide: float = 0.15  # share of the tokens that are predicted


def build(data: Molecules, settings: Settings) -> Training[MaskedLanguageBatch]:
    """Compose the run; its probe gives RankMe and each property's error or AUROC."""
    words = vocabulary(data)
    known = Tokenizer.from_str(words.decode())
    size, blank = known.get_vocab_size(), known.get_vocab()[MASK]
    rows = tokenize(data.train, words, max_length=settings.max_length)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        method = MaskedLanguage(new_encoder(size, settings))
    sampler = Sampler(
        items=len(rows),
        batch_size=settings.batch_size,
        seed=settings.seed,
        lengths=tuple(map(len, rows)),
    )

    def views(tokens: Tokens, step: int) -> MaskedLanguageBatch:
        draw = step_generator(settings.seed, step)
        view = mask_tokens(tokens, draw, blank=blank, vocabulary=size, rate=settings.hide)
        return MaskedLanguageBatch(view.data, tokens.ids, view.params["hidden"])

    return Training(
        method=method,
        batches=lambda step: pad([rows[place] for place in shard(sampler(step)).tolist()]),
        views=views,
        optimiser=adamw(method, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: probe(method.encoder, data, words),
    )


def vocabulary(data: Molecules) -> bytes:
    """Give the tokenizer.json of a set's molecules, which an encoder is saved with."""
    return smiles_tokenizer(data.train)


def new_encoder(size: int, settings: Settings) -> TextEncoder:
    """Make the encoder of a vocabulary's size."""
    shape = TextConfig(
        vocabulary=size, max_length=settings.max_length, transformer=settings.transformer
    )
    if settings.attention == "softmax":
        return TextEncoder(shape, attention=partial(SoftmaxAttention, rotary=True))
    return TextEncoder(shape, attention=partial(LinearAttention, features=settings.features))


def probe(encoder: TextEncoder, data: Molecules, words: bytes) -> dict[str, float]:
    """Probe an encoder, and the tokenizer it was made for, on a set's properties."""

    def vectors(smiles: tuple[str, ...]) -> NDArray[np.float32]:
        return embed(encoder, tokenize(smiles, words, max_length=encoder.max_length))

    figures = {"rankme": rankme(vectors(tuple(evenly(data.train, PROBED))))}
    for known in data.properties:
        figures |= read_off(known, vectors(known.train), vectors(known.test))
    return figures


def read_off(
    known: Property, train: NDArray[np.float32], test: NDArray[np.float32]
) -> dict[str, float]:
    """Give the AUROC of two classes, or the root mean squared error of a number, named so."""
    if known.classes:
        auroc = linear_auroc(train, known.train_values, test, known.test_values)
        return {f"{known.name}_auroc": auroc}
    error = ridge_error(train, known.train_values, test, known.test_values)
    return {f"{known.name}_error": error}


def counts(words: bytes, smiles: tuple[str, ...], max_length: int) -> NDArray[np.float32]:
    """Give how often each token of the vocabulary is in each molecule: a bag of characters."""
    size = Tokenizer.from_str(words.decode()).get_vocab_size()
    rows = tokenize(smiles, words, max_length=max_length)
    return np.stack([np.bincount(row, minlength=size) for row in rows]).astype(np.float32)


def trial(data: Molecules, seed: int) -> dict[str, float]:
    """Read properties off bags, an untrained encoder, and encoders of either attention."""
    default = replace(Settings(), seed=seed)
    words = vocabulary(data)
    figures: dict[str, float] = {}
    for known in data.properties:
        bags = (counts(words, part, default.max_length) for part in (known.train, known.test))
        figures |= {f"bag/{name}": value for name, value in read_off(known, *bags).items()}
    for attention in ATTENTIONS:
        training = build(data, replace(default, attention=attention))
        rows = fit(training, accelerator="cpu", progress=False).rows
        probed = [row for row in rows if "rankme" in row]
        for stage, row in zip(("untrained", attention), probed, strict=True):
            wanted = {name: value for name, value in row.items() if name.endswith(SCORED)}
            figures |= {f"{stage}/{name}": value for name, value in wanted.items()}
    return figures


def unlabelled(path: Path) -> Molecules:
    """Read a table's column of SMILES, with no property to probe."""
    return Molecules(train=read_smiles(path), properties=())


def molecule_net(folder: Path) -> Molecules:
    """Read HIV's SMILES to pretrain on, and BBBP and ESOL in scaffold splits, for `trial`."""
    return Molecules(
        train=read_smiles(folder / "hiv.csv.gz"),
        properties=(
            read_property(folder / "bbbp.csv.gz", name="BBBP"),
            read_property(folder / "esol.csv.gz", name="logS"),
        ),
    )


def _holds(figures: Figures) -> bool:
    gained = {
        name: -fmean(values) if name.endswith("_error") else fmean(values)
        for name, values in figures.items()
    }
    names = [name.removeprefix("bag/") for name in gained if name.startswith("bag/")]
    return all(
        gained[f"linear/{name}"] > max(gained[f"bag/{name}"], gained[f"untrained/{name}"])
        and gained[f"linear/{name}"] >= gained[f"softmax/{name}"] - DELTA
        for name in names
    )


recipe = Recipe(
    paper="Ross et al. 2022, arXiv:2106.09553",
    family="classify",
    modality="molecule",
    claim=Claim(
        "a linear probe tells molecules of amides from ketones beside amines, and rings linked "
        "opposite from askew, on average better by the embedding than by counts of tokens and than "
        f"before training, and with linear attention at most {DELTA} of AUROC worse than softmax",
        synthetic_molecules,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    read=unlabelled,
    departures=(
        "molecules of a grammar and three layers of width 64, for a billion and twelve of 768",
        "learned positions beside the rotary ones; random features are drawn once and kept",
        "AdamW for LAMB, and no dropout",
    ),
)
