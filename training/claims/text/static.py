"""A static table learns to find a body by its summary, among docstrings."""

from typing import Final

from ...encoders.static import StaticConfig
from ...recipes.text.static import recipe
from .common import VOCABULARY, pretraining_claim

claim: Final = pretraining_claim(
    recipe, shape=StaticConfig(vocabulary=VOCABULARY, max_length=32, special=(0, 1, 2, 3))
)
