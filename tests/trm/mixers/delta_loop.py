"""The gated delta rule and its two blocks, token by token: slow, and too simple to be wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.mixers.delta_rule import DeltaRule
from trm.mixers.gated_deltanet import GatedDeltaNet


def delta_loop(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> Tensor:
    """q, k (B, L, G, K), v (B, L, H, V), log_decay (B, L, H, 1 or K), beta (B, L, H) -> (B, L, H, V)."""
    q, k = (x.repeat_interleave(v.shape[2] // k.shape[2], dim=2) for x in (q, k))
    state, ys = v.new_zeros(*v.shape[:1], v.shape[2], k.shape[-1], v.shape[-1]), []
    for t in range(v.shape[1]):
        state = log_decay[:, t].exp()[..., None] * state
        held = torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        written = beta[:, t, :, None] * (v[:, t] - held)
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], written)
        ys.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(ys, dim=1)


def block_loop(module: DeltaRule, x: Tensor) -> Tensor:
    """What a mixer that reads forwards, row after row, computes of x."""
    q, k, v = (
        F.silu(_conv(F.linear(x, linear.weight), conv.weight))
        for linear, conv in (
            (module.q_proj, module.q_conv1d),
            (module.k_proj, module.k_conv1d),
            (module.v_proj, module.v_conv1d),
        )
    )
    q, k = (each.unflatten(-1, (-1, module.d_state)) for each in (q, k))
    q, k = (each / (each.square().sum(-1, keepdim=True) + 1e-6).sqrt() for each in (q, k))
    beta = torch.sigmoid(F.linear(x, module.b_proj.weight))
    beta = 2 * beta if module.config.allow_neg_eigval else beta
    if isinstance(module, GatedDeltaNet):
        step = F.linear(x, module.a_proj.weight)
        gate = F.silu(F.linear(x, module.g_proj.weight))
    else:
        step = F.linear(F.linear(x, module.f_proj[0].weight), module.f_proj[1].weight)
        inner = F.linear(x, module.g_proj[0].weight)
        gate = torch.sigmoid(F.linear(inner, module.g_proj[1].weight, module.g_proj[1].bias))
    step = F.softplus(step + module.dt_bias).unflatten(-1, (len(module.A_log), -1))
    y = delta_loop(
        q * module.d_state**-0.5,
        k,
        v.unflatten(-1, (-1, module.head_dim)),
        -torch.exp(module.A_log)[:, None] * step,
        beta,
    )
    normed = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5) * module.o_norm.weight
    return F.linear(normed.flatten(2) * gate, module.o_proj.weight)


def _conv(x: Tensor, weight: Tensor) -> Tensor:
    channels, _, taps = weight.shape
    return F.conv1d(x.mT, weight, padding=taps - 1, groups=channels)[..., : x.shape[1]].mT
