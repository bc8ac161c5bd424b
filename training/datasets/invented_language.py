"""Invented language: seeded texts of words that occur nowhere else, for which there is no teacher.

Words of one topic stand together in a text, and that is all there is to learn about them.
"""

import numpy as np

from ..data.pairs import Pair

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
TOPICS, WORDS, PARTICLES = 12, 12, 20  # WORDS of each topic
SUMMARY, BODY = 5, 10  # words of a text that are of a topic; before each stands a particle


def invented_language(*, count: int = 1000, seed: int = 0) -> tuple[Pair, ...]:
    """Give pairs of a short and a longer text about the same two of `TOPICS` topics.

    The two texts of a pair share no word of a topic, so that what they have in common can only be
    known from other texts. Every second word is a particle, which says nothing: the rarer, the
    higher its number (Zipf's law).
    """
    draw = np.random.default_rng([seed, 71])
    lexicon = _lexicon(TOPICS * WORDS + PARTICLES, draw)
    particles, topics = lexicon[:PARTICLES], lexicon[PARTICLES:].reshape(TOPICS, WORDS)
    rarity = 1 / np.arange(1, PARTICLES + 1)
    pairs = []
    for number in range(count):
        own = topics[draw.choice(TOPICS, size=2, replace=False)]
        words = draw.permutation(own.ravel())[: SUMMARY + BODY]
        before = draw.choice(particles, size=len(words), p=rarity / rarity.sum())
        text = [f"{particle} {word}" for particle, word in zip(before, words, strict=True)]
        summary, body = " ".join(text[:SUMMARY]), " ".join(text[SUMMARY:])
        pairs.append(Pair(str(number), "", summary, body))
    return tuple(pairs)


def _lexicon(size: int, draw: np.random.Generator) -> np.ndarray:
    """Make distinct words of two or three syllables."""
    words: dict[str, None] = {}
    while len(words) < size:
        syllables = (
            draw.choice(list(CONSONANTS)) + draw.choice(list(VOWELS))
            for _ in range(draw.integers(2, 4))
        )
        words["".join(syllables)] = None
    return np.array([*words])
