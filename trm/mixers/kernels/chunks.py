"""Sequences in chunks of equal length, for the forms that carry a state from one chunk to the next."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TOKENS = 2  # the axis of (B, H, L, ...)


def fill(v: Tensor, size: int) -> Tensor:
    """Zeros behind the last token, so that there is a multiple of `size`."""
    missing = -v.shape[TOKENS] % size
    return F.pad(v, [0, 0] * (v.ndim - 1 - TOKENS) + [0, missing]) if missing else v


def split(v: Tensor, size: int) -> Tensor:
    """(B, H, L, ...) -> (B, H, chunks, size, ...), filled with zeros."""
    return fill(v, size).unflatten(TOKENS, (-1, size))


def join(v: Tensor, length: int) -> Tensor:
    """The inverse of `split`: the first `length` tokens of all chunks."""
    return v.flatten(TOKENS, TOKENS + 1)[:, :, :length]
