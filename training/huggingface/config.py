"""The description of an encoder in a Hugging Face folder, read from its JSON files alone.

Two forms are read: sentence-transformers (modules.json: a transformer, pooling, layers, unit
length) and plain transformers (config.json), which has no pooling. Nothing is guessed: the caller
declares what the folder leaves open, and may not contradict the folder.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from attar.errors import InvalidInput

from ..choices import Pooling, Route
from ..encoders.pooling import Activation, Dense, HeadConfig, LayerNorm

MAX_JSON_BYTES = 16 * 2**20
LARGEST = 2**24  # of a size in a configuration: a greater one is damage, not a model
MAX_PROMPTS = 256
UNLIMITED = 10**6  # tokenizers without a limit say 10**30

POOLING: Mapping[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
    "max": "max",
    "weightedmean": "weightedmean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
"""The words of sentence-transformers 6."""

OLD_POOLING: Mapping[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of the versions before, in the order in which several are joined."""

MODULES = (
    "Transformer",
    "StaticEmbedding",
    "Pooling",
    "Dense",
    "LayerNorm",
    "Dropout",
    "Normalize",
)
"""The modules of sentence-transformers that are imported; dropout does nothing in inference."""

ROUTERS = (
    "sentence_transformers.base.modules.router.Router",
    "sentence_transformers.models.Router",
    "sentence_transformers.models.Router.Router",
    "sentence_transformers.models.Asym",
    "sentence_transformers.models.Asym.Asym",
)
"""What versions of sentence-transformers name the module that has a network for each side."""

ROUTER_CONFIGS = ("router_config.json", "config.json")

ACTIVATIONS: Mapping[str, Activation] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}

ROLES: Mapping[str, Sequence[str]] = {
    "query": ("query",),
    "passage": ("document", "passage", "corpus"),
}
"""The names that a folder may give a role's prompt, in sentence-transformers' order."""

_ROLES_OF = {name: role for role, names in ROLES.items() for name in names}

SENTENCE_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Where sentence-transformers looks for the Transformer module's settings, in its order."""

TEXT_MODALITY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
HARMLESS = ("attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype")
"""Arguments of a model that change no number in float32, to which weights are widened."""

UNIT_SIMILARITIES = ("dot", "euclidean")  # which rank vectors of unit length as cosine does

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CARD_DIMS = re.compile(r'"matryoshka_dims":\s*\[([0-9,\s]*)\]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The caller's declarations of what a folder leaves open.

    `pooling` is for a plain transformers folder; `normalize` adds unit length; `prompts` are by
    role, "query" or "passage"; `dims` are widths that embeddings may be cut to. `route` is the side
    of a Router to read.
    """

    route: Route | None = None
    pooling: Pooling | None = None
    normalize: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    dims: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if unknown := sorted({*self.prompts} - {*ROLES}):
            raise InvalidInput(f"a prompt is for {' or '.join(ROLES)}; got one for {unknown[0]!r}")
        if list(self.dims) != sorted({*self.dims}) or any(width < 1 for width in self.dims):
            raise InvalidInput(f"dims must be rising whole numbers from 1; got {_list(self.dims)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a folder says of its embeddings: unit length, prompts by role, widths to cut to."""

    normalized: bool
    prompts: Mapping[str, str]
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A folder's encoder but for its weights.

    `root` holds the transformer's config.json, read into `config`; `modules` are the folders of
    the pooling, where there is one, and of the layers, in the order of `head.dense`. `limit`
    is the most tokens a text has where sentence-transformers' settings say so. `lowercase` asks for
    lower case before the tokenizer's own steps.
    """

    name: str
    root: Path
    config: Mapping[str, Any]
    head: HeadConfig
    modules: tuple[Path, ...]
    space: Space
    limit: int | None
    lowercase: bool


def describe(folder: Path, declared: Declared) -> Described:
    """Read what `folder` says, with what is `declared` where it is silent.

    Raises InvalidInput that names the missing or damaged file, the module or setting that is not
    supported, code that the folder would run, or the declaration that contradicts the folder.
    """
    if not folder.is_dir():
        what = "a file" if folder.is_file() else "missing"
        raise InvalidInput(
            f"{folder} is {what}; give the folder that save_pretrained or "
            "SentenceTransformer.save wrote"
        )
    root, head, module_folders, unit = _modules(folder, declared)
    config = read_json(root / "config.json")
    refuse_code(root, config)
    sentences = _sentence_config(root)
    space = describe_space(folder, declared, unit=unit)
    model_name = str(config.get("_name_or_path", ""))
    return Described(
        name=model_name if _HUB_NAME.fullmatch(model_name) else folder.resolve().name,
        root=root,
        config=config,
        head=head,
        modules=module_folders,
        space=space,
        limit=_limit(root, sentences),
        lowercase=sentences.get("do_lower_case", False),
    )


def describe_space(folder: Path, declared: Declared, *, unit: bool) -> Space:
    """Read what `folder` says of its embeddings; `unit` tells that its modules give unit length.

    Raises InvalidInput as `describe` does.
    """
    settings = _optional(folder / "config_sentence_transformers.json")
    _refuse_other_tasks(folder, settings)
    normalized = unit or declared.normalize
    prompts = _prompts(folder, settings, declared)
    _refuse_other_similarities(folder, settings, normalized=normalized)
    dims = _dims(folder, settings, declared, normalized=normalized)
    return Space(normalized=normalized, prompts=prompts, dims=dims)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object, or raise InvalidInput that names it."""
    value = _json(path)
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} must hold a JSON object; it holds {type(value).__name__}")
    return value


def size(config: Mapping[str, Any], key: str, path: Path) -> int:
    """Give a size of a configuration, or raise InvalidInput that names it."""
    if key not in config:
        raise InvalidInput(f"{path} lacks {key!r}, which a {config.get('model_type')}'s has")
    value = config[key]
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise InvalidInput(
            f"{path} has {key} {value!r}; expected a whole number from 1 to {LARGEST}"
        )
    return value


def epsilon(value: Any, where: Path) -> float:
    """Give what layer norms add to the variance, or raise InvalidInput that names it."""
    if not isinstance(value, float) or not 0 < value < 1:
        raise InvalidInput(f"{where} has layer_norm_eps {value!r}; expected a number like 1e-12")
    return value


def read_file(path: Path) -> bytes:
    """Read a regular file, or raise InvalidInput that names it."""
    try:
        if not path.is_file():
            what = "is no regular file" if path.exists() else "is missing"
            raise InvalidInput(f"{path} {what}; save the whole folder again")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> Any:
    try:
        if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
            raise InvalidInput(f"{path} has more than {MAX_JSON_BYTES} bytes; it needs a few KB")
        return json.loads(read_file(path).decode())
    except InvalidInput:
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise InvalidInput(
            f"{path} cannot be read as JSON: {error}; save the whole folder again"
        ) from error


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() or path.is_symlink() else {}


def _modules(folder: Path, declared: Declared) -> tuple[Path, HeadConfig, tuple[Path, ...], bool]:
    """Give the transformer's folder, the head, the folders of its modules and unit length."""
    if not (folder / "modules.json").exists():
        if declared.route is not None:
            raise InvalidInput(f"{folder} has one encoder; leave --route {declared.route} out")
        if not (folder / "config.json").exists():
            raise InvalidInput(
                f"{folder} has neither modules.json, as sentence-transformers writes it, nor "
                "config.json, as transformers does; give the folder that one of them saved"
            )
        if declared.pooling is None:
            raise InvalidInput(
                f"{folder} is a plain transformers folder and says nothing of pooling; declare it "
                f"(--pooling {', '.join(get_args(Pooling))})"
            )
        return folder, HeadConfig(pooling=declared.pooling), (), False
    kinds, folders = listed_modules(folder, declared.route)
    unit = kinds[-1] == "Normalize"
    between = kinds[2 : len(kinds) - unit]
    if kinds[:2] != ["Transformer", "Pooling"] or not {*between} <= {*LAYERS, "Dropout"}:
        raise InvalidInput(
            f"{folder} is made of {', '.join(kinds)}; attar imports Transformer, Pooling, any "
            f"number of {', '.join(LAYERS)} and Dropout, and then Normalize or not, in that order"
        )
    layers = [
        (LAYERS[kind](module_folder / "config.json"), module_folder)
        for kind, module_folder in zip(between, folders[2:], strict=False)
        if kind in LAYERS
    ]
    pooling = _pooling(folders[1] / "config.json")
    if declared.pooling not in (None, pooling):
        own = pooling if isinstance(pooling, str) else _list(pooling)
        raise InvalidInput(
            f"{folder} pools by {own}, so {declared.pooling} cannot be declared; leave it out"
        )
    if unit:
        _refuse_detour(_optional(folders[-1] / "config.json"), folders[-1] / "config.json")
    head = HeadConfig(pooling=pooling, dense=tuple(layer for layer, _ in layers))
    return folders[0], head, (folders[1], *(own for _, own in layers)), unit


def listed_modules(folder: Path, route: Route | None = None) -> tuple[list[str], list[Path]]:
    """Give the kind and the folder of each module that modules.json lists.

    A Router's place is taken by the modules of its `route`. Raises InvalidInput that names the
    module which is not imported, and for a route that is missing or not the folder's.
    """
    path = folder / "modules.json"
    listed = _json(path)
    if not isinstance(listed, list) or not listed:
        raise InvalidInput(f"{path} must list modules; it holds {type(listed).__name__}")
    kinds: list[str] = []
    folders: list[Path] = []
    for module in listed:
        fields = module if isinstance(module, dict) else {}
        kind, subfolder = fields.get("type"), fields.get("path")
        if not isinstance(kind, str) or not isinstance(subfolder, str):
            raise InvalidInput(f"{path} lists {module!r}; a module has a type and a path")
        inside = _inside(folder, subfolder, kind, path)
        if kind in ROUTERS and not kinds:
            if route is None:
                raise InvalidInput(
                    f"{folder} has a Router, which embeds queries and documents by two networks; "
                    "choose one (--route query, --route document)"
                )
            routed = _routed(inside, route)
            kinds += [_kind(folder, kind, inside) for kind, inside in routed]
            folders += [inside for _, inside in routed]
        else:
            kinds.append(_kind(folder, kind, inside))
            folders.append(inside)
    if route is not None and listed[0]["type"] not in ROUTERS:
        raise InvalidInput(f"{folder} has one encoder; leave --route {route} out")
    return kinds, folders


def _kind(folder: Path, kind: str, inside: Path) -> str:
    """Give the name of a module of sentence-transformers that is imported."""
    package, _, name = kind.rpartition(".")
    if name == "CLIPModel":
        raise InvalidInput(
            f"{folder} is sentence-transformers' folder around a CLIP; import the one inside, "
            f"{inside}, with --tower vision or --tower text"
        )
    if name not in MODULES or not package.startswith("sentence_transformers."):
        raise InvalidInput(
            f"{folder} uses the module {kind!r}; attar imports {', '.join(MODULES)} of "
            "sentence_transformers only"
        )
    return name


def _inside(root: Path, subfolder: str, kind: str, path: Path) -> Path:
    """Give the folder of a module, which is inside `root`."""
    inside = PurePosixPath(subfolder)
    if inside.is_absolute() or ".." in inside.parts or "\0" in subfolder or "\\" in subfolder:
        raise InvalidInput(f"{path} sends {kind} to {subfolder!r}, which is not inside the folder")
    return root / inside


def _routed(root: Path, route: Route) -> list[tuple[str, Path]]:
    """Give the type and the folder of each module on a route of the Router in `root`."""
    path = next((root / name for name in ROUTER_CONFIGS if (root / name).exists()), None)
    settings = read_json(path or root / ROUTER_CONFIGS[0])
    path = path or root / ROUTER_CONFIGS[0]
    types, structure = settings.get("types"), settings.get("structure")
    parameters = settings.get("parameters") or {}
    if not isinstance(types, dict) or not isinstance(structure, dict):
        raise InvalidInput(f"{path} lacks types or structure; save the whole folder again")
    if not isinstance(parameters, dict) or parameters.get("route_mappings"):
        raise InvalidInput(f"{path} has route_mappings, by modality; attar imports texts' routes")
    names = structure.get(route)
    if not isinstance(names, list) or not names:
        raise InvalidInput(f"{path} has the routes {_list([*structure])}, and no {route}")
    routed = []
    for name in names:
        kind = types.get(name) if isinstance(name, str) else None
        if not isinstance(kind, str):
            raise InvalidInput(f"{path} routes by {name!r}, of which it has no type")
        routed.append((kind, _inside(root, name, kind, path)))
    return routed


def _pooling(path: Path) -> Pooling | tuple[Pooling, ...]:
    config = read_json(path)
    mode = config.get("pooling_mode")
    modes: list[Any] = mode if isinstance(mode, list) else [mode]
    if mode is None:
        flags = {key: on for key, on in config.items() if key.startswith("pooling_mode_")}
        if odd := [key for key, on in flags.items() if not isinstance(on, bool)]:
            raise InvalidInput(f"{path} has {odd[0]} {flags[odd[0]]!r}; expected true or false")
        modes = [mode for key, mode in OLD_POOLING.items() if flags.pop(key, False)]
        modes += [key for key, on in flags.items() if on]  # of no version, and refused below
        modes = modes or ["mean"]  # sentence-transformers' default
    if not modes or not all(isinstance(mode, str) and mode in POOLING for mode in modes):
        raise InvalidInput(
            f"{path} pools by {_list([repr(mode) for mode in modes])}; attar imports "
            f"{_list([*POOLING])}"
        )
    if config.get("include_prompt", True) is not True:
        raise InvalidInput(
            f"{path} has include_prompt false, which leaves prompts out of pooling; attar pools "
            "every token"
        )
    poolings = tuple(POOLING[mode] for mode in modes)
    return poolings if len(poolings) > 1 else poolings[0]


def _dense(path: Path) -> Dense:
    config = read_json(path)
    _refuse_detour(config, path)
    if config.get("use_residual", False) is not False:
        raise InvalidInput(f"{path} has use_residual; attar imports dense layers without it")
    activation = config.get("activation_function")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InvalidInput(
            f"{path} has activation_function {activation!r}; attar imports {', '.join(ACTIVATIONS)}"
        )
    return Dense(
        width=size(config, "out_features", path),
        activation=ACTIVATIONS[activation],
        bias=config.get("bias", True) is True,
    )


def _layer_norm(path: Path) -> LayerNorm:
    read_json(path)  # which is to be there
    return LayerNorm()


LAYERS: Mapping[str, Callable[[Path], Dense | LayerNorm]] = {
    "Dense": _dense,
    "LayerNorm": _layer_norm,
}
"""How the config.json of a layer after pooling is read."""


def _refuse_detour(config: Mapping[str, Any], path: Path) -> None:
    """A head's modules pass one vector on; one that reads or writes another is not a head's."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise InvalidInput(
                f"{path} has {key} {config[key]!r}; attar imports 'sentence_embedding' only"
            )


def refuse_code(root: Path, config: Mapping[str, Any]) -> None:
    """Refuse what would run code of the folder's, or change the weights that it holds."""
    for path, settings in (
        (root / "config.json", config),
        (root / "tokenizer_config.json", _optional(root / "tokenizer_config.json")),
    ):
        if settings.get("auto_map"):
            raise InvalidInput(
                f"{path} has auto_map, which asks for code of its own to be run, and attar never "
                "does; load it once where you trust it, and save a model of transformers' own"
            )
    if config.get("quantization_config"):
        raise InvalidInput(
            f"{root / 'config.json'} has quantization_config; attar quantises at export: give the "
            "model in float"
        )
    if (root / "adapter_config.json").exists():
        raise InvalidInput(
            f"{root / 'adapter_config.json'} is an adapter on another model; merge it "
            "(merge_and_unload) and save the whole model"
        )


def _refuse_other_tasks(folder: Path, settings: Mapping[str, Any]) -> None:
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise InvalidInput(f"{folder} is a {kind!r}; attar imports a 'SentenceTransformer'")


def _refuse_other_similarities(
    folder: Path, settings: Mapping[str, Any], *, normalized: bool
) -> None:
    """Refuse what ranks embeddings in another order than cosine, by which attar compares."""
    similarity = settings.get("similarity_fn_name")
    if similarity in (None, "cosine") or (normalized and similarity in UNIT_SIMILARITIES):
        return
    way_out = (
        "declare unit length (--normalize) to have them compared by cosine all the same"
        if similarity in UNIT_SIMILARITIES
        else "set it to 'cosine' where that ranks as well"
    )
    raise InvalidInput(
        f"{folder / 'config_sentence_transformers.json'} has similarity_fn_name {similarity!r}, "
        f"and attar compares embeddings by cosine; {way_out}"
    )


def refuse_other_widths(described: Described, width: int) -> None:
    """Hold what the modules say that they are given to `width`, and to what comes before them."""
    keys = ("embedding_dimension", "word_embedding_dimension", "in_features", "dimension")
    for index, module in enumerate(described.modules):
        settings = read_json(module / "config.json")
        for key in keys:
            if settings.get(key) not in (None, width):
                raise InvalidInput(
                    f"{module / 'config.json'} has {key} {settings[key]!r}, and is given "
                    f"{width}; save the whole folder again"
                )
        if index == 0:
            width *= len(described.head.poolings)
        elif isinstance(layer := described.head.dense[index - 1], Dense):
            width = layer.width


def _sentence_config(root: Path) -> dict[str, Any]:
    """Give the settings of the Transformer module; those that would bend the model are refused."""
    candidates = ((root / name, _optional(root / name)) for name in SENTENCE_CONFIGS)
    path, config = next(((path, settings) for path, settings in candidates if settings), (root, {}))
    for key, plain in (
        ("transformer_task", "feature-extraction"),
        ("module_output_name", "token_embeddings"),
        ("modality_config", TEXT_MODALITY),
    ):
        if config.get(key, plain) != plain:
            raise InvalidInput(f"{path} has {key} {config[key]!r}; attar imports {plain!r} only")
    for key in (
        "config_args",
        "config_kwargs",
        "tokenizer_args",
        "processor_kwargs",
        "processing_kwargs",
        "query_length",
        "document_length",
        "query_expansion",
    ):
        if config.get(key):
            raise InvalidInput(
                f"{path} has {key} {config[key]!r}, which changes the model as it is loaded; save "
                "the model with it in place"
            )
    for key in ("model_args", "model_kwargs"):
        arguments = config.get(key) or {}
        if not isinstance(arguments, dict) or {*arguments} - {*HARMLESS}:
            raise InvalidInput(
                f"{path} has {key} {arguments!r}, which changes the model as it is loaded; save "
                "the model with it in place"
            )
    if not isinstance(config.get("do_lower_case", False), bool):
        raise InvalidInput(
            f"{path} has do_lower_case {config['do_lower_case']!r}; expected true or false"
        )
    return config


def _prompts(folder: Path, settings: Mapping[str, Any], declared: Declared) -> dict[str, str]:
    """Give the prompt of each role, the folder's, else the declared, else none; then others."""
    path = folder / "config_sentence_transformers.json"
    listed = settings.get("prompts") or {}
    if not isinstance(listed, dict) or not all(
        isinstance(prompt, str | None) for prompt in listed.values()
    ):
        raise InvalidInput(f"{path} has prompts {listed!r}; expected texts by name")
    if len(listed) > MAX_PROMPTS:
        raise InvalidInput(f"{path} has {len(listed)} prompts; attar imports {MAX_PROMPTS} at most")
    prompts = {}
    for role, names in ROLES.items():
        own = next((listed[name] for name in names if listed.get(name)), "")
        declared_prompt = declared.prompts.get(role, "")
        if own and declared_prompt and own != declared_prompt:
            raise InvalidInput(
                f"{path} has the {role} prompt {own!r}, so {declared_prompt!r} cannot be declared; "
                "leave it out"
            )
        prompts[role] = own or declared_prompt
    name = settings.get("default_prompt_name")
    if name is not None and not (isinstance(name, str) and name in listed):
        raise InvalidInput(
            f"{path} has default_prompt_name {name!r}, and prompts for "
            f"{_list([*listed]) or 'none'}; name one of them, or leave it out"
        )
    default = listed.get(name)
    if default and default not in prompts.values() and not declared.prompts:
        raise InvalidInput(
            f"{path} puts {default!r} before every text by default, and names no prompt for a "
            "query or a passage; declare them (--query-prompt, --passage-prompt)"
        )
    others = {
        name: prompt
        for name, prompt in listed.items()
        if prompt and name not in ROLES and prompt != prompts.get(_ROLES_OF.get(name, ""))
    }
    return {**prompts, **others}


def _dims(
    folder: Path, settings: Mapping[str, Any], declared: Declared, *, normalized: bool
) -> tuple[int, ...]:
    """Give the widths that the folder names: truncate_dim, or the model card's matryoshka_dims."""
    own: set[int] = set()
    if settings.get("truncate_dim") is not None:
        path = folder / "config_sentence_transformers.json"
        own.add(size(settings, "truncate_dim", path))
    if not normalized:
        if cut := sorted({*declared.dims} or own):
            raise InvalidInput(
                f"{folder} gives embeddings of any length, and only those of unit length may be "
                f"cut to {_list(cut)}; declare unit length too (--normalize)"
            )
        return ()
    card = folder / "README.md"
    if card.is_file() and card.stat().st_size <= MAX_JSON_BYTES:
        for widths in _CARD_DIMS.findall(card.read_text("utf-8", errors="replace")):
            own |= {int(width) for width in widths.split(",") if 0 < len(width.strip()) < 9}
    if own and declared.dims and not own >= {*declared.dims}:
        raise InvalidInput(
            f"{folder} was trained for the widths {_list(sorted(own))}; got {_list(declared.dims)}"
        )
    return tuple(sorted({*declared.dims} or own))


def _limit(root: Path, sentences: Mapping[str, Any]) -> int | None:
    if sentences.get("max_seq_length") is None:
        return None
    return size(sentences, "max_seq_length", root / SENTENCE_CONFIGS[0])


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
