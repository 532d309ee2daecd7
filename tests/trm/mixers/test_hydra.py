"""Hydra's form against the dense quasi-separable matrix, element by element."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trm.grid import Layout
from trm.layers import rms_norm
from trm.mixers.mamba2 import Mamba2Config, QuasiSeparable

HIDDEN, LENGTH = 16, 11


def built(**fields) -> QuasiSeparable:
    config = Mamba2Config(direction="quasiseparable", **{"d_state": 3, "headdim": 4} | fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = config.build(HIDDEN, Layout(LENGTH), 0, None)
    return module.double()


def dense(module: QuasiSeparable, x: Tensor) -> Tensor:
    """y of the docstring: x is one row, (L, D). M[t, s] for every head, by products of single decays."""
    config, heads, ngroups = module.config, module.heads, module.config.ngroups
    states, taps = ngroups * config.d_state, config.d_conv
    z, inner, *own = (x @ module.in_proj.weight.T).split(
        [module.inner, module.inner, 2 * states, heads, 2 * states, heads], -1
    )
    convolved = torch.cat([inner, own[0], own[2]], -1).T[None]
    padded = F.pad(convolved, (taps - 1 - (taps - 1) // 2, (taps - 1) // 2))
    convolved = F.conv1d(padded, module.conv1d.weight, module.conv1d.bias, groups=convolved.shape[1])
    inner, *BC = F.silu(convolved[0].T).split([module.inner, 2 * states, 2 * states], -1)
    A, y = -module.A_log.exp(), torch.zeros(LENGTH, heads, config.headdim, dtype=torch.float64)
    values = inner.view(LENGTH, heads, -1)
    diagonal = module.D + inner @ module.fc_D.weight.T
    for h in range(heads):
        group = h // (heads // ngroups)
        M = torch.diag(diagonal[:, h])
        for reading, raw in enumerate((own[1], own[3])):
            dt = F.softplus(raw[:, h] + module.dt_bias[h])
            B, C = BC[reading].view(LENGTH, 2, ngroups, -1)[:, :, group].unbind(1)
            step = 1 if reading == 0 else -1
            for t in range(LENGTH):
                before = t - step  # the token whose state t is handed
                for s in range(t) if step == 1 else range(t + 1, LENGTH):
                    decay = sum((dt[k] * A[h] for k in range(s + step, t, step)), torch.zeros(()))
                    M[t, s] = C[before] @ B[s] * dt[s] * decay.exp()
        y[:, h] = M @ values[:, h]
    gated = y.flatten(1) * F.silu(z)
    parts = gated.chunk(ngroups if config.norm_by_group else 1, -1)
    return torch.cat([rms_norm(part) for part in parts], -1) * module.norm.weight @ module.out_proj.weight.T


@pytest.mark.parametrize(
    "fields",
    [
        *({"d_conv": taps} for taps in (7, 4, 1)),
        *({"d_conv": 7, "expand": 1.0, "ngroups": 2, "norm_by_group": each} for each in (True, False)),
    ],
    ids=str,
)
def test_equals_the_dense_matrix_in_float64(fields):
    module = built(**fields)
    x = torch.randn(2, LENGTH, HIDDEN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([dense(module, row) for row in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)


def test_it_has_hydras_parameters():
    config = Mamba2Config(direction="quasiseparable", expand=576 / 512, d_conv=7)
    assert config.num_params(512, Layout(97)) == 1_037_467
    assert {name: tuple(p.shape) for name, p in built(d_conv=7).named_parameters()} == {
        "dt_bias": (5,), "A_log": (5,), "D": (5,), "fc_D.weight": (5, 20), "norm.weight": (20,),
        "in_proj.weight": (2 * 20 + 2 * (2 * 3 + 5), 16), "out_proj.weight": (16, 20),
        "conv1d.weight": (20 + 4 * 3, 1, 7), "conv1d.bias": (20 + 4 * 3,),
    }  # fmt: skip


def test_the_readings_are_shifted_so_that_the_diagonal_is_its_own():
    """Without D and fc_D no token reaches itself but through the convolution, which has one tap here."""
    module = built(d_conv=1)
    with torch.no_grad():
        module.D.zero_(), module.fc_D.weight.zero_()
    mixed = []
    module.norm.register_forward_pre_hook(lambda _m, args: mixed.append(args[0]))
    x = torch.randn(1, LENGTH, HIDDEN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def values(x: Tensor) -> Tensor:
        module(x)
        return mixed.pop()[0].sum(-1)

    reaches = torch.autograd.functional.jacobian(values, x)[:, 0].abs().sum(-1) > 0
    assert torch.equal(reaches, ~torch.eye(LENGTH, dtype=torch.bool))
