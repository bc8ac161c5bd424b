"""The choices that a caller makes by name: types without torch, for the command line too."""

from typing import Literal, TypeAlias

Pooling: TypeAlias = Literal["mean", "cls", "last", "max", "weightedmean", "mean_sqrt_len_tokens"]
"""How the states of a text's tokens become one vector."""

Route: TypeAlias = Literal["query", "document"]
"""A side of sentence-transformers' Router, which embeds queries and documents by two networks."""

Side: TypeAlias = Literal["vision", "text"]
"""An encoder of a folder that holds two, as CLIP's does."""

Student: TypeAlias = Literal["layers", "static"]
"""What a teacher is distilled into: some of its layers, or a table of its tokens."""

Strategy: TypeAlias = Literal["ddp", "fsdp"]
"""How several processes keep parameters: whole in each (ddp), or in parts (fsdp)."""
