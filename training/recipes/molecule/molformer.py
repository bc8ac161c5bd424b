"""MoLFormer: masked language modelling of SMILES with linear attention and rotary positions.

Ross et al. 2022, arXiv:2106.09553.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ...composing import RunSettings, compose_rows, seeded
from ...data.molecule_tokens import MoleculeTokens
from ...data.molecules import Molecules, unlabelled
from ...encoders.smiles import RotaryAttention, smiles_encoder
from ...encoders.transformer import SMALL_BLOCKS, TransformerConfig
from ...loop import Training
from ...methods.masked_language import MaskedLanguage, MaskedLanguageBatch, mask_batches
from ...probes.molecules import probe_molecules
from ...recipe import Recipe

BLOCKS = replace(SMALL_BLOCKS, hidden=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    transformer: TransformerConfig = BLOCKS
    attention: RotaryAttention = "linear"
    features: int = 32  # of linear attention
    max_length: int = 202  # tokens
    hide: float = 0.15  # share of the tokens that are predicted


SMALL: Final = Settings()
PAPER: Final = Settings(  # the official code; not given: steps (4 epochs), warmup, decay
    batch_size=1200,  # a GPU
    rate=8 * 3e-5,
    transformer=replace(BLOCKS, width=768, depth=12, heads=12, hidden=768),
)


def build(data: Molecules, settings: Settings) -> Training[MaskedLanguageBatch]:
    """Compose the run; its probe gives RankMe and each property's error or AUROC."""
    smiles = MoleculeTokens.of(data.train, max_length=settings.max_length)
    own = settings.only("max_length", "transformer", "attention", "features")
    with seeded(settings.seed):
        method = MaskedLanguage(smiles_encoder(smiles.vocabulary, **own))
    ids = {"blank": smiles.mask, "vocabulary": smiles.vocabulary}
    views = mask_batches(settings.seed, **ids, rate=settings.hide)
    probe = partial(probe_molecules, method.encoder, data, smiles.tokenizer)
    return compose_rows(method, settings, smiles, lengths=smiles.lengths, views=views, probe=probe)


recipe = Recipe(
    paper="Ross et al. 2022, arXiv:2106.09553",
    family="classify",
    modality="molecule",
    settings=SMALL,
    published=PAPER,
    build=build,
    read=unlabelled,
    differences=(
        "synthetic molecules instead of a billion real ones",
        "random features of linear attention are drawn once and kept",
        "AdamW instead of LAMB, and no dropout",
    ),
)
