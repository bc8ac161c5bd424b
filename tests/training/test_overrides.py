"""Settings are changed by words that are read as their types say, or refused with the fix."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from attar.errors import InvalidInput
from attar.training.catalogue import catalogue
from attar.training.overrides import override


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    dim: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    steps: int = 10
    rate: float = 1e-3
    views: Literal["affine", "natural"] = "affine"
    layers: tuple[int, ...] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    cosine: bool = True
    name: str = "x"
    shape: Inner = field(default_factory=Inner)


def test_each_value_is_read_as_its_type() -> None:
    given = override(
        Settings(),
        ["steps=20", "rate = 2e-3", "views=natural", "layers=0,2", "betas=0.8,0.9", "cosine=False"],
    )
    assert given == Settings(
        steps=20, rate=2e-3, views="natural", layers=(0, 2), betas=(0.8, 0.9), cosine=False
    )
    assert override(given, ["layers=none", "shape.dim=3", "name=a=b"]) == Settings(
        steps=20,
        rate=2e-3,
        views="natural",
        betas=(0.8, 0.9),
        cosine=False,
        shape=Inner(dim=3),
        name="a=b",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps", "changed by name=value; got 'steps'"),
        ("step=3", "no setting 'step'; did you mean steps"),
        ("zzz=3", "there are steps, rate"),
        ("steps=many", "steps takes an integer; got 'many'"),
        ("steps=1.5", "steps takes an integer; got '1.5'"),
        ("rate=fast", "rate takes a number; got 'fast'"),
        ("views=odd", "views is one of affine, natural; got 'odd'"),
        ("cosine=1", "cosine is one of true, false; got '1'"),
        ("betas=0.9", "betas takes 2 values with commas; got '0.9'"),
        ("shape=3", "shape is a group of settings; change one of shape.dim"),
        ("shape.din=3", "no setting 'shape.din'; did you mean dim"),
        ("rate.x=3", "rate is not a group of settings"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(change: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
        override(Settings(), [change])


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_recipes_steps_can_be_changed(name: str) -> None:
    assert override(catalogue()[name].settings, ["steps=7", "seed=2"]).steps == 7
