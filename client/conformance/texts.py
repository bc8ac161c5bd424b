"""The texts of the conformance check: plain ones, and one kind for each thing that goes wrong."""

from typing import Final

PLAIN: Final = (
    "the cat sat on the mat",
    "rain",
    "a dog ran over the red bridge in the morning",
    "the sky is blue",
    "how do i send a letter to another country",
    "the sun is far away and very hot",
    "two birds",
    "put the bread in the oven and wait for one hour",
)
"""Lower case, no accents, no marks: tokenizers agree about them. No two have the same length."""

KINDS: Final = {
    "capital letters": ("The Cat Sat On The Mat", "NASA LAUNCHED A ROCKET", "iPhone"),
    "accents": ("un café déjà fermé", "Ångström über São Paulo", "naïve façade"),
    "combining marks": ("un cafe\u0301 de\u0301ja\u0300 ferme\u0301", "a\u0308pfel"),
    "punctuation": ("wait, what?! (no...)", "a/b-c_d.e", "\u201cquoted\u201d \u2014 it\u2019s"),
    "numbers": ("3.14159 and 1,000,000", "12:30 on 2024-02-29", "v1.2.3"),
    "white space": ("  the   cat\tsat\non the mat  ", "the\u00a0cat", "\r\nthe cat\r\n"),
    "Chinese and Japanese": ("今天天气很好", "東京タワー", "机器学习 is fun"),
    "other scripts": ("Привет мир", "שלום עולם", "สวัสดีชาวโลก", "नमस्ते दुनिया"),
    "emoji": ("good morning 😀", "👩‍👩‍👧‍👦", "🇫🇷"),
    "letters of other widths": ("ＡＢＣ", "ﬁne", "½ cup", "straße STRASSE"),
    "control characters": ("the\u0000cat", "the\u200bcat", "the\ufeffcat"),
    "words that look like special tokens": ("[CLS] the cat [SEP]", "<s> the cat </s>", "[MASK]"),
}
"""Kinds of texts by what a tokenizer must do with them."""

EMPTY: Final = ("", " ", "\n", "\u200b", "\u0000")
"""Texts of no word: an answer of numbers is right, and so is a refusal."""


def long_text(words: int) -> str:
    """Give a text of so many words, none of which is a whole text again."""
    every = " ".join(PLAIN).split()
    return " ".join(every[(i + i // len(every)) % len(every)] for i in range(words))
