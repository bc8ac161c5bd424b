"""Multi-crop: two large crops of an image and several small ones, as DINO and SwAV have them.

Caron et al., NeurIPS 2020, arXiv:2006.09882, section 3.2.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor

from ...data.source import Source
from ...data.square import side_of
from ...views.image import ImageView, cropped, named_view, natural
from .settings import ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiCropSettings(ImageSettings):
    """The numbers of a run on global and local crops."""

    local_views: int = 2
    local_side: int | None = None  # pixels; None is three quarters of the image's
    local_area: tuple[float, float] = (0.6, 0.9)  # shares of the image's
    global_area: tuple[float, float] = (0.8, 1.0)


def multi_crop(
    data: Source, settings: MultiCropSettings
) -> Callable[[Tensor, Generator], tuple[Tensor, ...]]:
    """Give the function that makes the views of images: two global ones, then the local ones.

    Raises InvalidInput for images that are not square.
    """
    side = side_of(data)
    local_side = settings.local_side or max(1, side * 3 // 4)
    local = _crop(settings, local_side, area=settings.local_area)
    first, second = (
        _crop(settings, side, area=settings.global_area, blur=blur, solarise=solarise)
        for blur, solarise in zip(settings.blur, settings.solarise, strict=True)
    )
    crops = (first, second, *[local] * settings.local_views)
    return lambda images, draw: tuple(crop(images, draw).data for crop in crops)


def _crop(
    settings: ImageSettings,
    side: int,
    *,
    area: tuple[float, float],
    blur: float = 0.5,
    solarise: float = 0.0,
) -> ImageView:
    """Make the view of crops of `side` pixels, changed as the settings say."""
    if settings.views == "natural":
        return natural(side, area=area, colour=settings.colour, blur=blur, solarise=solarise)
    return cropped(named_view(settings.views, side), side, area=area)
