"""Transformers that attar has no blocks for, borrowed from the library `transformers` as they are.

Relative positions (MPNet, arXiv:2004.09297), rotary ones (Nomic, arXiv:2402.01613; GTE,
arXiv:2407.19669) and windows of attention (ModernBERT, arXiv:2412.13663). The library's own classes
are used and never a folder's code. `eager` attention is asked for: its mask is the least float and
not minus infinity, so that a padded token, whom no real one is near in a window, stays finite.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from attar.errors import InvalidInput, MissingExtra

from .attention import unit
from .folder import Described, size
from .head import Head
from .text import TextNetwork

BORROWED = ("mpnet", "modernbert", "nomic_bert", "gte")
"""By `model_type`; each is tested, and another is refused."""


class Borrowed(TextNetwork):
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
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        vectors: Tensor = self.head(states.last_hidden_state, attention_mask)
        return unit(vectors) if self.normalized else vectors


def encoder(described: Described, head: Mapping[str, Tensor], path: Path) -> Borrowed:
    """Give the transformer that config.json describes with the weights of `path` and of the head.

    Raises MissingExtra without `transformers`, and InvalidInput when that library refuses the
    folder or a weight is missing.
    """
    try:
        import transformers  # noqa: PLC0415 -- seconds to import, and needed for some folders only
    except ModuleNotFoundError as error:
        what = f"a {described.config['model_type']} encoder"
        raise MissingExtra(what, "hf") from error
    where = described.root / "config.json"
    width = size(described.config, "hidden_size", where)
    depth = size(described.config, "num_hidden_layers", where)
    if depth > (found := _count(path)):  # told before that many layers are built
        raise InvalidInput(f"{path} has fewer weights than {where} has layers: {found} for {depth}")
    positions = size(described.config, "max_position_embeddings", where)
    if described.config["model_type"] == "mpnet":  # the only one that learns them, as RoBERTa does
        positions -= size(described.config, "pad_token_id", where) + 1
        limit = min(described.limit or positions, positions)
    else:
        limit = described.limit or positions
    made = Borrowed(
        _load(transformers, described, path),
        Head(described.head, width),
        max_length=limit,
        normalized=described.normalized,
    )
    made.head.load_state_dict(head)
    return made


def _count(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as weights:
            return len(weights.keys())
    except (OSError, SafetensorError) as error:
        raise InvalidInput(f"{path} is damaged: {error}") from error


def _load(library: Any, described: Described, path: Path) -> nn.Module:
    """Let the library build its own class and fill it, with nothing left at its random start."""
    # Names with an underscore are the library's own notes to itself, such as a kernel to fetch.
    plain = {key: value for key, value in described.config.items() if not key.startswith("_")}
    noisy = library.utils.logging
    verbosity, bars = noisy.get_verbosity(), noisy.is_progress_bar_enabled()
    noisy.set_verbosity_error()
    noisy.disable_progress_bar()
    try:
        config = library.CONFIG_MAPPING[plain["model_type"]].from_dict(plain)
        model, loaded = library.AutoModel.from_pretrained(
            str(described.root),
            config=config,
            attn_implementation="eager",
            dtype="float32",
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # whatever the library raises, the folder is what it met
        raise InvalidInput(f"transformers cannot load {described.root}: {error}") from error
    finally:
        noisy.set_verbosity(verbosity)
        if bars:
            noisy.enable_progress_bar()
    if missing := sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler.")):
        raise InvalidInput(f"{path} lacks {missing[0]!r}, which config.json asks for")
    module: nn.Module = model
    return module
