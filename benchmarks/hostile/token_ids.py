"""Token ids: tokenizers of every kind, and ids that none of them may be taken for.

tests/hostile/test_token_ids.py holds the device and every protocol to them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as before

from attar.training.tokenizers.smiles import smiles_tokenizer
from attar.training.tokenizers.wordpiece import train_tokenizer

from ..support.bundles import VOCABULARY, WORDS, tokenizer_json

MAX_LENGTH: Final = 16
CORPUS: Final = (
    "The cat sat on the mat, and the dog ran after it.",
    "I do not know; don't you? It's 12,345.67 degrees outside (or so they said).",
    "Ein schöner Tag für naïve Leute in İstanbul, Straße 7.",
    "embedding embeddings embedded tokenizer tokenization unbelievable unknowable",
    "日本語のテキスト 中文文本 한국어 텍스트",
    "русский текст, ελληνικό κείμενο, ﬁne ligatures ﬀ ½ ② ™",
    "spaces   of  many    kinds\tand\nlines\r\nof them",
    "emoji 🙂 🙃 👩‍👩‍👧 and ☃",
)
MOLECULES: Final = ("CCO", "c1ccccc1", "C[NH3+]", "BrCC(=O)O", "[Na+].[Cl-]", "C%12CC%12")
SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def _around(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


def _bert() -> Tokenizer:
    tokenizer = Tokenizer.from_str(train_tokenizer(CORPUS, vocabulary=300).decode())
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_level(*, prefix: bool) -> Tokenizer:
    """RoBERTa's: bytes, of which a cut may leave a part of a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = before.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[*SPECIALS[:-1], AddedToken("<mask>", lstrip=True)],
        initial_alphabet=sorted(before.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    start, end = (SPECIALS.index(token) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", end), ("<s>", start), add_prefix_space=prefix
    )
    return tokenizer


def _clip() -> Tokenizer:
    """CLIP's: a word's last piece says that it is."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = before.Sequence(
        [
            before.Split(words, behavior="removed", invert=True),
            before.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(before.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    parts = json.loads(tokenizer.to_str())  # nothing is unknown to CLIP's: each byte may end a word
    vocabulary = parts["model"]["vocab"]
    for byte in sorted(before.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
    return _around(Tokenizer.from_str(json.dumps(parts)))


def _unigram() -> Tokenizer:
    """XLM-R's: pieces of sentences, the likeliest; spaces are a letter."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = before.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=list(SPECIALS),
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _around(tokenizer)


def _gemma() -> Tokenizer:
    """EmbeddingGemma's: the normaliser writes the spaces, and bytes stand for what is unknown."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = before.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS[:4], trainer)
    return _around(tokenizer)


TOKENIZERS: Final = MappingProxyType[str, Callable[[], Tokenizer]](
    {
        "WordPiece": _bert,
        "WordPiece without a decoder": lambda: Tokenizer.from_str(tokenizer_json().decode()),
        "byte-level BPE": lambda: _byte_level(prefix=False),
        "byte-level BPE with a prefix space": lambda: _byte_level(prefix=True),
        "BPE with ends of words": _clip,
        "Unigram": _unigram,
        "BPE with a byte fallback": _gemma,
        "SMILES": lambda: Tokenizer.from_str(smiles_tokenizer(MOLECULES).decode()),
    }
)


@cache
def tokenizer(kind: str) -> Tokenizer:
    """Give the tokenizer of that kind, which is made once."""
    return TOKENIZERS[kind]()


def texts() -> st.SearchStrategy[str]:
    """Texts of what tokenizers know and of what none does, as long as gets cut."""
    words = " ".join((*CORPUS, *MOLECULES, *WORDS)).split()
    specials = ["[CLS]", "[SEP]", "[UNK]", "[PAD]", *SPECIALS]
    parts = st.one_of(
        st.sampled_from(words),
        st.sampled_from(specials),
        st.sampled_from([" ", "  ", "\t", "\n", "▁", "##", "' s", "'", "\u0130", "\u0345", "\xad"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.text("abcdefgh", min_size=1, max_size=120),
    )
    return st.lists(parts, max_size=12).map("".join)


@dataclass(frozen=True, slots=True)
class Case:
    """Ids that are sent to the tiny bundle, and text of the refusal."""

    fault: str
    ids: tuple[Any, ...]
    refusal: str

    def __str__(self) -> str:
        return self.fault


def _ids(*tokens: str) -> tuple[int, ...]:
    return tuple(map(VOCABULARY.index, tokens))


_ENDS: Final = r"they do not begin with \[CLS\] \(2\) and end with \[SEP\] \(3\)"
_OTHER: Final = "this tokenizer cuts the text that they spell into other ids"

CASES: Final = (
    Case("no special tokens", _ids("the", "cat"), _ENDS),
    Case("one id", _ids("cat"), _ENDS),
    Case("no [CLS]", _ids("the", "cat", "[SEP]"), _ENDS),
    Case("no [SEP]", _ids("[CLS]", "the", "cat"), _ENDS),
    Case("[CLS] alone", _ids("[CLS]"), _ENDS),
    Case("special tokens the wrong way", _ids("[SEP]", "cat", "[CLS]"), _ENDS),
    Case("padding", _ids("[CLS]", "cat", "[SEP]", "[PAD]", "[PAD]"), _ENDS),
    Case("padding inside", _ids("[CLS]", "cat", "[PAD]", "cat", "[SEP]"), _OTHER),
    Case("two texts", _ids("[CLS]", "cat", "[SEP]", "dog", "sat", "[SEP]"), _OTHER),
    Case("twice special", _ids("[CLS]", "[CLS]", "cat", "sat", "[SEP]", "[SEP]"), _OTHER),
    Case("a word in letters", _ids("[CLS]", "c", "##a", "##t", "sat", "[SEP]"), _OTHER),
    Case("a word in letters alone", _ids("[CLS]", "c", "##a", "##t", "[SEP]"), _OTHER),
    Case("half of a word in front", _ids("[CLS]", "##a", "cat", "[SEP]"), _OTHER),
    Case("an id of a larger vocabulary", (2, 30000, 3), "token id 30000 at 1.* are 0 to 84"),
    Case("nothing", (), "no tokens|none of them empty|0 items"),
)
"""What is negative, too large for 32 bits or no number has rows for each client: values.py."""

TEXTS_ONLY: Final = MappingProxyType[str, Callable[[Any, Any], object]](
    {
        "upsert": lambda client, ids: client.upsert("docs", [1], [ids]),
        "search": lambda client, ids: client.search("docs", [ids]),
        "fit_anomaly": lambda client, ids: client.fit_anomaly("new", [ids] * 30, model="tiny"),
        "score_anomaly": lambda client, ids: client.score_anomaly("normal", [ids]),
        "fit_classifier": lambda client, ids: client.fit_classifier("new", [ids] * 2, ["a", "b"]),
        "classify": lambda client, ids: client.classify("topics", [ids]),
    }
)
"""Calls that take no ids at all."""


def foreign() -> Tokenizer:
    """Give a tokenizer as OpenAI's, without special tokens, whose ids a tiny bundle has too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = before.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=len(VOCABULARY), show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer
