"""The state of Mamba-3 (arXiv 2603.15569, SISO) as the masked products of Mamba-2.

The recurrence, for every head, is a trapezoidal step over two tokens, with rotated keys and queries:

    h_t = e^{A_t dt_t} (h_{t-1} + (1 - lam_t) dt_t x_{t-1} k_{t-1}^T) + lam_t dt_t x_t k_t^T
    y_t = h_t q_t

where the pairs (2i, 2i + 1) of q_t and k_t are turned by theta_t = sum_{s <= t} rate_s dt_s. So each x_s
k_s^T enters twice, and with u_s = (lam_s dt_s + (1 - lam_{s+1}) dt_{s+1}) x_s this is Mamba-2's recurrence
but for its diagonal, where the second part, that of the next token, has not yet come.

Shapes: B rows, L tokens, H heads of P channels, G groups of heads that share B and C, N states, S <= N/2
turned pairs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trm.mixers.kernels import ssd


def mamba3(
    C: Float[Tensor, "B L G N"],
    B: Float[Tensor, "B L G N"],
    x: Float[Tensor, "B L H P"],
    a_dt: Float[Tensor, "B L H"],
    dt: Float[Tensor, "B L H"],
    trap: Float[Tensor, "B L H"],
    C_bias: Float[Tensor, "H N"],
    B_bias: Float[Tensor, "H N"],
    angles: Float[Tensor, "B L #H S"],
    D: Float[Tensor, " H"],
    chunk_size: int = 64,
) -> Float[Tensor, "B L H P"]:
    """The recurrence's y + D x. `angles` and `trap` are raw: the rate is pi tanh(angles), and lam =
    sigmoid(trap).

    x, B and C have the dtype of the matrix products, all else, and y, is float32 or wider; a_dt <= 0. From
    the quadratic form for short sequences and the chunked one for long ones.
    """
    theta = turns(angles, dt)
    cos, sin = theta.cos(), theta.sin()
    q, k = (_turned(v, bias, cos, sin) for v, bias in ((C, C_bias), (B, B_bias)))
    lam = torch.sigmoid(trap)
    ahead = F.pad(((1 - lam) * dt)[:, 1:], (0, 0, 0, 1))  # the share that the next token adds
    y = ssd.decayed_sum((x * (lam * dt + ahead)[..., None]).to(x.dtype), a_dt, k, q, chunk_size)
    diagonal = D - (q * k).sum(-1) * ahead
    return y + diagonal[..., None] * x


def turns(angles: Float[Tensor, "B L #H S"], dt: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H S"]:
    """theta in [0, 2 pi). Summed in float64: large sums leave float32 no digits behind the point."""
    rates = math.pi * torch.tanh(angles.double()) * dt.double()[..., None]
    return torch.remainder(rates.cumsum(1), 2 * math.pi).to(dt.dtype)


def _turned(v: Tensor, bias: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """v + bias, (B, L, H, N) in the dtype of v, with its first S pairs turned.

    The even channels of the pairs come first, then the odd ones: a product of two such vectors is the same.
    """
    repeats = len(bias) // v.shape[2]
    wide = (v if v.shape[2] == 1 else v.repeat_interleave(repeats, dim=2)) + bias
    pairs, rest = wide.split([2 * cos.shape[-1], wide.shape[-1] - 2 * cos.shape[-1]], dim=-1)
    even, odd = pairs[..., ::2], pairs[..., 1::2]
    return torch.cat((cos * even - sin * odd, sin * even + cos * odd, rest), dim=-1).to(v.dtype)
