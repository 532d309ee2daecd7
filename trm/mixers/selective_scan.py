"""The selective scan of Mamba (arXiv 2312.00752, algorithm 2) in plain PyTorch, step by step.

For every channel e of E, with N states (B and C are the channels' in common, A[e, n] < 0):

    h_t[n, e] = exp(dt_t[e] A[e, n]) h_{t-1}[n, e] + dt_t[e] x_t[e] B_t[n],    y_t[e] = sum_n C_t[n] h_t[n, e]

All states at once would be L x E x N numbers a row. Only every sqrt(L)-th is kept, and the backward pass
computes those between two of them again (section 3.3.2's idea, for machines without its kernel). A state is
held as (B, N, E): the long axis is the inner one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # x, dt, A, B, C


@torch.compiler.disable  # unrolled, the loop takes minutes to compile
def selective_scan(
    x: Float[Tensor, "B L E"],
    dt: Float[Tensor, "B L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
) -> Float[Tensor, "B L E"]:
    """The recurrence's y in the dtype of x, computed in the dtype of dt (float32 or wider)."""
    inputs = (x, dt, A, B, C)
    # Asked here, because inside an autograd.Function gradients always look switched off.
    if torch.is_grad_enabled() and any(v.requires_grad for v in inputs):
        y: Tensor = _SelectiveScan.apply(*inputs)
        return y
    return _scan(inputs, None)[0]


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.every = math.isqrt(inputs[0].shape[1] - 1) + 1  # steps between two checkpoints
        y, checkpoints = _scan(inputs, ctx.every)
        ctx.save_for_backward(*inputs, checkpoints)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Inputs:
        *inputs, checkpoints = ctx.saved_tensors
        return _gradients(tuple(inputs), dy, checkpoints, ctx.every)


def _scan(inputs: tuple[Tensor, ...], every: int | None) -> tuple[Tensor, Tensor | None]:
    """y, and the states before steps 0, every, 2 every, ..., stacked; none are kept without `every`."""
    x, dt, A, B, C = _in_dtype_of_dt(inputs)
    state = x.new_zeros(x.shape[0], A.shape[0], x.shape[2])
    decay = torch.empty_like(state)
    u, y = dt * x, torch.empty_like(x)
    kept = []
    for t in range(x.shape[1]):
        if every is not None and t % every == 0:
            kept.append(state.clone())
        _step(state, decay, A, u[:, t], dt[:, t], B[:, t], out=state)
        y[:, t] = (C[:, t, None] @ state)[:, 0]
    return y.to(inputs[0].dtype), torch.stack(kept) if kept else None


def _gradients(inputs: tuple[Tensor, ...], dy: Tensor, checkpoints: Tensor, every: int) -> Inputs:
    """Of the inputs. Back through time: dh_t = C_t dy_t + exp(dt_{t+1} A) dh_{t+1}."""
    x, dt, A, B, C = _in_dtype_of_dt(inputs)
    dy, u, length = dy.to(dt.dtype), dt * x, x.shape[1]
    du, ddt, dB, dC = (torch.empty_like(v) for v in (u, dt, B, C))
    dA = torch.zeros_like(checkpoints[0])  # summed over the batch at the end
    dh = torch.zeros_like(dA)
    states = dh.new_empty(every + 1, *dh.shape)  # states[i] is the one before the segment's step i
    decays = dh.new_empty(every, *dh.shape)
    scratch = torch.empty_like(dh)
    for segment in reversed(range(len(checkpoints))):
        start, stop = segment * every, min((segment + 1) * every, length)
        states[0] = checkpoints[segment]
        for i, t in enumerate(range(start, stop)):
            _step(states[i], decays[i], A, u[:, t], dt[:, t], B[:, t], out=states[i + 1])
        for t in reversed(range(start, stop)):
            i = t - start
            dh.addcmul_(C[:, t, :, None], dy[:, t, None])
            dC[:, t] = (states[i + 1] @ dy[:, t, :, None])[..., 0]
            dB[:, t] = (dh @ u[:, t, :, None])[..., 0]
            du[:, t] = (B[:, t, None] @ dh)[:, 0]
            dh *= decays[i]
            dlog = torch.mul(dh, states[i], out=scratch)  # the gradient of dt_t A
            dA.addcmul_(dlog, dt[:, t, None])
            ddt[:, t] = dlog.mul_(A).sum(1)
    gradients = (du * dt, ddt.addcmul_(du, x), dA.sum(0).t(), dB, dC)
    return tuple(g.to(v.dtype) for g, v in zip(gradients, inputs, strict=True))  # type: ignore[return-value]


def _step(state: Tensor, decay: Tensor, A: Tensor, u: Tensor, dt: Tensor, B: Tensor, out: Tensor) -> None:
    """out = decay * state + B u with decay = exp(dt A), which is left in `decay`. `out` may be `state`."""
    torch.mul(dt[:, None], A, out=decay).exp_()
    torch.mul(decay, state, out=out).addcmul_(B[:, :, None], u[:, None])


def _in_dtype_of_dt(inputs: tuple[Tensor, ...]) -> Inputs:
    """The inputs to compute with; A turned to (N, E), the layout of a state."""
    x, dt, A, B, C = inputs
    return x.to(dt.dtype), dt, A.to(dt.dtype).t().contiguous(), B.to(dt.dtype), C.to(dt.dtype)
