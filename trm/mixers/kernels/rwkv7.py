"""The state of RWKV-7 (arXiv 2503.14456) as masked products and a triangular solve.

The recurrence, for every head, with a state S of N value rows and N key columns:

    S_t = S_{t-1} diag(exp(-exp(w_t))) + (S_{t-1} a_t) b_t^T + v_t k_t^T,   y_t = S_t r_t

Let c be the prefix sums of the decay's log, -exp(w). With r scaled by e^c, a by e^c of the token before,
and k and b by e^-c, of u_t = S_{t-1} a_t one finds (I - tril(a b^T, -1)) u = tril(a k^T, -1) v, and y =
tril(r k^T) v + tril(r b^T) u. Here c is counted from a chunk's middle. As w <= -1/2 in RWKV-7 (a decay
above 0.545), e^|c| stays below e^39 in a chunk of 128 tokens, so that this needs no smaller blocks.

Shapes: B rows, L tokens, H heads of N channels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from trm.mixers.kernels import chunks, triangular
from trm.mixers.kernels.triangular import solve_unit_lower

ONE_CHUNK_MAX_LEN = 128
CHUNK_SIZE = 64


def rwkv7(
    r: Float[Tensor, "B L H N"],
    w: Float[Tensor, "B L H N"],
    k: Float[Tensor, "B L H N"],
    v: Float[Tensor, "B L H N"],
    a: Float[Tensor, "B L H N"],
    b: Float[Tensor, "B L H N"],
) -> Float[Tensor, "B L H N"]:
    """The recurrence's y, from one chunk for up to 128 tokens, else from chunks of 64 with a state between.

    w <= -1/2 is float32 or wider; the others have the dtype of the matrix products. The solve is in float32
    or wider.
    """
    length = r.shape[1]
    size = length if length <= ONE_CHUNK_MAX_LEN else CHUNK_SIZE
    log_decay = -w.exp()
    # All become (B, H, chunks, tokens, N).
    r, log_decay, k, v, a, b = (chunks.split(x.transpose(1, 2), size) for x in (r, log_decay, k, v, a, b))
    prefix = log_decay.double().cumsum(-2)
    middle = prefix[..., (size - 1) // 2, None, :]
    scale = (prefix - middle).exp()  # in float64: a float32 exponent of 39 is exact to 4e-6 only
    own, inverse = scale.to(w.dtype), scale.reciprocal().to(w.dtype)
    r, k, b = (x.to(v.dtype) for x in (r * own, k * inverse, b * inverse))
    a = (a * (own * (-log_decay).exp())).to(v.dtype)
    return chunks.join(_chunks(r, k, v, a, b, middle, prefix[..., -1:, :]), length).transpose(1, 2)


def _chunks(r: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, middle: Tensor, end: Tensor) -> Tensor:
    """y of each chunk, from scaled inputs; `middle` and `end` are the prefix sums there, (..., 1, N)."""
    ab, ak, rb, rk = _products(r, k, a, b)
    inside = ak @ v
    if r.shape[2] == 1:
        return rk @ v + rb @ solve_unit_lower(-ab, inside).to(v.dtype)
    from_state, inside = solve_unit_lower(-ab, torch.cat((a, inside), dim=-1)).chunk(2, dim=-1)
    written = (x.to(inside.dtype) for x in (k, v, b))
    states = _states(inside, from_state, middle, end, *written)
    u = inside + from_state @ states
    return rk @ v + rb @ u.to(v.dtype) + r @ states.to(v.dtype)


def _products(r: Tensor, k: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a b^T and a k^T below the diagonal, r b^T and r k^T with it."""
    size = r.shape[-2]
    seen = torch.ones(size, size, dtype=torch.bool, device=r.device).tril()
    seen = torch.cat((seen.tril(-1), seen)).repeat(1, 2)
    products = torch.where(seen, torch.cat((a, r), dim=-2) @ torch.cat((b, k), dim=-2).mT, 0)
    (ab, ak), (rb, rk) = (half.split(size, dim=-1) for half in products.split(size, dim=-2))
    return ab, ak, rb, rk


def _states(
    inside: Tensor, from_state: Tensor, middle: Tensor, end: Tensor, k: Tensor, v: Tensor, b: Tensor
) -> Tensor:
    """S^T before each chunk, (..., chunks, N keys, N values), with the factor that r and a have in reverse.

    The state after a chunk is `transition` @ S^T + `added`.
    """
    whole, first, second = (x.exp().to(v.dtype).mT for x in (end, middle, end - middle))
    transition = torch.diag_embed(whole[..., 0]) + second * (b.mT @ from_state) * first.mT
    added = second * (b.mT @ inside + k.mT @ v)
    state = torch.zeros_like(added[:, :, 0])
    states = [state]
    for step, new in zip(transition[:, :, :-1].unbind(2), added[:, :, :-1].unbind(2), strict=True):
        state = step @ state + new
        states.append(state)
    return first * torch.stack(states, dim=2)


def flops(seq_len: int, heads: int, channels: int) -> tuple[int, int]:
    """FLOPs of `rwkv7` for one row: of its matrix products, and of its solve, which torch's counter lacks."""
    size = seq_len if seq_len <= ONE_CHUNK_MAX_LEN else CHUNK_SIZE
    number = math.ceil(seq_len / size)
    products, solve = 14 * size**2 * channels, triangular.flops(size, channels)
    if number == 1:
        return heads * products, heads * solve
    states = 10 * size * channels**2  # the state into u and y, and three products for its change
    return heads * (number * (products + states) + 2 * (number - 1) * channels**3), 2 * heads * number * solve
