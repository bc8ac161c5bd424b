"""Every machine has some general text: what its installed packages say of themselves."""

from attar.training.datasets import package_descriptions


def test_descriptions_are_different_paragraphs_of_prose_in_an_order_that_stays() -> None:
    texts = package_descriptions.read(200)
    assert 3 <= len(texts) <= 200
    assert len(set(texts)) == len(texts)
    assert texts[:50] == package_descriptions.read(50)
    for text in texts:
        assert 8 <= len(text.split()) <= 60
        assert text == " ".join(text.split())
        assert sum(word.strip("(),.:;`*'\"").isalpha() for word in text.split()) > 5
