"""Attacks by the names of heads: those of a bundle are called MODEL/HEAD."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attar.v1 import anomaly_pb2 as ano
from attar.v1 import classification_pb2 as cla
from attar.v1 import item_pb2 as itm

from .counted import BYTES, Probe, refusals
from .ground import Attack, Outcome


def names_of_heads(folder: Path) -> Outcome:
    """Name heads that are nowhere, by names of megabytes, of slashes, and that climb."""
    return refusals(folder, _names())


def _names() -> Iterator[Probe]:
    texts = itm.Texts(values=["the cat"])
    long = "a" * (BYTES // 2)
    for name, message in {
        f"tiny/{long}": "has no",
        f"{long}/{long}": "no model",
        long: "no ",
        "/": "has no",
        "//": "has no",
        "tiny/": "has no",
        "tiny/../tiny/x": "has no",
        "tiny/heads/x.npz": "has no",
        "../heads/x": "no model",
        "": "no ",
    }.items():
        what = name[:20]
        score = ano.ScoreRequest(name=name, texts=texts).SerializeToString()
        yield Probe(f"score {what}", "attar.v1.Anomaly/Score", score, message)
        predict = cla.PredictRequest(name=name, texts=texts).SerializeToString()
        yield Probe(f"predict {what}", "attar.v1.Classification/Predict", predict, message)
        delete = cla.DeleteClassifierRequest(name=name).SerializeToString()
        yield Probe(f"delete {what}", "attar.v1.Classification/Delete", delete, message)


ATTACKS: Final = (Attack("names of heads of megabytes, and that climb", names_of_heads),)
