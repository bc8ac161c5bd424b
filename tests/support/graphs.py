"""Graphs to count: a small encoder of each attention, and its operations at one size."""

from functools import cache

from attar.export.cost.count import Count, count
from attar.export.text import text_graph
from benchmarks.support.encoders import ATTENTIONS, tiny_encoder, tiny_shape

from .session_cache import once

WIDTH, HEADS, DEPTH, HIDDEN, LENGTH, ANCHORS, BITS = 16, 4, 2, 32, 16, 8, 16


@cache
def encoder_graph(attention: str) -> bytes:
    """Export `tiny_encoder` with that attention, once for all tests that read it."""
    shape = tiny_shape(width=WIDTH, depth=DEPTH, heads=HEADS, hidden=HIDDEN, max_length=LENGTH)
    encoder = tiny_encoder(shape, attention=ATTENTIONS[attention])
    return once(f"encoder_graph_{attention}", lambda: text_graph(encoder))


def counted(graph: bytes, *, batch: int = 1, length: int = LENGTH) -> Count:
    """Count a text graph's operations."""
    return count(graph, {"batch": batch, "length": length})
