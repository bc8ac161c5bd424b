"""Rules that make pairs of texts with one meaning from documents, without labels.

Each rule is a function from documents to pairs, a query and a passage. It is deterministic: where
it draws, a hash of the text decides. Of pairs with the same query or the same passage only the
first is kept, since another would be a wrong negative of it in a batch. A pair's `package` is the
group of its document, so that `split_pairs` can hold out whole groups.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import pairwise

from attar.errors import InvalidInput

from .documents import Document
from .pairs import Pair
from .passages import PASSAGE_WORDS, passages, sentences, word_count

Rule = Callable[[Iterable[Document]], tuple[Pair, ...]]

QUERY_WORDS = (2, 64)  # fewer ask for nothing, more are no query
REST_WORDS = 8  # the least of a passage
KEPT = 0.1  # share of inverse cloze queries that stay in their passage
KEYWORDS = 5
DEFAULT_SHARE = 0.25  # of documents that a default rule gives a pair for
TERM = re.compile(r"[^\W\d_][\w-]+")  # of at least two characters, the first a letter


def title_and_body(documents: Iterable[Document]) -> tuple[Pair, ...]:
    """Pair the title of a document with its text.

    A title that the text repeats at its start is removed there, so that it is not found by copy.
    Source: title and body as a positive pair, as in Neelakantan et al. 2022 (arXiv:2201.10005) and
    in the training pairs of Sentence Transformers.
    """
    return _unique(
        Pair(document.name, document.group, document.title, _after(document.title, document.text))
        for document in documents
    )


def summary_and_rest(documents: Iterable[Document]) -> tuple[Pair, ...]:
    """Pair the first paragraph of a text with the other paragraphs.

    Source: the summary line and body of a docstring (PEP 257), for texts of any kind.
    """
    return _unique(
        Pair(document.name, document.group, _folded(first), _folded(rest))
        for document in documents
        for first, _, rest in (document.text.partition("\n\n"),)
    )


def first_sentence_and_rest(documents: Iterable[Document]) -> tuple[Pair, ...]:
    """Pair the first sentence of a text with the others.

    Source: the lead sentence as a summary, as in news (Hermann et al. 2015, arXiv:1506.03340, have
    the baseline); inverse cloze with the sentence at a fixed place.
    """
    return _unique(
        Pair(document.name, document.group, parts[0], " ".join(parts[1:]))
        for document in documents
        for parts in (sentences(document.text),)
        if parts
    )


def neighbouring_passages(
    documents: Iterable[Document], *, words: int = PASSAGE_WORDS
) -> tuple[Pair, ...]:
    """Pair passages of a document that follow each other: the first and second, third and fourth.

    A passage has at most half of `words`, so that a pair is as long as a passage of other rules.
    Source: neighbouring pieces of text as positives, Neelakantan et al. 2022 (arXiv:2201.10005).
    """
    return _unique(
        (
            Pair(f"{document.name}#{index}", document.group, first, second)
            for document in documents
            for index, (first, second) in enumerate(
                pairwise(passages(document.text, words=max(1, words // 2)))
            )
            if index % 2 == 0
        ),
        longest=words,
    )


def inverse_cloze(documents: Iterable[Document], *, words: int = PASSAGE_WORDS) -> tuple[Pair, ...]:
    """Pair a sentence of each passage, drawn by its hash, with the passage.

    The sentence is taken out of its passage in nine of ten pairs and stays in the tenth, so that
    matching words is learnt too. Source: Lee et al. 2019 (arXiv:1906.00300, section 4.1).
    """
    return _unique(
        Pair(f"{document.name}#{index}", document.group, *_cloze(passage))
        for document in documents
        for index, passage in enumerate(passages(document.text, words=words))
        if len(sentences(passage)) > 1
    )


def two_dropouts(documents: Iterable[Document], *, words: int = PASSAGE_WORDS) -> tuple[Pair, ...]:
    """Pair each passage with itself: dropout makes the two embeddings differ in training.

    Source: unsupervised SimCSE, Gao et al. 2021 (arXiv:2104.08821, section 3).
    """
    return _unique(
        (
            Pair(f"{document.name}#{index}", document.group, passage, passage)
            for document in documents
            for index, passage in enumerate(passages(document.text, words=words))
        ),
        longest=words,
    )


def keyword_query(documents: Iterable[Document], *, words: int = PASSAGE_WORDS) -> tuple[Pair, ...]:
    """Pair the five words that stand out in each passage with the passage.

    A word x stands out in a passage c by tf(x, c) log(1 + A / f(x)): its share of the passage's
    words, the mean count A of words in a passage, and its count f(x) in all. Source: c-TF-IDF,
    Grootendorst 2022 (arXiv:2203.05794, equation 2). Departures: a class is a passage, not a
    cluster, and words that no other passage has are left out, as most are misspelt or names.
    """
    named = [
        (f"{document.name}#{index}", document.group, passage)
        for document in documents
        for index, passage in enumerate(passages(document.text, words=words))
    ]
    counts = [Counter(TERM.findall(passage.lower())) for _, _, passage in named]
    weight = _class_weights(counts)
    return _unique(
        Pair(name, group, " ".join(_keywords(count, weight)), passage)
        for (name, group, passage), count in zip(named, counts, strict=True)
    )


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        title_and_body,
        summary_and_rest,
        first_sentence_and_rest,
        neighbouring_passages,
        inverse_cloze,
        two_dropouts,
        keyword_query,
    )
}
"""The rules by name, as a command line takes them."""


def default_rule(documents: Iterable[Document]) -> Rule:
    """Choose a rule: the first that gives a pair for at least a quarter of the documents.

    They are tried from the best queries to the worst: titles, first paragraphs, a sentence of each
    passage. Texts of one sentence have none of these, and are paired with themselves.

    Raises InvalidInput when there are no documents.
    """
    every = tuple(documents)
    if not every:
        raise InvalidInput("there are no documents; a rule needs at least one")
    for rule in (title_and_body, summary_and_rest, inverse_cloze):
        if DEFAULT_SHARE * len(every) <= len(rule(every)):
            return rule
    return two_dropouts


def _unique(pairs: Iterable[Pair], *, longest: int = QUERY_WORDS[1]) -> tuple[Pair, ...]:
    """Keep pairs whose query and passage have enough words and did not occur before."""
    queries: set[str] = set()
    bodies: set[str] = set()
    kept = []
    for pair in pairs:
        is_query = QUERY_WORDS[0] <= word_count(pair.summary) <= longest
        if not is_query or word_count(pair.body) < REST_WORDS:
            continue
        if pair.summary not in queries and pair.body not in bodies:
            queries.add(pair.summary)
            bodies.add(pair.body)
            kept.append(pair)
    return tuple(kept)


def _folded(text: str) -> str:
    return " ".join(text.split())


def _after(title: str, text: str) -> str:
    """Give a text folded, without the title at its start."""
    words, first = text.split(), title.casefold().split()
    if first and [word.casefold() for word in words[: len(first)]] == first:
        words = words[len(first) :]
    return " ".join(words)


def _cloze(passage: str) -> tuple[str, str]:
    """Give a sentence of a passage, and the passage, without it in nine of ten."""
    parts = sentences(passage)
    draw = int.from_bytes(hashlib.sha256(passage.encode()).digest()[:8])
    index = draw % len(parts)
    is_kept = (draw // len(parts)) % 1000 < 1000 * KEPT
    rest = passage if is_kept else " ".join((*parts[:index], *parts[index + 1 :]))
    return parts[index], rest


def _class_weights(counts: Collection[Counter[str]]) -> dict[str, float]:
    """Give log(1 + A / f(x)) of each word that occurs in more than one passage."""
    total: Counter[str] = Counter()
    passages_with: Counter[str] = Counter()
    for count in counts:
        total.update(count)
        passages_with.update(count.keys())
    mean = total.total() / max(1, len(counts))
    shared = (word for word, number in passages_with.items() if number > 1)
    return {word: math.log1p(mean / total[word]) for word in shared}


def _keywords(count: Counter[str], weight: Mapping[str, float]) -> list[str]:
    """Give the words that stand out most, best first; ties by the alphabet."""
    # tf(x, c) is the count over the passage's words, which are the same for all of its words.
    shared = (word for word in count if word in weight)
    return sorted(shared, key=lambda word: (-count[word] * weight[word], word))[:KEYWORDS]
