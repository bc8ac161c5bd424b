"""ScatSimCLR on digits: fixed wavelets, a small adapter, contrast and a puzzle beside it.

Kinakh et al. 2021, arXiv:2108.13939.
"""

from dataclasses import dataclass, replace
from statistics import fmean

from torch import Tensor

from ...data.source import Source
from ...datasets.digits import digits
from ...distributed import step_generator
from ...encoders.mlp import mlp
from ...encoders.text import parameter_count
from ...loop import Training, fit
from ...methods.pretext_task import PretextTask, PretextTaskBatch
from ...recipe import Claim, Figures, Recipe
from ...views.puzzle import quarter_turns
from .common import ImageSettings, image_run, image_view, side_of
from .encoders import EncoderName


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    encoder: EncoderName = "scattering"
    hidden: int = 256  # width inside the projector
    projection: int = 64
    temperature: float = 0.5
    puzzle: float = 0.3  # weight of saying how an image was turned


def build(data: Source, settings: Settings) -> Training[PretextTaskBatch]:
    """Compose the run."""
    distort = image_view(settings.views, side_of(data))

    def views(images: Tensor, step: int) -> PretextTaskBatch:
        draw = step_generator(settings.seed, step)
        first, second = (distort(images, draw).data for _ in range(2))
        turned = quarter_turns(images, draw)
        return PretextTaskBatch(first, second, turned.data, turned.params["label"])

    return image_run(
        data,
        settings,
        lambda encoder: PretextTask(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            dim=settings.dim,
            classes=quarter_turns.answers,
            temperature=settings.temperature,
            weight=settings.puzzle,
        ),
        views,
    )


def trial(data: Source, seed: int) -> dict[str, float]:
    """Pretrain scattering with and without the puzzle, and convolutions that all learn."""
    default = replace(Settings(), seed=seed)
    runs = {
        "scattering": default,
        "without_puzzle": replace(default, puzzle=0.0),
        "convolutions": replace(default, puzzle=0.0, encoder="small"),
    }
    figures: dict[str, float] = {}
    for name, settings in runs.items():
        training = build(data, settings)
        row = fit(training, accelerator="cpu", progress=False).rows[-1]
        figures |= {
            f"{name}/knn": row["knn"],
            f"{name}/scarce": row["scarce"],
            f"{name}/parameters": float(parameter_count(training.method.encoder)),
        }
    return figures


def _holds(figures: Figures) -> bool:
    ours, theirs = (
        (fmean(figures[f"{name}/knn"]), figures[f"{name}/parameters"][0])
        for name in ("scattering", "convolutions")
    )
    return ours[0] >= theirs[0] - 0.01 and ours[1] <= theirs[1] / 4


recipe = Recipe(
    paper="Kinakh et al. 2021, arXiv:2108.13939",
    family="contrast",
    modality="image",
    claim=Claim(
        "with at most a quarter of the parameters that learn, k-NN accuracy on held-out digits is "
        "on average no more than a point below that of convolutions that all learn",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for STL-10 and CIFAR",
        "eight angles and one residual block, for sixteen and eight or more",
    ),
)
