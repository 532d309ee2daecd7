"""Products of rows of two matrices over channels that decay, each at its own rate, from one row to the next.

With c the prefix sum over tokens of g <= 0, for i >= j:

    (q_i . k_j)_c = sum_n q_in k_jn exp(c_in - c_jn)

One product of exp(c) q and exp(-c) k overflows, and the exponentials of all differences are L x L x K
numbers. Here the tokens are halved again and again: in a block of 2h tokens, the pairs of a token i of the
second half and a token j of the first are one matrix product, of rows scaled by how much is left

    from the boundary m of the halves to i    exp(g_{m+1} + ... + g_i)
    from j to that boundary                   exp(g_{j+1} + ... + g_m)

Both are sums of numbers of one sign, taken directly and not as differences of prefix sums, and both factors
are at most 1: nothing overflows or loses digits, in float32 too. There are log2 L levels of L K exponentials,
and every pair is computed once. Only q, k and g are kept for the gradients, which compute the factors again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def decayed_products(
    q: Float[Tensor, "... L K"], k: Float[Tensor, "... L K"], g: Float[Tensor, "... L K"]
) -> tuple[Float[Tensor, "... L L"], Float[Tensor, "... L L"]]:
    """(q_i . k_j)_c for j <= i, and (k_i . k_j)_c for j < i; 0 elsewhere.

    The products have the operands' dtype, that of q and k, and are returned in that of g, float32 or wider.
    """
    reads: Tensor
    writes: Tensor
    reads, writes = _DecayedProducts.apply(q, k, g)
    return reads, writes


class _Level(NamedTuple):
    """Blocks of one size, n in a view of a tensor, whose first halves have h tokens."""

    start: int  # token where the first block begins
    h: int
    stop: int  # token behind the last block: of one block alone the second half may be shorter

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the tokens of x, (..., L, K), in the blocks' halves: (..., n, h, K) each."""
        blocks = x[..., self.start : self.stop, :]
        if (self.stop - self.start) % (2 * self.h):
            first, second = blocks.tensor_split([self.h], dim=-2)
            return first.unsqueeze(-3), second.unsqueeze(-3)
        first, second = blocks.unflatten(-2, (-1, 2, self.h)).unbind(-3)
        return first, second

    def corners(self, x: Tensor) -> Tensor:
        """A view of x, (..., L, L): rows of the second halves, columns of the first, (..., n, h, h)."""
        h = self.h
        blocks = x[..., self.start : self.stop, self.start : self.stop]
        if (self.stop - self.start) % (2 * h):
            return blocks[..., h:, :h].unsqueeze(-3)
        rows = blocks.unflatten(-2, (-1, 2, h)).select(-3, 1)  # (..., n, h, 2 n h)
        return rows.unflatten(-1, (-1, 2, h)).select(-2, 0).diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def _levels(length: int) -> Iterator[_Level]:
    """Levels of full blocks from the shortest, each followed by the block that the tokens' end cuts short."""
    h = 1
    while h < length:
        full = length // (2 * h) * 2 * h
        if full:
            yield _Level(0, h, full)
        if length - full > h:
            yield _Level(full, h, length)
        h *= 2


def _factors(g: Tensor) -> list[tuple[_Level, Tensor, Tensor]]:
    """For each level what is left at the tokens of second halves, and of those of first halves."""
    since, until = g.clone(), torch.zeros_like(g)  # sums from the own block's start, and to its end
    found = []
    for level in _levels(g.shape[-2]):
        (first_since, second_since), (first_until, _) = level.halves(since), level.halves(until)
        found.append((level, second_since.exp(), first_until.exp()))
        first_until += second_since[..., -1:, :]
        second_since += first_since[..., -1:, :]
    return found


class _DecayedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(q, k, g)
        reads, writes = (g.new_zeros(*g.shape[:-1], g.shape[-2]) for _ in range(2))
        reads.diagonal(dim1=-2, dim2=-1).copy_((q * k).sum(-1))
        for level, since, until in _factors(g):
            (_, q_i), (k_j, k_i) = level.halves(q), level.halves(k)
            right = (k_j * until).to(k.dtype).mT
            level.corners(reads).copy_((q_i * since).to(k.dtype) @ right)
            level.corners(writes).copy_((k_i * since).to(k.dtype) @ right)
        return reads, writes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dreads: Tensor, dwrites: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, g = ctx.saved_tensors
        diagonal = dreads.diagonal(dim1=-2, dim2=-1)[..., None]
        dq, dk = diagonal * k, diagonal * q
        dsince, duntil = torch.zeros_like(g), torch.zeros_like(g)
        for level, since, until in reversed(_factors(g)):
            (_, q_i), (k_j, k_i) = level.halves(q), level.halves(k)
            (_, dq_i), (dk_j, dk_i) = level.halves(dq), level.halves(dk)
            (first_dsince, second_dsince), (first_duntil, _) = level.halves(dsince), level.halves(duntil)
            # Of the sums that `_factors` extends after this level, of which those of later levels are made.
            first_dsince[..., -1, :] += second_dsince.sum(-2)
            second_dsince[..., -1, :] += first_duntil.sum(-2)
            d_reads, d_writes = (level.corners(x).to(k.dtype) for x in (dreads, dwrites))
            q_left, k_left, right = (
                (x * y).to(k.dtype) for x, y in ((q_i, since), (k_i, since), (k_j, until))
            )
            dq_left, dk_left = d_reads @ right, d_writes @ right
            dright = d_reads.mT @ q_left + d_writes.mT @ k_left
            dq_i.addcmul_(dq_left, since)
            dk_i.addcmul_(dk_left, since)
            dk_j.addcmul_(dright, until)
            second_dsince.addcmul_(dq_left, q_left).addcmul_(dk_left, k_left)
            first_duntil.addcmul_(dright, right)
        return dq.to(q.dtype), dk.to(k.dtype), dsince
