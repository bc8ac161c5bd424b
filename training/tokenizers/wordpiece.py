"""A WordPiece tokenizer learned from the corpus itself, for encoders without a teacher's."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

from attar.errors import InvalidInput

PAD, UNKNOWN, START, END = SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
FEWEST = 64  # below that there is no room for an alphabet


def train_tokenizer(texts: Iterable[str], *, vocabulary: int = 8192) -> bytes:
    """Learn up to `vocabulary` lower-cased word pieces and give tokenizer.json; [PAD] has id 0.

    The same texts give the same bytes. At most a quarter of the vocabulary are characters, the most
    frequent; a word with another one is unknown. Raises InvalidInput for a vocabulary below 64.
    """
    if vocabulary < FEWEST:
        raise InvalidInput(f"vocabulary must be at least {FEWEST}; got {vocabulary}")
    normalizer, pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    )
    characters = Counter[str]()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    alphabet = sorted(characters, key=lambda c: (-characters[c], c))[: vocabulary // 4]
    inside = {f"##{c}" for word in words for c in word[1:]} & {f"##{c}" for c in alphabet}

    trained = Tokenizer(WordPiece(unk_token=UNKNOWN))
    trained.pre_tokenizer = pre_tokenizer
    trainer = WordPieceTrainer(
        vocab_size=vocabulary,
        # The trainer numbers the characters inside words as a randomly seeded hash map gives them,
        # and breaks ties by number: named here, they have the same numbers in every process.
        special_tokens=[*SPECIALS, *sorted(inside)],
        initial_alphabet=sorted(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trained.train_from_iterator(words.elements(), trainer)

    tokenizer = Tokenizer(WordPiece(trained.get_vocab(), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} $B {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return tokenizer.to_str().encode()
