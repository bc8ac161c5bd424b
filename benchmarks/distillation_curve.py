"""Quality against minutes: the demo's distillation, run to its end at several lengths.

    python -m benchmarks.distillation_curve --steps 45 90 180 --out build/curve.json

Each length is a run of its own, because the learning rate falls to zero at its end; those that the
file has already are kept, so that an hour's run need not be made twice. Data, teacher, student and
judge are the demo's. CPU minutes are the process's own, divided by its threads, so
that a busy machine does not stretch them.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

import attar
from attar.cli import demo
from attar.export.importing import import_folder
from attar.host import describe
from attar.training.checkpoints.encoder_folder import token_transformer
from attar.training.huggingface import loading
from attar.training.loop import fit
from attar.training.precision import best_precision
from attar.training.recipes.text import distil
from attar.training.resizing import resized
from attar.training.student_init import start_student


def main() -> None:
    """Run every length and write the curve after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[45, 90, 180, 360])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    scale = demo.Scale()
    corpus = demo.read_corpus(scale, seed=0)
    teacher = token_transformer(loading.read(demo.teacher_folder()))
    data, exam = corpus.data(teacher.tokenizer, documents=scale.validation_documents)
    with tempfile.TemporaryDirectory() as folder:
        bundle = import_folder(demo.teacher_folder(), Path(folder) / "teacher.attar").bundle
        lessons, row = demo.teach(attar.load(bundle.path), data, exam, corpus)
    curve = json.loads(arguments.out.read_text())["curve"] if arguments.out.exists() else []
    for steps in arguments.steps:
        if any(point["steps"] == steps for point in curve):
            continue
        student = start_student(teacher, data)
        settings = resized(distil.Settings(contrast=0.0), steps=steps, seed=0)
        wall, cpu = time.perf_counter(), time.process_time()
        fit(distil.build(data, lessons, student, settings), precision=best_precision())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        point = {
            "steps": steps,
            "wall_minutes": round(wall / 60, 2),
            "cpu_minutes_per_thread": round(cpu / 60 / torch.get_num_threads(), 2),
            **demo.examine(student, exam),
        }
        curve.append(point)
        print(json.dumps(point))
        report = {
            "teacher": row,
            "curve": curve,
            "threads": torch.get_num_threads(),
            "precision": best_precision(),
            "machine": describe(),
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
