"""The host step of a bundle: what its manifest says is done to an item before the graph runs."""

from typing import TypeAlias

from .bundle import Bundle
from .inputs import TensorInput, TextInput
from .manifest import SEGMENTS
from .text_pairs import PairInput

HostStep: TypeAlias = TextInput | TensorInput | PairInput


def host_step(bundle: Bundle, *, allow_token_ids: bool = False) -> HostStep:
    """Build the host step that the bundle's manifest declares."""
    manifest = bundle.manifest
    tokenizer, max_length = manifest.preprocessing.tokenizer, manifest.max_length
    if tokenizer is None or max_length is None:
        return TensorInput(manifest.inputs[0], manifest.limits)
    side = manifest.preprocessing.truncation_side
    if manifest.scores_pairs:
        return PairInput(
            bundle.read(tokenizer),
            max_length=max_length,
            segments=SEGMENTS in {spec.name for spec in manifest.inputs},
            truncation_side=side,
        )
    return TextInput(
        bundle.read(tokenizer),
        max_length=max_length,
        prompts=manifest.preprocessing.prompts,
        allow_token_ids=allow_token_ids,
        truncation_side=side,
    )
