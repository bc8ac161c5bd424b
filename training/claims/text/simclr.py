"""SimCLR learns to find a body by its summary, among docstrings."""

from typing import Final

from ...recipes.text.simclr import recipe
from .common import pretraining_claim

claim: Final = pretraining_claim(recipe)
