"""SlotCon makes few labels go further, on digits."""

from typing import Final

from ...recipes.image.slotcon import recipe
from .common import scarce_claim

claim: Final = scarce_claim(recipe)
