"""A folder's tokenizer as transformers builds it, shipped as one tokenizer.json and held to it.

tokenizer.json alone does not say how texts become ids: transformers also follows
tokenizer_config.json, special_tokens_map.json and added_tokens.json, and many of its classes take
no more than the vocabulary from tokenizer.json. So the library builds the tokenizer, from copies of
these files and of nothing else: no code of the folder's is in reach. What is shipped is then held
to the library's ids over texts that are hard to tokenise.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as Steps

from attar.errors import InvalidInput
from attar.inputs import TextInput

from .config import UNLIMITED, read_file, read_json
from .libraries import quiet, transformers

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
NOTES = (CONFIG, "special_tokens_map.json", "added_tokens.json")
VOCABULARIES = (("vocab.txt",), ("vocab.json", "merges.txt"))
"""What a folder may hold in place of tokenizer.json: WordPiece's file, or BPE's two."""

REFUSED: Mapping[str, str] = {
    "processor_class": "attar imports a tokenizer alone",
    "split_special_tokens": "attar keeps special tokens whole; save the tokenizer without it",
    "fast_tokenizer_files": f"attar reads {FILE}; save the tokenizer again",
    "init_inputs": "it would go to the tokenizer's class as it is; save the tokenizer again",
    "gguf_file": f"attar reads {FILE}; save the tokenizer again",
}
"""Settings of tokenizer_config.json that are not followed, and why or what to do."""

CLIP_PROCESSOR = "CLIPProcessor"  # leaves texts to its tokenizer, in whose settings it saves a note

TEXTS: Sequence[str] = (
    "",
    " ",
    "a",
    "Where Is MY Parcel?",
    "WHERE IS MY PARCEL",
    "İstanbul ıI ẞß ǅ ﬁ Ω Ω",
    "Étude de la façade, naïve œuvre",
    "E\u0301tude de la fac\u0327ade",
    "Å Å A\u030a ñ n\u0303 ệ",
    "東京は首都です。価格は１２３円",
    "ｶﾞ ガ か\u3099 한국어 \u1112\u1161\u11ab",
    "mixed 東京 and latin東京latin",
    "Быстрая сортировка Ёё Йй",
    "كيف أقرأ ملفًا؟ مُحَمَّد",
    "\u202eright to left\u202c עִבְרִית",
    "ไทยไม่มีช่องว่าง हिन्दी",
    "🙂 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ \U0001f9d1\u200d\U0001f680",
    "zero\u200bwidth\u200djoin\ufeffmark soft\u00adhyphen",
    "control\x00\x01\x07\x1b\x7f\x85\ufffd characters",
    "  leading, trailing and   many  spaces  ",
    "tabs\tand\nnew\r\nlines\u2028\u2029\x0b\x0c",
    "no-break\u00a0space\u2003em\u3000ideographic",
    "don't can't won't it's O'Brien's “quotes” ‘single’ «guillemets»",
    "e.g. 3.14 1,000 $5 50% a_b snake_case camelCase http://a.b/c?d=e#f me@x.org",
    "!!! ??? ... --- ### ~~~ ^^^ `code` <tag> {brace} [bracket] \\ | /",
    "x" * 300,
    "supercalifragilisticexpialidocious " * 4,
    "\ud7ff\ue000\U0010ffff\U0001d54f𝔘𝔫𝔦",
    "ªº²³½Ⅷ㎏№™ ﷺ",
    "▁ ▁a Ġ Ċ ## ##a </w> <0x41> a▁b",
)
"""Texts that tokenizers differ on; special and added tokens, and long texts, are made for each."""

ADDED = 64  # tokens that are each written into texts

Ids = list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTokenizer:
    """What is shipped of a folder's tokenizer: the bytes of a tokenizer.json, and its settings.

    `limit` is the most tokens of a text where the tokenizer knows one. `library` is the tokenizer
    as transformers built it, from the folder `root`.
    """

    root: Path
    content: bytes
    limit: int | None
    padding_side: Literal["left", "right"]
    library: Any

    def refuse_left_padding(self, what: str) -> None:
        """Refuse padding before texts for a model that counts positions from the padding on."""
        if self.padding_side == "left":
            raise InvalidInput(
                f"{self.root} pads on the left (padding_side), where {what} counts positions from "
                "the padding on and embeds a text by its batch; set padding_side to right"
            )


def read(
    root: Path, config: Mapping[str, Any], *, rows: int, lowercase: bool = False
) -> FolderTokenizer:
    """Build the tokenizer of the folder `root`, whose config.json holds `config`.

    `rows` is how many tokens the model knows; `lowercase` asks for lower case before the
    tokenizer's own steps. Raises InvalidInput that names the missing or damaged file or the setting
    that is not followed, and MissingExtra without `transformers`.
    """
    _refuse_settings(root, config)
    files = _files(root)
    own = _parse(root / FILE, files[FILE]) if FILE in files else None
    library = _build(root, config, files)
    _refuse_beyond(root, library, rows)
    built: Tokenizer = library.backend_tokenizer
    if lowercase and not _lowers(built.normalizer):
        built.normalizer = Steps([Lowercase(), *_steps(built.normalizer)])
    side = library.truncation_side
    if own is None or _plain(own) != _plain(built) or _side(own) != side:
        content = _content(built, library)
    else:
        content = files[FILE]  # byte for byte, so that its bundle's fingerprint is what it was
    return FolderTokenizer(
        root=root,
        content=content,
        limit=_limit(root, library.model_max_length),
        padding_side=library.padding_side,
        library=library,
    )


def check(
    tokenizer: FolderTokenizer, *, max_length: int, prompts: Mapping[str, str] | None = None
) -> None:
    """Hold the runtime's ids to transformers' over texts of every kind, each role's prompt before.

    Raises InvalidInput that shows the first text which they tokenise differently.
    """
    host = TextInput(tokenizer.content, max_length=max_length, prompts={})
    texts = [*hard_texts(tokenizer, max_length)]
    texts = [
        f"{prompt}{text}" for prompt in sorted({"", *(prompts or {}).values()}) for text in texts
    ]
    pairs = zip(
        texts, _ours(host, texts), _theirs(tokenizer, texts, max_length=max_length), strict=True
    )
    for text, ours, theirs in pairs:
        if ours != (theirs or None):
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise InvalidInput(
                f"{tokenizer.root} makes other token ids in transformers than {FILE} can: of "
                f"{shown!r}, {_first_difference(theirs, ours)}; save a tokenizer whose steps are "
                f"all in {FILE} (PreTrainedTokenizerFast)"
            )


def _refuse_settings(root: Path, config: Mapping[str, Any]) -> None:
    tokenizer_config = read_json(root / CONFIG) if (root / CONFIG).exists() else {}
    for key, reason in REFUSED.items():
        for path, settings in ((root / CONFIG, tokenizer_config), (root / "config.json", config)):
            if settings.get(key) and settings[key] != CLIP_PROCESSOR:
                raise InvalidInput(f"{path} has {key} {settings[key]!r}, and {reason}")


def _files(root: Path) -> dict[str, bytes]:
    """Give the files that say how texts become ids, by name; each must be whole."""
    wanted = next(
        (
            names
            for names in ((FILE,), *VOCABULARIES)
            if all((root / name).exists() or (root / name).is_symlink() for name in names)
        ),
        None,
    )
    if wanted is None:
        raise InvalidInput(
            f"{root / FILE} is missing, and so is vocab.txt; save the fast tokenizer "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...))"
        )
    files = {name: read_file(root / name) for name in wanted}
    for name in NOTES:
        if (root / name).exists() or (root / name).is_symlink():
            files[name] = json.dumps(read_json(root / name)).encode()
    return files


def _build(root: Path, config: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
    """Let transformers build the tokenizer from the files alone, in a folder of their own."""
    library = transformers("a folder's tokenizer")
    kinds = {key: config[key] for key in ("model_type", "tokenizer_class") if key in config}
    with TemporaryDirectory(prefix="attar-") as copies, quiet(library):
        for name, content in {**files, "config.json": json.dumps(kinds).encode()}.items():
            (Path(copies) / name).write_bytes(content)
        try:
            tokenizer = library.AutoTokenizer.from_pretrained(
                copies, local_files_only=True, trust_remote_code=False
            )
            fast = isinstance(tokenizer, library.PreTrainedTokenizerBase) and tokenizer.is_fast
        except Exception as error:  # whatever the library raises, the folder is what it met
            reason = " ".join(str(error).replace(copies, str(root)).split())
            named = json.loads(files.get(CONFIG, b"{}")).get("tokenizer_class", "unnamed")
            raise InvalidInput(
                f"transformers cannot build the tokenizer ({named}) of {root}: {reason}; save it "
                "again"
            ) from error
    if not fast:
        raise InvalidInput(
            f"{root} has a {type(tokenizer).__name__}, which has no {FILE}; attar imports "
            "transformers' fast tokenizers"
        )
    if tokenizer.pad_token is None:
        raise InvalidInput(
            f"{root / CONFIG} names no pad_token, without which transformers makes no batch; "
            "name the token that pads"
        )
    return tokenizer


def _refuse_beyond(root: Path, library: Any, rows: int) -> None:
    vocabulary = library.get_vocab()
    token = max(vocabulary, key=vocabulary.__getitem__)
    if vocabulary[token] >= rows:
        raise InvalidInput(
            f"{root} has the token id {vocabulary[token]} and the model knows {rows} tokens; save "
            f"the tokenizer that the model was trained with, without {token!r}"
        )


def _parse(path: Path, content: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # tokenizers raises bare Exception
        raise InvalidInput(f"{path} is damaged: {error}") from error


def _plain(tokenizer: Tokenizer) -> str:
    """Write a tokenizer without its truncation and padding, which the host step sets."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy.to_str()


def _content(built: Tokenizer, library: Any) -> bytes:
    copy = Tokenizer.from_str(built.to_str())
    copy.enable_padding(pad_id=library.pad_token_id, pad_token=library.pad_token)
    copy.no_truncation()
    if library.truncation_side == "left":  # the length is the encoder's; this is for the side
        copy.enable_truncation(UNLIMITED, direction="left")
    return copy.to_str().encode()


def _side(tokenizer: Tokenizer) -> str:
    return tokenizer.truncation["direction"] if tokenizer.truncation else "right"


def _lowers(normalizer: Normalizer | None) -> bool:
    """Tell by sentence-transformers' rule, which looks for the step of that name alone."""
    return any(isinstance(step, Lowercase) for step in _steps(normalizer))


def _steps(normalizer: Normalizer | None) -> list[Normalizer]:
    if normalizer is None:
        return []
    steps: Any = normalizer if isinstance(normalizer, Steps) else [normalizer]
    return [*steps]


def _limit(root: Path, most: Any) -> int | None:
    if isinstance(most, int | float) and most > UNLIMITED:
        return None
    if type(most) is not int or most < 1:
        raise InvalidInput(
            f"{root / CONFIG} has model_max_length {most!r}; expected a whole number from 1"
        )
    return most


def hard_texts(tokenizer: FolderTokenizer, max_length: int) -> Iterator[str]:
    """Give the texts that tell tokenizers apart, some longer than the encoder takes."""
    yield from TEXTS
    added = [str(token) for token in tokenizer.library.added_tokens_decoder.values()]
    for token in added[:ADDED]:
        yield from (token, f"a {token} b", f"a{token}b", f" {token.swapcase()}  {token} ")
    sentence = "The cat sat 12 é 東 on it."
    yield " ".join([sentence] * (max_length // 8 + 2))
    yield "".join(f"{i} " for i in range(max_length + 8))


def _ours(host: TextInput, texts: Sequence[str]) -> Iterator[Ids]:
    """Give the runtime's ids of each text; None where it refuses the text."""
    for text in texts:
        try:
            (row,) = host.prepare([text], role="passage", truncation="truncate")
        except InvalidInput:
            yield None
        else:
            yield row.arrays[0].tolist()


def _theirs(tokenizer: FolderTokenizer, texts: Sequence[str], *, max_length: int) -> Iterator[Ids]:
    """Give transformers' ids of each text; None where it raises.

    What comes with them must be what attar's encoders are given: a mask, and segment 0.
    """
    try:
        encoded = tokenizer.library(texts, padding=True, truncation=True, max_length=max_length)
    except Exception:  # noqa: BLE001 -- tokenizers raises bare Exception
        if len(texts) == 1:
            yield None
        else:
            for text in texts:
                yield from _theirs(tokenizer, [text], max_length=max_length)
        return
    if "attention_mask" not in encoded:
        raise InvalidInput(
            f"{tokenizer.root / CONFIG} has model_input_names without attention_mask, so that "
            "padding would count as text; name it"
        )
    segments = encoded.get("token_type_ids", encoded["attention_mask"])
    for ids, mask, kinds in zip(
        encoded["input_ids"], encoded["attention_mask"], segments, strict=True
    ):
        real = [at for at, on in enumerate(mask) if on]
        if segments is not encoded["attention_mask"] and any(kinds[at] for at in real):
            raise InvalidInput(
                f"{tokenizer.root} puts texts in another segment than 0 (token_type_ids); attar "
                "embeds segment 0 only"
            )
        yield [ids[at] for at in real]


def _first_difference(theirs: Ids, ours: Ids) -> str:
    if theirs is None or ours is None:
        return f"{theirs[:4] if theirs else 'none'} and {ours[:4] if ours else 'none'}"
    at = next(
        (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b),
        min(len(theirs), len(ours)),
    )
    return f"{theirs[at : at + 4]} and {ours[at : at + 4]} from token {at} on"
