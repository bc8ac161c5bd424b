"""Transformers that attar has no blocks for, run by the library `transformers`.

Relative positions (MPNet, arXiv:2004.09297; DeBERTa, arXiv:2006.03654; T5, arXiv:1910.10683),
rotary ones (Nomic, arXiv:2402.01613; GTE, arXiv:2407.19669; EuroBERT, arXiv:2503.05500), windows of
attention (ModernBERT, arXiv:2412.13663; Gemma 3, arXiv:2509.20354), shared layers (ALBERT,
arXiv:1909.11942) and language models that see what stands before (Qwen3, arXiv:2506.05176). The
library's own classes are used and never a folder's code. `eager` attention is set: its mask is the
least float and not minus infinity, so that a padded token, whom no real one is near in a window,
stays finite. The runtime pads after the text. That changes nothing where a folder pads before it:
these positions count from token to token, or from the first real one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..encoders.attention import unit
from ..encoders.pooling import Head
from ..encoders.text import TextNetwork
from . import weights
from .config import Described, size
from .libraries import quiet, transformers

Positions: TypeAlias = Literal["learned", "offset", "relative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How transformers names a network, and how it counts positions.

    `positions` are "learned" from the first token on, learned from the id of padding on ("offset"),
    or "relative", which need no table. `width` and `depth` are the words of its configuration.
    """

    positions: Positions = "relative"
    architecture: str = "AutoModel"
    width: str = "hidden_size"
    depth: str = "num_hidden_layers"


FAMILIES: Mapping[str, Family] = {
    "mpnet": Family(positions="offset"),
    "modernbert": Family(),
    "nomic_bert": Family(),
    "gte": Family(),
    "eurobert": Family(),
    "electra": Family(positions="learned"),
    "albert": Family(positions="learned"),
    "deberta": Family(positions="learned"),
    "deberta-v2": Family(positions="learned"),
    "t5": Family(architecture="T5EncoderModel", width="d_model", depth="num_layers"),
    "mt5": Family(architecture="MT5EncoderModel", width="d_model", depth="num_layers"),
    "gemma3_text": Family(),
    "qwen2": Family(),
    "qwen3": Family(),
    "llama": Family(),
    "mistral": Family(),
}
"""By `model_type`; each is tested, and another is refused."""

UNUSED = (
    "pooler.",
    "cls.",
    "head.",
    "lm_head.",
    "decoder.",
    "classifier.",
    "predictions.",
    "sop_classifier.",
    "discriminator_predictions.",
    "generator_predictions.",
    "generator_lm_head.",
    "lm_predictions.",
    "mask_predictions.",
)
"""What a checkpoint may hold in addition to the encoder."""


class TransformersEncoder(TextNetwork):
    """A transformer of another library, pooled and mapped as attar's own is."""

    def __init__(
        self, transformer: nn.Module, head: Head, *, max_length: int, normalized: bool
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = head
        self.dim = head.dim
        self.max_length = max_length
        self.normalized = normalized

    def forward(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        """Embed rows of ids; their mask is 1 where a token is real and 0 on padding."""
        return self._embed(self._states(input_ids, attention_mask), attention_mask)

    @property
    def token_dim(self) -> int:
        """Give the embedding's width."""
        return self.dim

    def with_tokens(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the tokens' states, mapped as the pooled one is."""
        states = self._states(input_ids, attention_mask)
        return self._embed(states, attention_mask), self.head.dense(states)

    def _states(
        self, ids: Int[Tensor, "b n"], mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n width"]:
        states: Tensor = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    def _embed(
        self, states: Float[Tensor, "b n width"], mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        vectors: Tensor = self.head(states, mask)
        return unit(vectors) if self.normalized else vectors


def encoder(described: Described, head: Mapping[str, Tensor], path: Path) -> TransformersEncoder:
    """Give the transformer that config.json describes with the weights of `path` and of the head.

    Raises MissingExtra without `transformers`, and InvalidInput when that library refuses the
    folder or a weight is missing.
    """
    config, where = described.config, described.root / "config.json"
    family = FAMILIES[config["model_type"]]
    width = size(config, family.width, where)
    check_depth(config, where, path, key=family.depth)
    pooled = Head(described.head, width)
    for name, expected in pooled.state_dict().items():
        if head[name].shape != expected.shape:
            raise InvalidInput(
                f"the modules of {described.root} do not fit: {name} has shape "
                f"{(*head[name].shape,)} and should have {(*expected.shape,)}"
            )
    pooled.load_state_dict(head)
    return TransformersEncoder(
        load(described.root, config, path, architecture=family.architecture),
        pooled,
        max_length=_longest(described),
        normalized=described.space.normalized,
    )


def positions(config: Mapping[str, Any]) -> Positions:
    """Say how the network that `config` describes counts positions."""
    if config.get("position_biased_input") is False:  # DeBERTa's, from its third version on
        return "relative"
    return FAMILIES[config["model_type"]].positions


def _longest(described: Described) -> int:
    """Give the most tokens of a text: what the folder says, and no more than learned positions."""
    config, where = described.config, described.root / "config.json"
    if positions(config) == "relative":
        if described.limit is None and "max_position_embeddings" not in config:
            raise InvalidInput(
                f"{described.root} does not say how long a text may be; write max_seq_length into "
                "sentence_bert_config.json"
            )
        return described.limit or size(config, "max_position_embeddings", where)
    most = size(config, "max_position_embeddings", where)
    if positions(config) == "offset":
        most -= size(config, "pad_token_id", where) + 1
    if most < 1:
        raise InvalidInput(f"{where} leaves no position besides the padding's; got {most}")
    return min(described.limit or most, most)


def check_depth(
    config: Mapping[str, Any], where: Path, path: Path, *, key: str = "num_hidden_layers"
) -> None:
    """Refuse a configuration of more layers than there are weights, before they are built.

    `path` is a file of the weights, and `key` the configuration's word for the number of layers.
    """
    depth, count = size(config, key, where), weights.count(path.parent)
    if depth > count:
        raise InvalidInput(f"{path} has fewer weights than {where} has layers: {count} for {depth}")


def load(
    root: Path,
    config: Mapping[str, Any],
    path: Path,
    *,
    architecture: str = "AutoModel",
    unused: tuple[str, ...] = UNUSED,
) -> nn.Module:
    """Let the library build its own class and fill it from `path`, with nothing left at random.

    `config` is that of the folder `root`; `unused` are beginnings of names that may be missing or
    left over. Raises MissingExtra without the library, InvalidInput when it refuses the folder or
    when weights and configuration do not fit.
    """
    library = transformers(f"a {config['model_type']} encoder")
    # Names with an underscore are the library's own notes to itself, such as a kernel to fetch.
    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    try:
        with quiet(library):
            described = library.CONFIG_MAPPING[plain["model_type"]].from_dict(plain)
            model, loaded = getattr(library, architecture).from_pretrained(
                str(root),
                config=described,
                attn_implementation="eager",
                dtype="float32",
                ignore_mismatched_sizes=True,  # reported below, by name
                local_files_only=True,
                output_loading_info=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
    except Exception as error:  # whatever the library raises, the folder is what it met
        raise InvalidInput(f"transformers cannot load {root}: {error}") from error
    for name, actual, expected in sorted(loaded["mismatched_keys"]):
        raise InvalidInput(
            f"{path} does not fit config.json: {name} has shape {(*actual,)} and should have "
            f"{(*expected,)}"
        )
    if missing := sorted(name for name in loaded["missing_keys"] if not name.startswith(unused)):
        raise InvalidInput(f"{path} lacks {missing[0]!r}, which config.json asks for")
    if left := sorted(name for name in loaded["unexpected_keys"] if not name.startswith(unused)):
        raise InvalidInput(
            f"config.json has no place for {len(left)} weights of {path.name}: {left[0]!r}, ..."
        )
    module: nn.Module = model
    return module
