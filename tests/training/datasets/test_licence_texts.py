"""Licences of the installed packages: what the demo takes for foreign documents."""

from attar.training.datasets import licence_texts


def test_paragraphs_of_licences_are_on_this_machine_and_always_the_same() -> None:
    texts = licence_texts.read(100)

    assert 20 <= len(texts) <= 100
    assert len(set(texts)) == len(texts)
    assert texts == licence_texts.read(100)
    assert licence_texts.read(5) == texts[:5]
    assert any("THE SOFTWARE IS PROVIDED" in text or "Redistribution" in text for text in texts)


def test_a_paragraph_is_one_line_of_some_words() -> None:
    for text in licence_texts.read(50):
        assert len(text.split()) >= 12
        assert "\n" not in text
