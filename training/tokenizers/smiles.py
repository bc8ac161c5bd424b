"""A tokenizer of SMILES: one token an atom, bond, ring or branch, as chemistry writes them.

The pattern is that of Schwaller et al. 2019, "Molecular Transformer", arXiv:1811.02633, which
MoLFormer (Ross et al. 2022, arXiv:2106.09553) takes too. The result is a tokenizer.json, so that
molecules take the road of texts.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from attar.errors import InvalidInput

from .wordpiece import END, SPECIALS, START, UNKNOWN

MASK = "[MASK]"
PATTERN = (
    r"\[[^\]]+\]"  # an atom in brackets, with its charge, isotope, hydrogens and chirality
    r"|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p"  # the organic subset, aromatic in lower case
    r"|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>|\*|\$"  # branches, bonds and dots
    r"|%[0-9]{2}|[0-9]"  # ring closures
)


def smiles_tokenizer(molecules: Iterable[str], *, vocabulary: int = 2362) -> bytes:
    """Give the tokenizer.json that knows the `vocabulary` most frequent tokens of `molecules`.

    [PAD] has id 0, [UNK] 1, [CLS] 2, [SEP] 3 and [MASK] 4, which count; the default size is
    MoLFormer's. What the pattern does not match is unknown and not lost. The same molecules in any
    order give the same bytes. Raises InvalidInput when there is no room for a token of theirs.
    """
    specials = (*SPECIALS, MASK)
    if vocabulary <= len(specials):
        raise InvalidInput(f"vocabulary must be above {len(specials)}; got {vocabulary}")
    cut = Split(Regex(PATTERN), behavior="isolated")
    counts = Counter(piece for molecule in molecules for piece, _ in cut.pre_tokenize_str(molecule))
    frequent = sorted(counts, key=lambda piece: (-counts[piece], piece))
    entries = [*specials, *(piece for piece in frequent if piece not in specials)][:vocabulary]
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(entries)}, UNKNOWN))
    tokenizer.pre_tokenizer = cut
    tokenizer.add_special_tokens(list(specials))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, entries.index(token)) for token in (START, END)],
    )
    return tokenizer.to_str().encode()
