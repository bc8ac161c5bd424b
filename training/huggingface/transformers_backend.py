"""Transformers that attar has no blocks for, run by the library `transformers`.

Relative positions (MPNet, arXiv:2004.09297), rotary ones (Nomic, arXiv:2402.01613; GTE,
arXiv:2407.19669) and windows of attention (ModernBERT, arXiv:2412.13663). The library's own classes
are used and never a folder's code. `eager` attention is set: its mask is the least float and
not minus infinity, so that a padded token, whom no real one is near in a window, stays finite.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..encoders.attention import unit
from ..encoders.pooling import Head
from ..encoders.text import TextNetwork
from .config import Described, size
from .libraries import quiet, transformers

FAMILIES = ("mpnet", "modernbert", "nomic_bert", "gte")
"""By `model_type`; each is tested, and another is refused."""

UNUSED = ("pooler.", "cls.", "head.", "lm_head.", "decoder.", "classifier.")
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
    where = described.root / "config.json"
    width = size(described.config, "hidden_size", where)
    check_depth(described.config, where, path)
    positions = size(described.config, "max_position_embeddings", where)
    if described.config["model_type"] == "mpnet":  # the only one that learns them, as RoBERTa does
        positions -= size(described.config, "pad_token_id", where) + 1
        limit = min(described.limit or positions, positions)
    else:
        limit = described.limit or positions
    model = TransformersEncoder(
        load(described.root, described.config, path),
        Head(described.head, width),
        max_length=limit,
        normalized=described.normalized,
    )
    model.head.load_state_dict(head)
    return model


def check_depth(config: Mapping[str, Any], where: Path, path: Path) -> None:
    """Refuse a configuration of more layers than `path` has weights, before they are built."""
    depth = size(config, "num_hidden_layers", where)
    try:
        with safe_open(path, framework="pt") as weights:
            count = len(weights.keys())
    except (OSError, SafetensorError) as error:
        raise InvalidInput(f"{path} is damaged: {error}") from error
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
