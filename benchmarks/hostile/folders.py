"""Bad folders: what `attar import` may be given, and the text that its refusal must contain.

The one list; tests/hostile/test_folders.py holds the command to it, and
benchmarks/bad_folder_table.py prints it with the messages that came back.
"""

import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from safetensors.numpy import load_file, save_file

from attar.cli.main import main

from ..support.bundles import tiny_bundle, tokenizer_json
from ..support.families import plain_folder
from ..support.teachers import bert_folder, write_json

Kind = Literal["damaged", "foreign", "hostile", "mistaken"]
Spoil = Callable[[Path], object]

CONFIG, MODULES, WEIGHTS = "config.json", "modules.json", "model.safetensors"
POOLING, TOKENIZER = "1_Pooling/config.json", "tokenizer.json"
PROMPTS = "config_sentence_transformers.json"
SENTENCES, TOKENS = "sentence_bert_config.json", "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One bad folder: what is done to a good one, and words of the line that must come back."""

    kind: Kind
    fault: str
    refusal: str
    spoil: Spoil
    options: tuple[str, ...] = ()
    start: Callable[[Path], Path] = bert_folder

    def __str__(self) -> str:
        return f"{self.kind}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the command left behind: its exit code, its message, and what it wrote."""

    status: int
    message: str
    written: tuple[str, ...]


def edit(name: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        before = json.loads(path.read_text("utf-8")) if path.exists() else {}
        write_json(path, {**before, **changes})

    return spoil


def say(name: str, content: str | bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def drop(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def replace(name: str, make: Callable[[Path], object]) -> Spoil:
    """Put something that is no file in a file's place."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def weigh(**changes: np.ndarray[Any, Any] | None) -> Spoil:
    """Change weights by name, a dot written as two underscores, or leave them out."""

    def spoil(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        for name, value in changes.items():
            weights.pop(name.replace("__", "."), None)
            if value is not None:
                weights[name.replace("__", ".")] = value
        save_file(weights, folder / WEIGHTS)

    return spoil


def cut(name: str, keep: int) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def module(kind: str, path: str) -> Spoil:
    def spoil(folder: Path) -> None:
        modules = json.loads((folder / MODULES).read_text("utf-8"))
        write_json(folder / MODULES, [*modules[:2], {"type": kind, "path": path}])

    return spoil


def dense(config: Mapping[str, Any], weights: Mapping[str, np.ndarray[Any, Any]]) -> Spoil:
    """Add a Dense module after pooling."""

    def spoil(folder: Path) -> None:
        module("sentence_transformers.models.Dense", "2_Dense")(folder)
        (folder / "2_Dense").mkdir()
        write_json(folder / "2_Dense" / "config.json", config)
        save_file(dict(weights), folder / "2_Dense" / WEIGHTS)

    return spoil


def shards(weight_map: Mapping[str, Any]) -> Spoil:
    """Put an index of shards in the place of the weights."""

    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        write_json(folder / f"{WEIGHTS}.index.json", {"weight_map": weight_map})

    return spoil


def pickled(folder: Path) -> None:
    """Leave the weights as a pickle that would write a file if anybody loaded it."""
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(str(folder / "ran"))))


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


def remote_code(folder: Path) -> None:
    """Ask for a model class of the folder's own, which would write a file if it were imported."""
    say("modeling.py", f"open({str(folder / 'ran')!r}, 'w')\nclass Mine: ...\n")(folder)
    edit(CONFIG, auto_map={"AutoModel": "modeling.Mine", "AutoConfig": "modeling.Mine"})(folder)


def many_ids(folder: Path) -> None:
    words = json.loads(tokenizer_json())
    words["model"]["vocab"]["beyond"] = 10_000
    write_json(folder / TOKENIZER, words)


def as_file(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    folder.write_text("a file")


def nothing(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))


def nothing_in_it(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    folder.mkdir()


def link_to_itself(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    loop(folder)


def a_bundle(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    tiny_bundle(folder)


def clip(folder: Path) -> None:
    """Lay a CLIP out as sentence-transformers does."""
    kind = "sentence_transformers.models.CLIPModel"
    write_json(folder / MODULES, [{"path": "0_CLIPModel", "type": kind}])


def untouched(_folder: Path) -> None:
    """A good folder, for what is asked of it wrongly."""


def mpnet(root: Path) -> Path:
    return plain_folder(root, "mpnet")


def deep_mpnet(root: Path) -> Path:
    return plain_folder(root, "mpnet", num_hidden_layers=2)


BLOCK: Final = "encoder__layer__0"
DENSE: Final = {
    "in_features": 16,
    "out_features": 8,
    "bias": False,
    "activation_function": "torch.nn.modules.activation.Tanh",
}
MEAN: Final = ("--pooling", "mean")
MATRIX: Final = np.ones((8, 16), np.float32)

CASES: Final[tuple[Case, ...]] = (
    Case("damaged", "no config.json", "config.json is missing", drop(CONFIG)),
    Case("damaged", "no weights", "model.safetensors is missing", drop(WEIGHTS)),
    Case("damaged", "no tokenizer", "save the fast tokenizer", drop(TOKENIZER)),
    Case("damaged", "no pooling config", "1_Pooling/config.json is missing", drop(POOLING)),
    Case("damaged", "config.json empty", "config.json cannot be read as JSON", say(CONFIG, "")),
    Case("damaged", "config.json cut", "cannot be read as JSON", cut(CONFIG, 40)),
    Case("damaged", "config.json not UTF-8", "cannot be read as JSON", say(CONFIG, b"\xff{}")),
    Case("damaged", "config.json a list", "must hold a JSON object", say(CONFIG, "[]")),
    Case("damaged", "modules.json an object", "must list modules", say(MODULES, "{}")),
    Case("damaged", "modules.json of words", "lists 'x'", say(MODULES, '["x"]')),
    Case("damaged", "a module without path", "a type and a path", say(MODULES, '[{"type": "x"}]')),
    Case("damaged", "weights empty", "model.safetensors is damaged", say(WEIGHTS, "")),
    Case("damaged", "weights cut", "model.safetensors is damaged", cut(WEIGHTS, 4000)),
    Case("damaged", "header of 2**60 bytes", "is damaged", say(WEIGHTS, b"\0" * 7 + b"\x10{}")),
    Case(
        "damaged",
        "a weight missing",
        "lacks 'encoder.layer.0.output.dense.bias'",
        weigh(**{f"{BLOCK}__output__dense__bias": None}),
    ),
    Case(
        "damaged",
        "a weight of another shape",
        "does not fit config.json",
        weigh(**{f"{BLOCK}__output__dense__bias": np.ones(3, np.float32)}),
    ),
    Case(
        "damaged",
        "a weight left over",
        "no place for 1 weights",
        weigh(adapter__weight=np.ones(3, np.float32)),
    ),
    Case(
        "damaged",
        "a NaN among weights",
        "holds a NaN or an infinity",
        weigh(**{f"{BLOCK}__output__dense__bias": np.full(16, np.nan, np.float32)}),
    ),
    Case("damaged", "a size of null", "hidden_size None", edit(CONFIG, hidden_size=None)),
    Case("damaged", "a size of words", "hidden_size '16'", edit(CONFIG, hidden_size="16")),
    Case("damaged", "a size below one", "num_hidden_layers 0", edit(CONFIG, num_hidden_layers=0)),
    Case(
        "damaged",
        "heads that do not divide",
        "multiple of heads",
        edit(CONFIG, num_attention_heads=3),
    ),
    Case("damaged", "tokenizer garbled", "tokenizer.json is damaged", say(TOKENIZER, "{}")),
    Case(
        "foreign",
        "a tokenizer of Python",
        "has a CanineTokenizer, which has no tokenizer.json",
        edit("tokenizer_config.json", tokenizer_class="CanineTokenizer"),
    ),
    Case("damaged", "ids beyond the table", "the token id 10000", many_ids),
    Case("damaged", "limit below one", "max_seq_length 0", edit(SENTENCES, max_seq_length=0)),
    Case("damaged", "prompts not texts", "expected texts by name", edit(PROMPTS, prompts=[1])),
    Case(
        "damaged",
        "dense weights of another shape",
        "does not fit",
        dense({**DENSE, "out_features": 9}, {"linear.weight": MATRIX}),
    ),
    Case("damaged", "dense weights missing", "expected linear's weight", dense(DENSE, {})),
    Case(
        "damaged",
        "borrowed weights of another shape",
        "model.safetensors does not fit config.json",
        edit(CONFIG, hidden_size=32),
        MEAN,
        mpnet,
    ),
    Case(
        "damaged",
        "borrowed layers missing",
        "which config.json asks for",
        edit(CONFIG, num_hidden_layers=2),
        MEAN,
        mpnet,
    ),
    Case(
        "damaged",
        "borrowed layers left over",
        "no place for 16 weights",
        edit(CONFIG, num_hidden_layers=1),
        MEAN,
        deep_mpnet,
    ),
    Case(
        "damaged",
        "a borrowed activation unknown",
        "transformers cannot load",
        edit(CONFIG, hidden_act="gelooo"),
        MEAN,
        mpnet,
    ),
    Case(
        "damaged",
        "borrowed weights cut",
        "model.safetensors is damaged",
        cut(WEIGHTS, 4000),
        MEAN,
        mpnet,
    ),
    Case("foreign", "a decoder", "has model_type 'gpt2'", edit(CONFIG, model_type="gpt2")),
    Case("foreign", "a type of no words", "model_type {}", edit(CONFIG, model_type={})),
    Case(
        "foreign",
        "a cross-encoder",
        "has 2 labels; a cross-encoder that ranks gives one score",
        edit(PROMPTS, model_type="CrossEncoder"),
    ),
    Case("foreign", "another activation", "hidden_act 'relu'", edit(CONFIG, hidden_act="relu")),
    Case(
        "foreign",
        "relative positions in a BERT",
        "position_embedding_type 'relative_key'",
        edit(CONFIG, position_embedding_type="relative_key"),
    ),
    Case("foreign", "a decoding BERT", "is_decoder True", edit(CONFIG, is_decoder=True)),
    Case(
        "foreign",
        "pooling of another library",
        "pools by 'attention'",
        say(POOLING, '{"pooling_mode": "attention"}'),
    ),
    Case(
        "damaged",
        "one pooling twice",
        "or several, each once; got ('max', 'max')",
        say(POOLING, '{"pooling_mode": ["max", "max"]}'),
    ),
    Case(
        "foreign",
        "prompts left out of pooling",
        "include_prompt false",
        edit(POOLING, include_prompt=False),
    ),
    Case(
        "foreign",
        "a module of no head",
        "uses the module 'sentence_transformers.models.LSTM'",
        module("sentence_transformers.models.LSTM", "2_LSTM"),
    ),
    Case(
        "foreign",
        "modules out of order",
        "is made of Transformer, Pooling, Transformer",
        module("sentence_transformers.models.Transformer", ""),
    ),
    Case(
        "foreign",
        "a dense layer with a residual",
        "use_residual",
        dense({**DENSE, "use_residual": True}, {"linear.weight": MATRIX}),
    ),
    Case(
        "foreign",
        "a dense layer on tokens",
        "module_input_name 'token_embeddings'",
        dense({**DENSE, "module_input_name": "token_embeddings"}, {"linear.weight": MATRIX}),
    ),
    Case(
        "foreign",
        "query expansion",
        "query_expansion",
        edit(SENTENCES, query_expansion={"token": "[MASK]"}),
    ),
    Case(
        "foreign",
        "another task",
        "transformer_task 'fill-mask'",
        edit(SENTENCES, transformer_task="fill-mask"),
    ),
    Case("foreign", "an adapter", "merge it", say("adapter_config.json", "{}")),
    Case(
        "foreign",
        "quantised weights",
        "quantization_config",
        edit(CONFIG, quantization_config={"bits": 4}),
    ),
    Case("damaged", "an index without shards", "has no weight_map", shards({})),
    Case("damaged", "a shard missing", "1.safetensors is missing", shards({"a": "1.safetensors"})),
    Case("hostile", "a shard above the folder", "is no file's name", shards({"a": "../a"})),
    Case("hostile", "a shard of no words", "is no file's name", shards({"a": {}})),
    Case("foreign", "a bundle", "neither modules.json", a_bundle),
    Case("foreign", "an empty folder", "neither modules.json", nothing_in_it),
    Case("hostile", "weights as a pickle", "a pickle, which may run code", pickled),
    Case("hostile", "code of its own", "has auto_map", remote_code),
    Case(
        "hostile",
        "a tokenizer's own code",
        "tokenizer_config.json has auto_map",
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokens.Mine", None]}),
    ),
    Case("hostile", "a module's own code", "the module 'mine.Pooling'", module("mine.Pooling", "")),
    Case(
        "hostile",
        "an activation's own code",
        "activation_function 'os.system'",
        dense({**DENSE, "activation_function": "os.system"}, {"linear.weight": MATRIX}),
    ),
    Case(
        "hostile",
        "a module above the folder",
        "not inside the folder",
        module("sentence_transformers.models.Dense", "../aside"),
    ),
    Case(
        "hostile",
        "a module at the root",
        "not inside the folder",
        module("sentence_transformers.models.Dense", "/etc"),
    ),
    Case(
        "hostile",
        "a NUL in a path",
        "not inside the folder",
        module("sentence_transformers.models.Dense", "a\0b"),
    ),
    Case("hostile", "config.json its own link", "config.json is missing", replace(CONFIG, loop)),
    Case(
        "hostile", "weights their own link", "model.safetensors is missing", replace(WEIGHTS, loop)
    ),
    Case("hostile", "config.json a pipe", "is no regular file", replace(CONFIG, os.mkfifo)),
    Case("hostile", "config.json a folder", "is no regular file", replace(CONFIG, Path.mkdir)),
    Case("hostile", "tokenizer a pipe", "is no regular file", replace(TOKENIZER, os.mkfifo)),
    Case("hostile", "nested a million deep", "cannot be read as JSON", say(CONFIG, "[" * 10**6)),
    Case("hostile", "17 MB of JSON", "has more than", say(CONFIG, " " * (17 * 2**20))),
    Case(
        "hostile",
        "a width of 10**15",
        "hidden_size 1000000000000000",
        edit(CONFIG, hidden_size=10**15),
    ),
    Case(
        "hostile",
        "16 million layers",
        "lacks 'encoder.layer.1",
        edit(CONFIG, num_hidden_layers=2**24),
    ),
    Case(
        "hostile",
        "16 million borrowed layers",
        "has fewer weights than",
        edit(CONFIG, num_hidden_layers=2**24),
        MEAN,
        mpnet,
    ),
    Case(
        "foreign",
        "sentence-transformers' CLIP",
        "import the one inside, FOLDER/0_CLIPModel, with --tower vision or --tower text",
        clip,
    ),
    Case(
        "foreign",
        "sentence-transformers' CLIP, a tower of it",
        "import the one inside, FOLDER/0_CLIPModel, with --tower vision or --tower text",
        clip,
        ("--tower", "vision"),
    ),
    *(
        Case("foreign", fault, words, edit(name, **changes))
        for fault, words, name, changes in (
            ("padding before the text", "pads on the left", TOKENS, {"padding_side": "left"}),
            ("special tokens split", "has split_special", TOKENS, {"split_special_tokens": True}),
            ("no token that pads", "names no pad_token", TOKENS, {"pad_token": None}),
            ("no mask", "attention_mask", TOKENS, {"model_input_names": ["input_ids"]}),
            (
                "another distance",
                "compares embeddings by cosine",
                PROMPTS,
                {"similarity_fn_name": "manhattan"},
            ),
            (
                "a default prompt that is missing",
                "default_prompt_name 'q'",
                PROMPTS,
                {"default_prompt_name": "q"},
            ),
            ("another output", "has modality_config", SENTENCES, {"modality_config": {"text": {}}}),
            ("arguments of a model", "has model_args", SENTENCES, {"model_args": {"x": 1}}),
        )
    ),
    Case("mistaken", "a file for a folder", "is a file; give the folder", as_file),
    Case("mistaken", "no such folder", "is missing; give the folder", nothing),
    Case("mistaken", "a link to itself", "is missing; give the folder", link_to_itself),
    Case("mistaken", "pooling unsaid", "says nothing of pooling", drop(MODULES)),
    Case("mistaken", "pooling gainsaid", "pools by mean, so cls", untouched, ("--pooling", "cls")),
    Case("mistaken", "dims of words", "--dims takes widths", untouched, ("--dims", "64,wide")),
    Case("mistaken", "dims of nothing", "from 1; got 0", untouched, ("--dims", "0,8")),
    Case("mistaken", "dims beyond the width", "16 wide", untouched, ("--dims", "8,32")),
    Case(
        "mistaken",
        "dims gainsaid",
        "trained for the widths 4",
        edit(PROMPTS, truncate_dim=4),
        ("--dims", "8"),
    ),
    Case(
        "mistaken",
        "dims without unit length",
        "--normalize",
        lambda folder: write_json(
            folder / MODULES, json.loads((folder / MODULES).read_text("utf-8"))[:2]
        ),
        ("--dims", "8"),
    ),
    Case(
        "mistaken",
        "a prompt gainsaid",
        "has the query prompt 'q: '",
        edit(PROMPTS, prompts={"query": "q: "}),
        ("--query-prompt", "query: "),
    ),
    Case(
        "mistaken",
        "a default prompt of no role",
        "puts 'topic: ' before every text",
        edit(PROMPTS, prompts={"topic": "topic: "}, default_prompt_name="topic"),
    ),
)


def attempt(case: Case, root: Path) -> Outcome:
    """Spoil a good folder under `root` and import it, as a person would."""
    folder = case.start(root / "theirs")
    case.spoil(folder)
    before = _files(root)
    out, err = StringIO(), StringIO()
    arguments, status = sys.argv, 0
    sys.argv = ["attar", "import", str(folder), str(root / "mine.attar"), *case.options]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    finally:
        sys.argv = arguments
    message = err.getvalue().strip().replace(str(folder), "FOLDER")
    return Outcome(status, message, tuple(sorted(_files(root) - before)))


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}
