"""The invented language: its texts share topics, and its pairs no word of one."""

from attar.training.datasets.invented_language import PARTICLES, TOPICS, WORDS, invented_language


def words(text: str) -> list[str]:
    return text.split()[1::2]


def test_a_language_is_decided_by_its_seed() -> None:
    assert invented_language(count=5) == invented_language(count=5)
    assert invented_language(count=5) != invented_language(count=5, seed=1)


def test_the_texts_of_a_pair_share_no_word_of_a_topic() -> None:
    pairs = invented_language(count=200)
    assert all(not {*words(pair.summary)} & {*words(pair.body)} for pair in pairs)
    assert len({word for pair in pairs for word in words(pair.body)}) == TOPICS * WORDS
    particles = {word for pair in pairs for word in pair.body.split()[::2]}
    assert len(particles) <= PARTICLES
