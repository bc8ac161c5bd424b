"""The views that the settings of an image recipe name."""

from typing import Any

from attar.errors import InvalidInput

from ...data.source import Source
from ...data.square import side_of
from ...views.image import ImageView, named_view, natural
from .settings import ImageSettings


def pair_of(data: Source, settings: ImageSettings) -> tuple[ImageView, ImageView]:
    """Make the two views that the settings name; raises InvalidInput for images not square."""
    side = side_of(data)
    first, second = (
        named_view(settings.views, side, colour=settings.colour, blur=blur, solarise=solarise)
        for blur, solarise in zip(settings.blur, settings.solarise, strict=True)
    )
    return first, second


def view_of(data: Source, settings: ImageSettings) -> ImageView:
    """Make the first of these two views."""
    return pair_of(data, settings)[0]


def crops_of(
    data: Source, settings: ImageSettings, *, area: tuple[float, float], flip: float
) -> tuple[ImageView, ImageView]:
    """Make the two views that the settings name, of crops whose places can be found again.

    A crop has a share of the image's `area`, and a share `flip` of them is mirrored. Raises
    InvalidInput for views that also turn and shear.
    """
    if settings.views == "affine":
        raise InvalidInput("places are matched where crops overlap, so views is crop or natural")
    side = side_of(data)
    common: dict[str, Any] = {"area": area, "flip": flip}
    if settings.views == "crop":
        only = natural(side, **common, jitter=0, grey=0, blur=0)
        return only, only
    first, second = (
        natural(side, **common, colour=settings.colour, blur=blur, solarise=solarise)
        for blur, solarise in zip(settings.blur, settings.solarise, strict=True)
    )
    return first, second
