"""How a run on images is composed: what the image recipes share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from attar.errors import InvalidInput

from ...composing import compose, seeded, uniform
from ...data.source import Source
from ...distributed import step_generator
from ...encoders.classifier import Classifier
from ...encoders.encoder import TensorEncoder
from ...loop import Training
from ...method import Method
from ...methods.siamese import Inputs
from ...optimisers import named_optimiser
from ...probes.encoder import probe_encoder
from ...sampler import seed_at
from ...schedules import Schedule, cosine_ramp
from ...views.image import ImageView
from .settings import ImageSettings, new_encoder
from .views import pair_of

PROBED = 2048  # most images of a part that a probe looks at, taken from all over it


def two_views(
    data: Source,
    settings: ImageSettings,
    method: Callable[[TensorEncoder], Method[Any]],
    *,
    view: ImageView | None = None,
    sampler: Callable[[int], Tensor] | None = None,
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run on two views of each image; see `image_run`.

    They are the pair that the settings name, or both of `view`.
    """
    first, second = (view, view) if view else pair_of(data, settings)

    def views(images: Tensor, step: int) -> tuple[Inputs, Inputs]:
        generator = step_generator(settings.seed, step)
        return (first(images, generator).data,), (second(images, generator).data,)

    return image_run(data, settings, method, views, sampler=sampler)


def image_run(
    data: Source,
    settings: ImageSettings,
    method: Callable[[TensorEncoder], Method[Any]],
    views: Callable[[Any, int], Any],
    *,
    items: Callable[[Tensor], Any] | None = None,
    sampler: Callable[[int], Tensor] | None = None,
) -> Training[Any]:
    """Compose a run on images; its probe gives RankMe and, with labels, accuracies.

    Where the exported encoder has a projector, `rankme_projector` is RankMe of its outputs.
    `method` is made around a new encoder. `views` makes its batch of a step's images; `sampler`
    gives the rows of a step, uniformly without one, and `items` what is at them, the images. Raises
    InvalidInput for settings that the views, the encoder or the optimiser cannot have.
    """
    if settings.clip == 0:
        raise InvalidInput("clip must be above 0; got 0, which leaves nothing of a gradient")
    every = uniform(len(data.train), settings)
    encoder = new_encoder(data, settings)
    with seeded(seed_at(settings.seed, 0)):
        built = method(encoder)
    probed = built.exported
    probed = probed.encoder if isinstance(probed, Classifier) else probed
    projector = getattr(built, "projector", None) if probed is built.encoder else None
    training = compose(
        built,
        settings,
        items=items or data.train.__getitem__,
        rows=sampler or every,
        views=views,
        optimiser=named_optimiser(settings.optimizer, built, weight_decay=settings.weight_decay),
        probe=lambda: probe_encoder(probed, data, most=PROBED, projector=projector),
    )
    return replace(training, clip=settings.clip, weight_decay=_weight_decay(settings))


def _weight_decay(settings: ImageSettings) -> Schedule | None:
    """Give the weight decay of a step, where it changes; raises InvalidInput where it is 0."""
    start, end = settings.weight_decay, settings.final_weight_decay
    if end is None:
        return None
    if start == 0:
        raise InvalidInput(f"final_weight_decay is {end}, so weight_decay must be above 0; got 0")
    return cosine_ramp(start, end, settings.steps)
