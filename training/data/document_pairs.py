"""Pairs of a corpus, where a folder of documents gives those that a rule makes of them."""

from pathlib import Path

from .corpus import Corpus, read_corpus
from .documents import read_documents
from .folder import exists
from .pair_rules import default_rule, two_dropouts

__all__ = ["Corpus", "read_pairs"]


def read_pairs(path: Path, *, column: str | None = None) -> Corpus:
    """Read the pairs at `path`: a file as `read_corpus` does, a folder by the rule of `adapt`.

    So the same folder means the same to adapting, distilling and exporting. Documents of a sentence
    each make no pairs; such a folder is read by `read_corpus` too. Raises what that and
    `read_documents` raise.
    """
    if not exists(path) or not path.is_dir():
        return read_corpus(path, column=column)
    documents = read_documents(path, column=column)
    rule = default_rule(documents)
    if rule is two_dropouts:
        return read_corpus(path)
    pairs = rule(documents)
    what = f"pairs that {rule.__name__} makes of {len(documents):,} {documents.what}"
    return Corpus(str(path), pairs, what, documents.passed_over)
