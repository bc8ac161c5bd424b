"""sentence-transformers behind FastAPI: what one writes first."""

import os
import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(os.environ["THREADS"]))
model = SentenceTransformer(os.environ["FOLDER"], device="cpu")
app = FastAPI()


class Texts(BaseModel):
    """What is asked."""

    input: str


@app.post("/embed")  # type: ignore[untyped-decorator]
def embed(request: Texts) -> dict[str, Any]:
    """Embed one text in a thread of FastAPI's."""
    return {"embedding": model.encode(request.input, show_progress_bar=False).tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
