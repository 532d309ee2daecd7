"""The order in which cells are read: the paths, and that a mixer along one is a mixer of a permuted board."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.trm.mixers.reference import scan_loop
from trm.grid import Grid, Layout
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.order import token_order
from trm.mixers.ssm import Direction

BOARD = Layout(2 + 24, Grid(4, 6, (2, 3)))  # two slots, then the board
HIDDEN = 16
DIRECTIONS = ("forward", "alternating", "bidirectional_tied", "bidirectional", "bidirectional_own")


def test_paths_written_out():
    board = torch.arange(2, 26).view(4, 6)
    boxes = [board[r : r + 2, c : c + 3].flatten() for r in (0, 2) for c in (0, 3)]
    slots = torch.arange(2)
    assert token_order("row", BOARD) == list(range(26))
    assert token_order("column", BOARD) == torch.cat([slots, board.T.flatten()]).tolist()
    assert token_order("box", BOARD) == torch.cat([slots, *boxes]).tolist()
    assert token_order("row", Layout(7)) == list(range(7))


@given(
    bands=st.integers(1, 4), stacks=st.integers(1, 4), box=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    slots=st.integers(0, 3), order=st.sampled_from(["row", "column", "box"]),
)  # fmt: skip
def test_every_path_visits_every_token_once_and_begins_and_ends_with_the_row_order(
    bands, stacks, box, slots, order
):
    grid = Grid(bands * box[0], stacks * box[1], box)
    found = token_order(order, Layout(slots + grid.rows * grid.cols, grid))
    assert sorted(found) == list(range(len(found)))
    assert found[: slots + 1] == list(range(slots + 1)) and found[-1] == len(found) - 1


@pytest.mark.parametrize("order", ["column", "box"])
def test_an_order_that_the_task_does_not_have_is_refused(order):
    with pytest.raises(
        ValueError, match=rf"order has '{order}', but .* not the cells of a board: choose row"
    ):
        token_order(order, Layout(9))
    for config in (MambaConfig(order=order), Mamba2Config(order=("row", order))):
        with pytest.raises(ValueError, match=r"^here\.order has"):
            config.check_grid(None, "here")
    Mamba2Config().check_grid(None)
    MambaConfig(order="column").check_grid(Grid(30, 30))
    with pytest.raises(ValueError, match=r"the task's board, 30 x 30, has no boxes: choose row or column"):
        MambaConfig(order=("row", "box")).check_grid(Grid(30, 30))


def make(kind: type, order, direction: Direction = "alternating", scan_index: int = 1, **fields):
    """A mixer of 24 channels, with the same weights for every order; place 1 alternates backwards."""
    small = {"d_state": 4, "expand": 1.5} | ({"headdim": 4} if kind is Mamba2Config else {})
    config = kind(order=order, direction=direction, **small | fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build(HIDDEN, BOARD, scan_index, None)


def tokens() -> torch.Tensor:
    return torch.randn(2, BOARD.seq_len, HIDDEN, generator=torch.Generator().manual_seed(0))


CASES = [(MambaConfig, d) for d in DIRECTIONS] + [(Mamba2Config, d) for d in (*DIRECTIONS, "quasiseparable")]


@pytest.mark.parametrize("order", ["column", "box"])
@pytest.mark.parametrize(("kind", "direction"), CASES)
def test_a_mixer_along_a_path_is_one_of_the_permuted_board(kind, direction, order):
    x, steps = tokens(), torch.tensor(token_order(order, BOARD))
    by_hand = make(kind, "row", direction)(x[:, steps])[:, steps.argsort()]
    mixed = make(kind, order, direction)(x)
    torch.testing.assert_close(mixed, by_hand)
    assert not torch.allclose(mixed, make(kind, "row", direction)(x), atol=1e-3)


@pytest.mark.parametrize(("kind", "direction"), CASES)
def test_groups_that_read_alike_are_one(kind, direction):
    x = tokens()
    for order in ("row", "column"):
        one, many = make(kind, order, direction), make(kind, (order, order, order), direction)
        torch.testing.assert_close(many(x), one(x))


@pytest.mark.parametrize("ngroups", [1, 2])
def test_each_share_of_mamba2s_heads_reads_in_its_own_order(ngroups):
    x, seen = tokens(), {}
    for order in ("row", "column", ("row", "column")):
        module = make(Mamba2Config, order, ngroups=ngroups)
        module.norm.register_forward_pre_hook(lambda _m, args, order=order: seen.update({order: args[0]}))
        module(x)
    rows, columns = seen["row"], seen["column"]
    torch.testing.assert_close(seen["row", "column"], torch.cat((rows[..., :12], columns[..., 12:]), -1))


def test_each_share_of_mambas_channels_reads_in_its_own_order():
    """Convolved and scanned along its path; B, C and dt are made of all channels of a token."""
    module, x = make(MambaConfig, ("row", "column"), scan_index=0).double(), tokens().double()
    steps = [torch.tensor(token_order(order, BOARD)) for order in ("row", "column")]
    inner, z = module.in_proj(x).chunk(2, -1)

    def along(function):
        """function(i, steps) for both orders, back in place and side by side."""
        return torch.cat([function(i, s)[:, s.argsort()] for i, s in enumerate(steps)], -1)

    inner = along(lambda i, s: module.conv1d(inner[..., 12 * i : 12 * (i + 1)][:, s], start=12 * i))
    dt, B, C = (inner @ module.x_proj.weight.T).split(module.sizes, -1)
    dt = F.softplus(module.dt_proj(dt))
    A = -module.A_log.exp()

    def scan(i, s):
        own = slice(12 * i, 12 * (i + 1))
        parts = inner[..., own][:, s], dt[..., own][:, s], A[own], B[:, s], C[:, s], module.D[own]
        return scan_loop(*parts)

    y = along(scan) * F.silu(z)
    torch.testing.assert_close(module(x), y @ module.out_proj.weight.T)


def test_shares_must_come_out_even():
    with pytest.raises(ValueError, match=r"order has 3 entries, which do not divide the 10 heads"):
        Mamba2Config(order=("row", "column", "box")).check(512)
    with pytest.raises(ValueError, match=r"order has 3 entries, which do not divide the 640 channels"):
        MambaConfig(order=("row", "column", "box")).check(512)
    with pytest.raises(ValueError, match=r"ngroups is 3,.*give 1, or a multiple of 2"):
        Mamba2Config(order=("row", "column"), ngroups=3, expand=1.5).check(512)
    Mamba2Config(order=("row", "column", "box"), expand=1.125).check(512)


def test_orders_with_the_same_effect_are_one():
    def effective(order, layout=BOARD):
        return Mamba2Config(order=order, headdim=4, d_state=4).effective(HIDDEN, layout, 2)

    assert effective(("row",)) == effective("row") == effective(("row", "row"))
    assert effective(("row", "column")) == effective(("column", "row")) != effective("row")
    assert effective(("row", "row", "column")) != effective(("row", "column"))
    assert effective("column") != effective("row") != effective("box")
    one_row = Layout(8, Grid(1, 8, (1, 2)))
    assert effective("column", one_row) == effective("row", one_row) == effective("box", one_row)
    columns = Layout(8, Grid(4, 2, (4, 1)))
    assert effective("column", columns) == effective("box", columns) != effective("row", columns)
