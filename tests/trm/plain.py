"""TRM's block composed of PyTorch's operations as its papers write it: slow, and too plain to be wrong.

Every fast path is checked against it, and `benchmarks.training_step` measures against it. Each function takes
one of the project's modules for its parameters, and does what that module's `forward` does:

    attention   Vaswani et al., arXiv 1706.03762, equation 1, with rotary positions
    mamba       arXiv 2312.00752, algorithm 2: all decays and inputs at once, then a loop over the tokens, as
                in the public minimal implementation (johnma2006/mamba-minimal)
    mamba2      arXiv 2405.21060, listing 1, with the convolution of `nn.Conv1d`

and in `tests.trm.plain_recurrent` RWKV-7, mLSTM and Mamba-3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trm import plain_recurrent
from trm.block import Layer
from trm.layers import SwiGLU
from trm.mixers.attention import Attention
from trm.mixers.mamba import Mamba
from trm.mixers.mamba2 import Mamba2
from trm.mixers.mamba3 import Mamba3
from trm.mixers.mlp import MLP
from trm.mixers.mlstm import MLSTM
from trm.mixers.order import TokenOrder
from trm.mixers.rwkv7 import RWKV7
from trm.mixers.ssm import of_direction
from trm.model import TRM

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def compose_plainly(model: TRM, scan: Scan | None = None) -> None:
    """From here on the model's blocks compute with the functions below; parameters and their names stay.

    `scan` is Mamba's, `selective_scan` or `unbound_scan`. Raises ValueError for a mixer that is not here
    (`unknown_mixers`), or that reads in another order than row after row.
    """
    forwards = {Layer: layer, SwiGLU: swiglu, **MIXERS}
    forwards[Mamba] = partial(mamba, scan=scan or selective_scan)
    if unknown := unknown_mixers(model):
        raise ValueError(f"the plain composition has no {', '.join(sorted(unknown))}")
    for block in model.blocks:
        for module in block.modules():
            if isinstance(module, TokenOrder) and module.there is not None:
                raise ValueError("the plain composition reads row after row: set order to row")
            if type(module) in forwards:
                module.forward = partial(forwards[type(module)], module)


def unknown_mixers(model: TRM) -> set[str]:
    """Names of the model's mixers that have no plain composition here."""
    layers = [module for block in model.blocks for module in block.modules() if isinstance(module, Layer)]
    kinds = {type(mixer) for each in layers for mixer in each.mixers}
    return {kind.__name__ for kind in kinds - {*MIXERS}}


def layer(module: Layer, h: Tensor) -> Tensor:
    for mixer, dim in zip(module.mixers, module.mixer_norm_dims, strict=True):
        h = rms_norm(h + mixer(h), dim)
    return rms_norm(h + module.mlp(h))


def rms_norm(x: Tensor, dim: int = -1) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(dim, keepdim=True) + 1e-5)


def swiglu(module: SwiGLU, x: Tensor) -> Tensor:
    gate, up = F.linear(x, module.gate_up_proj.weight).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, module.down_proj.weight)


def mlp(module: MLP, x: Tensor) -> Tensor:
    return swiglu(module, x.transpose(1, 2)).transpose(1, 2)


def attention(module: Attention, x: Tensor) -> Tensor:
    rows, length, _ = x.shape
    q, k, v = F.linear(x, module.qkv_proj.weight).chunk(3, dim=-1)
    q, k, v = (each.view(rows, length, module.num_heads, -1).transpose(1, 2) for each in (q, k, v))
    if module.rope is not None:
        q, k = (rotated(each, *module.rope()) for each in (q, k))
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    mixed = torch.softmax(scores, dim=-1) @ v
    return F.linear(mixed.transpose(1, 2).reshape(rows, length, -1), module.o_proj.weight)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    length = x.shape[-2]
    return x * cos[:length] + torch.cat((-second, first), dim=-1) * sin[:length]


def mamba(module: Mamba, h: Tensor, scan: Scan) -> Tensor:
    x, z = F.linear(h, module.in_proj.weight).chunk(2, dim=-1)
    ys = [_mamba_reading(module, x, index, scan) for index in range(len(module.reversals))]
    return F.linear(sum(ys) / len(ys) * F.silu(z), module.out_proj.weight)


def _mamba_reading(module: Mamba, x: Tensor, index: int, scan: Scan) -> Tensor:
    reverse = module.reversals[index]
    x = x.flip(1) if reverse else x
    conv, inner = module.conv1d, module.inner
    x = F.silu(conv1d(x, of_direction(conv.weight, inner, index), of_direction(conv.bias, inner, index)))
    dt, B, C = F.linear(x, of_direction(module.x_proj.weight, sum(module.sizes), index)).split(
        module.sizes, dim=-1
    )
    parameters = (module.dt_proj.weight, module.dt_proj.bias, module.A_log, module.D)
    weight, bias, A_log, D = (of_direction(each, inner, index) for each in parameters)
    y = scan(x, F.softplus(F.linear(dt, weight, bias)), -torch.exp(A_log), B, C) + D * x
    return y.flip(1) if reverse else y


def selective_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """x, dt (B, L, E), A (E, N), B, C (B, L, N) -> (B, L, E)."""
    decays = torch.exp(dt[..., None] * A)
    inputs = (dt * x)[..., None] * B[:, :, None]
    state, ys = torch.zeros_like(inputs[:, 0]), []
    for t in range(x.shape[1]):
        state = decays[:, t] * state + inputs[:, t]
        ys.append((state * C[:, t, None]).sum(-1))
    return torch.stack(ys, dim=1)


def unbound_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The same, taken apart once: above, every token's gradient is a tensor as large as all tokens."""
    decays = torch.exp(dt[..., None] * A).unbind(1)
    inputs = ((dt * x)[..., None] * B[:, :, None]).unbind(1)
    state, ys = torch.zeros_like(inputs[0]), []
    for decay, added, read in zip(decays, inputs, C.unbind(1), strict=True):
        state = decay * state + added
        ys.append((state * read[:, None]).sum(-1))
    return torch.stack(ys, dim=1)


def mamba2(module: Mamba2, h: Tensor) -> Tensor:
    config, inner = module.config, module.inner
    sizes = [inner, inner, *[module.shared, module.heads] * config.selections]
    z, x, *own = F.linear(h, module.in_proj.weight).split(sizes, dim=-1)
    own = own * 2 if len(own) == 2 else own
    ys = [_mamba2_reading(module, x, *own[2 * i : 2 * i + 2], i) for i in range(len(module.scans.reversals))]
    gated = sum(ys) / len(ys) * F.silu(z)
    groups = gated.chunk(config.ngroups if config.norm_by_group else 1, dim=-1)
    normed = torch.cat([rms_norm(group) for group in groups], dim=-1)
    return F.linear(normed * module.norm.weight, module.out_proj.weight)


def _mamba2_reading(module: Mamba2, x: Tensor, BC: Tensor, dt: Tensor, index: int) -> Tensor:
    config, heads, reverse = module.config, module.heads, module.scans.reversals[index]
    x, BC, dt = (v.flip(1) if reverse else v for v in (x, BC, dt))
    of_x = config.dynamics * module.inner
    weight, bias = (
        torch.cat(
            (
                of_direction(each[:of_x], module.inner, index),
                of_direction(each[of_x:], module.shared, index),
            )
        )
        for each in (module.conv1d.weight, module.conv1d.bias)
    )
    convolved = F.silu(conv1d(torch.cat((x, BC), dim=-1), weight, bias))
    x, B, C = convolved.split([module.inner, module.shared // 2, module.shared // 2], dim=-1)
    dt_bias, A_log, D = (of_direction(v, heads, index) for v in (module.dt_bias, module.A_log, module.D))
    dt = F.softplus(dt + dt_bias)
    x = x.unflatten(-1, (heads, -1))
    B, C = (
        v.unflatten(-1, (config.ngroups, -1)).repeat_interleave(heads // config.ngroups, dim=2)
        for v in (B, C)
    )
    y = ssd(x * dt[..., None], dt * -torch.exp(A_log), B, C, config.chunk_size) + D[:, None] * x
    y = y.flatten(2)
    return y.flip(1) if reverse else y


def ssd(x: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int) -> Tensor:
    """x = dt x (B, L, H, P), A = dt A (B, L, H), B and C (B, L, H, N) -> (B, L, H, P)."""
    length = x.shape[1]
    size = min(chunk_size, length)
    x, A, B, C = (_in_chunks(v, size) for v in (x, A, B, C))
    A = A.permute(0, 3, 1, 2)
    A_cumsum = torch.cumsum(A, dim=-1)
    within = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, torch.exp(segsum(A)), x)
    to_end = torch.exp(A_cumsum[..., -1:] - A_cumsum)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, to_end, x)
    states = torch.cat((torch.zeros_like(states[:, :1]), states), dim=1)
    between = torch.exp(segsum(F.pad(A_cumsum[..., -1], (1, 0))))
    before = torch.einsum("bhzc,bchpn->bzhpn", between, states)[:, :-1]
    across = torch.einsum("bclhn,bchpn,bhcl->bclhp", C, before, torch.exp(A_cumsum))
    return (within + across).flatten(1, 2)[:, :length]


def _in_chunks(v: Tensor, size: int) -> Tensor:
    padding = [0, 0] * (v.ndim - 2) + [0, -v.shape[1] % size]
    return F.pad(v, padding).unflatten(1, (-1, size))


def segsum(x: Tensor) -> Tensor:
    """Sums of all segments, each taken by itself, (..., T) -> (..., T, T); -inf above the diagonal."""
    length = x.shape[-1]
    ones = torch.ones(length, length, dtype=torch.bool, device=x.device)
    x = x[..., None].expand(*x.shape, length).masked_fill(~ones.tril(-1), 0)
    return torch.cumsum(x, dim=-2).masked_fill(~ones.tril(), -torch.inf)


def conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    channels, _, taps = weight.shape
    y = F.conv1d(x.transpose(1, 2), weight, bias, padding=taps - 1, groups=channels)
    return y[..., : x.shape[1]].transpose(1, 2)


MIXERS: dict[type[nn.Module], Callable[..., Tensor]] = {
    Attention: attention,
    MLP: mlp,
    Mamba: mamba,
    Mamba2: mamba2,
    RWKV7: plain_recurrent.rwkv7,
    MLSTM: plain_recurrent.mlstm,
    Mamba3: plain_recurrent.mamba3,
}
