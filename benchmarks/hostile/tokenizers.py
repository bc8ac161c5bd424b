"""Tokenizers that would take a machine: a few bytes of JSON that multiply a text, or never end.

The one list; test_tokenizers.py puts each in a bundle. What real tokenizers are made of is below.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

Part = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """Parts in the place of a sound tokenizer's, and the text of the refusal; none: it loads."""

    name: str
    changes: Mapping[str, object]
    refusal: str = ""

    def __str__(self) -> str:
        return self.name


def replace(pattern: str, content: str, *, regex: bool = False) -> Part:
    return {
        "type": "Replace",
        "pattern": {"Regex" if regex else "String": pattern},
        "content": content,
    }


def normal(*steps: Part) -> dict[str, Part | None]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


def split(pattern: str) -> Mapping[str, Part]:
    kind = {"type": "Split", "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": {**kind, "pattern": {"Regex": pattern}}}


def before(*steps: Part) -> dict[str, Part | None]:
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def charsmap(*written: bytes) -> Part:
    """Give a map of SentencePiece with a trie of nothing, and what it could write."""
    data = (1024).to_bytes(4, "little") + bytes(1024) + b"".join(one + b"\0" for one in written)
    return {"type": "Precompiled", "precompiled_charsmap": b64encode(data).decode()}


def template(*texts: str) -> Mapping[str, Part]:
    pieces = [{"Sequence": {"id": text, "type_id": 0}} for text in texts]
    return {
        "post_processor": {
            "type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {},
        }
    }  # fmt: skip


def model(kind: str, **fields: object) -> Mapping[str, object]:
    return {"model": {"type": kind, "unk_token": "[UNK]", "vocab": VOCAB, **fields}}


def pieces(*texts: str) -> Mapping[str, object]:
    vocabulary = [["[UNK]", 0.0], ["[CLS]", 0.0], ["[SEP]", 0.0], *([word, -1.0] for word in texts)]
    return {"model": {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}}


def added(*contents: str) -> Mapping[str, object]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "added_tokens": [
            {"id": 1000 + i, "content": content, "special": True, **flags}
            for i, content in enumerate(contents)
        ]
    }


def prefix_of_ids(ids: list[int], *, listed: bool = False) -> Mapping[str, object]:
    """Give a template with a special token of these ids, as an object or as a list."""
    special = {"id": "c", "ids": ids, "tokens": ["c"] * len(ids)}
    (part,) = template("A").values()
    return {
        "post_processor": {
            **part, "special_tokens": {"c": list(special.values()) if listed else special},
        }
    }  # fmt: skip


NFC: Final = {"type": "NFC"}
BYTES: Final = {
    "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
}  # fmt: skip
BLANKS: Final = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
_CASED: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_NOT_LOWER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_SHORT: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SIGNS: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_START: Final = r"[^\r\n\p{L}\p{N}]?"
PUBLISHED: Final[Mapping[str, str]] = {
    "GPT-2": (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    "CLIP": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "GPT-4": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "Llama 3": rf"{_SHORT}|{_START}\p{{L}}+|\p{{N}}{{1,3}}|{_SIGNS}",
    "Qwen 2": rf"{_SHORT}|{_START}\p{{L}}+|\p{{N}}|{_SIGNS}",
    "GPT-4o": (
        rf"{_START}{_CASED}{_SHORT}?|{_START}{_NOT_LOWER}{_SHORT}?|\p{{N}}{{1,3}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "Tekken": (
        rf"{_START}{_CASED}|{_START}{_NOT_LOWER}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "DeepSeek": (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "threes of digits": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "MoLFormer": (
        r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
        r"|\%[0-9]{2}|[0-9])"
    ),
}
VOCAB: Final = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}

CASES: Final = (
    Case("24 doublings", normal(*[replace("a", "aa")] * 24), "its steps may make 16777216 times"),
    Case("a megabyte for a letter", normal(replace("a", "b" * 2**20)), "1048576 times of a text"),
    Case("a kilobyte for a letter", normal(replace("a", "b" * 1000)), "1000 times"),
    Case("much for an empty match", normal(replace("(?=a)", "b" * 300, regex=True)), "301 times"),
    Case("much for nothing", normal(replace("", "b" * 300)), "301 times of a text"),
    Case("a long prefix", normal({"type": "Prepend", "prepend": "x" * 1000}), "1001 times"),
    Case("a map that writes much", normal(charsmap(b"x" * 1000)), "1000 times of a text"),
    Case(
        "a table that takes what it wrote",
        normal(*[replace(a, b * 3) for a, b in pairwise("abcdefg")]),
        "729 times of a text",
    ),
    Case(
        "a table that takes what two of its steps wrote",
        normal(replace("a", "yqqz"), replace("zy", "yqqqqqqz"), *[replace("zy", "y" * 50)] * 2),
        "its steps may make",
    ),
    Case(
        "two tables with another step between",
        normal(replace("a", "b" * 20), {"type": "Lowercase"}, replace("c", "d" * 20)),
        "800 times of a text",
    ),
    Case("bytes as letters 12 times", before(*[BYTES] * 12), "24576 times of a text"),
    Case(
        "a map whose trie is cut",
        normal({"type": "Precompiled", "precompiled_charsmap": "/////wAA"}),
        "its map of characters has 6 bytes and says 4294967295 of its trie",
    ),
    Case(
        "a map of nothing",
        normal({"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}),
        "has 6 bytes and says 0 of its trie",
    ),
    Case("two maps that write", normal(*[charsmap(b"x" * 33)] * 2), "363 times of a text"),
    Case(
        "doublings on both sides of words",
        {**normal(*[replace("a", "aa")] * 5), **before(*[BYTES] * 5)},
        "1024 times of a text",
    ),
    Case("100 steps", normal(*[NFC] * 100), "more than 64 steps"),
    Case(
        "a decoder that doubles",
        {"decoder": {"type": "Sequence", "decoders": [replace("a", "aa")] * 24}},
        "its decoder may make 16777216 times",
    ),
    Case("a template of 50 texts", template(*["A"] * 50), "has the text 50 times; once is what"),
    Case("a template without the text", template(), "has the text 0 times"),
    Case(
        "words without an end",
        {
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 2**40, "vocab": VOCAB,
            }
        },
        "divides words of 1099511627776 characters; limit 200",
    ),
    Case(
        "merges at random",
        {
            "model": {
                "type": "BPE", "dropout": 0.5, "unk_token": "[UNK]", "vocab": VOCAB, "merges": [],
            }
        },
        "drops merges at random",
    ),
    *(
        Case(f"the pattern {pattern}", split(pattern), "repeats what repeats or chooses")
        for pattern in ("(a+)+$", "(?:a|a)*b", "((a?)b?)+", "(a{1,3}){2,9}", r"([\[\]]*x?)*",
            r"(?:_\w+)*!", r"(?:,(?=.*x))*", r"(?:\w+(?:'\w)?)+$", r"(?:\p{N}{1,3}+)+!")
    ),
    *(
        Case(f"the pattern {pattern}", split(pattern), f"has {sign!r}: calls of groups")
        for pattern, sign in (
            (r"(?<a>)(?<b>\g<a>\g<a>)(?<c>\g<b>\g<b>)q", r"\g"), ("(?<a>x)(?&a)q", "(?"),
            ("(?<a>x)(?P>a)q", "(?"), ("(?R)?a", "(?"), (r"(?=(\w))\1*\1*\1*[?!]", r"\1"),
            (r"(?<a>\w)\k<a>*5", r"\k"), ("(?~a)", "(?"), ("(*FAIL)a", "(*"), ("(?x)a # (", "(?"),
            ("[]((a+)+]$", "[]"),
        )
    ),
    *(
        Case(f"the pattern {pattern}", split(pattern), "two repeats that may take the same")
        for pattern in (
            r"\w*\w*\w*(?<=5)", r"\w*\w*[?!]", r"\w+\d*\w*$", r"\w*5\w*5", r"(?:'\w+)*\w*!",
            r"\w+'?\w+\b", r"\w{0,99}\w*!", r"(?=\s*\s*x)a", r"(?i)\w*a\w*(?!x)",
            r"[a\u4e00]*[b\u4e00]*;", r"\w*?\w*?!", r"(?>\w*\w*!)", "(?i)a*A*!",
            r"\s*?.++.{1,3}+", r"\w*(?=.*x)", r"\w*(?>\w*)!", r"(?i)\p{Lu}*\p{Ll}*!",
            "(?m-i:a*a*!)", r"(?:\w+'?\w+)*!",
        )
    ),
    *(
        Case(f"the pattern {pattern}", split(pattern), "may match in more than 1024 ways")
        for pattern in ("a?" * 40 + "a" * 40 + "(?<=5)", "(?:a|b|c)" * 8 + "d", "a{0,9}" * 4 + "b")
    ),
    *(
        Case(f"the pattern {pattern}", split(pattern), "for each character of a repeat; limit 64")
        for pattern in ("a?" * 9 + "a*$", "(?:a|b|c)" * 4 + r"\w*!")
    ),
    Case("a pattern of 100,000 characters", split("a|" * 50_000), "a pattern of 100000 characters"),
    Case("a piece of 200 kB", pieces("a", "b" * 200_000), "200000 characters of a word; limit"),
    Case("a word of 2 kB", model("WordLevel", vocab={**VOCAB, "b" * 2000: 4}), "2000 characters"),
    Case("pieces of 5 MB", pieces(*(f"{i:01000}" for i in range(5000))), "bytes of words; limit"),
    Case(
        "a million words and one",
        model("Unigram", vocab=[0] * 1_000_001),
        "1000001 words; limit 1000000",
    ),
    Case("2,000,001 merges", model("BPE", merges=[0] * 2_000_001), "2000001 merges; limit 2000000"),
    Case("added tokens of 2 MB", added("x" * 10**6, "y" * 10**6), "2000000 bytes of added tokens"),
    Case(
        "a long prefix of WordPiece",
        model("WordPiece", continuing_subword_prefix="#" * 65, max_input_chars_per_word=100),
        "65 bytes of continuing_subword_prefix; limit 64",
    ),
    Case(
        "a long suffix of BPE",
        model("BPE", end_of_word_suffix="é" * 33, merges=[]),
        "66 bytes of end_of_word_suffix; limit 64",
    ),
    Case("a template of 10,000 ids", prefix_of_ids([2] * 10_000), "10000 parts or token ids"),
    Case(
        "10,000 ids in a list",
        prefix_of_ids([2] * 10_000, listed=True),
        "10000 parts or token ids",
    ),
    Case(
        "a pattern of a normaliser",
        normal(replace("(a*)*b", "", regex=True)),
        "repeats what repeats or chooses",
    ),
    # What real ones are made of.
    Case("CLIP's", normal(NFC, replace(r"\s+", " ", regex=True), {"type": "Lowercase"})),
    Case(
        "T5's",
        {**normal(charsmap(b"x" * 33), replace(" {2,}", "▁", regex=True)), **before(BLANKS)},
    ),
    Case("Llama's", normal({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))),
    Case(
        "ALBERT's",
        normal(
            replace("``", '"'), replace("''", '"'), {"type": "NFKD"}, {"type": "StripAccents"},
            {"type": "Lowercase"}, charsmap(b"x" * 33),
        ) | before({"type": "WhitespaceSplit"}, BLANKS),
    ),
    Case("a table of emoji", normal(*[replace(chr(0x1F600 + i), f":{i}:" * 4) for i in range(60)])),
    Case(
        "a table after a normal form",
        normal(
            replace("&amp;", "&"), {"type": "NFKC"}, replace("½", " 1/2 "), replace("…", " dots ")
        ) | before(BLANKS),
    ),
    *(Case(f"{name}'s", split(pattern)) for name, pattern in PUBLISHED.items()),
    *(
        Case(f"the pattern {pattern}", split(pattern))
        for pattern in (
            r"\w+(?:'\w+)*|[^\w\s]+", r"\d+(?:[.,]\d+)*", r"(?:[A-Za-z]\.)+|\w+",
            r"\p{So}(?:\u200d\p{So})*", r"[\w.]+@[\w.]+\.\w+", r"https?://\S+", r"(?:\s+\S+)*$",
            r"\w+(?:[-']\w+)*", r"\d{1,3}(?=(?:\d{3})*\b)", "(a+)+", "a?" * 6 + "a*$",
            "a*b*;*,*!", r"\w+\s*$", r"\p{L}+\p{N}*\b",
        )
    ),
)  # fmt: skip

SPELLED: Final = (
    ("1" * 5000, "says 4294967295 of its trie"),
    ("[" * 100_000 + "]" * 100_000, "it is nested too deep"),
    ('{"a": 1, "a": 2}', "it has a name twice in one object"),
    ("[1,]", "the tokenizer cannot be read: Expecting value"),
)
"""JSON that stands before a map of characters that is cut, and the text of the refusal."""
