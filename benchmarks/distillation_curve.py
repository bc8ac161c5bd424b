"""Quality against minutes: a distillation of docstrings, run to its end at several lengths.

    python -m benchmarks.distillation_curve --steps 45 90 180 --out build/curve.json

Each length is a run of its own, because the learning rate falls to zero at its end; those that the
file has already are kept, so that an hour's run need not be made twice. The teacher is
all-MiniLM-L6-v2, texts are cut at 64 tokens, and held-out summaries must find their bodies. CPU
minutes are the process's own, divided by its threads, so that a busy machine does not stretch them.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from attar.cli.demo.teacher import teacher_folder
from attar.host import describe
from attar.training.checkpoints.encoder_folder import token_transformer
from attar.training.data.pairs import split
from attar.training.datasets import docstrings
from attar.training.encoders.text import parameter_count
from attar.training.huggingface import loading
from attar.training.loop import fit
from attar.training.precision import best_precision
from attar.training.recipes.text import distil
from attar.training.resizing import resized
from attar.training.student_init import start_student
from attar.training.text_data import text_data

PER_PACKAGE, HELD_OUT, VALIDATION = 1200, 800, 200
PROBED = 600  # documents while training


def main() -> None:
    """Run every length and write the curve after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[45, 90, 180, 360])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    parts = split(docstrings.read(per_package=PER_PACKAGE), held_out=HELD_OUT)
    inner = split(parts.train, held_out=VALIDATION, seed=1)
    teacher = token_transformer(loading.read(teacher_folder()))
    task, data = (text_data(each, teacher.tokenizer) for each in (parts, inner))
    exam, probe = task.probe, data.probe
    data = replace(data, probe=replace(probe, documents=probe.documents[:PROBED]))
    goals, row = distil.targets(teacher.encoder, data), exam(teacher.encoder)
    curve = json.loads(arguments.out.read_text())["curve"] if arguments.out.exists() else []
    for steps in arguments.steps:
        if any(point["steps"] == steps for point in curve):
            continue
        student = start_student(teacher, data)
        settings = resized(distil.Settings(contrast=0.0), steps=steps, seed=0)
        wall, cpu = time.perf_counter(), time.process_time()
        fit(distil.build(data, goals, student, settings), precision=best_precision())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        point = {
            "steps": steps,
            "wall_minutes": round(wall / 60, 2),
            "cpu_minutes_per_thread": round(cpu / 60 / torch.get_num_threads(), 2),
            **exam(student),
            "parameters": parameter_count(student),
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
