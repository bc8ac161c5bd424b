"""Settings of a folder, each done as transformers and sentence-transformers do it, or refused.

The one list; tests/hostile/test_folder_settings.py holds the import to it. A setting is a change of
one file in a small random folder of a family, and `refusal` is text of the error; where it is
empty, token ids and vectors must be those of sentence-transformers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece

from ..support.families import plain_folder
from ..support.teachers import write_json

CONFIG, TOKENIZER = "tokenizer_config.json", "tokenizer.json"
SPECIALS_MAP, ADDED = "special_tokens_map.json", "added_tokens.json"
SENTENCES, SIMILARITY = "sentence_bert_config.json", "config_sentence_transformers.json"
POOLING, MODULES = "1_Pooling/config.json", "modules.json"
LENGTH, ROWS, WIDTH = 30, 400, 16

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéàÉ東京都0123456789"
WORDS = ("cat", "Cat", "sun", "rain", "the", "mat", "##rain", "[unused0]", "東京", "été")

TEXTS: Final[Sequence[str]] = (
    "the cat sat",
    "",
    " ",
    "The Cat SAT on THE mat",
    "É té été, e\u0301te\u0301 façade İstanbul",
    "東京は首都です 京都cat",
    "  leading and   trailing  ",
    "tabs\tand\nnew lines\u00a0nbsp\u3000wide",
    "🙂👩\u200d👧 zero\u200bwidth\ufeff soft\u00adhyphen",
    "control\x00\x01\x7f signs \ufffd",
    "مرحبا שלום \u202ertl",
    "[MASK] [CLS]cat <mask> </s>sun <s> [unused0] <extra> cat</s>",
    "sunrain catcat unthemat",
    "the cat sat on the mat in the rain while the sun was up 0123456789 and so on",
)
"""What settings differ on: case, accents, CJK, spaces, signs, special tokens, and length."""

Change = Callable[[Path], object]


def put(name: str, **changes: Any) -> Change:
    """Change keys of a file of JSON."""

    def change(folder: Path) -> None:
        path = folder / name
        before = json.loads(path.read_text("utf-8")) if path.exists() else {}
        write_json(path, {**before, **changes})

    return change


def drop(name: str, *more: Change) -> Change:
    """Leave a file out, and make more changes."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        for other in more:
            other(folder)

    return change


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def added(content: str, **flags: bool) -> dict[str, Any]:
    """Write one token of added_tokens_decoder."""
    plain = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    return {"content": content, **plain, "special": True, **flags}


def vocabulary_file(folder: Path) -> None:
    """Put BERT's vocab.txt where tokenizer.json was."""
    (folder / TOKENIZER).unlink()
    (folder / "vocab.txt").write_text("\n".join(WORD_PIECES) + "\n", "utf-8")


def byte_pair_files(folder: Path) -> None:
    """Put RoBERTa's vocab.json and merges.txt where tokenizer.json was."""
    model = json.loads((folder / TOKENIZER).read_text("utf-8"))["model"]
    (folder / TOKENIZER).unlink()
    write_json(folder / "vocab.json", model["vocab"])
    lines = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n", "utf-8")


def second_segment(folder: Path) -> None:
    """Let the tokenizer say that a text is the second of a pair."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / TOKENIZER))
    put(
        CONFIG,
        **PLAIN,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )(folder)


def tokenizer_section(**sections: Any) -> Change:
    """Set truncation or padding in tokenizer.json."""
    return put(TOKENIZER, **sections)


def no_unit_length(folder: Path) -> None:
    modules = json.loads((folder / MODULES).read_text("utf-8"))
    write_json(folder / MODULES, modules[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of a folder; `same` marks one that changes no id, and is followed so."""

    family: str
    name: str
    change: Change
    refusal: str = ""
    same: bool = False

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


WORD_PIECES: Final = (*BERT_SPECIALS, *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS), *".,:?!-'")


def word_pieces(specials: Sequence[str]) -> Tokenizer:
    pieces = (*specials, *WORD_PIECES[len(BERT_SPECIALS) :])
    unknown = next(token for token in specials if "unk" in token.lower())
    tokenizer = Tokenizer(WordPiece({p: i for i, p in enumerate(pieces)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_pairs() -> Tokenizer:
    """Byte-level BPE with a few merges, spelled out since training one takes longer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t"), ("Ġ", "c"), ("Ġ", "ca"), ("Ġ", "t"), ("t", "h"), ("th", "e")]
    pieces = [*SPECIALS, *alphabet, *dict.fromkeys("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(BPE({p: i for i, p in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def unigrams(*, unknown: int | None = 3) -> Tokenizer:
    scored = [(token, 0.0) for token in SPECIALS]
    scored += [(word, -3.0) for word in ("▁the", "▁cat", "▁Cat", "▁sun", "cat", "▁", "東京", "été")]
    scored += [(letter, -6.0) for letter in LETTERS if letter not in "xz"]
    tokenizer = Tokenizer(Unigram(scored, unk_id=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def surrounded(tokenizer: Tokenizer, specials: Sequence[str], first: str, last: str) -> Tokenizer:
    """Add the special tokens, and put the first before each text and the last after it."""
    tokenizer.add_special_tokens(list(specials))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer


ROBERTA_NAMES: Final = {
    f"{name}_token": token
    for name, token in (("bos", "<s>"), ("eos", "</s>"), ("cls", "<s>"), ("sep", "</s>"))
} | {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}

TOKENIZERS: Final[Mapping[str, Callable[[], Tokenizer]]] = {
    "bert": lambda: surrounded(word_pieces(BERT_SPECIALS), BERT_SPECIALS, "[CLS]", "[SEP]"),
    "roberta": lambda: surrounded(byte_pairs(), SPECIALS, "<s>", "</s>"),
    "xlm-roberta": lambda: surrounded(unigrams(), SPECIALS, "<s>", "</s>"),
    "mpnet": lambda: surrounded(word_pieces(SPECIALS), SPECIALS, "<s>", "</s>"),
    "modernbert": lambda: surrounded(byte_pairs(), SPECIALS, "<s>", "</s>"),
}
NAMES: Final[Mapping[str, Mapping[str, Any]]] = {
    "bert": {"tokenizer_class": "BertTokenizer"},
    "roberta": {"tokenizer_class": "RobertaTokenizer"},
    "xlm-roberta": {"tokenizer_class": "XLMRobertaTokenizer"},
    "mpnet": {"tokenizer_class": "MPNetTokenizer", "unk_token": "<unk>"},
    "modernbert": {"tokenizer_class": "PreTrainedTokenizerFast", **ROBERTA_NAMES},
}
NONE: Final[Change] = lambda _folder: None  # noqa: E731 -- a change like the others
CASED: Final = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": False,
}
PLAIN: Final = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
UNKNOWN_FREE: Final[Change] = lambda folder: unigrams(unknown=None).save(  # noqa: E731 -- the same
    str(folder / TOKENIZER)
)

SETTINGS: Final[tuple[Setting, ...]] = (
    *(Setting(family=family, name="unchanged", change=NONE, same=True) for family in TOKENIZERS),
    *(
        Setting(family=family, name=name, change=change)
        for family in ("bert", "mpnet")
        for name, change in (
            ("do_lower_case false", put(CONFIG, do_lower_case=False)),
            ("strip_accents false", put(CONFIG, strip_accents=False)),
            ("strip_accents, cased", put(CONFIG, strip_accents=True, do_lower_case=False)),
            ("tokenize_chinese_chars false", put(CONFIG, tokenize_chinese_chars=False)),
        )
    ),
    *(
        Setting(family=family, name=name, change=change)
        for family in TOKENIZERS
        for name, change in (
            ("truncation_side left", put(CONFIG, truncation_side="left")),
            (
                "truncation left in tokenizer.json",
                tokenizer_section(
                    truncation={
                        "direction": "Left",
                        "max_length": 4,
                        "strategy": "LongestFirst",
                        "stride": 0,
                    }
                ),
            ),
            (
                "model_max_length 6",
                both(put(SENTENCES, max_seq_length=None), put(CONFIG, model_max_length=6)),
            ),
            ("max_seq_length 5", put(SENTENCES, max_seq_length=5)),
            (
                "a plain word added",
                put(
                    CONFIG, added_tokens_decoder={"9": added("the", special=False, normalized=True)}
                ),
            ),
            ("extra_special_tokens", put(CONFIG, extra_special_tokens=["at"])),
        )
    ),
    Setting(
        family="bert",
        name="max_len",
        change=both(put(SENTENCES, max_seq_length=None), put(CONFIG, max_len=6)),
    ),
    Setting(
        family="bert",
        name="additional_special_tokens",
        change=put(CONFIG, additional_special_tokens=["<extra>"]),
    ),
    Setting(
        family="bert",
        name="added_tokens_decoder",
        change=put(CONFIG, added_tokens_decoder={"12": added("[unused0]")}),
    ),
    Setting(
        family="bert",
        name="an added token that takes its spaces",
        change=put(CONFIG, added_tokens_decoder={"4": added("[MASK]", lstrip=True, rstrip=True)}),
        same=True,
    ),
    Setting(
        family="bert",
        name="an added single word",
        change=put(CONFIG, added_tokens_decoder={"7": added("sun", single_word=True)}),
        same=True,
    ),
    Setting(family="bert", name="cls_token", change=put(CONFIG, cls_token="[SEP]")),
    Setting(family="bert", name="sep_token", change=put(CONFIG, sep_token="[CLS]")),
    Setting(family="bert", name="unk_token", change=put(CONFIG, unk_token="[MASK]")),
    Setting(
        family="bert", name="special_tokens_map.json", change=put(SPECIALS_MAP, sep_token="[PAD]")
    ),
    Setting(
        family="bert",
        name="extra tokens in special_tokens_map.json",
        change=put(SPECIALS_MAP, additional_special_tokens=["sun"]),
    ),
    Setting(family="bert", name="added_tokens.json", change=put(ADDED, **{"<extra>": 130})),
    Setting(
        family="bert", name="a token of the folder's own name", change=put(CONFIG, wing_token="cat")
    ),
    Setting(family="bert", name="vocab.txt alone", change=vocabulary_file, same=True),
    Setting(family="roberta", name="vocab.json and merges.txt", change=byte_pair_files, same=True),
    Setting(
        family="bert",
        name="tokenizer.json as it is, cased",
        change=both(put(CONFIG, **PLAIN), put(TOKENIZER, normalizer=CASED)),
    ),
    Setting(
        family="bert",
        name="tokenizer.json cased, of which its class takes the words alone",
        change=put(TOKENIZER, normalizer=CASED),
        same=True,
    ),
    Setting(
        family="bert",
        name="padding in tokenizer.json",
        same=True,
        change=tokenizer_section(
            padding={
                "strategy": {"Fixed": 24},
                "direction": "Right",
                "pad_to_multiple_of": 8,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            }
        ),
    ),
    Setting(
        family="bert",
        name="clean_up_tokenization_spaces",
        same=True,
        change=put(CONFIG, clean_up_tokenization_spaces=True),
    ),
    Setting(family="bert", name="never_split", same=True, change=put(CONFIG, never_split=["sat"])),
    Setting(
        family="bert",
        name="sentence-transformers' do_lower_case",
        change=both(put(CONFIG, do_lower_case=False), put(SENTENCES, do_lower_case=True)),
    ),
    Setting(
        family="roberta",
        name="sentence-transformers' do_lower_case",
        change=put(SENTENCES, do_lower_case=True),
    ),
    Setting(family="roberta", name="add_prefix_space", change=put(CONFIG, add_prefix_space=True)),
    Setting(
        family="modernbert",
        name="add_prefix_space, which its class leaves to the file",
        change=put(CONFIG, add_prefix_space=True),
        same=True,
    ),
    Setting(
        family="modernbert",
        name="add_bos_token",
        same=True,
        change=put(CONFIG, add_bos_token=False, add_eos_token=False),
    ),
    Setting(
        family="xlm-roberta", name="add_prefix_space", change=put(CONFIG, add_prefix_space=False)
    ),
    Setting(
        family="xlm-roberta",
        name="no unknown token in tokenizer.json",
        same=True,
        change=UNKNOWN_FREE,
    ),
    *(
        Setting(
            family=family,
            name="padding_side left",
            same=True,
            change=put(CONFIG, padding_side="left"),
        )
        for family in ("roberta", "xlm-roberta", "mpnet", "modernbert")
    ),
    Setting(
        family="bert",
        name="settings under another old name",
        change=drop(SENTENCES, put("sentence_albert_config.json", max_seq_length=5)),
    ),
    Setting(
        family="bert",
        name="the first file of settings empty",
        change=drop(SENTENCES, put(SENTENCES), put("sentence_xlnet_config.json", max_seq_length=5)),
    ),
    Setting(
        family="bert",
        name="weights to be loaded as float16",
        same=True,
        change=put(SENTENCES, model_args={"torch_dtype": "float32"}),
    ),
    Setting(
        family="bert",
        name="dot product of unit length",
        same=True,
        change=put(SIMILARITY, similarity_fn_name="dot"),
    ),
    Setting(
        family="bert",
        name="euclidean distance of unit length",
        same=True,
        change=put(SIMILARITY, similarity_fn_name="euclidean"),
    ),
    Setting(
        family="bert",
        name="prompts",
        change=put(SIMILARITY, prompts={"query": "the cat ", "document": "  Sun:"}),
    ),
)
"""Settings that are followed."""

REFUSED: Final[tuple[Setting, ...]] = (
    *(
        Setting(family="bert", name=name, change=put(CONFIG, **{name: value}), refusal=refusal)
        for name, value, refusal in (
            ("padding_side", "left", "pads on the left (padding_side), where a bert counts"),
            ("padding_side", "up", "Padding side should be selected"),
            ("truncation_side", "middle", "Truncation side should be selected"),
            ("split_special_tokens", True, "has split_special_tokens True"),
            ("processor_class", "ClapProcessor", "has processor_class 'ClapProcessor'"),
            ("fast_tokenizer_files", ["tokenizer.2.json"], "has fast_tokenizer_files"),
            ("init_inputs", ["../vocab.txt"], "has init_inputs ['../vocab.txt']"),
            ("gguf_file", "model.gguf", "has gguf_file 'model.gguf'"),
            ("model_max_length", 6.5, "has model_max_length 6.5"),
            ("model_max_length", "long", "has model_max_length 'long'"),
            ("pad_token", None, "names no pad_token"),
            ("model_input_names", ["input_ids"], "without attention_mask"),
            ("tokenizer_class", "CanineTokenizer", "has a CanineTokenizer, which has no"),
            ("tokenizer_class", "BertJapaneseTokenizer", "tokenizer (BertJapaneseTokenizer)"),
            ("tokenizer_class", "AutoModel", "cannot build the tokenizer"),
            ("extra_special_tokens", [f"<{i}>" for i in range(ROWS)], "the model knows 400 tokens"),
        )
    ),
    Setting(
        family="bert",
        name="another segment",
        change=second_segment,
        refusal="another segment than 0 (token_type_ids)",
    ),
    Setting(
        family="bert",
        name="neither tokenizer.json nor vocab.txt",
        change=drop(TOKENIZER),
        refusal="save the fast tokenizer",
    ),
    Setting(
        family="roberta",
        name="vocab.json without merges.txt",
        refusal="save the fast tokenizer",
        change=drop(TOKENIZER, put("vocab.json", a=1)),
    ),
    Setting(
        family="bert",
        name="special_tokens_map.json of words",
        change=lambda folder: (folder / SPECIALS_MAP).write_text("[]"),
        refusal="must hold a JSON object",
    ),
    *(
        Setting(
            family="bert",
            name=f"sentence-transformers' {key}",
            refusal=refusal,
            change=put(SENTENCES, **{key: value}),
        )
        for key, value, refusal in (
            ("do_lower_case", 1, "has do_lower_case 1; expected true or false"),
            (
                "modality_config",
                {"text": {"method": "forward", "method_output_name": "pooler_output"}},
                "has modality_config",
            ),
            ("model_args", {"num_hidden_layers": 1}, "has model_args {'num_hidden_layers': 1}"),
            ("model_kwargs", {"add_pooling_layer": True}, "has model_kwargs"),
            ("processing_kwargs", {"text": {"max_length": 4}}, "has processing_kwargs"),
            ("tokenizer_args", {"padding_side": "left"}, "has tokenizer_args"),
        )
    ),
    *(
        Setting(
            family="bert",
            name=f"{name} of any length",
            refusal=f"{key} {value!r}" if key else w,
            change=both(no_unit_length, put(SIMILARITY, **change)),
        )
        for name, key, value, w, change in (
            ("dot", "similarity_fn_name", "dot", "", {"similarity_fn_name": "dot"}),
            (
                "euclidean",
                "similarity_fn_name",
                "euclidean",
                "",
                {"similarity_fn_name": "euclidean"},
            ),
            (
                "manhattan",
                "similarity_fn_name",
                "manhattan",
                "",
                {"similarity_fn_name": "manhattan"},
            ),
            ("truncate_dim", "", "", "may be cut to 8", {"truncate_dim": 8}),
        )
    ),
    *(
        Setting(
            family="bert",
            name=f"{next(iter(change))} {next(iter(change.values()))}",
            refusal=refusal,
            change=put(SIMILARITY, **change),
        )
        for change, refusal in (
            ({"similarity_fn_name": "manhattan"}, "similarity_fn_name 'manhattan', and attar"),
            ({"similarity_fn_name": "maxsim"}, "set it to 'cosine' where that ranks as well"),
            ({"default_prompt_name": "query"}, "has default_prompt_name 'query', and prompts for"),
        )
    ),
    Setting(
        family="bert",
        name="a pooling flag of 1",
        change=put(POOLING, pooling_mode_cls_token=1, pooling_mode_mean_tokens=False),
        refusal="has pooling_mode_cls_token 1; expected true or false",
    ),
    Setting(
        family="bert",
        name="a pooling of another width",
        change=put(POOLING, word_embedding_dimension=17),
        refusal="has word_embedding_dimension 17, and is given 16",
    ),
)
"""Settings that are refused by name."""


@cache
def folder(family: str, root: Path) -> Path:
    """Make a family's folder under `root`, of one layer with random weights."""
    made = plain_folder(root / family, family, vocab_size=ROWS, max_position_embeddings=40)
    (made / SPECIALS_MAP).unlink(missing_ok=True)
    TOKENIZERS[family]().save(str(made / TOKENIZER))
    write_json(made / CONFIG, NAMES[family])
    write_json(made / SENTENCES, {"max_seq_length": LENGTH})
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    write_json(made / MODULES, modules)
    (made / "1_Pooling").mkdir()
    said = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    write_json(made / POOLING, said)
    return made
