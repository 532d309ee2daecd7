"""The gated delta rule as matrix products and one triangular solve (Gated DeltaNet, arXiv 2412.06464; with a
decay for every key channel Kimi Delta Attention, arXiv 2510.26692).

The recurrence, for every head with its state S (K, V), zero before the first token:

    S_t = exp(g_t) S_{t-1};    S_t += beta_t k_t (v_t - S_t^T k_t)^T;    y_t = S_t^T q_t

g_t <= 0 is the log of the decay, one number a head or one for each of the K key channels. With k_t of norm 1
and beta_t of 2 at most, a state only grows by what is written to it.

With c the prefix sum of g and (a_i . b_j)_c = sum_n a_in b_jn exp(c_in - c_jn), what is written, the rows
U_t = beta_t (v_t - S_t^T k_t), solves a unit lower triangular system, from a state S_0 on:

    U_i + sum_{j < i} beta_i (k_i . k_j)_c U_j = beta_i (v_i - S_0^T (exp(c_i) k_i))
    y_i = S_0^T (exp(c_i) q_i) + sum_{j <= i} (q_i . k_j)_c U_j

A short sequence is one such system with S_0 = 0. A long one has a system for each chunk, solved for v and for
exp(c) k (the WY form), and passes the state from chunk to chunk. No exponential is of a number above 0.

Shapes: B rows, L tokens, H heads, G of them with keys of their own (head h has those of h // (H / G)), K key
and V value channels a head; in chunks (B, N, H, C, ...) for N chunks of C tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trm.mixers.kernels import chunks, triangular
from trm.mixers.kernels.decayed import decayed_products
from trm.mixers.kernels.ssd import decay_matrix, per_head
from trm.mixers.kernels.triangular import solve_unit_lower

QUADRATIC_MAX_LEN = 128


def delta_rule(
    q: Float[Tensor, "B L G K"],
    k: Float[Tensor, "B L G K"],
    v: Float[Tensor, "B L H V"],
    log_decay: Float[Tensor, "B L H 1"] | Float[Tensor, "B L H K"],
    beta: Float[Tensor, "B L H"],
    chunk_size: int,
) -> Float[Tensor, "B L H V"]:
    """The recurrence's y in the dtype of v, from one system for a short sequence and chunks for a long one.

    q, k, log_decay and beta are float32 or wider, and the system is made and solved in their dtype. G = H
    where the decays are those of key channels.
    """
    length = q.shape[1]
    size, _ = _chunks(length, chunk_size)
    # All become (B, N, H or G, C, ...).
    q, k, v, log_decay, beta = (
        chunks.split(x.transpose(1, 2), size).transpose(1, 2) for x in (q, k, v, log_decay, beta[..., None])
    )
    reads, writes = _products(q, k, log_decay)
    if q.shape[1] == 1:
        y = reads.to(v.dtype) @ solve_unit_lower(writes * beta, v * beta).to(v.dtype)
    else:
        y = _chunked(q, k, v, log_decay, beta, reads, writes)
    return chunks.join(y.transpose(1, 2), length).transpose(1, 2)


class Sizes(NamedTuple):
    """Of one call for a row, to count by."""

    seq_len: int
    heads: int
    key_heads: int  # G
    K: int
    V: int
    decays: int  # a head: 1 or K
    chunk_size: int


def flops(sizes: Sizes) -> int:
    """FLOPs of the matrix products of `delta_rule`, without the triangular solves'."""
    _, heads, key_heads, K, V, decays, _ = sizes
    size, number = _chunks(sizes.seq_len, sizes.chunk_size)
    pairs = size * (size - 1) if decays > 1 else 2 * size**2
    within = number * (2 * key_heads * K * pairs + 2 * heads * V * size**2)
    between = number * 6 * heads * size * K * V if number > 1 else 0
    return within + between


def solve_flops(sizes: Sizes) -> int:
    """FLOPs of the triangular solves of `delta_rule`."""
    size, number = _chunks(sizes.seq_len, sizes.chunk_size)
    return number * sizes.heads * triangular.flops(size, sizes.V if number == 1 else sizes.K + sizes.V)


def _chunks(seq_len: int, chunk_size: int) -> tuple[int, int]:
    """Tokens a chunk, and chunks."""
    size = seq_len if seq_len <= QUADRATIC_MAX_LEN else min(chunk_size, seq_len)
    return size, math.ceil(seq_len / size)


def _products(q: Tensor, k: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """(q_i . k_j)_c for j <= i, else 0, and (k_i . k_j)_c for j < i, else anything: (B, N, H, C, C)."""
    if log_decay.shape[-1] > 1:
        return decayed_products(q, k, log_decay)
    decay = decay_matrix(log_decay[..., 0])
    return per_head(q @ k.mT, decay.shape[-3]) * decay, per_head(k @ k.mT, decay.shape[-3]) * decay


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, reads: Tensor, writes: Tensor
) -> Tensor:
    """y, (B, N, H, C, V), of chunks one after the other."""
    prefix = log_decay.double().cumsum(-2)
    total = prefix[..., -1:, :]
    from_start, to_end, kept = (x.exp().to(log_decay.dtype) for x in (prefix, total - prefix, total))
    q, k = (per_head(x, beta.shape[-3]) for x in (q, k))
    solved = solve_unit_lower(writes * beta, torch.cat((v * beta, k * from_start * beta), dim=-1))
    added, removed = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    queries, keys = q * from_start, (k * to_end).mT
    state = added.new_zeros(*k.shape[:1], k.shape[2], k.shape[-1], v.shape[-1])
    ys = []
    for n in range(q.shape[1]):
        written = added[:, n] - removed[:, n] @ state
        ys.append(queries[:, n] @ state + reads[:, n] @ written)
        state = kept[:, n].mT * state + keys[:, n] @ written
    return torch.stack(ys, dim=1).to(v.dtype)
