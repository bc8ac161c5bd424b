"""A student of layers: some of its teacher's, or another encoder, and what it is trained at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.errors import InvalidInput

from ..adaptation.general_text import general_texts
from ..checkpoints import encoder_folder
from ..checkpoints.encoder_folder import TextModel, token_transformer
from ..data.pairs import Split
from ..data.text import tokenize
from ..encoders.text import TextEncoder, TextNetwork
from ..recipes.text import distil
from ..resizing import quick
from ..run_data import report_cut
from ..student_init import chosen_layers, start_student
from ..text_data import validated
from .layer_run import MIN_COSINE, LayerRun
from .plan import DistillationPlan, sized
from .wide_start import LINEAR_EPOCHS, widened

LENGTH = 128  # tokens of a text by default: so long were those that all-MiniLM was trained on
SHORTEST = 3  # tokens: the two special ones and one of a text
PROBES = 3  # while training, besides the first and the last


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """The arguments of `distill` that are of a student of layers alone; None and () are unset."""

    init: Path | None
    layers: int | Sequence[int] | None
    length: int | None
    widths: Sequence[int]
    general: Path | None
    min_cosine: float | None

    def __post_init__(self) -> None:
        if self.init is not None and self.layers is not None:
            raise InvalidInput(
                f"--layers are copied from the teacher, and --init {self.init} has its own layers; "
                "leave one of the two out"
            )

    def refuse(self) -> None:
        """Raise InvalidInput where one is given; a static student starts from tokens."""
        for name in self.__slots__:
            if getattr(self, name) not in (None, ()):
                raise InvalidInput(
                    "a static student starts from its teacher's tokens; leave "
                    f"--{name.replace('_', '-')} out"
                )


def plan_layer_student(
    teacher: TextModel[TextNetwork],
    folder: Path,
    parts: Split,
    options: LayerOptions,
    *,
    out: Path,
    steps: int | None,
    seed: int,
) -> DistillationPlan:
    """Plan the distillation into some of the teacher's layers, or into another encoder."""
    start = _start(options.init, teacher, folder)
    layers = None
    if options.init is None:
        layers = chosen_layers(options.layers, depth=start.encoder.shape.transformer.depth)
    max_length = _length(teacher, start, options.length)
    widths = _widths(teacher, options.widths)
    source, sentences = general_texts(options.general)
    texts, test = validated(parts, teacher.tokenizer, max_length=max_length)
    report_cut(texts, max_length=max_length, option="--length")
    full_settings, settings = sized(
        distil.Settings(widths=widths), len(texts.pairs.first), steps=steps, seed=seed
    )
    student = start.encoder
    if layers is not None:
        student = widened(start_student(start, texts, layers=layers, max_length=max_length))
    run = LayerRun(
        teacher=teacher.encoder,
        student=student,
        texts=quick(texts),
        test=test,
        general=(source, tokenize(sentences, teacher.tokenizer, max_length=max_length)),
        settings=settings,
        min_cosine=MIN_COSINE if options.min_cosine is None else options.min_cosine,
        out=out,
        copied=layers is not None,
    )
    return DistillationPlan(
        "distil",
        distil.SOURCES,
        full_settings,
        run.training,
        teacher.prompts,
        dims=widths[:-1],
        facts={
            "layers": layers,
            "length": max_length,
            "linear_epochs": None if layers is None else LINEAR_EPOCHS,
        },
        probe_every=max(1, settings.steps // (PROBES + 1)),
        finish=run.finish,
    )


def _length(
    teacher: TextModel[TextNetwork], start: TextModel[TextEncoder], length: int | None
) -> int:
    """Give the tokens at which texts are cut; raises InvalidInput for more than both read."""
    most = min(teacher.encoder.max_length, start.encoder.max_length)
    if length is None:
        return min(most, LENGTH)
    if not SHORTEST <= length <= most:
        raise InvalidInput(
            f"length must be from {SHORTEST} to {most}, the tokens that teacher and student read; "
            f"got {length}"
        )
    return length


def _widths(teacher: TextModel[TextNetwork], widths: Sequence[int]) -> tuple[int, ...]:
    """Give the widths to train at, rising to the whole; raises InvalidInput for wider ones."""
    dim = teacher.encoder.dim
    if not all(1 <= width <= dim for width in widths):
        raise InvalidInput(
            f"widths must be from 1 to {dim}, the width of the teacher's embedding; got "
            f"{','.join(map(str, widths))}"
        )
    return tuple(sorted({*(widths or teacher.dims), dim}))


def _start(
    init: Path | None, teacher: TextModel[TextNetwork], folder: Path
) -> TextModel[TextEncoder]:
    """Give the encoder that a student of layers starts from: the teacher, or that in `init`."""
    start = token_transformer(teacher) if init is None else encoder_folder.load_text(init)
    if start.tokenizer != teacher.tokenizer:
        raise InvalidInput(
            f"{init} has another tokenizer than the teacher; pretrain with --tokenizer "
            f"{_tokenizer_of(folder, teacher)}"
        )
    return start


def _tokenizer_of(folder: Path, teacher: TextModel[TextNetwork]) -> str:
    """Say which file is the tokenizer of a teacher; not every folder has one as it is used."""
    path = folder / "tokenizer.json"
    if path.is_file() and path.read_bytes() == teacher.tokenizer:
        return str(path)
    return f"the tokenizer.json of the bundle that `attar import {folder}` writes"
