"""The short causal convolution, each channel by itself, before a state-space model, and the SiLU after it.

For float32 on a CPU it is one pass in C, compiled on first use (`conv.c`); for everything else, under
torch.compile, and where there is no compiler of C, it is PyTorch's operations. They differ by rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trm.mixers.kernels.native import call, library

SOURCE = Path(__file__).with_suffix(".c")


class CausalConv1d(nn.Module):
    """SiLU of a depthwise convolution whose parameters are named, shaped and initialised as `nn.Conv1d`'s.

    Without `in_c`, by PyTorch's operations alone.
    """

    def __init__(self, channels: int, taps: int, in_c: bool = True) -> None:
        super().__init__()
        bound = taps**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
        self.in_c = in_c

    def forward(
        self, x: Float[Tensor, "B L E"], start: int = 0, backwards: bool = False
    ) -> Float[Tensor, "B L E"]:
        """Convolve x with the filters of the channels from `start` on."""
        own = slice(start, start + x.shape[-1])
        weight, bias = self.weight[own].to(x.dtype), self.bias[own].to(x.dtype)
        return conv_silu(x, weight, bias, backwards, self.in_c)


def conv_silu(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E 1 k"],
    bias: Float[Tensor, " E"],
    backwards: bool = False,
    in_c: bool = True,
) -> Float[Tensor, "B L E"]:
    """silu(y) with y[t] = bias + sum_j weight[k - 1 - j] x[t - j], channel by channel.

    x is 0 before the first token. Where the tokens are read `backwards`, it is x[t + j], and 0 after the
    last one.
    """
    if in_c and _suits_c(x, weight, bias) and library(SOURCE) is not None:
        y: Tensor = _InC.apply(x, weight, bias, backwards)
        return y
    return F.silu(causal_conv1d(x, weight, bias, backwards))


def _suits_c(*tensors: Tensor) -> bool:
    """Not where a graph is compiled: there these few operations are fused with those around them, on every
    device, and what is traced has no numbers to read."""
    if torch.compiler.is_compiling():
        return False
    return all(
        v.device.type == "cpu" and v.dtype == torch.float32 and type(v) in (Tensor, nn.Parameter)
        for v in tensors
    )


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E 1 k"],
    bias: Float[Tensor, " E"],
    backwards: bool = False,
) -> Float[Tensor, "B L E"]:
    """The y of `conv_silu`: a sum of shifted products in (B, L, E) as the layers around it have it. On a CPU
    four times faster, forward and backward, than `F.conv1d` with its two transpositions.
    """
    y: Tensor = _ShiftedSum.apply(x, weight, bias, backwards)
    return y


class _ShiftedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, backwards: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.backwards = backwards
        taps = _by_delay(weight, x.shape[1])
        y = torch.addcmul(bias, x, taps[0])
        for delay in range(1, len(taps)):
            later, earlier = _shifted(y, x, delay, backwards)
            later.addcmul_(earlier, taps[delay])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
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
        return dx, dweight, dy.sum((0, 1)), None


def _shifted(later: Tensor, earlier: Tensor, delay: int, backwards: bool) -> tuple[Tensor, Tensor]:
    """Views of the two, (B, L, E), in which a token of the one meets that read `delay` tokens before it of
    the other."""
    if backwards:
        return later[:, :-delay], earlier[:, delay:]
    return later[:, delay:], earlier[:, :-delay]


def _by_delay(weight: Tensor, length: int) -> Tensor:
    """The taps in order of their delay, (k, E), without those that would reach before the first token."""
    return weight[:, 0].t().flip(0)[:length].contiguous()


class _InC(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, backwards: bool) -> Tensor:
        rows, length, channels = x.shape
        stride = x.stride(1)
        # What `chunk` gives is read where it stands, as its tokens lie evenly spaced.
        if x.stride(2) != 1 or x.stride(0) != length * stride:
            x, stride = x.contiguous(), channels
        taps = _by_delay(weight, length)
        ctx.save_for_backward(x, taps, bias)
        ctx.unused = weight.shape[-1] - len(taps)  # taps that reach before the first token
        ctx.numbers = [rows, length, channels, len(taps), stride, int(backwards), torch.get_num_threads()]
        y = x.new_empty(x.shape)
        call(SOURCE, "conv_silu", ctx.numbers, [x, taps, bias.contiguous(), y])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, taps, bias = ctx.saved_tensors
        dx = x.new_empty(x.shape)
        dtaps, dbias = (v.new_empty(len(x), *v.shape) for v in (taps, bias))  # of each row
        arrays = [x, taps, bias.contiguous(), dy.contiguous(), dx, dtaps, dbias]
        call(SOURCE, "conv_silu_gradients", ctx.numbers, arrays)
        dweight = F.pad(dtaps.sum(0), (0, 0, 0, ctx.unused)).flip(0).t()[:, None]
        return dx, dweight, dbias.sum(0), None
