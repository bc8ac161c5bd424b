"""Token ids: whether those that a caller sends can be the output of this tokenizer.

Ids carry no name of their tokenizer, and those of another one look up rows of the same table: the
embedding is that of other text. So ids must have the special tokens that this tokenizer puts
around a text, before it and after it, and must come back when they are spelled and cut again.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby

from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordLevel, WordPiece

PRIVATE = "\U0010fffd"  # a character of no vocabulary
_SPACE = "Ġ"  # in the letters that bytes are written in
_PART = "\ufffd"  # what decoders make of bytes of a character that was cut


class OwnIds:
    """What the output of one tokenizer looks like."""

    def __init__(self, tokenizer: Tokenizer, *, unknown: int | None) -> None:
        """Read which special tokens stand around a text; `unknown` is the id of what is unknown."""
        self._tokenizer = tokenizer
        self._unknown = unknown
        truncation = tokenizer.truncation
        self._is_cut_in_front = truncation is not None and truncation["direction"] == "left"
        self._front, self._back = special_tokens_around(tokenizer)

    def fault(self, ids: Sequence[int]) -> str:
        """Say why `ids` cannot be this tokenizer's output; nothing where they can.

        A word at the end, or with truncation on the left in front, may have been cut, and words
        with an unknown token may have been any.
        """
        if not (self._front and self._back):
            return "this tokenizer has no special tokens before and after a text to tell its ids by"
        ends = len(ids) - len(self._back)
        given = (tuple(ids[: len(self._front)]), tuple(ids[ends:]))
        if given != (self._front, self._back) or ends < len(self._front):
            front, back = self._names(self._front), self._names(self._back)
            return f"they do not begin with {front} and end with {back}"
        if not self._comes_back(list(ids[len(self._front) : ends])):
            return "this tokenizer cuts the text that they spell into other ids"
        return ""

    def _names(self, ids: Sequence[int]) -> str:
        return " ".join(f"{self._tokenizer.id_to_token(one)} ({one})" for one in ids)

    def _comes_back(self, body: Sequence[int]) -> bool:
        """Whether the text between unknown tokens, which may have been any text, comes back."""
        follows = self._is_cut_in_front
        for is_unknown, run in groupby(body, lambda one: one == self._unknown):
            if not is_unknown and not self._run_comes_back(list(run), follows=follows):
                return False
            follows = True
        return True

    def _run_comes_back(self, run: list[int], *, follows: bool) -> bool:
        # What is left of a word that was cut has the same pieces in WordPiece, where each is the
        # longest; elsewhere a character, or the sign of a word's end, may be gone.
        may_end = not isinstance(self._tokenizer.model, WordPiece)
        # The "'t" of a "don't" that was cut is a word only after a letter.
        contexts = ("", "x") if follows else ("",)
        named = map(self._tokenizer.id_to_token, run)
        pieces = [piece for piece in named if piece is not None]
        return len(pieces) == len(run) and any(
            _same(
                run,
                reader.encode(context + text, add_special_tokens=False),
                follows=follows,
                may_end=may_end,
            )
            for text in self._spellings(pieces)
            for context in contexts
            for reader in (self._bare, self._tokenizer)
        )

    def _spellings(self, pieces: list[str]) -> Iterator[str]:
        decoder, model = self._tokenizer.decoder, self._tokenizer.model
        if isinstance(model, WordPiece):  # its own decoder may rewrite "do not" to "don't"
            prefix = model.continuing_subword_prefix
            decoder = WordPieceDecoder(prefix=prefix, cleanup=False)
            pieces = [pieces[0].removeprefix(prefix), *pieces[1:]]
        if isinstance(decoder, ByteLevel) and (ending := getattr(model, "end_of_word_suffix", "")):
            pieces = [piece.replace(ending, _SPACE) for piece in pieces]  # as CLIP's own code does
        if decoder is not None:
            text = decoder.decode(pieces).strip(_PART)
            yield text
            yield f" {text}"  # a decoder takes a first space for the one that it would put there
        else:
            yield "".join(pieces)
            yield " ".join(pieces)

    @cached_property
    def _bare(self) -> Tokenizer:
        """The tokenizer without its normaliser, which may change even what it gave itself."""
        bare = Tokenizer(self._tokenizer.model)
        if (before := self._tokenizer.pre_tokenizer) is not None:
            bare.pre_tokenizer = before
        added = self._tokenizer.get_added_tokens_decoder()
        for _, token in sorted(added.items()):
            (bare.add_special_tokens if token.special else bare.add_tokens)([token])
        return bare


def _same(run: list[int], again: Tokens, *, follows: bool, may_end: bool) -> bool:
    """Compare, but for a first word that `follows` a part and a last one that `may_end` in one."""
    if again.ids == run:
        return True
    words = again.word_ids
    parts = {*(words[:1] if follows else ()), *(words[-1:] if may_end else ())}
    inner = [one for one, word in zip(again.ids, words, strict=True) if word not in parts]
    rest = len(run) - len(inner)
    starts = range(0 if may_end else rest, 1 + (rest if follows else 0)) if rest >= 0 else ()
    return any(run[start : start + len(inner)] == inner for start in starts)


def special_tokens_around(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the special tokens' ids before and after a text."""
    if tokenizer.post_processor is None:
        return (), ()
    text = Tokenizer(WordLevel({"x": 0}, unk_token="x")).encode("x")  # noqa: S106 (no password)
    whole = tokenizer.post_processor.process(text)
    place = whole.special_tokens_mask.index(0)
    return tuple(whole.ids[:place]), tuple(whole.ids[place + 1 :])
