"""Instance normalisation: every channel of an item by its own mean and deviation over time."""

from jaxtyping import Float
from torch import Tensor

LEAST_DEVIATION = 1e-5


def instance_norm(series: Float[Tensor, "n channels time"]) -> Float[Tensor, "n channels time"]:
    """Bring every channel of every series to mean 0 and variance 1 over its time.

    Of log-mel frames this is cepstral mean and variance normalisation (CMVN) by utterance. A
    constant channel becomes 0. Source: Ulyanov et al. 2016, arXiv:1607.08022, without its scale.
    """
    centred = series - series.mean(2, keepdim=True)
    deviation = centred.square().mean(2, keepdim=True).sqrt()
    return centred / deviation.clamp(min=LEAST_DEVIATION)
