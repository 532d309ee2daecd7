"""The selective scan and its gradients as Triton kernels, for float32 step sizes on a GPU.

A program scans one row of the batch for BLOCK_E channels, with their states in registers, one token after the
other. The backward pass goes through the segments from the last to the first: it computes the states of a
segment from its checkpoint, keeps them in a scratch buffer, and propagates the gradients back through them.

A thread holds 16 numbers of a state: one warp has 32 channels of 16 states, or more channels of fewer; for
more states a program has more warps, not fewer channels, as the partial sums of dB and dC take memory
proportional to L x E x N / BLOCK_E for each row.

Launches: one forward; backward one, and four sums, which are deterministic: over the blocks of channels for
dB and dC, over the rows for dA and dD. Where B and C are bfloat16, their gradients take two more.

Importing this module imports Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_OF_A_WARP = 512  # numbers of states, 16 a thread
_MAX_WARPS, _MIN_CHANNELS, _MAX_CHANNELS = (
    8,
    32,
    128,
)  # a program's; with more warps a thread has fewer registers


@triton.jit(do_not_specialize=["rows", "length", "every"])
def _scan_kernel(
    x, dt, A, B, C, D, y, checkpoints,
    rows, length, channels, states, every,
    x_row, x_token, dt_row, dt_token, B_row, B_token, C_row, C_token,
    REVERSE: tl.constexpr, KEEP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(channels, BLOCK_E)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.arange(0, BLOCK_N)
    in_e, in_n = e < channels, n < states
    inside = in_n[:, None] & in_e[None, :]
    x += row * x_row
    dt += row * dt_row
    B += row * B_row
    C += row * C_row
    y += row * length * channels
    a = tl.load(A + e[None, :] * states + n[:, None], inside, 0.0)
    d = tl.load(D + e, in_e, 0.0).to(tl.float32)
    size = states * channels  # of a row's state
    at = n[:, None] * channels + e[None, :]
    state = tl.zeros([BLOCK_N, BLOCK_E], tl.float32)
    for step in range(length):
        if KEEP:  # noqa: SIM102  every may be 0 without it
            if step % every == 0:
                tl.store(checkpoints + (step // every * rows + row) * size + at, state, inside)
        t = length - 1 - step if REVERSE else step
        x_t = tl.load(x + t * x_token + e, in_e, 0.0).to(tl.float32)
        dt_t = tl.load(dt + t * dt_token + e, in_e, 0.0)
        b = tl.load(B + t * B_token + n, in_n, 0.0).to(tl.float32)
        c = tl.load(C + t * C_token + n, in_n, 0.0).to(tl.float32)
        state = tl.exp(dt_t[None, :] * a) * state + b[:, None] * (dt_t * x_t)[None, :]
        y_t = tl.sum(state * c[:, None], 0) + d * x_t
        tl.store(y + t * channels + e, y_t.to(y.dtype.element_ty), in_e)


@triton.jit(do_not_specialize=["rows", "length", "every"])
def _gradients_kernel(
    x, dt, A, B, C, D, dy, checkpoints, scratch,
    dx, ddt, dA, dB, dC, dD,  # dA, dD: of each row; dB, dC: of each block of channels
    rows, length, channels, states, every,
    x_row, x_token, dt_row, dt_token, B_row, B_token, C_row, C_token, dy_row, dy_token,
    REVERSE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(channels, BLOCK_E)
    block = tl.program_id(0) % blocks
    row = (tl.program_id(0) // blocks).to(tl.int64)
    e = block * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.arange(0, BLOCK_N)
    in_e, in_n = e < channels, n < states
    inside = in_n[:, None] & in_e[None, :]
    x += row * x_row
    dt += row * dt_row
    B += row * B_row
    C += row * C_row
    dy += row * dy_row
    dx += row * length * channels
    ddt += row * length * channels
    dB += (block * rows + row) * length * states
    dC += (block * rows + row) * length * states
    a = tl.load(A + e[None, :] * states + n[:, None], inside, 0.0)
    d = tl.load(D + e, in_e, 0.0).to(tl.float32)
    size = states * channels  # of a row's state
    at = n[:, None] * channels + e[None, :]
    before = scratch + row * every * size + at  # the states before each step of the segment
    dh = tl.zeros([BLOCK_N, BLOCK_E], tl.float32)
    dA_row = tl.zeros([BLOCK_N, BLOCK_E], tl.float32)
    dD_row = tl.zeros([BLOCK_E], tl.float32)
    segments = tl.cdiv(length, every)
    for back in range(segments):
        segment = segments - 1 - back
        first = segment * every
        steps = min(every, length - first)
        state = tl.load(checkpoints + (segment * rows + row) * size + at, inside, 0.0)
        for step in range(steps):
            t = length - 1 - first - step if REVERSE else first + step
            tl.store(before + step * size, state, inside)
            x_t = tl.load(x + t * x_token + e, in_e, 0.0).to(tl.float32)
            dt_t = tl.load(dt + t * dt_token + e, in_e, 0.0)
            b = tl.load(B + t * B_token + n, in_n, 0.0).to(tl.float32)
            state = tl.exp(dt_t[None, :] * a) * state + b[:, None] * (dt_t * x_t)[None, :]
        tl.debug_barrier()  # another thread may load what one has stored
        for undone in range(steps):
            step = steps - 1 - undone
            t = length - 1 - first - step if REVERSE else first + step
            x_t = tl.load(x + t * x_token + e, in_e, 0.0).to(tl.float32)
            dt_t = tl.load(dt + t * dt_token + e, in_e, 0.0)
            b = tl.load(B + t * B_token + n, in_n, 0.0).to(tl.float32)
            c = tl.load(C + t * C_token + n, in_n, 0.0).to(tl.float32)
            dy_t = tl.load(dy + t * dy_token + e, in_e, 0.0).to(tl.float32)
            state = tl.load(before + step * size, inside, 0.0)
            decay = tl.exp(dt_t[None, :] * a)
            u = dt_t * x_t
            dh += c[:, None] * dy_t[None, :]
            after = decay * state + b[:, None] * u[None, :]
            tl.store(dC + t * states + n, tl.sum(after * dy_t[None, :], 1), in_n)
            tl.store(dB + t * states + n, tl.sum(dh * u[None, :], 1), in_n)
            du = tl.sum(dh * b[:, None], 0)
            dh *= decay
            dlog = dh * state  # the gradient of dt_t A
            dA_row += dlog * dt_t[None, :]
            dD_row += dy_t * x_t
            dx_t = du * dt_t + dy_t * d
            tl.store(dx + t * channels + e, dx_t.to(dx.dtype.element_ty), in_e)
            tl.store(ddt + t * channels + e, tl.sum(dlog * a, 0) + du * x_t, in_e)
        tl.debug_barrier()  # the next segment's states replace these
    tl.store(dA + row * size + e[None, :] * states + n[:, None], dA_row, inside)
    tl.store(dD + row * channels + e, dD_row, in_e)


def require_gpu() -> None:
    """Raise what Triton raises where it cannot run: without a driver, a C compiler or Python's headers."""
    triton.runtime.driver.active.get_current_target()


def scan(inputs: tuple[Tensor, ...], reverse: bool, every: int) -> tuple[Tensor, Tensor]:
    """y in the dtype of x, and the checkpoints (segments, B, N, E) in float32, the dtype of dt."""
    x, dt, A, B, C, D = inputs
    x, dt, B, C = (_dense_tokens(v) for v in (x, dt, B, C))
    (rows, length, channels), states = x.shape, A.shape[1]
    y = x.new_empty(x.shape)
    checkpoints = dt.new_empty(triton.cdiv(length, every) if every else 0, rows, states, channels)
    block = _block(states, channels)
    with torch.cuda.device_of(x):
        _scan_kernel[rows * triton.cdiv(channels, block["BLOCK_E"]),](
            x, dt, A.float().contiguous(), B, C, D.contiguous(), y, checkpoints,
            rows, length, channels, states, every,
            *(stride for v in (x, dt, B, C) for stride in v.stride()[:2]),
            REVERSE=reverse, KEEP=every > 0, **block,
        )  # fmt: skip
    return y, checkpoints


def gradients(
    inputs: tuple[Tensor, ...], dy: Tensor, checkpoints: Tensor, reverse: bool, every: int
) -> tuple[Tensor, ...]:
    """The gradients of the inputs, each in its input's dtype."""
    x, dt, A, B, C, D = inputs
    x, dt, B, C, dy = (_dense_tokens(v) for v in (x, dt, B, C, dy))
    (rows, length, channels), states = x.shape, A.shape[1]
    block = _block(states, channels)
    blocks = triton.cdiv(channels, block["BLOCK_E"])
    scratch = dt.new_empty(rows, every, states, channels)
    dx, ddt = (v.new_empty(v.shape) for v in (x, dt))
    dA, dD = (dt.new_empty(rows, *v.shape) for v in (A, D))
    dB, dC = (dt.new_empty(blocks, *v.shape) for v in (B, C))
    with torch.cuda.device_of(x):
        _gradients_kernel[rows * blocks,](
            x, dt, A.float().contiguous(), B, C, D.contiguous(), dy, checkpoints.contiguous(), scratch,
            dx, ddt, dA, dB, dC, dD,
            rows, length, channels, states, every,
            *(stride for v in (x, dt, B, C, dy) for stride in v.stride()[:2]),
            REVERSE=reverse, **block,
        )  # fmt: skip
    sums = (v.sum(0).to(given.dtype) for v, given in ((dA, A), (dB, B), (dC, C), (dD, D)))
    return dx, ddt, *sums


def _dense_tokens(v: Tensor) -> Tensor:
    """v, or a copy where a token's numbers are not next to each other."""
    return v if v.stride(-1) == 1 else v.contiguous()


def _block(states: int, channels: int) -> dict[str, int]:
    """The shape of a program's state, and its warps."""
    block_n = triton.next_power_of_2(states)
    wanted = min(max(_MIN_CHANNELS, _OF_A_WARP // block_n), _MAX_CHANNELS)
    block_e = max(1, min(wanted, _MAX_WARPS * _OF_A_WARP // block_n, triton.next_power_of_2(channels)))
    warps = min(max(1, block_n * block_e // _OF_A_WARP), _MAX_WARPS)
    return {"BLOCK_N": block_n, "BLOCK_E": block_e, "num_warps": warps}
