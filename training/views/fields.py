"""Random fields: transformations whose strength varies smoothly over the image.

Mansfield et al. 2023, arXiv:2311.03629. The paper gives the power law of the spectra but not the
strengths; the default strengths here are attar's.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from kornia.color import hsv_to_rgb, rgb_to_hsv
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput, ShapeError

from ._draws import normal_like
from .view import View


def gaussian_field(noise: Float[Tensor, "*n h w"], *, gamma: float) -> Float[Tensor, "*n h w"]:
    """Filter white noise to Gaussian random fields with the power spectrum |k|^-gamma.

    Each field has mean 0 and deviation 1 over its pixels. `gamma` 0 leaves the noise white; from
    about 4 on a field is smooth at any size. Frequencies k are in cycles a pixel.
    """
    height, width = noise.shape[-2:]
    down = torch.fft.fftfreq(height, device=noise.device)[:, None]
    across = torch.fft.rfftfreq(width, device=noise.device)
    strength = torch.hypot(down, across).pow(-gamma / 2)
    strength[0, 0] = 0.0  # the mean
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * strength, s=(height, width))
    out: Tensor = field / field.square().mean((-2, -1), keepdim=True).sqrt()
    return out


def random_fields(
    images: Float[Tensor, "n c h w"],
    generator: torch.Generator,
    *,
    gamma: float = 4.0,
    displacement: float = 0.03,
    degrees: float = 5.0,
    scale: float = 0.05,
    hue: float = 0.0,
    saturation: float = 0.0,
    brightness: float = 0.0,
) -> View[Tensor]:
    """Warp and recolour float images in [0, 1] by smooth fields, independent of one another.

    The new value at pixel p is the old one at c + e^s R(a) (p - c) + d, where c is the centre:
    bilinear, and mirrored at the edges. The arguments are the fields' standard deviations:
    `displacement` that of d, as a share of width and height; `degrees` that of the angle a; `scale`
    that of s; `hue` in turns, `saturation` and `brightness` in [0, 1]. At 0 there is no such field.

    `params` are the fields drawn: "displacement" (n, 2, h, w), across and down in pixels; "angle"
    (n, h, w) in radians; "scale", "hue", "saturation" and "brightness" (n, h, w). Deterministic
    given the generator, which lives on the CPU, on one kind of device.

    Raises:
        InvalidInput: a deviation is negative.
        ShapeError: hue or saturation of images without three colours.
    """
    deviations = {
        "displacement": displacement,
        "angle": math.radians(degrees),
        "scale": scale,
        "hue": hue,
        "saturation": saturation,
        "brightness": brightness,
    }
    for name, deviation in deviations.items():
        if deviation < 0:
            raise InvalidInput(f"the deviation of {name} must be at least 0; got {deviation}")
    if (hue or saturation) and images.shape[1] != 3:
        raise ShapeError(f"hue and saturation need (n, 3, h, w) images; got {(*images.shape,)}")
    params = _draw_fields(images, generator, deviations, gamma)
    data = images
    if params.keys() & {"displacement", "angle", "scale"}:
        data = _bent(data, params)
    if params.keys() & {"hue", "saturation"}:
        data = _recoloured(data, params)
    if "brightness" in params:
        data = (data + params["brightness"][:, None]).clamp(0, 1)
    return View(data, params)


def _draw_fields(
    images: Tensor, generator: torch.Generator, deviations: Mapping[str, float], gamma: float
) -> dict[str, Tensor]:
    """Draw a field for each deviation above 0; the displacement, (n, 2, h, w), is in pixels."""
    n, _, height, width = images.shape
    params = {}
    for name, deviation in deviations.items():
        if deviation:
            leading = (n, 2) if name == "displacement" else (n,)
            noise = normal_like(images.new_empty((*leading, height, width)), generator)
            params[name] = gaussian_field(noise, gamma=gamma) * deviation
    if "displacement" in params:
        params["displacement"][:, 0] *= width
        params["displacement"][:, 1] *= height
    return params


def _bent(images: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Sample the images at the positions that the fields give."""
    n, _, height, width = images.shape
    down = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    still = images.new_zeros(())
    angle, stretch = params.get("angle", still), params.get("scale", still).exp()
    shift = params.get("displacement", images.new_zeros(n, 2, 1, 1))
    x = stretch * (angle.cos() * across - angle.sin() * down) + shift[:, 0]  # from the centre
    y = stretch * (angle.sin() * across + angle.cos() * down) + shift[:, 1]
    grid = torch.stack([x * (2 / width), y * (2 / height)], -1)  # (n, h, w, 2)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _recoloured(images: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Shift the hue and the saturation of each pixel."""
    hue, saturation, value = rgb_to_hsv(images.clamp(0, 1)).unbind(1)
    if "hue" in params:
        hue = (hue + 2 * math.pi * params["hue"]) % (2 * math.pi)
    if "saturation" in params:
        saturation = (saturation + params["saturation"]).clamp(0, 1)
    return hsv_to_rgb(torch.stack([hue, saturation, value], 1))
