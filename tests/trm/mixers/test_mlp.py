import torch
import torch.nn.functional as F

from trm.grid import Layout
from trm.mixers.mlp import MLPConfig


def test_mixes_tokens_alike_in_every_channel():
    module = MLPConfig(expansion=2.0).build(4, Layout(10), 0, None)
    x = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0))
    gate, up = (x.mT @ module.gate_up_proj.weight.T).chunk(2, -1)
    expected = ((F.silu(gate) * up) @ module.down_proj.weight.T).mT
    torch.testing.assert_close(module(x), expected)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(module(x[..., order]), module(x)[..., order])


def test_shapes_are_the_recorded_ones():
    module = MLPConfig().build(32, Layout(20), 0, None)
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {
        "gate_up_proj.weight": (512, 20),
        "down_proj.weight": (20, 256),
    }


def test_expansions_that_round_to_one_width_are_one_mixer():
    narrow, wide, wider = (MLPConfig(expansion=e) for e in (1.0, 4.0, 24.0))
    assert (
        narrow.effective(32, Layout(20), 2)
        == wide.effective(32, Layout(20), 2)
        != wider.effective(32, Layout(20), 2)
    )


def test_is_normed_over_tokens():
    assert MLPConfig().norm_axis == "token"
