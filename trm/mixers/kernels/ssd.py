"""State-space duality (Mamba-2, arXiv 2405.21060): the scan of Mamba-2 as matrix products.

The recurrence, for every head with its scalar A < 0 (section 2):

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T,    y_t = h_t C_t

Shapes: B rows, L tokens, H heads of P channels, G groups of heads that share B and C, N states.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trm.mixers.kernels import chunks

QUADRATIC_MAX_LEN = 160  # on a CPU both forms cost the same between 160 and 200 tokens (10 heads of 64)


def ssd(
    x: Float[Tensor, "B L H P"],
    dt: Float[Tensor, "B L H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B L G N"],
    C: Float[Tensor, "B L G N"],
    chunk_size: int,
) -> Float[Tensor, "B L H P"]:
    """The recurrence's y, from the quadratic form for short sequences and the chunked one for long ones.

    x, B and C have the dtype of the matrix products; dt and A are float32 or wider.
    """
    return decayed_sum((x * dt[..., None]).to(x.dtype), dt * A, B, C, chunk_size)


def decayed_sum(
    u: Float[Tensor, "B L H P"],
    log_decay: Float[Tensor, "B L H"],
    B: Float[Tensor, "B L G N"],
    C: Float[Tensor, "B L G N"],
    chunk_size: int,
) -> Float[Tensor, "B L H P"]:
    """y_t = h_t C_t of h_t = exp(log_decay_t) h_{t-1} + u_t B_t^T, from the form that `ssd` names."""
    u, log_decay, B, C = (each.transpose(1, 2) for each in (u, log_decay, B, C))  # (B, H or G, L, ...)
    form = quadratic if u.shape[2] <= QUADRATIC_MAX_LEN else chunked
    return form(u, log_decay, B, C, chunk_size).transpose(1, 2)


def quadratic(u: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, chunk_size: int | None = None) -> Tensor:
    """The masked attention-like form (section 3.2): y = (decay * C B^T) u.

    u (..., H, L, P), log_decay (..., H, L), B and C (..., G, L, N) -> (..., H, L, P); leading axes: batch.
    """
    weights = per_head(C @ B.mT, u.shape[-3]) * decay_matrix(log_decay).to(u.dtype)
    return weights @ u


def chunked(u: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, chunk_size: int) -> Tensor:
    """The block decomposition (section 6): quadratic within chunks, a recurrence of states between chunks.

    Shapes as in `quadratic`. The last chunk is padded with tokens that leave the states unchanged.
    """
    length, heads = u.shape[-2], u.shape[-3]
    size = min(chunk_size, length)
    # All become (B, chunks, H or G, size, ...).
    u, log_decay, B, C = (chunks.split(v, size).transpose(1, 2) for v in (u, log_decay, B, C))

    prefix = log_decay.double().cumsum(-1)
    total = prefix[..., -1:]
    to_end, from_start = (v.exp().to(u.dtype)[..., None] for v in (total - prefix, prefix))
    gathered = (per_head(B, heads) * to_end).mT @ u  # state of each chunk alone, (B, chunks, H, N, P)
    between = decay_matrix(total[..., 0].mT).to(u.dtype)  # (B, H, chunks, chunks)
    after = between @ gathered.movedim(1, 2).flatten(3)
    before = F.pad(after, (0, 0, 1, -1)).unflatten(-1, gathered.shape[-2:])  # state before each chunk
    across = (per_head(C, heads) * from_start) @ before.movedim(2, 1)
    y = quadratic(u, log_decay, B, C) + across
    return chunks.join(y.transpose(1, 2), length)


def decay_matrix(log_decay: Tensor) -> Tensor:
    """(..., T) -> (..., T, T): at (t, s) exp(log_decay[s + 1] + ... + log_decay[t]) for s <= t, else 0.

    Sums are in float64: in float32 their differences lose the digits of slow decays after fast ones. The mask
    is applied before the exponential, which would overflow above the diagonal.
    """
    prefix = log_decay.double().cumsum(-1)
    difference = (prefix[..., :, None] - prefix[..., None, :]).to(log_decay.dtype)
    future = torch.ones(difference.shape[-2:], dtype=torch.bool, device=difference.device).triu(1)
    return difference.masked_fill(future, -math.inf).exp()


def flops(seq_len: int, heads: int, headdim: int, groups: int, d_state: int, chunk_size: int) -> int:
    """FLOPs of the matrix products of `ssd` for one row."""
    quadratic = 2 * (groups * d_state + heads * headdim)
    if seq_len <= QUADRATIC_MAX_LEN:
        return quadratic * seq_len**2
    size = min(chunk_size, seq_len)
    number = math.ceil(seq_len / size)
    states = heads * d_state * headdim
    return number * (quadratic * size**2 + 4 * size * states) + 2 * number**2 * states


def per_head(grouped: Tensor, heads: int) -> Tensor:
    """(..., G, T, S) -> (..., H, T, S): head h belongs to group h // (H / G)."""
    groups = grouped.shape[-3]
    return grouped if groups == 1 else grouped.repeat_interleave(heads // groups, dim=-3)
