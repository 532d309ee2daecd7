"""The short causal depthwise convolution before a state-space model, followed by SiLU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class CausalConv1d(nn.Module):
    """SiLU of a depthwise convolution with parameters named, shaped and initialised as in `nn.Conv1d`."""

    def __init__(self, channels: int, taps: int, bias: bool = True) -> None:
        super().__init__()
        bound = taps**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if bias else None

    def forward(
        self, x: Float[Tensor, "B L E"], start: int = 0, backwards: bool = False
    ) -> Float[Tensor, "B L E"]:
        """Convolve x with the filters from channel `start` on; `backwards` as in `causal_conv1d`."""
        own = slice(start, start + x.shape[-1])
        weight = self.weight[own].to(x.dtype)
        bias = None if self.bias is None else self.bias[own].to(x.dtype)
        return F.silu(causal_conv1d(x, weight, bias, backwards))


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E 1 k"],
    bias: Float[Tensor, " E"] | None,
    backwards: bool = False,
) -> Float[Tensor, "B L E"]:
    """y[t] = bias + sum_j weight[k - 1 - j] x[t - j] for each channel; x is 0 before the first token.

    With `backwards`, x[t + j] replaces x[t - j], and x is 0 after the last token. Computed as a sum of
    shifted products in the layout (B, L, E) of the surrounding layers: on a CPU, forward and backward are
    four times as fast as `F.conv1d` with its two transpositions.
    """
    y: Tensor = _ShiftedSum.apply(x, weight, bias, backwards)
    return y


class _ShiftedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, backwards: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.backwards = bias is not None, backwards
        taps = _by_delay(weight, x.shape[1])
        y = x * taps[0] if bias is None else torch.addcmul(bias, x, taps[0])
        for delay in range(1, len(taps)):
            later, earlier = _shifted(y, x, delay, backwards)
            later.addcmul_(earlier, taps[delay])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        taps = _by_delay(weight, x.shape[1])
        dx = dy * taps[0]
        dtaps = [(dy * x).sum((0, 1))]
        for delay in range(1, len(taps)):
            later, earlier = _shifted(dy, dx, delay, ctx.backwards)
            earlier.addcmul_(later, taps[delay])
            later, earlier = _shifted(dy, x, delay, ctx.backwards)
            dtaps.append((later * earlier).sum((0, 1)))
        unused = [torch.zeros_like(dtaps[0])] * (weight.shape[-1] - len(taps))
        dweight = torch.stack([*dtaps, *unused][::-1], dim=-1)[:, None]
        return dx, dweight, dy.sum((0, 1)) if ctx.has_bias else None, None


def _shifted(later: Tensor, earlier: Tensor, delay: int, backwards: bool) -> tuple[Tensor, Tensor]:
    """Views of both tensors, (B, L, E), that align each token of `later` with the one scanned `delay` tokens
    before it in `earlier`."""
    if backwards:
        return later[:, :-delay], earlier[:, delay:]
    return later[:, delay:], earlier[:, :-delay]


def _by_delay(weight: Tensor, length: int) -> Tensor:
    """The taps by delay, (k, E), without those whose delay exceeds the sequence."""
    return weight[:, 0].t().flip(0)[:length].contiguous()
