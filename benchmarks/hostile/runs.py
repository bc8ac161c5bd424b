"""Runs into a folder that holds one: what comes second, and what must become of it.

The one list; tests/hostile/test_runs.py holds `attar pretrain` and `attar distill` to it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.run import CHECKPOINT
from attar.training.huggingface import loading

from ..support.bundles import tiny_bundle, tokenizer_json
from ..support.teachers import bert_folder
from .commands import pairs

Outcome = Literal["refused", "anew", "continued", "complete"]
"""What becomes of the second run.

Refused: status 2, the words, and every file of the folder as it was. Anew: another run's weights,
and a lineage of one stretch. Continued: its lineage has two. Complete: no step is made, and weights
and lineage are those of the first.
"""
Arguments = tuple[object, ...]

RUN: Final = "run"
STEPS: Final = 4
SMALL: Final = (
    *("--set", "transformer.width=8", "--set", "transformer.hidden=8", "--set", "batch_size=8"),
    *("--set", "predictor.width=8", "--set", "predictor.hidden=8", "--set", "transformer.depth=1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A second run: options after those of the first, or another command, and what it comes to."""

    what: str
    outcome: Outcome
    first: str = "pretrain"
    refusal: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # with {ground} for the folder of the data
    change: Callable[[Path], object] = lambda _: None  # what befalls the run's folder before

    def __str__(self) -> str:
        return f"{self.what} is {self.outcome}"


def ground(folder: Path) -> Path:
    """Write the data, teachers and starts that runs have."""
    draw = np.random.default_rng(0)
    rows = [f"{i % 2},{a:.6f},{b:.6f}" for i, (a, b) in enumerate(draw.random((24, 2)))]
    table = "label,a,b\n" + "\n".join(rows) + "\n"
    (folder / "first.csv").write_text(table)
    (folder / "moved").mkdir()
    (folder / "moved" / "same.csv").write_text(table)
    (folder / "second.csv").write_text(table.replace("0.", "9."))
    digit = "1" if table[-2] != "1" else "2"
    (folder / "touched.csv").write_text(table[:-2] + digit + "\n")
    images = draw.integers(0, 255, (6, 8, 8), dtype=np.uint8)
    for group in ("related", "target"):
        (folder / "domains" / group).mkdir(parents=True)
        np.savez(folder / "domains" / group / "train.npz", x=images)
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    (folder / "spaced.json").write_bytes(tokenizer_json() + b" ")
    (folder / "within").mkdir()
    (folder / "within" / "train.csv").write_text(table)
    pairs(folder)
    (folder / "other.jsonl").write_text(
        (folder / "pairs.jsonl").read_text().replace("the cat 3", "a cat 3")
    )
    for name in ("teacher", "pooled"):
        bert_folder(folder / name)
    pooling = folder / "pooled" / "1_Pooling" / "config.json"  # the same weights, pooled otherwise
    pooling.write_text('{"pooling_mode_cls_token": true}')
    model = encoder_folder.token_transformer(loading.read(folder / "teacher"))
    encoder_folder.save(model, folder / "init")
    first = next(model.encoder.parameters())
    first.data += 0.1
    encoder_folder.save(model, folder / "other-init")
    return folder


def pretraining(data: Path, out: Path) -> Arguments:
    return (
        *("pretrain", "table/t_jepa", "--data", data / "first.csv", "--out", out),
        *("--steps", STEPS, *SMALL),
    )


def distilling(data: Path, out: Path) -> Arguments:
    return (
        *("distill", data / "teacher", "--data", data / "pairs.jsonl", "--init", data / "init"),
        *("--steps", STEPS, "--out", out),
    )


def staging(data: Path, out: Path) -> Arguments:
    """Pretrain by a recipe of three runs."""
    return (
        *("pretrain", "image/further_pretraining", "--data", data / "domains", "--out", out),
        *("--steps", STEPS, "--set", "encoder=tiny", "--set", "hidden=8"),
    )


def writing(data: Path, out: Path) -> Arguments:
    """Pretrain on texts, with a tokenizer."""
    shape = ("transformer.heads=2", "transformer.width=8", "transformer.hidden=8", "rank=4")
    return (
        *("pretrain", "text/simclr", "--data", data / "pairs.jsonl", "--out", out),
        *("--tokenizer", data / "tokenizer.json", "--steps", STEPS),
        *(f"--set=shape.{setting}" for setting in shape),
    )


def within(data: Path, out: Path) -> Arguments:
    """Pretrain into a folder inside that of the data."""
    return (
        *("pretrain", "table/t_jepa", "--data", data / "within", "--out", out),
        *("--steps", STEPS, *SMALL),
    )


FIRST: Final = {
    "pretrain": pretraining,
    "distill": distilling,
    "stages": staging,
    "texts": writing,
    "within": within,
}
"""The first runs; the second is the same command with a row's options after it."""


# What befalls the first run's folder.


def without(*names: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        for name in names:
            (run / name).unlink()

    return change


def cut_checkpoint(run: Path) -> None:
    path = run / CHECKPOINT
    path.write_bytes(path.read_bytes()[:100])


def killed_while_saving(run: Path) -> None:
    """Leave another run's weights under the encoder.json of this one."""
    other = run.parent / "other"
    encoder_folder.save(encoder_folder.TensorModel(encoder=encoder_folder.load(run).encoder), other)  # type: ignore[arg-type]
    weights = bytearray((other / encoder_folder.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (run / encoder_folder.WEIGHTS).write_bytes(weights)


def as_a_bundle(run: Path) -> None:
    tiny_bundle(run.parent / "tiny.attar").rename(run.parent / "bundle")
    for path in list(run.iterdir()):
        path.unlink()
    run.rmdir()
    (run.parent / "bundle").rename(run)


def beside_a_config(run: Path) -> None:
    (run / "config.json").write_text('{"model_type": "bert"}')


def as_a_file(run: Path) -> None:
    for path in list(run.iterdir()):
        path.unlink()
    run.rmdir()
    run.write_text("mine")


def of_no_run(run: Path) -> None:
    without(CHECKPOINT)(run)
    encoder_folder.save(encoder_folder.TensorModel(encoder=encoder_folder.load(run).encoder), run)  # type: ignore[arg-type]


def interrupted(run: Path) -> None:
    """Leave what a run has before its encoder is written."""
    without(encoder_folder.ABOUT, encoder_folder.WEIGHTS)(run)


def of_an_older_version(run: Path) -> None:
    """Leave an encoder.json from before encoders had lineages of settings, and no checkpoint."""
    without(CHECKPOINT)(run)
    about = json.loads((run / encoder_folder.ABOUT).read_text())
    about["lineage"] = {"recipe": "table/t_jepa", "data": "first.csv", "steps": STEPS}
    del about["sha256"]
    (run / encoder_folder.ABOUT).write_text(json.dumps(about))


RESTART: Final = "start again with restart=True (--restart), or in another folder"

CASES: Final = (
    Case(what="the same run", outcome="complete"),
    Case(
        what="the same data elsewhere",
        outcome="complete",
        options=("--data", "{ground}/moved/same.csv"),
    ),
    Case(what="a setting at its default", outcome="complete", options=("--set", "rate=2e-4")),
    Case(what="the same steps, as a setting", outcome="complete", options=("--set", "steps=4")),
    Case(what="threads that get batches ready", outcome="complete", options=("--workers", "1")),
    Case(what="a run whose encoder was not yet saved", outcome="complete", change=interrupted),
    Case(what="a run killed while it saved", outcome="complete", change=killed_while_saving),
    Case(what="more steps", outcome="continued", options=("--steps", "6")),
    Case(what="more steps, as a setting", outcome="continued", options=("--set", "steps=6")),
    Case(
        what="fewer steps",
        outcome="refused",
        refusal=("has made 4 steps, more than the 2 of this run; give it 4 or more", RESTART),
        options=("--steps", "2"),
    ),
    Case(
        what="fewer steps, as a setting",
        outcome="refused",
        refusal=("has made 4 steps, more than the 1",),
        options=("--set", "steps=1"),
    ),
    Case(
        what="other data",
        outcome="refused",
        refusal=("data was first.csv (sha256 ", " and is second.csv (sha256 ", RESTART),
        options=("--data", "{ground}/second.csv"),
    ),
    Case(
        what="data of which one digit differs",
        outcome="refused",
        refusal=("data was first.csv", "and is touched.csv"),
        options=("--data", "{ground}/touched.csv"),
    ),
    Case(
        what="data that is shipped",
        outcome="refused",
        refusal=("data was first.csv", 'and is "wine"'),
        options=("--data", "wine"),
    ),
    Case(
        what="other columns of the data",
        outcome="refused",
        refusal=('read.columns was not said and is ["a"]',),
        options=("--read", "columns=a"),
    ),
    Case(
        what="rows held out of the data",
        outcome="refused",
        refusal=("read.test_last was not said and is 3",),
        options=("--read", "test_last=3"),
    ),
    Case(
        what="another setting",
        outcome="refused",
        refusal=("settings.rate was 0.0002 and is 0.9", RESTART),
        options=("--set", "rate=0.9"),
    ),
    Case(
        what="another warm-up, which so short a run cuts",
        outcome="refused",
        refusal=("settings.warmup was 20 and is 1",),
        options=("--set", "warmup=1"),
    ),
    Case(
        what="another network",
        outcome="refused",
        refusal=("settings.transformer.width was 8 and is 16",),
        options=("--set", "transformer.width=16"),
    ),
    Case(
        what="data, setting and network at once",
        outcome="refused",
        refusal=("data was", "sets was 4 and is 2", "transformer.hidden was 8 and is 4"),
        options=("--data", "wine", "--set", "sets=2", "--set", "transformer.hidden=4"),
    ),
    Case(
        what="another seed",
        outcome="refused",
        refusal=("seed was 0 and is 1", RESTART),
        options=("--seed", "1"),
    ),
    Case(
        what="other data after the encoder was removed",
        outcome="refused",
        refusal=("checkpoint.safetensors is of another run", "data was first.csv"),
        options=("--data", "{ground}/second.csv"),
        change=interrupted,
    ),
    Case(
        what="other data after the checkpoint was removed",
        outcome="refused",
        refusal=("encoder.json is of another run", "data was first.csv"),
        options=("--data", "{ground}/second.csv"),
        change=without(CHECKPOINT),
    ),
    Case(
        what="a checkpoint that was cut",
        outcome="refused",
        refusal=("is not a checkpoint of attar", RESTART),
        change=cut_checkpoint,
    ),
    Case(
        what="a log of something else",
        outcome="refused",
        refusal=("metrics.jsonl is no log of attar's", RESTART),
        change=lambda run: (run / "metrics.jsonl").write_text('{"a": 1}\n[2]\n'),
    ),
    Case(
        what="an encoder that is of no run",
        outcome="refused",
        refusal=("holds an encoder that is of no run", RESTART),
        change=of_no_run,
    ),
    Case(
        what="an encoder of a version that kept no settings",
        outcome="refused",
        refusal=("encoder.json is of another run", 'data was "first.csv" and is first.csv (sha256'),
        change=of_an_older_version,
    ),
    Case(
        what="a bundle's folder",
        outcome="refused",
        refusal=("holds a bundle (manifest.json); give another folder",),
        options=("--restart",),
        change=as_a_bundle,
    ),
    Case(
        what="a folder of Hugging Face's",
        outcome="refused",
        refusal=("holds a model of Hugging Face's libraries (config.json)",),
        options=("--restart",),
        change=beside_a_config,
    ),
    Case(
        what="a file",
        outcome="refused",
        refusal=("is a file; give a folder",),
        options=("--restart",),
        change=as_a_file,
    ),
    Case(
        what="other data with --restart",
        outcome="anew",
        options=("--data", "{ground}/second.csv", "--restart"),
    ),
    Case(
        what="another setting with --restart",
        outcome="anew",
        options=("--set", "rate=0.9", "--restart"),
    ),
    Case(what="another seed with --restart", outcome="anew", options=("--seed", "1", "--restart")),
    Case(what="fewer steps with --restart", outcome="anew", options=("--steps", "2", "--restart")),
    Case(
        what="a cut checkpoint with --restart",
        outcome="anew",
        options=("--restart", "--seed", "3"),
        change=cut_checkpoint,
    ),
    Case(what="the same distillation", outcome="complete", first="distill"),
    Case(
        what="more steps of distillation",
        outcome="continued",
        first="distill",
        options=("--steps", "6"),
    ),
    Case(
        what="fewer steps of distillation",
        outcome="refused",
        first="distill",
        refusal=("has made 4 steps, more than the 2",),
        options=("--steps", "2"),
    ),
    Case(
        what="other texts",
        outcome="refused",
        first="distill",
        refusal=("data was pairs.jsonl (sha256 ", " and is other.jsonl (sha256 "),
        options=("--data", "{ground}/other.jsonl"),
    ),
    Case(
        what="another start",
        outcome="refused",
        first="distill",
        refusal=("init was init (sha256 ", " and is other-init (sha256 "),
        options=("--init", "{ground}/other-init"),
    ),
    Case(
        what="other texts and --restart",
        outcome="anew",
        first="distill",
        options=("--data", "{ground}/other.jsonl", "--restart"),
    ),
    Case(what="the same runs of a recipe", outcome="complete", first="stages"),
    Case(
        what="more steps of a recipe of several runs",
        outcome="refused",
        first="stages",
        refusal=("settings.steps was 4 and is 6",),
        options=("--steps", "6"),
    ),
    Case(what="the same texts", outcome="complete", first="texts"),
    Case(
        what="another tokenizer",
        outcome="refused",
        first="texts",
        refusal=("tokenizer was (sha256 ", " and is (sha256 "),
        options=("--tokenizer", "{ground}/spaced.json"),
    ),
    Case(
        what="texts and a setting of the shape",
        outcome="refused",
        first="texts",
        refusal=("settings.shape.max_length was 64 and is 16",),
        options=("--set", "shape.max_length=16"),
    ),
    Case(what="a run inside its data", outcome="complete", first="within"),
    Case(
        what="more steps of a run inside its data",
        outcome="continued",
        first="within",
        options=("--steps", "6"),
    ),
)
