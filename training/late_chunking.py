"""Late chunking: a text is read whole, and each of its passages is pooled from the token states.

A passage's embedding then knows what is written before and after it, such as what "it" means. This
needs the states of the tokens, which a `TextEncoder` has. A bundle's ONNX graph pools them inside,
or gives them mapped and at unit length, so neither the device runtime nor the server can do it:
embed passages here, and put the vectors into a collection. Queries are embedded as usual.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from attar.errors import InvalidInput

from .checkpoints.encoder_folder import TextModel
from .data.passages import Span
from .encoders.attention import unit
from .encoders.text import TextEncoder


@torch.no_grad()
def late_chunks(
    model: TextModel[TextEncoder], text: str, spans: Sequence[Span]
) -> Float[Tensor, "s dim"]:
    """Embed passages of a text from one forward pass over it: row i is that of `spans[i]`.

    `data.passages.passage_spans` gives the spans. The states of a passage's tokens are averaged,
    without special tokens, and go through the encoder's dense layers. They have unit length if its
    embeddings have. The prompt for passages stands before the text once. Source: Günther et al.
    2024 (arXiv:2409.04701).

    Raises InvalidInput where the encoder does not average its tokens, the text has more tokens than
    it reads, or a span has no token.
    """
    encoder = model.encoder.eval()
    if encoder.head.poolings != ("mean",):
        raise InvalidInput(
            "late chunking averages tokens, and the encoder's pooling is "
            f"{'+'.join(encoder.head.poolings)}; embed each passage by itself"
        )
    prompt = model.prompts.get("passage", "")
    tokenizer = Tokenizer.from_buffer(model.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(prompt + text)
    if len(encoding.ids) > encoder.max_length:
        raise InvalidInput(
            f"the text has {len(encoding.ids)} tokens and the encoder reads {encoder.max_length}; "
            "split it into texts of several passages"
        )
    offsets = [(first - len(prompt), last - len(prompt)) for first, last in encoding.offsets]
    device = next(encoder.parameters()).device
    ids = torch.tensor([encoding.ids], device=device)
    states = encoder.transformer(encoder.tokens(ids), torch.ones_like(ids, dtype=torch.bool))
    vectors = encoder.project(encoder.head.dense(_pooled(states[0], offsets, spans)))
    if encoder.wide is not None:
        vectors = vectors + _pooled(encoder.wide.of_tokens(ids)[0], offsets, spans)
    return unit(vectors) if encoder.normalized else vectors


def _pooled(
    states: Float[Tensor, "n width"], offsets: Sequence[Span], spans: Sequence[Span]
) -> Float[Tensor, "s width"]:
    """Average the states of the tokens that have a character in each span."""
    rows = []
    for start, end in spans:
        # A special token has no characters, so that it is in no span.
        inside = [max(first, start) < min(last, end) for first, last in offsets]
        if not any(inside):
            raise InvalidInput(
                f"the span ({start}, {end}) has no token; give spans of characters of the text"
            )
        rows.append(states[torch.tensor(inside, device=states.device)].mean(0))
    return torch.stack(rows)
