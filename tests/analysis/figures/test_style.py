"""How arms look, and labels that do not touch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis import figures as plots
from analysis.figures.style import spread
from analysis.sweep import load_sweep
from tests.analysis.synthetic import Fake, write_sweep


def test_arms_look_the_same_everywhere_and_differ_without_colour(tmp_path: Path) -> None:
    arms = {f"arm{i}": Fake(0.5) for i in range(30)}
    looks = plots.looks(load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0,))))
    assert len({(look.color, look.marker) for look in looks.values()}) == 30
    assert len({look.marker for look in list(looks.values())[:8]}) == 8
    assert looks["arm0"].color == plots.INK


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_labels_never_touch(places: list[float]) -> None:
    found = spread(places, 7.5, 100)
    assert (np.diff(np.sort(found)) >= 7.5 - 1e-9).all() and found.max() <= 100 + 1e-9
    order = np.argsort(places, kind="stable")
    assert (np.diff(found[order]) > 0).all()
