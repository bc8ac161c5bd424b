"""Teach a small text encoder a large one's embeddings, and write it as a bundle for devices.

    python examples/distill_a_teacher.py TEACHER OUT [TEXTS]

TEACHER is a sentence-transformers folder, OUT a folder to make, and TEXTS a .txt file with a text a
line; without it the documentation that is installed with attar is used.
"""

import sys
from pathlib import Path

import attar
from attar.export import export
from attar.training import distill


def main(
    teacher: str,
    out: str,
    texts: str = "docstrings",
    steps: int | None = None,
    min_cosine: float | None = None,
) -> None:
    """Distil, export, and compare two texts on the device's runtime.

    A student of few steps is far from its teacher, and saved only with a smaller `min_cosine`.
    """
    run = Path(out) / "student"
    student = distill(teacher, run, data=texts, steps=steps, min_cosine=min_cosine)
    bundle = export(student, Path(out) / "student.attar", data=texts).bundle

    encoder = attar.load(bundle.path)
    vectors = encoder.embed(["how to read a file", "open a file and read it"]).vectors
    print(f"{encoder.dim} dimensions, cosine {float(vectors[0] @ vectors[1]):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
