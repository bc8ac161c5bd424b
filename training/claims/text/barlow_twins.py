"""Barlow Twins learn to find a body by its summary, among docstrings."""

from typing import Final

from ...recipes.text.barlow_twins import recipe
from .common import pretraining_claim

claim: Final = pretraining_claim(recipe)
