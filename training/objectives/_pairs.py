"""Checks of two (n, d) tensors, and the conversion of half precision to float32."""

from torch import Tensor, float32

from attar.errors import ShapeError


def full_precision(z: Tensor) -> Tensor:
    """Give `z` in float32 at least: sums of squares over a batch overflow and round in half."""
    return z.to(float32) if z.dtype.itemsize < float32.itemsize else z


def check_pair(name: str, a: Tensor, b: Tensor, *, at_least: int, same_width: bool = True) -> None:
    """Raise `ShapeError` unless `a` and `b` are (n, d) with one n >= `at_least`, and one d."""
    matched = a.shape == b.shape if same_width else a.shape[:1] == b.shape[:1]
    if a.ndim != 2 or b.ndim != 2 or not matched or len(a) < at_least:
        wanted = "one (n, d) shape" if same_width else "n in their shapes (n, d) and (n, k)"
        raise ShapeError(
            f"{name} must share {wanted}, n >= {at_least}; got {(*a.shape,)} and {(*b.shape,)}: "
            "pass one row per item, in the same order on both sides"
        )
