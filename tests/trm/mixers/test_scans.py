"""The readings that mixers with heads share: their directions, their orders, their mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trm.grid import Grid, Layout
from trm.mixers.order import token_order
from trm.mixers.scans import ScanConfig, Scans

BOARD = Layout(1 + 6, Grid(2, 3))  # one slot, then the board


class Reading(ScanConfig):
    kind: str = "reading"

    def build(self, hidden_size, layout, scan_index, rope_theta):
        return Scans(self, layout, scan_index)


def sums(x: Tensor, *rest: Tensor, index: int, group: int) -> Tensor:
    """What a token has read of x and the rest, itself included."""
    return sum(rest, x).cumsum(1)


def read(direction: str, order="row", scan_index: int = 0, *, x: Tensor, rest: tuple = ()) -> Tensor:
    return Reading(direction=direction, order=order).build(8, BOARD, scan_index, None)(sums, x, *rest)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_directions(x):
    forward, backward = x.cumsum(1), x.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(read("forward", scan_index=1, x=x), forward)
    torch.testing.assert_close(read("alternating", x=x), forward)
    torch.testing.assert_close(read("alternating", scan_index=1, x=x), backward)
    torch.testing.assert_close(read("bidirectional_tied", x=x), (forward + backward) / 2)


def test_each_reading_has_its_own_of_what_selects(x):
    own = [x + 1, x - 2]
    expected = ((x + own[0]).cumsum(1) + (x + own[1]).flip(1).cumsum(1).flip(1)) / 2
    torch.testing.assert_close(read("bidirectional", x=x, rest=(own,)), expected)
    assert [Reading(direction=d).selections for d in ("bidirectional", "bidirectional_tied")] == [2, 1]


def test_each_share_of_the_channels_is_read_in_its_own_order(x):
    steps = torch.tensor(token_order("column", BOARD))
    columns = x[:, steps].cumsum(1)[:, steps.argsort()]
    expected = torch.cat((x.cumsum(1)[..., :2], columns[..., 2:]), dim=-1)
    torch.testing.assert_close(read("forward", ("row", "column"), x=x), expected)


def test_a_scan_is_told_which_reading_and_which_share_it_has(x):
    told = []

    def scan(x: Tensor, index: int, group: int) -> Tensor:
        told.append((index, group))
        return x

    Reading(direction="bidirectional_tied", order=("row", "column")).build(8, BOARD, 0, None)(scan, x)
    assert told == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_shares_that_do_not_come_out_even_are_refused():
    config = Reading(order=("row", "column"))
    config.check_shares(4, "heads", "num_heads", "here")
    with pytest.raises(
        ValueError, match=r"here\.order has 2 entries.*the 3 heads: give fewer, or another num_heads"
    ):
        config.check_shares(3, "heads", "num_heads", "here")
