"""The selective scan of Mamba (arXiv 2312.00752, algorithm 2), step by step.

For every channel e of E, with N states (all channels share B and C; A[e, n] < 0):

    h_t[n, e] = exp(dt_t[e] A[e, n]) h_{t-1}[n, e] + dt_t[e] x_t[e] B_t[n]
    y_t[e] = sum_n C_t[n] h_t[n, e] + D[e] x_t[e]

All states of a row would be L x E x N numbers. Only every sqrt(L)-th state is kept as a checkpoint, and the
backward pass recomputes those in between (the idea of section 3.3.2, without its GPU kernel). A state is
stored as (B, N, E), so that the long axis is the inner one.

There are three implementations, which differ by rounding, for float32 step sizes: C on a CPU (`scan.c`,
compiled on first use), Triton on a GPU (`scan_triton.py`), and for all other cases, and where there is no
compiler or no Triton, PyTorch, one token at a time. Triton is imported when a GPU's tensor is first scanned.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trm.mixers.kernels.native import call, library
from trm.mixers.kernels.operators import register

SOURCE = Path(__file__).with_suffix(".c")

Inputs = tuple[Tensor, ...]  # x, dt, A, B, C, D, or their gradients
# Arguments of both: the inputs; whether to scan from the last token to the first; and the number of tokens
# between two checkpoints.
Scan = Callable[[Inputs, bool, int], tuple[Tensor, Tensor]]
Gradients = Callable[[Inputs, Tensor, Tensor, bool, int], Inputs]

log = logging.getLogger(__name__)


class Stepper(NamedTuple):
    scan: Scan  # returns y and the stacked states before steps 0, every, 2 every, ... (none if `every` is 0)
    gradients: Gradients  # returns the gradients of the inputs, from dy and those states


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

    With `reverse` the scan runs from the last token to the first. Without `compiled` it is PyTorch's.
    """
    inputs = (x, dt, A, B, C, D)
    needs_gradients = torch.is_grad_enabled() and any(v.requires_grad for v in inputs)
    every = math.isqrt(x.shape[1] - 1) + 1 if needs_gradients else 0
    y: Tensor = torch.ops.trm.selective_scan(*inputs, reverse, every, compiled)[0]
    return y


# The operator's implementation, its shapes for tracing, and its gradients.


def _scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    *inputs, reverse, every, compiled = arguments
    x, dt, *_ = inputs
    y, checkpoints = _stepper(dt.device, dt.dtype, compiled).scan(tuple(inputs), reverse, every)
    return y.to(x.dtype).contiguous(), checkpoints


def _scan_shapes(*arguments: Any) -> tuple[Tensor, Tensor]:
    x, dt, A, *_, every, _ = arguments
    return x.new_empty(x.shape), dt.new_empty(_segments(x, every), x.shape[0], *A.shape[::-1])


def _gradients(*arguments: Any) -> Inputs:
    *inputs, dy, checkpoints, reverse, every, compiled = arguments
    stepper = _stepper(inputs[1].device, inputs[1].dtype, compiled)
    gradients = stepper.gradients(tuple(inputs), dy, checkpoints, reverse, every)
    return tuple(g.to(v.dtype).contiguous() for g, v in zip(gradients, inputs, strict=True))


register(
    "selective_scan",
    "x dt A B C D",
    "bool:reverse int:every bool:compiled",
    _scan,
    _scan_shapes,
    _gradients,
    kept="checkpoints",
)


def _stepper(device: torch.device, dtype: torch.dtype, compiled: bool) -> Stepper:
    """The compiled implementation for step sizes of this device and dtype, or PyTorch's."""
    if compiled and dtype == torch.float32:
        if device.type == "cpu" and library(SOURCE) is not None:
            return IN_C
        if device.type == "cuda" and (in_triton := _in_triton()) is not None:
            return in_triton
    return IN_TORCH


@lru_cache
def _in_triton() -> Stepper | None:
    """The Triton kernels, or None, with one warning, if Triton is not installed or cannot compile here."""
    try:
        from trm.mixers.kernels import scan_triton

        scan_triton.require_gpu()
    except Exception as error:  # of its driver, C compiler or headers
        log.warning(
            "mamba is computed by PyTorch one token at a time, which is many times slower than Triton "
            "(%s: %s): install the extra `kernels` (pip install 'trm-sweeps[kernels]') and a C compiler",
            type(error).__name__,
            str(error).strip().partition("\n")[0],
        )
        return None
    return Stepper(scan_triton.scan, scan_triton.gradients)


def _in_dtype_of_dt(inputs: Inputs) -> Inputs:
    """The inputs in one dtype, with A transposed to (N, E), the layout of a state."""
    x, dt, A, B, C, D = (v.to(inputs[1].dtype) for v in inputs)
    return x, dt, A.t(), B, C, D


def _segments(x: Tensor, every: int) -> Any:
    """Number of checkpoints: an int, or a symbolic int while tracing."""
    return -(-x.shape[1] // every) if every else 0


def _scan_in_torch(inputs: Inputs, reverse: bool, every: int) -> tuple[Tensor, Tensor]:
    x, dt, A, B, C, D = _in_dtype_of_dt(inputs)
    A = A.contiguous()
    state = x.new_zeros(x.shape[0], A.shape[0], x.shape[2])
    decay = torch.empty_like(state)
    u, y = dt * x, D * x
    kept = []
    for i, t in enumerate(_tokens(x, reverse)):
        if every and i % every == 0:
            kept.append(state.clone())
        _step(state, decay, A, u[:, t], dt[:, t], B[:, t], out=state)
        y[:, t] += (C[:, t, None] @ state)[:, 0]
    return y, torch.stack(kept) if kept else state.new_empty(0, *state.shape)


def _gradients_in_torch(inputs: Inputs, dy: Tensor, checkpoints: Tensor, reverse: bool, every: int) -> Inputs:
    """Backpropagation through time: dh_t = C_t dy_t + exp(dt_{t+1} A) dh_{t+1}."""
    x, dt, A, B, C, D = _in_dtype_of_dt(inputs)
    dy = dy.to(dt.dtype)
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
    return (du * dt).addcmul_(dy, D), ddt.addcmul_(du, x), dA.sum(0).t(), dB, dC, dD


def _tokens(x: Tensor, reverse: bool) -> range:
    """Token indices in scan order."""
    tokens = range(x.shape[1])
    return tokens[::-1] if reverse else tokens


def _step(state: Tensor, decay: Tensor, A: Tensor, u: Tensor, dt: Tensor, B: Tensor, out: Tensor) -> None:
    """out = decay * state + B u, with decay = exp(dt A), stored in `decay`. `out` may be `state`."""
    torch.mul(dt[:, None], A, out=decay).exp_()
    torch.mul(decay, state, out=out).addcmul_(B[:, :, None], u[:, None])


IN_TORCH = Stepper(_scan_in_torch, _gradients_in_torch)


def _scan_in_c(inputs: Inputs, reverse: bool, every: int) -> tuple[Tensor, Tensor]:
    inputs = _in_dtype_of_dt(inputs)
    x, _, A, *_ = inputs
    y, checkpoints = x.new_empty(x.shape), x.new_empty(_segments(x, every), len(x), *A.shape)
    _call("selective_scan", inputs, reverse, every, y, checkpoints)
    return y, checkpoints


def _gradients_in_c(inputs: Inputs, dy: Tensor, checkpoints: Tensor, reverse: bool, every: int) -> Inputs:
    inputs = _in_dtype_of_dt(inputs)
    x, _, A, B, _, D = inputs
    dx, ddt = (x.new_empty(x.shape) for _ in range(2))
    dB, dC = (B.new_zeros(B.shape) for _ in range(2))
    dA, dD = (v.new_empty(len(x), *v.shape) for v in (A, D))  # of each row
    gradients = (dx, ddt, dA, dB, dC, dD)
    _call(
        "selective_scan_gradients",
        inputs,
        reverse,
        every,
        dy.to(x.dtype).contiguous(),
        checkpoints,
        *gradients,
    )
    return dx, ddt, dA.sum(0).t(), dB, dC, dD.sum(0)


def _call(name: str, inputs: Inputs, reverse: bool, every: int, *arrays: Tensor) -> None:
    """Call the C function; `arrays` are contiguous float32."""
    dense = [v.contiguous() for v in inputs]
    numbers = [*dense[0].shape, len(dense[2]), every, int(reverse), torch.get_num_threads()]
    call(SOURCE, name, numbers, [*dense, *arrays])


IN_C = Stepper(_scan_in_c, _gradients_in_c)
