"""The pairs of an adaptation: made of documents by a rule, with whole groups held out twice."""

from dataclasses import dataclass, replace
from pathlib import Path

from attar.errors import InvalidInput

from ..data.documents import Documents, read_documents
from ..data.group_split import split_documents, unseen
from ..data.pair_rules import RULES, default_rule, two_dropouts
from ..data.pairs import Pair, Split
from ..datasets import docstrings
from ..run_data import report

LEAST = 4  # documents
HELD_OUT = 400  # documents that choose weights, and as many that judge them
SHARE = 10  # or a tenth each, of a corpus smaller than ten times that


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSplit:
    """The pairs to train on, those that choose the weights, and those that judge them.

    No group of documents has pairs in two of them.
    """

    rule: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def split(self) -> Split:
        """The same as two parts: those to train on, and all that are held out."""
        return Split(self.train, self.validation + self.test)

    @property
    def are_equal_texts(self) -> bool:
        """Whether a query is its own passage, so that only dropout tells them apart."""
        return self.rule == two_dropouts.__name__


def documents_of(data: str, column: str | None = None) -> Documents:
    """Read the documents that `--data` names: a path, or `docstrings`."""
    if data == "docstrings":
        if column is not None:
            raise InvalidInput(f"--read column={column}: docstrings have no columns; leave it out")
        return Documents(data, docstrings.documents(), "docstrings of installed packages")
    return read_documents(Path(data), column=column)


def make_pairs(documents: Documents, rule: str | None, *, seed: int) -> PairSplit:
    """Hold out whole groups of documents twice, and make pairs of each part by one rule.

    Without a `rule` the first is taken that gives a pair for half of the documents to train on.
    Raises InvalidInput for a rule that there is not, for fewer than four documents, and where a
    part has no pairs.
    """
    if rule is not None and rule not in RULES:
        raise InvalidInput(f"there is no rule {rule!r}; give one of {', '.join(RULES)}")
    documents = _in_groups(documents)
    held_out = min(HELD_OUT, max(1, len(documents) // SHARE))
    outer = split_documents(documents, held_out=held_out, seed=seed)
    inner = split_documents(outer.train, held_out=held_out, seed=seed + 1)
    make = default_rule(inner.train) if rule is None else RULES[rule]
    train, validation, test = (make(part) for part in (inner.train, inner.held_out, outer.held_out))
    validation = unseen(validation, train)
    test = unseen(test, (*train, *validation))
    counts = (
        f"{make.__name__} makes {len(train):,} pairs to train on, {len(validation):,} to choose "
        f"weights by and {len(test):,} to judge them by"
    )
    report(*documents.lines(), f"{counts}; a file or module is in one of the three alone")
    if len(train) < 2 or not validation or not test:
        raise InvalidInput(
            f"{counts}; give more documents than {documents.name}, or another rule of "
            f"{', '.join(RULES)}"
        )
    return PairSplit(rule=make.__name__, train=train, validation=validation, test=test)


def _in_groups(documents: Documents) -> Documents:
    """Give documents of three groups or more; of fewer, each document is made a group."""
    if len(documents) < LEAST:
        raise InvalidInput(
            f"{documents.name} has {len(documents)} documents, and {LEAST} are the least: two to "
            "train on, one to choose weights by and one to judge them by; give more"
        )
    groups = len({document.group for document in documents})
    if groups > 2:
        return documents
    report(f"{documents.name} has {groups} files: single documents of them are held out")
    alone = tuple(replace(document, group=document.name) for document in documents)
    return replace(documents, documents=alone)
