"""Layers of the network and the mixers: linear maps, embeddings, SwiGLU, RMS norm, rotary positions.

Weights are float32 and are cast to the dtype of the input, so that one model computes in float32 or bfloat16.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

SWIGLU_MULTIPLE = 256
RMS_NORM_EPS = 1e-5
TRUNC_NORMAL_STD = 0.87962566103423978  # std of a standard normal truncated at +-2
DT_MIN, DT_MAX = 1e-3, 1e-1  # range of the initial step sizes of memories (Mamba, section 3.6)


def trunc_normal_(tensor: Tensor, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Fill `tensor` with a normal truncated at two standard deviations, with std `std` after it, as in JAX.

    With `nn.init.trunc_normal_` alone the std would be 12% smaller than its argument.
    """
    wide = std / TRUNC_NORMAL_STD
    return nn.init.trunc_normal_(tensor, 0.0, wide, -2 * wide, 2 * wide, generator=generator)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in its own dtype if that is wider; norms, step sizes and decays need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def undecayed(values: Tensor) -> nn.Parameter:
    """A parameter without weight decay, such as a memory's time scale or the scale of a norm.

    Decay would pull these towards fixed values, not towards a simpler function; at TRM's rate (1.0) every
    memory would shorten to a token or two.
    """
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


def dt_bias_init(size: int) -> Tensor:
    """Biases whose softplus is log-uniform in [DT_MIN, DT_MAX], (size,)."""
    dt = torch.empty(size).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


def rms_norm(x: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*shape"]:
    """Scale axis `dim` to unit root mean square; without a weight, computed in float32 or wider."""
    wide = at_least_float32(x)
    return (wide * torch.rsqrt(wide.square().mean(dim, keepdim=True) + RMS_NORM_EPS)).to(x.dtype)


class CastedLinear(nn.Module):
    """y = x W^T + b, with float32 parameters cast to the dtype of x.

    LeCun initialisation as in the reference: std in_features^-1/2, 1.7 times that of `nn.Linear`; zero bias.
    `gain` is a factor of it.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        weight = trunc_normal_(torch.empty(out_features, in_features), in_features**-0.5)
        self.weight = nn.Parameter(weight.mul_(gain))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class CastedEmbedding(nn.Module):
    """A table of float32 vectors, returned in `dtype`."""

    def __init__(self, num_embeddings: int, embedding_dim: int, std: float) -> None:
        super().__init__()
        self.embedding_weight = nn.Parameter(trunc_normal_(torch.empty(num_embeddings, embedding_dim), std))

    def forward(
        self, ids: Integer[Tensor, "*ids"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*ids D"]:
        return F.embedding(ids, self.embedding_weight.to(dtype))


def swiglu_width(hidden_size: int, expansion: float) -> int:
    """Inner width of the SwiGLU: 2/3 expansion x hidden_size, rounded up to a multiple of 256."""
    return max(1, math.ceil(round(expansion * hidden_size * 2 / 3) / SWIGLU_MULTIPLE)) * SWIGLU_MULTIPLE


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer, arXiv 2002.05202); `gain` is of down's initial weights."""

    def __init__(self, hidden_size: int, expansion: float, gain: float = 1.0) -> None:
        super().__init__()
        width = swiglu_width(hidden_size, expansion)
        self.gate_up_proj = CastedLinear(hidden_size, 2 * width)
        self.down_proj = CastedLinear(width, hidden_size, gain=gain)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class ConvSwiGLU(SwiGLU):
    """down(silu(conv(silu(gate(x)) * up(x)))), with a depthwise convolution of a token and the one before it.

    URM (arXiv 2512.14693), whose kernel has two taps and a bias. The convolution starts as `nn.Conv1d` does,
    and reads the slots of the puzzle embedding as it reads the puzzle.
    """

    def __init__(self, hidden_size: int, expansion: float) -> None:
        super().__init__(hidden_size, expansion)
        width, bound = self.down_proj.weight.shape[1], 2**-0.5
        self.conv_weight = nn.Parameter(
            torch.empty(2, width).uniform_(-bound, bound)
        )  # the token before first
        self.conv_bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "... L D"]) -> Float[Tensor, "... L D"]:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        hidden = F.silu(gate) * up
        before = F.pad(hidden, (0, 0, 1, -1))
        of_before, of_token = self.conv_weight.to(x.dtype)
        return self.down_proj(F.silu(of_before * before + of_token * hidden + self.conv_bias.to(x.dtype)))


class RotaryEmbedding(nn.Module):
    """Tables of cosines and sines for `max_len` positions (Su et al., arXiv 2104.09864).

    Channel i is paired with channel i + head_dim / 2, as in GPT-NeoX.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, max_len: int, theta: float = 10000.0) -> None:
        super().__init__()
        frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angles = torch.outer(torch.arange(max_len, dtype=torch.float32), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self) -> tuple[Float[Tensor, "L d"], Float[Tensor, "L d"]]:
        return self.cos, self.sin


def apply_rotary(
    q: Float[Tensor, "... L d"],
    k: Float[Tensor, "... L d"],
    cos: Float[Tensor, "M d"],
    sin: Float[Tensor, "M d"],
) -> tuple[Float[Tensor, "... L d"], Float[Tensor, "... L d"]]:
    """Rotate queries and keys, (B, heads, L, head_dim), by their positions; M >= L. Computed in float32."""
    cos, sin = cos[: q.shape[-2]], sin[: q.shape[-2]]
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
