"""What Mamba and Mamba-2 have in common: directions, starting values, weight decay, backends, bfloat16."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from trm.grid import Layout
from trm.layers import DT_MAX, DT_MIN, dt_bias_init
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config
from trm.model_config import ModelConfig

HIDDEN, LENGTH = 16, 12
LAYOUT = Layout(LENGTH)
KINDS = {"mamba": (MambaConfig, {"d_state": 4}), "mamba2": (Mamba2Config, {"d_state": 4, "headdim": 4})}


@pytest.fixture(params=KINDS)
def make(request):
    """make(**fields): a config of the kind."""
    cls, small = KINDS[request.param]
    return lambda **fields: cls(**(small | fields))


def states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def sees(module, length: int = LENGTH) -> torch.Tensor:
    """(L, L) bool: whether the output at t depends on the input at s."""
    jacobian = torch.autograd.functional.jacobian(
        lambda x: module(x[None])[0].sum(-1), states(length, HIDDEN)
    )
    return jacobian.abs().sum(-1) > 0


def two_ways(make) -> list[str]:
    known = ["bidirectional_tied", "bidirectional", "bidirectional_own"]
    return known + (["quasiseparable"] if make().kind == "mamba2" else [])


def test_directions(make):
    past, everything = torch.ones(LENGTH, LENGTH).tril().bool(), torch.ones(LENGTH, LENGTH).bool()
    for direction, expected in [
        ("forward", [past, past, past]),
        ("alternating", [past, past.T, past]),
        *((two_way, [everything] * 3) for two_way in two_ways(make)),
    ]:
        config = make(direction=direction)
        for layer_idx, visible in enumerate(expected):
            assert torch.equal(sees(config.build(HIDDEN, LAYOUT, layer_idx, None)), visible)


def test_readout(make):
    assert [make(direction="forward").halting_position(n) for n in (1, 2, 3)] == ["last"] * 3
    assert [make(direction="alternating").halting_position(n) for n in (1, 2, 3)] == [
        "last",
        "first",
        "first",
    ]
    for direction in two_ways(make):
        assert [make(direction=direction).halting_position(n) for n in (1, 2, 3)] == ["first"] * 3


def test_an_odd_layer_is_the_even_one_on_the_reversed_tokens(make):
    forward, backward = (make(direction="alternating").build(HIDDEN, LAYOUT, i, None) for i in (0, 1))
    backward.load_state_dict(forward.state_dict())
    x = states(2, LENGTH, HIDDEN)
    torch.testing.assert_close(backward(x), forward(x.flip(1)).flip(1))


def test_a_bidirectional_layer_with_equal_halves_commutes_with_reversal(make):
    """Its two readings treat the tokens alike but for their own B, C and dt."""
    module = make(direction="bidirectional").build(HIDDEN, LAYOUT, 0, None)
    x = states(2, LENGTH, HIDDEN)
    assert not torch.allclose(module(x.flip(1)), module(x).flip(1), atol=1e-3)
    own = ["in_proj.weight", "conv1d.weight", "conv1d.bias"] if hasattr(module, "norm") else ["x_proj.weight"]
    sizes = {"in_proj.weight": 13, "conv1d.weight": 8, "conv1d.bias": 8, "x_proj.weight": 9}  # of one reading
    with torch.no_grad():
        for name in own:
            parameter = module.get_parameter(name)
            parameter[-sizes[name] :] = parameter[-2 * sizes[name] : -sizes[name]]
    torch.testing.assert_close(module(x.flip(1)), module(x).flip(1))


def test_tied_readings_commute_with_reversal_and_cost_nothing(make):
    tied, forward = make(direction="bidirectional_tied"), make(direction="forward")
    assert tied.num_params(HIDDEN, Layout(LENGTH)) == forward.num_params(HIDDEN, Layout(LENGTH))
    module, one_way = (config.build(HIDDEN, LAYOUT, 0, None) for config in (tied, forward))
    x = states(2, LENGTH, HIDDEN)
    torch.testing.assert_close(module(x.flip(1)), module(x).flip(1))
    assert {n: p.shape for n, p in module.named_parameters()} == {
        n: p.shape for n, p in one_way.named_parameters()
    }


def test_readings_of_their_own_are_two_mixers_between_common_projections(make):
    """With both readings' parameters those of one mixer, it is the tied one."""
    own, tied = (make(direction=f"bidirectional_{d}").build(HIDDEN, LAYOUT, 0, None) for d in ("own", "tied"))
    x, weights = states(2, LENGTH, HIDDEN), own.state_dict()
    for name, one in tied.state_dict().items():
        if weights[name].shape == one.shape:
            weights[name] = one
        elif name == "in_proj.weight":  # z and x, then what makes B, C and dt, of both
            weights[name] = torch.cat((one, one[40:]))
        elif name.startswith("conv1d") and make().kind == "mamba2":  # x, of both, then B and C, of both
            weights[name] = torch.cat((one[:20], one[:20], one[20:], one[20:]))
        else:
            weights[name] = torch.cat((one, one))
    own.load_state_dict(weights)
    torch.testing.assert_close(own(x), tied(x))
    with torch.no_grad():
        own.A_log[own.A_log.shape[0] // 2 :] += 1
    assert not torch.allclose(own(x), tied(x), atol=1e-4)


def test_readings_of_their_own_are_the_mean_of_two_mixers(make):
    """Of a forward one with the first half of every doubled parameter, and a backward one with the second."""
    own = make(direction="bidirectional_own").build(HIDDEN, LAYOUT, 0, None)
    one_way = [make(direction="alternating").build(HIDDEN, LAYOUT, scan_index, None) for scan_index in (0, 1)]
    is_mamba2 = hasattr(own, "norm")
    for index, module in enumerate(one_way):
        weights = {}
        for name, doubled in own.state_dict().items():
            shape = module.state_dict()[name].shape
            # What both share comes first in in_proj (z and x); conv1d of mamba2 has x of both, then B and C.
            shared = 40 if name == "in_proj.weight" else 0
            if doubled.shape == shape:
                weights[name] = doubled
            elif name.startswith("conv1d") and is_mamba2:
                x, BC = doubled.split([2 * 20, len(doubled) - 2 * 20])
                weights[name] = torch.cat((x.chunk(2)[index], BC.chunk(2)[index]))
            else:
                weights[name] = torch.cat((doubled[:shared], doubled[shared:].chunk(2)[index]))
        module.load_state_dict(weights)
    seen: list[torch.Tensor] = []
    for module in (own, *one_way):
        last = module.norm if is_mamba2 else module.out_proj
        last.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
        module(states(2, LENGTH, HIDDEN))
    mean, forward, backward = seen
    torch.testing.assert_close(mean, (forward + backward) / 2)


@pytest.mark.parametrize("direction", ["alternating", "bidirectional_own"])
def test_projections_start_by_lecun_and_the_rest_as_published(make, direction):
    """docs/mixers.md: std fan_in^-1/2, of the output projection `out_gain` times that."""
    torch.manual_seed(0)
    config = make(direction=direction, expand=2.0, d_state=16, out_gain=0.5)
    module = config.build(256, LAYOUT, 0, None)
    for name, gain in (("in_proj", 1.0), ("x_proj", 1.0), ("out_proj", 0.5)):
        if hasattr(module, name):
            weight = getattr(module, name).weight
            assert weight.std().item() == pytest.approx(gain * weight.shape[1] ** -0.5, rel=0.05), name
    assert module.conv1d.weight.abs().max() <= config.d_conv**-0.5
    assert torch.equal(module.D, torch.ones_like(module.D))


def test_step_sizes_start_log_uniform():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dt = torch.nn.functional.softplus(dt_bias_init(4000))
    assert dt.min() >= DT_MIN * 0.999 and dt.max() <= DT_MAX * 1.001
    share_below_middle = (dt < math.sqrt(DT_MIN * DT_MAX)).float().mean()
    assert share_below_middle == pytest.approx(0.5, abs=0.05)


def test_starting_values():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mamba = MambaConfig(d_state=4).build(64, LAYOUT, 0, None)
        mamba2 = Mamba2Config(headdim=2).build(64, LAYOUT, 0, None)
    torch.testing.assert_close(mamba.A_log.exp(), torch.tensor([1.0, 2, 3, 4]).repeat(80, 1))
    assert 0.4 < mamba.dt_proj.weight.abs().max() <= 0.5  # rank 4
    A = mamba2.A_log.exp()
    assert A.min() >= 1 and A.max() <= 16 and A.std() > 2
    assert (mamba.D == 1).all() and (mamba2.D == 1).all() and (mamba2.norm.weight == 1).all()
    assert mamba.out_proj.weight.std().item() == pytest.approx(80**-0.5, rel=0.1)
    assert mamba2.out_proj.weight.std().item() == pytest.approx(0.3 * 80**-0.5, rel=0.1)


def test_time_scales_stay_out_of_weight_decay(make):
    module = make().build(HIDDEN, LAYOUT, 0, None)
    spared = {n for n, p in module.named_parameters() if getattr(p, "_no_weight_decay", False)}
    bias = "dt_bias" if hasattr(module, "norm") else "dt_proj.bias"
    assert spared - {"norm.weight"} == {"A_log", "D", bias}


@pytest.mark.parametrize(
    ("config", "params"),
    [
        (MambaConfig(), 1_059_200),
        (Mamba2Config(), 1_058_206),
        (Mamba2Config(d_state=32, direction="bidirectional"), 1_063_326),
        (MambaConfig(direction="bidirectional"), 1_059_200 + 640 * (32 + 2 * 16)),
        (MambaConfig(direction="bidirectional_own", expand=1.125), 1_021_824),  # Vim's
    ],
)
def test_the_defaults_have_the_parameters_of_attention(config, params):
    assert config.num_params(512, Layout(97)) == params
    assert params == pytest.approx(4 * 512**2, rel=0.06)


def test_fields_that_change_nothing_are_not_effective(make):
    base = make().effective(HIDDEN, LAYOUT, 2)
    assert make(backend="mamba_ssm").effective(HIDDEN, LAYOUT, 2) == base
    assert make(expand=1.0).effective(HIDDEN, LAYOUT, 2) != base
    assert make(d_conv=3).effective(HIDDEN, LAYOUT, 2) != base
    alternating, forward = make(direction="alternating"), make(direction="forward")
    assert alternating.effective(HIDDEN, LAYOUT, 1) == forward.effective(HIDDEN, LAYOUT, 1)
    assert alternating.effective(HIDDEN, LAYOUT, 2) != forward.effective(HIDDEN, LAYOUT, 2)
    assert MambaConfig(dt_rank=1).effective(16, Layout(9), 2) == MambaConfig().effective(16, Layout(9), 2)
    assert Mamba2Config(chunk_size=8).effective(64, Layout(9), 2) == Mamba2Config().effective(
        64, Layout(9), 2
    )


def test_sizes_that_do_not_fit_are_refused(make):
    with pytest.raises(ValueError, match=r"1.25 x 30 = 37.5: give an expand such as 1.26667"):
        make().check(30)
    make(expand=1.26667, **({"headdim": 2} if make().kind == "mamba2" else {})).check(30)
    with pytest.raises(ValidationError):
        make(direction="sideways")
    with pytest.raises(ValidationError):
        make(d_state=0)


def test_a_rank_above_the_channels_is_refused():
    with pytest.raises(ValueError, match=r"dt_rank is 641, but a map of 640 channels .*: give 1 to 640"):
        MambaConfig(dt_rank=641).check(512)
    MambaConfig(dt_rank=640).check(512)


def test_heads_and_groups_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"headdim is 64.*the 20 channels.*give one of 1, 2, 4, 5, 10, 20"):
        Mamba2Config().check(16)
    with pytest.raises(ValueError, match=r"ngroups is 3.*the 5 heads.*give one of 1, 5$"):
        Mamba2Config(headdim=4, ngroups=3).check(16)
    Mamba2Config().check(512)


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="mamba_ssm is installed")
def test_a_backend_that_is_not_installed_is_refused(make):
    with pytest.raises(ValueError, match=r"No module named.*install mamba_ssm.*set backend to 'auto'"):
        make(backend="mamba_ssm").build(HIDDEN, LAYOUT, 0, None)


@pytest.fixture
def mamba_ssm(tmp_path, monkeypatch):
    """A package of that name whose kernels are loops."""
    for folder in ("mamba_ssm", "mamba_ssm/ops", "mamba_ssm/ops/triton"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    source = "from tests.trm.mixers.standins import {}\n"
    for path, name in [
        ("mamba_ssm/ops/selective_scan_interface.py", "SelectiveScanFn"),
        ("mamba_ssm/ops/triton/ssd_combined.py", "MambaChunkScanCombinedFn"),
    ]:
        (tmp_path / path).write_text(source.format(name))
    (tmp_path / "selective_scan_cuda.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("mamba_ssm", "selective_scan_cuda")]:
        del sys.modules[name]


def test_mamba_ssm_without_its_cuda_library_is_refused_for_mamba(mamba_ssm):
    """As its default wheel is. Mamba-2's kernels are Triton's."""
    (mamba_ssm / "selective_scan_cuda.py").write_text("raise ImportError('undefined symbol')")
    with pytest.raises(ValueError, match=r"selective_scan_cuda: ImportError: undefined symbol\): install"):
        MambaConfig(backend="mamba_ssm").check(HIDDEN)
    Mamba2Config(backend="mamba_ssm", headdim=4).check(HIDDEN)


def test_the_fused_backend_runs_on_a_gpu_only(make, mamba_ssm):
    model = ModelConfig(hidden_size=HIDDEN, mixer=make(backend="mamba_ssm"))
    with pytest.raises(ValueError, match="runs on an NVIDIA GPU, but the device is 'cpu'"):
        model.check_device("cpu")
    model.check_device("cuda:1")
    ModelConfig(hidden_size=HIDDEN, mixer=make()).check_device("cpu")


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_the_fused_backend_is_called_as_it_expects(make, mamba_ssm, direction):
    ours = make(direction=direction).build(HIDDEN, LAYOUT, 0, None)
    theirs = make(direction=direction, backend="mamba_ssm").build(HIDDEN, LAYOUT, 0, None)
    theirs.load_state_dict(ours.state_dict())
    x, dy = states(2, LENGTH, HIDDEN), states(2, LENGTH, HIDDEN)
    torch.testing.assert_close(theirs(x), ours(x))
    expected, found = (torch.autograd.grad(each(x), [*each.parameters()], dy) for each in (ours, theirs))
    torch.testing.assert_close(found, expected)


def test_the_fused_backends_operators_keep_what_torch_asks_of_one(mamba_ssm):
    x, dt, B, C = states(2, 6, 4), states(2, 6, 4).abs(), states(2, 6, 3), states(2, 6, 3)
    mamba = (x.bfloat16(), dt, -states(4, 3).abs(), B.bfloat16(), C.bfloat16(), states(4))
    heads = (x[..., None], dt, -states(4).abs(), B[:, :, None], C[:, :, None])
    operators = torch.ops.trm
    for inputs, setting, name in ((mamba, True, "mamba_ssm_scan"), (heads, 2, "mamba_ssm_chunk_scan")):
        scan, gradients = (getattr(operators, each).default for each in (name, f"{name}_gradients"))
        torch.library.opcheck(scan, (*(v.clone().requires_grad_() for v in inputs), setting))
        torch.library.opcheck(gradients, (*inputs, torch.ones_like(inputs[0]), setting))


COMPILE = """
import torch
from trm.grid import Grid, Layout
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config

small = {"d_state": 4, "headdim": 4}
for config in (
    MambaConfig(d_state=4),
    Mamba2Config(direction="bidirectional", **small),
    Mamba2Config(direction="quasiseparable", expand=1.5, order=("row", "column"), **small),
):
    module = config.build(16, Layout(12, Grid(3, 4)), 0, None)
    x = torch.randn(2, 12, 16)
    compiled = torch.compile(module, backend="aot_eager")
    expected, computed = (torch.autograd.grad(f(x).sum(), [*module.parameters()]) for f in (module, compiled))
    torch.testing.assert_close(computed, expected)
"""


@pytest.mark.faults  # tracing them takes half a minute
def test_compiled_equals_eager():
    """Traced only: to generate code takes half a minute. In a process without the checks of shapes."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_positions_are_in_the_order_not_in_rope(make):
    x = states(1, LENGTH, HIDDEN)
    with_rope, without = (make().build(HIDDEN, LAYOUT, 0, theta) for theta in (1e4, None))
    with_rope.load_state_dict(without.state_dict())
    assert torch.equal(with_rope(x), without(x)) and not make().uses_rope
