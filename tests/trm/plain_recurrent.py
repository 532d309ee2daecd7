"""The plain compositions (`tests.trm.plain`) of RWKV-7, mLSTM and Mamba-3, with loops over the tokens.

A reading backwards is the forward one on the reversed tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.trm.mixers.recurrences import mamba3_loop, mlstm_loop, rwkv7_loop
from trm.mixers.mamba3 import Mamba3
from trm.mixers.mlstm import MLSTM
from trm.mixers.rwkv7 import RWKV7


def rwkv7(module: RWKV7, h: Tensor) -> Tensor:
    return F.linear(_readings(module, h, lambda x, _: _rwkv7_reading(module, x)), module.output.weight)


def _rwkv7_reading(m: RWKV7, x: Tensor) -> Tensor:
    before = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), dim=1)
    xr, xw, xk, xv, xa, xg = (x + (before - x) * mu for mu in (m.x_r, m.x_w, m.x_k, m.x_v, m.x_a, m.x_g))
    r, k, v = xr @ m.receptance.weight.T, xk @ m.key.weight.T, xv @ m.value.weight.T
    w = -F.softplus(-(m.w0 + torch.tanh(xw @ m.w1) @ m.w2)) - 0.5
    a = torch.sigmoid(m.a0 + xa @ m.a1 @ m.a2)
    gate = torch.sigmoid(xg @ m.g1) @ m.g2
    kk = (k * m.k_k).unflatten(-1, (-1, m.head_size))
    kk = kk / kk.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    k = k * (1 + (a - 1) * m.k_a)
    r, w, k, v, a, r_k = (each.unflatten(-1, (-1, m.head_size)) for each in (r, w, k, v, a, m.r_k))
    y = rwkv7_loop(r, w, k, v, -kk, kk * a)
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 64e-5).sqrt()
    y = y.flatten(2) * m.ln_weight + m.ln_bias
    return (y + ((r * k * r_k).sum(-1, keepdim=True) * v).flatten(2)) * gate


def mlstm(module: MLSTM, h: Tensor) -> Tensor:
    u, z = F.linear(h, module.in_proj.weight).chunk(2, dim=-1)
    y = _readings(module, u, lambda x, _: _mlstm_reading(module, x))
    return F.linear(y * F.silu(z), module.out_proj.weight)


def _mlstm_reading(m: MLSTM, u: Tensor) -> Tensor:
    taps = m.conv1d.weight.shape[-1]
    padded = F.pad(u.mT, (taps - 1, 0))
    c = F.silu(F.conv1d(padded, m.conv1d.weight, m.conv1d.bias, groups=u.shape[-1]).mT)
    q, k, v = (x @ torch.block_diag(*weight).T for x, weight in ((c, m.q), (c, m.k), (u, m.v)))
    qkv = torch.cat((q, k, v), dim=-1)
    gates = qkv @ m.igate.weight.T + m.igate_bias, qkv @ m.fgate.weight.T + m.fgate_bias
    y = mlstm_loop(*(x.unflatten(-1, (m.num_heads, -1)) for x in (q, k, v)), *gates)
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    return y.flatten(2) * (1 + m.norm_weight) + m.skip * c


def mamba3(module: Mamba3, h: Tensor) -> Tensor:
    config, sizes = module.config, module.sizes
    projected = F.linear(h, module.in_proj.weight)
    z, x, *own = projected.split([module.inner, module.inner, *sizes * config.selections], dim=-1)

    def reading(x: Tensor, index: int) -> Tensor:
        start = index % config.selections * len(sizes)
        selecting = own[start : start + len(sizes)]
        return _mamba3_reading(
            module, x, [v.flip(1) if module.scans.reversals[index] else v for v in selecting]
        )

    y = _readings(module, x, reading)
    if module.norm_weight is not None:
        heads = y.unflatten(-1, (module.heads, -1))
        y = (heads * (heads.square().mean(-1, keepdim=True) + 1e-5).rsqrt()).flatten(2) * module.norm_weight
    return F.linear(y * F.silu(z), module.out_proj.weight)


def _mamba3_reading(m: Mamba3, x: Tensor, selecting: list[Tensor]) -> Tensor:
    B, C, dt, u, trap, angles = selecting
    B, C = (v.unflatten(-1, (m.config.ngroups, -1)) for v in (B, C))
    B, C = (
        v * (v.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * norm
        for v, norm in ((B, m.B_norm), (C, m.C_norm))
    )
    dt = F.softplus(dt + m.dt_bias)
    A = -torch.where(u >= 0, 1 + u, 1 / (1 - u.clamp(max=0))).clamp(min=1e-4)
    angles = angles[:, :, None].expand(-1, -1, m.heads, -1)
    x = x.unflatten(-1, (m.heads, -1))
    return mamba3_loop(C, B, x, A * dt, dt, trap, m.C_bias, m.B_bias, angles, m.D).flatten(2)


def _readings(module: RWKV7 | MLSTM | Mamba3, x: Tensor, reading: Callable[[Tensor, int], Tensor]) -> Tensor:
    ys = []
    for index, reverse in enumerate(module.scans.reversals):
        y = reading(x.flip(1) if reverse else x, index)
        ys.append(y.flip(1) if reverse else y)
    return sum(ys) / len(ys)
