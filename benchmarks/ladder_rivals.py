"""A rival of the ladder in a process of its own: it trains in a folder, or embeds a file of texts.

    python -m benchmarks.ladder_rivals '{"kind": "model2vec", "do": "embed", ...}'

Run by the Python of the rival's environment. It prints the CPU seconds that the work took.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Embed = Callable[[Sequence[str]], Any]
BATCH = 32  # texts, sentence-transformers' own
FASTEMBED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    """Do one job, which is an object of JSON."""
    job = json.loads(sys.argv[1])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    said, sys.stdout = sys.stdout, sys.stderr  # libraries print
    if job["do"] == "train":
        began = time.process_time()
        TRAIN[job["kind"]](job)
        print(json.dumps({"seconds": time.process_time() - began}), file=said)
        return
    embed = EMBED[job["kind"]](Path(job["model"]))
    texts = json.loads(Path(job["texts"]).read_text("utf-8"))
    began = time.process_time()
    vectors = np.asarray(embed(texts), np.float32)
    seconds = time.process_time() - began
    np.save(job["vectors"], vectors)
    print(json.dumps({"seconds": seconds}), file=said)


def distil_model2vec(job: Mapping[str, Any]) -> None:
    """Distil a table of tokens from a teacher, without data."""
    from model2vec.distill import distill

    distill(model_name=job["teacher"], pca_dims=job["dim"]).save_pretrained(job["model"])


def model2vec(folder: Path) -> Embed:
    """Load a table of tokens."""
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(str(folder))
    return lambda texts: model.encode(list(texts))


def word_llama(_: Path) -> Embed:
    """Load the table of tokens that the package brings."""
    import wordllama
    from wordllama import WordLlama

    # It looks for its tokenizer in a folder of another name, unless the package is its cache.
    model = WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return lambda texts: model.embed(list(texts), norm=True)


def train_sentence_transformers(job: Mapping[str, Any]) -> None:
    """Train a folder by MultipleNegativesRankingLoss on pairs, in so many steps."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.training_args import BatchSamplers

    torch.set_num_threads(job["threads"])
    model = SentenceTransformer(job["teacher"], device="cpu")
    pairs = json.loads(Path(job["pairs"]).read_text("utf-8"))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=f"{job['model']}-run",
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch_size"],
        learning_rate=job["rate"],
        warmup_steps=job["warmup"],
        weight_decay=job["weight_decay"],
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        seed=job["seed"],
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({key: [pair[key] for pair in pairs] for key in pairs[0]}),
        loss=MultipleNegativesRankingLoss(model, scale=1 / job["temperature"]),
    )
    trainer.train()
    model.save(job["model"])


def sentence_transformers(folder: Path) -> Embed:
    """Load a folder in torch."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)


def fast_embed(_: Path) -> Embed:
    """Load all-MiniLM-L6-v2 as fastembed has it in FASTEMBED_CACHE_PATH; nothing is fetched."""
    from fastembed import TextEmbedding

    model = TextEmbedding(FASTEMBED_MODEL, threads=1, local_files_only=True)
    return lambda texts: list(model.embed(list(texts), batch_size=BATCH))


TRAIN: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "model2vec": distil_model2vec,
    "sentence_transformers": train_sentence_transformers,
}
EMBED: Mapping[str, Callable[[Path], Embed]] = {
    "model2vec": model2vec,
    "wordllama": word_llama,
    "sentence_transformers": sentence_transformers,
    "fastembed": fast_embed,
}

if __name__ == "__main__":
    main()
