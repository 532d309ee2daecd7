"""Mamba-2 alone: long sequences go in chunks."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from tests.trm.mixers.conformance import HIDDEN, SIZES, build, states
from trm.grid import Grid, Layout
from trm.mixers.kernels import ssd
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.ssm import Direction

MAZE = Layout(900 + 16, Grid(30, 30))


@pytest.mark.parametrize("direction", get_args(Direction))
def test_long_sequences_go_in_chunks(direction, monkeypatch):
    """A 30 x 30 board, read in rows and columns: no matrix of 916 x 916 is made, and both forms agree."""
    fields = {"direction": direction, "order": ("row", "column"), "expand": 1.5}
    module = build(Mamba2Config(**fields, **SIZES["mamba2"]), layout=MAZE)
    x, lengths, quadratic = states(1, MAZE.seq_len, HIDDEN), [], ssd.quadratic
    monkeypatch.setattr(ssd, "quadratic", lambda u, *a: lengths.append(u.shape[-2]) or quadratic(u, *a))
    y = module(x)
    assert set(lengths) == {64}
    monkeypatch.setattr(ssd, "QUADRATIC_MAX_LEN", 1000)
    torch.testing.assert_close(module(x), y, rtol=1e-4, atol=1e-5)
    assert 916 in lengths
