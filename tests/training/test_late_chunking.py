"""A passage is pooled from the states that its tokens have in the whole text."""

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer

from attar.errors import InvalidInput
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.data.passages import passage_spans
from attar.training.data.text import tokenize
from attar.training.encoders.pooling import HeadConfig
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.late_chunking import late_chunks
from attar.training.probes.text_retrieval import embed
from tests.support.students import MAX_LENGTH, VOCABULARY, tokenizer

SHAPE = TextConfig(
    vocabulary=VOCABULARY,
    max_length=MAX_LENGTH,
    transformer=TransformerConfig(width=16, depth=2, heads=2, hidden=32),
)
TEXT = "bako rimu. tezan polix! koba"


def model(shape: TextConfig = SHAPE, prompt: str = "") -> TextModel[TextEncoder]:
    torch.manual_seed(0)
    encoder = TextEncoder(shape)
    with torch.no_grad():  # positions and attention that matter
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return TextModel(encoder=encoder, tokenizer=tokenizer(), prompts={"passage": prompt})


def states(
    chunked: TextModel[TextEncoder], text: str
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    encoding = Tokenizer.from_buffer(chunked.tokenizer).encode(text)
    ids = torch.tensor([encoding.ids])
    encoder = chunked.encoder.eval()
    with torch.no_grad():
        tokens = encoder.transformer(encoder.tokens(ids), torch.ones_like(ids).bool())[0]
    return tokens, encoding.offsets


@pytest.mark.parametrize("prompt", ["", "bako: "])
def test_a_passage_is_the_mean_of_its_tokens_in_the_text(prompt: str) -> None:
    chunked = model(prompt=prompt)
    spans = passage_spans(TEXT, words=2)
    assert [TEXT[start:end] for start, end in spans] == ["bako rimu.", "tezan polix!", "koba"]
    tokens, offsets = states(chunked, prompt + TEXT)
    for row, (start, end) in zip(late_chunks(chunked, TEXT, spans), spans, strict=True):
        own = [
            token
            for token, (first, last) in zip(tokens, offsets, strict=True)
            if start + len(prompt) <= first < last <= end + len(prompt)
        ]
        mean = torch.stack(own).mean(0)
        torch.testing.assert_close(row, mean / mean.norm())


def test_a_passage_depends_on_what_is_written_around_it() -> None:
    chunked = model()
    (span,) = passage_spans("bako rimu.", words=9)
    alone, within = (late_chunks(chunked, text, [span])[0] for text in ("bako rimu.", TEXT))
    assert torch.linalg.vector_norm(alone - within) > 1e-3


def test_a_text_of_one_passage_is_its_embedding_without_the_special_tokens() -> None:
    chunked = model()
    rows = tokenize([TEXT], chunked.tokenizer, max_length=MAX_LENGTH)
    whole = torch.from_numpy(embed(chunked.encoder, rows))[0]
    tokens, _ = states(chunked, TEXT)
    special = (tokens[0] + tokens[-1]) / len(tokens)
    inner = late_chunks(chunked, TEXT, [(0, len(TEXT))])[0]
    # The embedding is the mean of all tokens, the passage that of all but the special ones.
    mean = tokens.mean(0)
    rest = (mean - special) / (mean - special).norm()
    torch.testing.assert_close(inner, rest)
    torch.testing.assert_close(whole, mean / mean.norm())


def test_what_cannot_be_pooled_late_is_refused() -> None:
    cls = model(replace(SHAPE, head=HeadConfig(pooling="cls")))
    with pytest.raises(InvalidInput, match="the encoder's pooling is cls; embed each passage"):
        late_chunks(cls, TEXT, [(0, 4)])
    with pytest.raises(InvalidInput, match=r"has \d+ tokens and the encoder reads 24; split it"):
        late_chunks(model(), TEXT * 9, [(0, 4)])
    for span in ((4, 5), (90, 95)):
        with pytest.raises(InvalidInput, match=rf"the span \({span[0]}, {span[1]}\) has no token"):
            late_chunks(model(), TEXT, [span])
