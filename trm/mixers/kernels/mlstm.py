"""The matrix memory of mLSTM (xLSTM, arXiv 2405.04517, section 2.3) as masked products.

The recurrence, for every head, with the forget gate f = sigmoid(f~) and the input gate i = exp(i~):

    C_t = f_t C_{t-1} + i_t v_t k_t^T,   n_t = f_t n_{t-1} + i_t k_t,   y_t = C_t q_t / max(|n_t q_t|, 1)

where k has the factor K^-1/2. Let F be the prefix sum of log f, g = i~ - F, and M_t the largest g up to t.
Then F_t + M_t is the paper's stabiliser m_t, and in its terms token s has the weight exp(g_s - M_t) <= 1
for token t, in the numerator and in the normaliser, of which the least absolute value is exp(-m_t). No L x
L maximum is taken.

Shapes: B rows, L tokens, H heads of K key and V value channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trm.mixers.kernels import chunks

QUADRATIC_MAX_LEN = 128
CHUNK_SIZE = 64
EPS = 1e-6  # added to the stabilised normaliser, as in the authors' code
MARGIN = (
    8.0  # of -m below the overflow of exp(-m), whose gradient would be NaN; such a token gives 0 either way
)


def mlstm(
    q: Float[Tensor, "B L H K"],
    k: Float[Tensor, "B L H K"],
    v: Float[Tensor, "B L H V"],
    input_gate: Float[Tensor, "B L H"],
    forget_gate: Float[Tensor, "B L H"],
) -> Float[Tensor, "B L H V"]:
    """The recurrence's y, from the quadratic form for short sequences and the chunked one for long ones.

    q, k and v have the dtype of the matrix products; the gates, before exp and sigmoid, are float32 or wider,
    and so is y.
    As in the authors' parallel form, `EPS` is added to the stabilised normaliser.
    """
    length = q.shape[1]
    form = quadratic if length <= QUADRATIC_MAX_LEN else chunked
    size = length if form is quadratic else CHUNK_SIZE
    inputs = (q, k * k.shape[-1] ** -0.5, v, input_gate, forget_gate)
    q, k, v, input_gate, forget_gate = (chunks.fill(each.transpose(1, 2), size) for each in inputs)
    forgotten = F.logsigmoid(forget_gate).double().cumsum(-1)
    source = input_gate.double() - forgotten
    largest = source.cummax(-1).values
    # A change of M scales all but EPS, so that its gradient is taken there, and not from the L x L weights.
    scale = largest.detach()
    y, normaliser = form(q, k, v, source, scale)
    added = EPS * (1 + (largest - scale).to(normaliser.dtype))
    most = math.log(torch.finfo(normaliser.dtype).max) - MARGIN
    least = (-forgotten - scale).to(normaliser.dtype).clamp(max=most).exp()
    y = y / (torch.maximum(normaliser.abs(), least) + added)[..., None]
    return y[:, :, :length].transpose(1, 2)


def quadratic(q: Tensor, k: Tensor, v: Tensor, source: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator (..., L, V) and normaliser (..., L) of y, both divided by exp(m).

    q and k (..., L, K), v (..., L, V); source and largest, g and M, (..., L) in float64.
    """
    weights = (q @ k.mT).to(_wide(q)) * _weights(source, largest, _wide(q))
    return weights.to(v.dtype) @ v, weights.sum(-1)


def chunked(
    q: Tensor, k: Tensor, v: Tensor, source: Tensor, largest: Tensor, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """The same, quadratic within chunks, with a matrix state and a normaliser from one chunk to the next.

    The tokens must fill the chunks.
    """
    dtype = _wide(q)
    q, k, v, source, largest = (each.unflatten(2, (-1, chunk_size)) for each in (q, k, v, source, largest))
    y, normaliser = quadratic(q, k, v, source, largest)
    ends = largest[..., -1]
    before = torch.cat(
        (largest[..., :1, 0], ends[..., :-1]), dim=-1
    )  # M of the state; the first one is empty
    to_end = (source - ends[..., None]).to(dtype).exp().to(k.dtype)
    values = torch.cat((v, torch.ones_like(v[..., :1])), dim=-1)  # the last one makes the normaliser
    gathered = (k * to_end[..., None]).mT @ values  # of each chunk alone, (B, H, chunks, K, V + 1)
    between = _weights(ends, before, dtype, diagonal=-1).to(k.dtype)
    state = (between @ gathered.flatten(-2)).unflatten(-1, gathered.shape[-2:])
    from_before = (before[..., None] - largest).to(dtype).exp().to(q.dtype)
    across = (q * from_before[..., None]) @ state
    y, normaliser = y + across[..., :-1], normaliser + across[..., -1]
    return y.flatten(2, 3), normaliser.flatten(2)


def flops(seq_len: int, heads: int, channels: int) -> int:
    """FLOPs of the matrix products of `mlstm` for one row."""
    if seq_len <= QUADRATIC_MAX_LEN:
        return 4 * seq_len**2 * heads * channels
    number = math.ceil(seq_len / CHUNK_SIZE)
    within, state = 4 * CHUNK_SIZE**2 * channels, channels * (channels + 1)
    return heads * (number * (within + 4 * CHUNK_SIZE * state) + 2 * number**2 * state)


def _weights(source: Tensor, largest: Tensor, dtype: torch.dtype, diagonal: int = 0) -> Tensor:
    """exp(source[s] - largest[t]) at (t, s) up to the diagonal, else 0; masked before exp can overflow."""
    difference = (source[..., None, :] - largest[..., :, None]).to(dtype)
    later = torch.ones(difference.shape[-2:], dtype=torch.bool, device=difference.device).triu(diagonal + 1)
    return difference.masked_fill(later, -math.inf).exp()


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
