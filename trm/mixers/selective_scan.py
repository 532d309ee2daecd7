"""The selective scan of Mamba (arXiv 2312.00752, algorithm 2), step by step.

For every channel e of E, with N states (B and C are the channels' in common, A[e, n] < 0):

    h_t[n, e] = exp(dt_t[e] A[e, n]) h_{t-1}[n, e] + dt_t[e] x_t[e] B_t[n]
    y_t[e] = sum_n C_t[n] h_t[n, e] + D[e] x_t[e]

All states at once would be L x E x N numbers a row. Only every sqrt(L)-th is kept, and the backward pass
computes those between two of them again (section 3.3.2's idea, for machines without its kernel). A state is
held as (B, N, E): the long axis is the inner one.

Two steppers do the same: C, compiled on first use (`selective_scan.c`), for float32 on a CPU; and PyTorch, a
token at a time, for everything else and where there is no compiler. They differ by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trm.native import call, library

SOURCE = Path(__file__).with_suffix(".c")

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # x, dt, A, B, C, D
# In both: one dtype, and A turned to (N, E), the layout of a state; whether the tokens are read from the last
# to the first; and the tokens between two checkpoints.
Scan = Callable[[Inputs, bool, int | None], tuple[Tensor, Tensor | None]]
Gradients = Callable[[Inputs, Tensor, Tensor, bool, int], Inputs]


class Stepper(NamedTuple):
    scan: (
        Scan  # y, and the states before steps 0, every, 2 every, ..., stacked; none are kept without `every`
    )
    gradients: Gradients  # of the inputs, from dy and those states


def selective_scan(
    x: Float[Tensor, "B L E"],
    dt: Float[Tensor, "B L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
    D: Float[Tensor, " E"],
    reverse: bool = False,
    compiled: bool = True,
) -> Float[Tensor, "B L E"]:
    """The recurrence's y in the dtype of x, computed in the dtype of dt (float32 or wider); dt >= 0, A <= 0.

    With `reverse` the tokens are read from the last to the first. Without `compiled`, by PyTorch's operations
    alone.
    """
    stepper = (compiled and _compiled_for(dt)) or IN_TORCH
    inputs = (x, dt, A, B, C, D)
    # Asked here, because inside an autograd.Function gradients always look switched off.
    if torch.is_grad_enabled() and any(v.requires_grad for v in inputs):
        y: Tensor = _SelectiveScan.apply(stepper, reverse, *inputs)
        return y
    return stepper.scan(_in_dtype_of_dt(inputs), reverse, None)[0].to(x.dtype)


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stepper: Stepper, reverse: bool, *inputs: Tensor) -> Tensor:
        ctx.stepper, ctx.reverse = stepper, reverse
        ctx.every = math.isqrt(inputs[0].shape[1] - 1) + 1
        y, checkpoints = stepper.scan(_in_dtype_of_dt(inputs), reverse, ctx.every)
        ctx.save_for_backward(*inputs, checkpoints)
        return y.to(inputs[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, checkpoints = ctx.saved_tensors
        same = _in_dtype_of_dt(inputs)
        dx, ddt, dA, dB, dC, dD = ctx.stepper.gradients(
            same, dy.to(same[0].dtype), checkpoints, ctx.reverse, ctx.every
        )
        gradients = (dx, ddt, dA.t(), dB, dC, dD)
        return None, None, *(g.to(v.dtype) for g, v in zip(gradients, inputs, strict=True))


def _in_dtype_of_dt(inputs: tuple[Tensor, ...] | list[Tensor]) -> Inputs:
    x, dt, A, B, C, D = (v.to(inputs[1].dtype) for v in inputs)
    return x, dt, A.t(), B, C, D


def _scan_in_torch(inputs: Inputs, reverse: bool, every: int | None) -> tuple[Tensor, Tensor | None]:
    x, dt, A, B, C, D = inputs
    A = A.contiguous()
    state = x.new_zeros(x.shape[0], A.shape[0], x.shape[2])
    decay = torch.empty_like(state)
    u, y = dt * x, D * x
    kept = []
    for i, t in enumerate(_tokens(x, reverse)):
        if every is not None and i % every == 0:
            kept.append(state.clone())
        _step(state, decay, A, u[:, t], dt[:, t], B[:, t], out=state)
        y[:, t] += (C[:, t, None] @ state)[:, 0]
    return y, torch.stack(kept) if kept else None


def _gradients_in_torch(inputs: Inputs, dy: Tensor, checkpoints: Tensor, reverse: bool, every: int) -> Inputs:
    """Back through time: dh_t = C_t dy_t + exp(dt_{t+1} A) dh_{t+1}."""
    x, dt, A, B, C, D = inputs
    A, u, tokens = A.contiguous(), dt * x, _tokens(x, reverse)
    du, ddt, dB, dC = (torch.empty_like(v) for v in (u, dt, B, C))
    dA = torch.zeros_like(checkpoints[0])  # summed over the batch at the end
    dh = torch.zeros_like(dA)
    states = dh.new_empty(every + 1, *dh.shape)  # states[i] is the one before the segment's step i
    decays = dh.new_empty(every, *dh.shape)
    scratch = torch.empty_like(dh)
    for segment in reversed(range(len(checkpoints))):
        steps = tokens[segment * every : (segment + 1) * every]
        states[0] = checkpoints[segment]
        for i, t in enumerate(steps):
            _step(states[i], decays[i], A, u[:, t], dt[:, t], B[:, t], out=states[i + 1])
        for i, t in reversed([*enumerate(steps)]):
            dh.addcmul_(C[:, t, :, None], dy[:, t, None])
            dC[:, t] = (states[i + 1] @ dy[:, t, :, None])[..., 0]
            dB[:, t] = (dh @ u[:, t, :, None])[..., 0]
            du[:, t] = (B[:, t, None] @ dh)[:, 0]
            dh *= decays[i]
            dlog = torch.mul(dh, states[i], out=scratch)  # the gradient of dt_t A
            dA.addcmul_(dlog, dt[:, t, None])
            ddt[:, t] = dlog.mul_(A).sum(1)
    dD = (dy * x).sum((0, 1))
    return (du * dt).addcmul_(dy, D), ddt.addcmul_(du, x), dA.sum(0), dB, dC, dD


def _tokens(x: Tensor, reverse: bool) -> range:
    """In the order of their reading."""
    tokens = range(x.shape[1])
    return tokens[::-1] if reverse else tokens


def _step(state: Tensor, decay: Tensor, A: Tensor, u: Tensor, dt: Tensor, B: Tensor, out: Tensor) -> None:
    """out = decay * state + B u with decay = exp(dt A), which is left in `decay`. `out` may be `state`."""
    torch.mul(dt[:, None], A, out=decay).exp_()
    torch.mul(decay, state, out=out).addcmul_(B[:, :, None], u[:, None])


IN_TORCH = Stepper(_scan_in_torch, _gradients_in_torch)


def _compiled_for(dt: Tensor) -> Stepper | None:
    """The C stepper, where it can do this and can be had."""
    suits = dt.device.type == "cpu" and dt.dtype == torch.float32
    return IN_C if suits and library(SOURCE) is not None else None


def _scan_in_c(inputs: Inputs, reverse: bool, every: int | None) -> tuple[Tensor, Tensor | None]:
    x, _, A, *_ = inputs
    y, checkpoints = x.new_empty(x.shape), None
    if every is not None:
        checkpoints = x.new_empty(-(-x.shape[1] // every), x.shape[0], *A.shape)
    _call("selective_scan", inputs, reverse, every or 1, y, checkpoints)
    return y, checkpoints


def _gradients_in_c(inputs: Inputs, dy: Tensor, checkpoints: Tensor, reverse: bool, every: int) -> Inputs:
    x, _, A, B, _, D = inputs
    dx, ddt = (x.new_empty(x.shape) for _ in range(2))
    dB, dC = (B.new_zeros(B.shape) for _ in range(2))
    dA, dD = (v.new_empty(len(x), *v.shape) for v in (A, D))  # of each row
    gradients = (dx, ddt, dA, dB, dC, dD)
    _call("selective_scan_gradients", inputs, reverse, every, dy.contiguous(), checkpoints, *gradients)
    return dx, ddt, dA.sum(0), dB, dC, dD.sum(0)


def _call(name: str, inputs: Inputs, reverse: bool, every: int, *arrays: Tensor | None) -> None:
    """Call the C function; `arrays` are contiguous float32."""
    given = [v.contiguous() for v in inputs]
    numbers = [*given[0].shape, len(given[2]), every, int(reverse), torch.get_num_threads()]
    call(SOURCE, name, numbers, [*given, *arrays])


IN_C = Stepper(_scan_in_c, _gradients_in_c)
