"""A static student: a table of its teacher's tokens, trained by contrast of the pairs."""

from dataclasses import replace
from typing import Any

from ..checkpoints.encoder_folder import TextModel
from ..data.pairs import Split
from ..encoders.text import TextNetwork
from ..loop import Training
from ..recipes.text import static
from ..resizing import quick
from ..run_data import report, report_cut
from ..static_init import static_from_teacher, static_shape
from ..text_data import text_data
from .plan import DistillationPlan, sized

EPOCHS = 15  # chosen on held-out documents, where more changed little


def plan_static_student(
    teacher: TextModel[TextNetwork], parts: Split, *, dim: int, steps: int | None, seed: int
) -> DistillationPlan:
    """Plan the contrast of pairs in a table of the teacher's tokens."""
    shape = static_shape(teacher.tokenizer, dim=dim)
    widths = tuple(width for width in static.Settings().widths if width < dim)
    usual = replace(static.Settings(), widths=widths, shape=shape)
    items = len(parts.train)
    usual = replace(usual, steps=EPOCHS * items // min(usual.batch_size, items))
    texts = quick(text_data(parts, teacher.tokenizer, max_length=shape.max_length))
    report_cut(texts, max_length=shape.max_length)
    full_settings, settings = sized(usual, len(parts.train), steps=steps, seed=seed)

    def compose() -> Training[Any]:
        report("the teacher embeds its tokens")
        read = (*texts.pairs.first, *texts.pairs.second)
        table = static_from_teacher(teacher.encoder, teacher.tokenizer, read, shape=shape)
        return static.contrast(texts, table, settings)

    # Texts have no prompt here in training, and a prompt's rows would be added to every text.
    return DistillationPlan("static", static.SOURCES, full_settings, compose, {}, widths[::-1])
