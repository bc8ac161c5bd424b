"""MoLFormer: masked language modelling of SMILES with linear attention and rotary positions.

Ross et al. 2022, arXiv:2106.09553.
"""

from dataclasses import dataclass, replace
from typing import Final

from tokenizers import Tokenizer

from ...composing import RunSettings, compose, seeded, uniform
from ...data.molecules import Molecules, unlabelled
from ...data.text import pad, tokenize
from ...distributed import step_generator
from ...encoders.smiles import RotaryAttention, smiles_encoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training
from ...methods.masked_language import MaskedLanguage, MaskedLanguageBatch
from ...probes.molecules import probe_molecules
from ...recipe import Recipe
from ...tokenizers.smiles import MASK, smiles_tokenizer
from ...views.text import Tokens, mask_tokens

BLOCKS = TransformerConfig(width=64, depth=3, heads=4, hidden=64, norm="pre", norm_eps=1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    steps: int = 200
    batch_size: int = 64
    rate: float = 2e-3
    warmup: int = 20  # steps
    weight_decay: float = 0.01
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
    tokenizer = smiles_tokenizer(data.train)
    target = Tokenizer.from_str(tokenizer.decode())
    size, blank = target.get_vocab_size(), target.get_vocab()[MASK]
    rows = tokenize(data.train, tokenizer, max_length=settings.max_length)
    own = settings.only("max_length", "transformer", "attention", "features")
    with seeded(settings.seed):
        method = MaskedLanguage(smiles_encoder(size, **own))

    def views(tokens: Tokens, step: int) -> MaskedLanguageBatch:
        draw = step_generator(settings.seed, step)
        view = mask_tokens(tokens, draw, blank=blank, vocabulary=size, rate=settings.hide)
        return MaskedLanguageBatch(view.data, tokens.ids, view.params["hidden"])

    return compose(
        method,
        settings,
        items=lambda drawn: pad([rows[row] for row in drawn.tolist()]),
        rows=uniform(len(rows), settings, lengths=tuple(map(len, rows))),
        views=views,
        probe=lambda: probe_molecules(method.encoder, data, tokenizer),
    )


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
        "learned positions in addition to rotary ones; random features are drawn once and kept",
        "AdamW instead of LAMB, and no dropout",
    ),
)
