"""The smallest runs: a command on tiny data, and the words of what it needs where it needs more.

The one list; tests/hostile/test_sizes.py holds the commands to it. `EVERY` is what all recipes of
the catalogue are tried on.
"""

import json
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from attar.training.checkpoints import encoder_folder

from ..support.bundles import tiny_bundle, tiny_tensor_bundle, tokenizer_json
from ..support.encoders import tiny_encoder
from ..support.teachers import bert_folder, bert_weights

Make = Callable[[Path], list[object]]
"""Lays tiny data in a folder and gives the command's arguments."""

RUNS: Final = ((1, None), (1, 2), (2, None), (3, None), (3, 2))
"""Items and the batch; None is the recipe's own, which is cut to the items there are."""
SMALL: Final = {
    "batch_size": None,
    "tuning_steps": 1,
    "distil_steps": 1,
    "further_steps": 1,
    "redundancies": "0.01",
    "rates": "1e-3",
    "encoder": "tiny",
    "max_length": 24,
    "shape.max_length": 16,
    "shape.rank": 8,
    "shape.transformer.heads": 2,  # first, since it divides the default width too
    "shape.transformer.width": 16,
    "shape.transformer.hidden": 16,
    "shape.transformer.depth": 1,
    "transformer.depth": 1,
    "projector": 16,
    "conversion.layers": "0",
    "conversion.hashing.anchors": 4,
    "conversion.recovery.steps": 1,
    "hidden": 16,
    "prototypes": 8,
    "queue": 16,
    "width": 8,
}
"""Settings that make a run of any recipe that has them quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command on tiny data; without `needs` it ends well."""

    what: str
    make: Make
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.what


# Data of so many items.


def images(path: Path, count: int, *size: int, labels: list[int] | None = None) -> Path:
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {"x": draw.integers(0, 255, (count, *size), dtype=np.uint8)}
    if labels is not None:
        arrays["y"] = np.array(labels)
    np.savez(path, **arrays)
    return path


def series(path: Path, count: int, channels: int, samples: int) -> Path:
    values = np.random.default_rng(0).normal(0, 1, (count, channels, samples))
    np.savez(path, x=values.astype(np.float32))
    return path


def table(path: Path, rows: int, columns: int) -> Path:
    values = np.random.default_rng(0).random((rows, columns))
    lines = [",".join("abcdef"[:columns]), *(",".join(f"{v:.3f}" for v in row) for row in values)]
    path.write_text("\n".join(lines) + "\n")
    return path


def texts(path: Path, count: int) -> Path:
    rows = [
        {"name": str(i), "summary": f"ask for item {i}", "body": f"how item {i} is asked for"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def molecules(path: Path, count: int) -> Path:
    path.write_text("smiles\n" + "".join("C" * n + "O\n" for n in range(1, count + 1)))
    return path


def sounds(folder: Path, count: int, samples: int = 4000) -> Path:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(draw.normal(0, 3000, samples).astype("<i2").tobytes())
    return folder


def groups(folder: Path, count: int) -> Path:
    for name in ("related", "target"):
        sounds(folder / name, count)
    return folder


def image_groups(folder: Path, count: int, *size: int) -> Path:
    for name in ("related", "target"):
        (folder / name).mkdir(parents=True)
        images(folder / name / "train.npz", count, *size)
    return folder


def stars(path: Path, count: int) -> Path:
    """Write stars of two classes, which take turns."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, shape in (("photometry", (9, 32)), ("spectra", (3, 512)), ("metadata", (4,))):
        arrays[f"{name}_x_train"] = draw.normal(0, 1, (count, *shape)).astype(np.float32)
        arrays[f"{name}_y_train"] = np.arange(count) % 2
    np.savez(path, **arrays)
    return path


def labelled(count: int) -> list[int]:
    return [number % 2 for number in range(count)]


DATA: Final[dict[str, Callable[[Path, int], Path]]] = {
    "image": lambda folder, n: images(folder / "x.npz", n, 16, 16),
    "series": lambda folder, n: series(folder / "x.npz", n, 2, 128),
    "table": lambda folder, n: table(folder / "x.csv", n, 3),
    "text": lambda folder, n: texts(folder / "x.jsonl", n),
    "molecule": lambda folder, n: molecules(folder / "x.csv", n),
    "audio": lambda folder, n: sounds(folder / "x", n),
    "multimodal": lambda folder, n: stars(folder / "x.npz", n),
    "audio/continued": lambda folder, n: groups(folder / "x", n),
    "image/further_pretraining": lambda folder, n: image_groups(folder / "x", n, 16, 16),
    "image/infinite_schedule": lambda folder, n: image_groups(folder / "x", n, 16, 16),
    "image/label_augmentation": lambda f, n: images(f / "x.npz", n, 16, 16, labels=labelled(n)),
    "image/simclr_v2": lambda f, n: images(f / "x.npz", n, 16, 16, labels=labelled(n)),
    "image/ssld": lambda f, n: images(f / "x.npz", n, 16, 16, labels=labelled(n)),
}
"""Data of so many items, by recipe or by modality."""

LEAST: Final[dict[str, int]] = {
    "audio/continued": 1,
    "audio/tera": 1,
    "image/mae": 1,
    "image/random_teacher": 1,
    "image/simclr_v2": 3,  # a class of two, of which one is held out
    "image/ssld": 3,
    "multimodal/astro_m3": 3,
    "molecule/molformer": 1,
    "series/eegformer": 1,
    "table/t_jepa": 1,
    "text/barlow_twins": 3,  # one is held out
    "text/ecoformer": 3,
    "text/mcl": 3,
    "text/mlm": 3,
    "text/simclr": 3,
    "text/simcse": 3,
    "text/static": 3,
}
"""Fewest items that a recipe runs on, where that is not two."""


# Other commands, and what is tiny in another way than in number.


def pretraining(recipe: str, data: Callable[[Path], Path], *options: object) -> Make:
    return lambda folder: [
        *("pretrain", recipe, "--data", data(folder), "--out", folder / "out", "--steps", 1),
        *options,
    ]


def with_setting(setting: str, recipe: str = "image/simclr") -> Make:
    """Change one setting of a run on six images."""
    data = DATA["image"] if recipe.startswith("image/") else DATA[recipe.split("/", 1)[0]]
    return pretraining(recipe, lambda folder: data(folder, 6), "--set", setting)


def of_labels(labels: list[int], recipe: str = "image/simclr", *options: object) -> Make:
    return pretraining(
        recipe,
        lambda folder: images(folder / "x.npz", len(labels), 8, 8, labels=labels),
        *("--set", "encoder=tiny", *options),
    )


def of_sides(recipe: str, *size: int) -> Make:
    return pretraining(recipe, lambda folder: images(folder / "x.npz", 4, *size))


def written(recipe: str, name: str, content: str) -> Make:
    def data(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return pretraining(recipe, data)


def empty_folder(recipe: str) -> Make:
    def data(folder: Path) -> Path:
        (folder / "empty").mkdir()
        return folder / "empty"

    return pretraining(recipe, data)


def teacher(folder: Path, layers: int) -> Path:
    """Write a BERT of so many layers, all alike."""
    root = bert_folder(folder / "teacher")
    config = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    weights = bert_weights()
    for name in [name for name in weights if ".layer.0." in name]:
        for layer in range(1, layers):
            weights[name.replace(".layer.0.", f".layer.{layer}.")] = (
                weights[name] / (layer + 1)
            ).astype(np.float32)
    save_file(weights, root / "model.safetensors")
    return root


def distilling(pairs: int, layers: int = 2) -> Make:
    return lambda folder: [
        *("distill", teacher(folder, layers), "--data", texts(folder / "x.jsonl", pairs)),
        *("--out", folder / "out", "--steps", 1),
    ]


def exporting(pairs: int) -> Make:
    """Export a text encoder, with parity on so many pairs."""

    def make(folder: Path) -> list[object]:
        model = encoder_folder.TextModel(encoder=tiny_encoder(), tokenizer=tokenizer_json())
        encoder_folder.save(model, folder / "encoder")
        data = texts(folder / "x.jsonl", pairs)
        bundle = folder / "x.attar"
        return [
            *("export", folder / "encoder", bundle, "--data", data, "--softmax"),
        ]

    return make


def of_bundle(command: str, *options: object) -> Make:
    return lambda folder: [command, tiny_bundle(folder / "tiny.attar"), *options]


def verifying(lines: int) -> Make:
    def make(folder: Path) -> list[object]:
        (folder / "items.txt").write_text("the cat\n" * lines)
        return ["verify", tiny_bundle(folder / "tiny.attar"), "--items", folder / "items.txt"]

    return make


def verifying_arrays(rows: int) -> Make:
    def make(folder: Path) -> list[object]:
        np.save(folder / "items.npy", np.zeros((rows, 1, 8, 8), np.float32))
        bundle = tiny_tensor_bundle(folder / "pixels.attar")
        return ["verify", bundle, "--items", folder / "items.npy"]

    return make


def importing(lines: int) -> Make:
    def make(folder: Path) -> list[object]:
        (folder / "lines.txt").write_text("the cat\n" * lines)
        return [
            *("import", bert_folder(folder / "bert"), folder / "x.attar"),
            *("--calibration", folder / "lines.txt", "--variant", "int8"),
        ]

    return make


def benching(*options: object) -> Make:
    return lambda folder: [
        *("bench", tiny_bundle(folder / "tiny.attar"), "--out", folder / "x.json"),
        *("--threads", 1, "--batch", 1, "--seconds", 0.01, *options),
    ]


CASES: Final = (
    Case(what="images of one class", make=of_labels([0, 0, 0, 0])),
    Case(what="one image each of two classes", make=of_labels([0, 1])),
    Case(
        what="two images of one class, of which one is held out",
        make=of_labels([0, 0]),
        needs=("a batch has 1 item", "it needs 2 or more", "give more items"),
    ),
    Case(what="labels augmented of one class", make=of_labels([0] * 4, "image/label_augmentation")),
    Case(
        what="fine-tuning where no class has two",
        make=of_labels([0, 1], "image/simclr_v2"),
        needs=("no class has two images", "give more images, or a test part"),
    ),
    Case(
        what="fine-tuning without labels",
        make=of_sides("image/ssld", 8, 8),
        needs=("fine-tuning needs the labels",),
    ),
    Case(what="images of one pixel", make=of_sides("image/simclr", 1, 1)),
    Case(what="images of an odd side", make=of_sides("image/vicreg", 7, 7, 3)),
    Case(
        what="images that are not square",
        make=of_sides("image/byol", 5, 7),
        needs=("square images; got 5 x 7 pixels", "side=5", "--read"),
    ),
    Case(
        what="images of two groups that are not square",
        make=pretraining(
            "image/infinite_schedule", lambda folder: image_groups(folder / "x", 4, 7, 5)
        ),
        needs=("square images; got 7 x 5 pixels",),
    ),
    Case(
        what="images smaller than patches",
        make=of_sides("image/sit", 3, 3),
        needs=("sixteen patches", "side must be 4 or more; got 3"),
    ),
    Case(
        what="a side that is no multiple of a patch",
        make=of_sides("image/sit", 17, 17),
        needs=("side must be a multiple of patch",),
    ),
    Case(what="fewer images than clusters", make=of_sides("image/g_simclr", 8, 8)),
    Case(
        what="more clusters, of which a batch has one each, than images",
        make=with_setting("batch_size=7", "image/g_simclr"),
        needs=("batch_size, the number of clusters, must be in [1, images = 6]; got 7",),
    ),
    Case(
        what="batches of one row",
        make=with_setting("batch_size=1", "table/t_jepa"),
    ),
    Case(
        what="batches of one",
        make=with_setting("batch_size=1"),
        needs=("a batch has 1 item", "it needs 2 or more", "a larger batch_size"),
    ),
    Case(
        what="batches of one star",
        make=with_setting("batch_size=1", "multimodal/astro_m3"),
        needs=("a batch has 1 item", "it needs 2 or more"),
    ),
    Case(
        what="batches of none",
        make=with_setting("batch_size=0"),
        needs=("batch_size must be in [1, items]; got 0 of 6 items",),
    ),
    Case(
        what="batches larger than the data",
        make=with_setting("batch_size=7"),
        needs=("batch_size must be in [1, items]; got 7 of 6 items",),
    ),
    Case(
        what="no steps, as a setting",
        make=with_setting("steps=0"),
        needs=("steps must be at least 1",),
    ),
    Case(what="one step, as a setting", make=with_setting("steps=1")),
    Case(
        what="steps below none, as a setting",
        make=with_setting("steps=-1"),
        needs=("steps takes an integer of 0 or more; got '-1'",),
    ),
    Case(
        what="a seed below none, as a setting",
        make=with_setting("seed=-1"),
        needs=("seed takes an integer of 0 or more; got '-1'",),
    ),
    Case(
        what="a rate that climbs the loss",
        make=with_setting("rate=-1"),
        needs=("rate takes a number of 0 or more; got '-1'",),
    ),
    Case(
        what="a decay that is no number",
        make=with_setting("weight_decay=nan"),
        needs=("weight_decay takes a number of 0 or more; got 'nan'",),
    ),
    Case(
        what="a temperature without end",
        make=with_setting("temperature=inf"),
        needs=("temperature takes a number of 0 or more; got 'inf'",),
    ),
    Case(what="embeddings of one number", make=with_setting("dim=1")),
    Case(
        what="embeddings of no number",
        make=with_setting("dim=0"),
        needs=("dim must be at least 1",),
    ),
    Case(
        what="a projector of no width",
        make=with_setting("hidden=0"),
        needs=("width must be at least 1; got (64, 0, ",),
    ),
    Case(
        what="a projector of no layer",
        make=with_setting("projector_depth=0"),
        needs=("depth must be at least 1; got a projector of depth 0",),
    ),
    Case(
        what="a gradient clipped to nothing",
        make=with_setting("clip=0"),
        needs=("clip must be above 0; got 0",),
    ),
    Case(
        what="a queue of no keys",
        make=with_setting("queue=0", "image/moco"),
        needs=("queue must be at least 1; got 0",),
    ),
    Case(
        what="no prototypes",
        make=with_setting("prototypes=0", "image/swav"),
        needs=("prototypes must be at least 1; got 0",),
    ),
    Case(
        what="no codes",
        make=with_setting("size=0", "series/eegformer"),
        needs=("size must be at least 1; got 0",),
    ),
    Case(
        what="no outputs of a head",
        make=with_setting("outputs=0", "image/random_teacher"),
        needs=("outputs must be at least 1",),
    ),
    Case(
        what="a scale of nothing",
        make=with_setting("scale=0", "multimodal/astro_m3"),
        needs=("scale must be above 0; got 0.0",),
    ),
    Case(
        what="a width that only the heads after it divide",
        make=pretraining(
            "table/t_jepa",
            lambda folder: table(folder / "x.csv", 4, 3),
            *("--set", "transformer.width=10", "--set", "transformer.heads=5"),
            *("--set", "predictor.width=6", "--set", "predictor.heads=3"),
        ),
    ),
    Case(
        what="a width that heads do not divide",
        make=with_setting("transformer.width=10", "table/t_jepa"),
        needs=("width must be a multiple of heads",),
    ),
    Case(
        what="series shorter than a token",
        make=pretraining("series/eegformer", lambda f: series(f / "x.npz", 3, 2, 31)),
        needs=("a series needs 32 samples or more", "got 31", "a smaller hop"),
    ),
    Case(
        what="series of a token",
        make=pretraining("series/eegformer", lambda f: series(f / "x.npz", 3, 1, 32)),
    ),
    Case(
        what="recordings of one sample",
        make=pretraining("audio/tera", lambda f: sounds(f / "x", 2, 1)),
    ),
    Case(
        what="a table of one column",
        make=pretraining("table/t_jepa", lambda f: table(f / "x.csv", 4, 1)),
        needs=("at least 2 features",),
    ),
    Case(
        what="a table of a header",
        make=written("table/t_jepa", "x.csv", "a,b\n"),
        needs=("x.csv",),
    ),
    Case(what="a table of one row", make=written("table/t_jepa", "x.csv", "a,b\n1,2\n")),
    Case(what="an empty table", make=written("table/t_jepa", "x.csv", ""), needs=("x.csv",)),
    Case(what="one atom", make=written("molecule/molformer", "x.csv", "smiles\nC\n")),
    Case(
        what="no molecule",
        make=written("molecule/molformer", "x.csv", "smiles\n"),
        needs=("x.csv",),
    ),
    Case(
        what="an empty file of texts",
        make=written("text/simclr", "x.jsonl", ""),
        needs=("x.jsonl",),
    ),
    Case(what="an empty folder for images", make=empty_folder("image/simclr"), needs=("empty",)),
    Case(what="an empty folder for texts", make=empty_folder("text/simclr"), needs=("empty",)),
    Case(what="an empty folder for recordings", make=empty_folder("audio/tera"), needs=("empty",)),
    Case(
        what="two pairs of texts",
        make=pretraining("text/simclr", lambda f: texts(f / "x.jsonl", 2)),
        needs=("has 2 of the 3 pairs of texts that are needed, one of which is held out",),
    ),
    Case(
        what="distilling on two pairs",
        make=distilling(2),
        needs=("has 2 of the 4 pairs of texts that are needed",),
    ),
    Case(
        what="distilling on three pairs",
        make=distilling(3),
        needs=("has 3 of the 4 pairs of texts that are needed, two of which are held out",),
    ),
    Case(what="distilling on four pairs", make=distilling(4)),
    Case(what="distilling a teacher of one layer", make=distilling(5, layers=1)),
    Case(what="distilling a teacher of three layers", make=distilling(5, layers=3)),
    Case(
        what="exporting with one pair",
        make=exporting(1),
        needs=("has 1 of the 2 pairs of texts that are needed",),
    ),
    Case(
        what="calibrating on one line",
        make=importing(1),
        needs=("lines.txt has 1 line",),
    ),
    Case(what="embedding one text", make=of_bundle("embed", "cat")),
    Case(what="embedding an empty text", make=of_bundle("embed", "")),
    Case(what="embedding no text", make=of_bundle("embed"), needs=("Missing argument",)),
    Case(
        what="verifying on one text",
        make=verifying(1),
        needs=("two items or more are compared; got 1",),
    ),
    Case(what="verifying on two texts", make=verifying(2)),
    Case(
        what="verifying on no array",
        make=verifying_arrays(0),
        needs=("two items or more are compared; got 0",),
    ),
    Case(
        what="verifying on one array",
        make=verifying_arrays(1),
        needs=("two items or more are compared; got 1",),
    ),
    Case(
        what="timing a batch of none",
        make=benching("--batch", 0),
        needs=("batches must be 1 or more",),
    ),
    Case(
        what="timing items of no token",
        make=benching("--length", 0),
        needs=("must be from 1 to 16; got [0]",),
    ),
    Case(
        what="timing for no time",
        make=benching("--seconds", 0),
        needs=("seconds must be above 0",),
    ),
)
