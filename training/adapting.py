"""Adapting: train a text encoder on a user's own documents, without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput

from . import digest, distributed, run_folder
from .adaptation import report as adaptation_report
from .adaptation.general_text import GeneralText, general_texts
from .adaptation.pair_split import PairSplit, documents_of, make_pairs
from .adaptation.token_pairs import PairTokenizer, TokenPairs, prepared
from .adaptation.weights import choose
from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TextModel, token_transformer
from .checkpoints.run import CHECKPOINT, read_record
from .digest import SHA256
from .early_stopping import BEST, BestWeights, is_exhausted
from .encoders.text import TextEncoder
from .lineage import Lineage
from .loop import History, fit
from .precision import best_precision
from .pretrained import load_text_checkpoint
from .recipes.text import adapt as recipe
from .resizing import resized
from .run_data import TextReading, chosen, named, report

LONGEST = 256  # tokens of a text by default, where the base reads as many
PROBES = 2  # while training, besides the first and the last
WORSE_PROBES = 2  # after so many without a better one, a run ends
DROPOUT = 0.1  # SimCSE's, for pairs of equal texts
FIGURE = "mrr"  # of the probe, by which weights are chosen


def adapt(
    base_folder: str | Path,
    out: str | Path,
    *,
    data: str = "docstrings",
    reading: Sequence[str] = (),
    rule: str | None = None,
    length: int | None = None,
    widths: Sequence[int] = (),
    layers: int | None = None,
    general: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Path:
    """Train a text encoder on documents without labels, and save it; give `out`, its folder.

    `base_folder` is as attar or sentence-transformers saves an encoder. `data` is a file or a
    folder of documents (`read_documents`), or "docstrings"; `reading` is at most `column=NAME`.
    Pairs of query and passage are made by `rule`, one of `data.pair_rules.RULES`, and cut at
    `length` tokens, by default at what the base reads, up to 256. `widths` are those that the
    embedding may be cut to, by default the base's. The last `layers` layers learn, by default half
    of them; the token table learns if all do. `general` is a file of a text a line on which the
    result must agree with the base, by default descriptions of the installed packages. `steps` are
    by default one pass over the pairs, or the recipe's if that is shorter; `seed` and `restart` are
    as `pretrain` takes them.

    `report.json` in the folder has the figures on held-out documents before and after, with their
    intervals, and the agreement with the base. Raises the errors of `pretrain`, and InvalidInput
    for a rule, length, width or number of layers that there is not.
    """
    folder, out = Path(base_folder), Path(out)
    base = token_transformer(load_text_checkpoint(folder))
    options = chosen(TextReading(), reading)
    pairs = make_pairs(documents_of(named(data), **options), rule, seed=seed)
    source, texts = general_texts(general)
    tokenizer = PairTokenizer(base, _length(base.encoder, length))
    usual = _settings(base, pairs, widths=widths, layers=layers)
    lineage = {
        "recipe": "adapt",
        "data": run_folder.source(data, out, pairs.split),
        "read": options,
        "base": {**base.lineage, **_identity(folder, out)},
        "rule": pairs.rule,
        "length": tokenizer.max_length,
        "general": {"name": source, SHA256: digest.of_texts(texts)},
        "settings": run_folder.settings_of(usual, but=("seed", "steps")),
    }
    run_folder.begin(out, lineage, restart=restart)
    if restart:
        (out / BEST).unlink(missing_ok=True)
    rows, before = prepared(pairs, tokenizer, negatives=usual.negatives)
    foreign = tokenizer.rows(texts, "passage", what="general texts")
    general_text = GeneralText.of(source, foreign, base.encoder)
    settings = _sized(usual, len(rows.train), steps=steps, seed=seed)
    run = _Run(base.encoder, rows, general_text, settings, out)
    start = {name: weight.clone() for name, weight in base.encoder.state_dict().items()}
    history = run.train(lineage, restart=restart)
    if distributed.rank() != 0:
        return out
    outcome = run.chosen(start, before, history)
    facts = {"data": data, "rule": pairs.rule, "length": tokenizer.max_length, **outcome}
    adaptation_report.write(out, facts)
    dims = tuple(width for width in usual.widths or () if width < base.encoder.dim)
    story = run_folder.story(read_record(out / CHECKPOINT), recipe.SOURCES)
    story |= {"best_step": outcome["best_step"], "share": outcome["soup"]["share"]}
    encoder_folder.save(replace(base, dims=dims, lineage=story), out)
    report(f"encoder written to {out}; next: attar export {out} NAME.attar")
    return out


@dataclass(frozen=True, slots=True)
class _Run:
    """An encoder that is trained in place, with its data."""

    encoder: TextEncoder
    rows: TokenPairs
    general: GeneralText
    settings: recipe.Settings
    out: Path

    @property
    def best(self) -> BestWeights:
        return BestWeights(self.encoder, self.out / BEST)

    def train(self, lineage: Lineage, *, restart: bool) -> History:
        """Train until validation no longer improves."""
        task = self.rows.chooses
        training = recipe.build(self.rows.train, task, self.encoder, self.settings)

        def probe(step: int) -> dict[str, float]:
            figures = task(self.encoder)
            if distributed.first():
                self.best.update(step, figures[FIGURE])
            return figures

        stop = partial(is_exhausted, figure=FIGURE, probes=WORSE_PROBES)
        every = max(1, self.settings.steps // (PROBES + 1))
        return fit(
            replace(training, probe=probe, stop=stop),
            out=self.out,
            lineage=lineage,
            restart=restart,
            precision=best_precision(),
            probe_every=every,
            save_every=every,
        )

    def chosen(
        self, start: Mapping[str, Tensor], before: NDArray[np.int64], history: History
    ) -> dict[str, Any]:
        """Give the encoder the weights that are saved, and report on them.

        `before` are the base's ranks of the passages that judge.
        """
        best_step, end = self.best.read()
        figures = dict(history.series(FIGURE))
        trial, trials = choose(
            self.encoder,
            start,
            end,
            task=self.rows.chooses,
            figure=FIGURE,
            values={0.0: figures[0], 1.0: figures[best_step]},
            general=self.general,
        )
        after = adaptation_report.ranks_of(self.encoder, self.rows.judges)
        return {
            "pairs": self.rows.sizes,
            "home": adaptation_report.home(before, after),
            "abroad": {
                "texts": self.general.source,
                "count": len(self.general.rows),
                **asdict(trial.agreement),
            },
            "soup": {
                "share": trial.share,
                "validated_by": FIGURE,
                "trials": [*map(asdict, trials)],
            },
            "steps": read_record(self.out / CHECKPOINT).step,
            "best_step": best_step,
        }


def _identity(folder: Path, out: Path) -> dict[str, object]:
    """Give the digest of what the base is made of: of a run's folder the encoder alone."""
    if (folder / encoder_folder.ABOUT).exists():
        return run_folder.start(folder)
    return {SHA256: digest.of_path(folder, without=out)}


def _length(encoder: TextEncoder, length: int | None) -> int:
    """Give the tokens at which texts are cut; raises InvalidInput for more than the base reads."""
    if length is None:
        return min(encoder.max_length, LONGEST)
    if not 1 <= length <= encoder.max_length:
        raise InvalidInput(
            f"length must be in [1, {encoder.max_length}], the tokens that the base reads; "
            f"got {length}"
        )
    return length


def _settings(
    base: TextModel[TextEncoder], pairs: PairSplit, *, widths: Sequence[int], layers: int | None
) -> recipe.Settings:
    """Give the recipe's settings for a base; raises InvalidInput for what the base has not."""
    dim, depth = base.encoder.dim, len(base.encoder.transformer.blocks)
    if not all(1 <= width <= dim for width in widths):
        raise InvalidInput(
            f"widths must be in [1, {dim}], those of the base's embedding; got {tuple(widths)}"
        )
    layers = -(-depth // 2) if layers is None else layers  # the upper half
    if not 1 <= layers <= depth:
        raise InvalidInput(f"layers must be in [1, {depth}], those of the base; got {layers}")
    every = tuple(sorted({*(widths or base.dims), dim}))
    dropout = DROPOUT if pairs.are_equal_texts else 0.0
    return recipe.Settings(widths=every, layers=layers, dropout=dropout)


def _sized(usual: recipe.Settings, items: int, *, steps: int | None, seed: int) -> recipe.Settings:
    """Fit the settings to so many pairs: without `steps` one pass, or more where that is short."""
    if steps is None:
        steps = max(usual.steps, items // usual.batch_size)
    settings: recipe.Settings = resized(usual, steps=steps, seed=seed, items=items)
    run_folder.say_small(settings, items=items, usual=usual.batch_size)
    return settings
