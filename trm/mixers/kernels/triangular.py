"""The triangular system of the mixers whose tokens replace what earlier ones have written."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from trm.layers import at_least_float32


def flops(size: int, columns: int) -> int:
    """FLOPs of a system for so many right sides: half a product's, without the diagonal."""
    return size * (size - 1) * columns


def solve_unit_lower(
    system: Float[Tensor, "*batch L L"], right: Float[Tensor, "*batch L V"]
) -> Float[Tensor, "*batch L V"]:
    """(I + strictly lower part of `system`)^-1 right, in float32 or wider: bfloat16 has too few digits."""
    wide = at_least_float32(system)
    return torch.linalg.solve_triangular(wide, right.to(wide.dtype), upper=False, unitriangular=True)
