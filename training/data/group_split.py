"""A split by groups: whole files or modules are held out, and no text is on both sides."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attar.errors import InvalidInput

from .documents import Documents
from .pairs import Pair, Split

SEEN = "held-out texts that training has too"


@dataclass(frozen=True, slots=True)
class DocumentSplit:
    """The documents to train on and those held out."""

    train: Documents
    held_out: Documents


def split_documents(documents: Documents, *, held_out: int, seed: int = 0) -> DocumentSplit:
    """Hold out whole groups, together at most `held_out` documents.

    Groups are taken in an order that a hash of their names and `seed` gives, each that still fits;
    if none does, the smallest. So a side depends on the names and sizes of groups alone. A held-out
    document whose text is in training too is left out, and counted in `held_out.passed_over`.

    Raises InvalidInput when there are not two groups, or a side would be empty.
    """
    chosen = _held_out_groups([document.group for document in documents], held_out, seed)
    train = tuple(document for document in documents if document.group not in chosen)
    seen = {document.text for document in train}
    groups = [document for document in documents if document.group in chosen]
    kept = tuple(document for document in groups if document.text not in seen)
    _check(documents.name, kept)
    left = {SEEN: len(groups) - len(kept)} if len(kept) < len(groups) else {}
    return DocumentSplit(
        train=replace(documents, documents=train),
        held_out=replace(documents, documents=kept, passed_over=left),
    )


def split_pairs(pairs: Sequence[Pair], *, held_out: int, seed: int = 0) -> Split:
    """Hold out whole groups of pairs, which are their `package`, as `split_documents` does.

    A held-out pair that has a query or a passage in common with training, on either side, is left
    out: a split has `len(pairs) - len(split.train) - len(split.held_out)` fewer for it.

    Raises InvalidInput when there are not two groups, or a side would be empty.
    """
    chosen = _held_out_groups([pair.package for pair in pairs], held_out, seed)
    train = tuple(pair for pair in pairs if pair.package not in chosen)
    kept = unseen([pair for pair in pairs if pair.package in chosen], train)
    _check("the pairs", kept)
    return Split(train=train, held_out=kept)


def unseen(held_out: Sequence[Pair], train: Sequence[Pair]) -> tuple[Pair, ...]:
    """Give the pairs of `held_out` that have no text in common with `train`."""
    seen = {text for pair in train for text in (pair.summary, pair.body)}
    return tuple(pair for pair in held_out if not seen & {pair.summary, pair.body})


def _held_out_groups(groups: Sequence[str], held_out: int, seed: int) -> set[str]:
    """Choose the groups to hold out; `groups` has that of each item."""
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise InvalidInput(
            f"a split by groups needs two, and there are {len(sizes)}; give more files, or rows "
            "with their own group"
        )
    if not 0 < held_out < len(groups):
        raise InvalidInput(
            f"held_out must be in [1, {len(groups) - 1}], the items less one; got {held_out}"
        )
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    chosen: set[str] = set()
    free = held_out
    for name in order:
        if sizes[name] <= free:
            chosen.add(name)
            free -= sizes[name]
    return chosen or {min(order, key=sizes.__getitem__)}


def _check(name: str, held_out: Sequence[object]) -> None:
    if not held_out:
        raise InvalidInput(
            f"{name}: every text that was held out is in training too; remove copies, or hold out "
            "more"
        )
