"""What was tuned, what was chosen, and whether it is at the edge of what was tried."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from analysis import figures as plots
from analysis.explain.tuning import at_edge, chosen_values, draws, tuned
from analysis.report.build import render
from analysis.report.table import to_csv
from analysis.sweep import Sweep, load_sweep
from tests.analysis.report.sections.cells import cells
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

RATES = {"optim.lr": [0.001, 0.004, 0.002]}
LOG = {"tune": {"optim.lr": {"loguniform": [0.001, 0.004]}}}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two arms of three draws on a search seed; b's draw 2 was stopped. The evidence has a's draw 1 and b's
    draw 0."""
    arms, folder = {"a": Fake(0.5), "b": Fake(0.7)}, tmp_path / "s"
    write_sweep(folder, arms, seeds=(0,), draws=(0, 1, 2), space=LOG, tune=RATES)
    trials = pd.read_parquet(folder / "trials.parquet")
    trials.loc[trials["trial_id"] == "b-d2-s0", "status"] = "pruned"
    again = trials[trials["trial_id"].isin(["a-d1-s0", "b-d0-s0"])]
    more = [
        again.assign(phase="evidence", seed=seed, trial_id=again["trial_id"] + f"-{seed}") for seed in (1, 2)
    ]
    pd.concat([trials, *more]).to_parquet(folder / "trials.parquet")
    return load_sweep(folder)


def test_a_draw_has_what_it_reached_and_whether_it_was_chosen(sweep: Sweep) -> None:
    found = draws(sweep).set_index(["arm", "draw"])
    assert tuned(sweep) == ["optim.lr"] and len(found) == 6
    own = sweep.trials.set_index("trial_id")[OBJECTIVE]
    assert found.loc[("a", 2), "value"] == own["a-d2-s0"]
    assert found["chosen"][found["chosen"]].index.tolist() == [("a", 1), ("b", 0)]
    assert found.loc[("b", 2), "status"] == "pruned"
    assert chosen_values(sweep) == {"a": {"optim.lr": [0.004]}, "b": {"optim.lr": [0.001]}}
    assert at_edge(sweep) == {("a", "optim.lr"): "highest", ("b", "optim.lr"): "lowest"}


def test_two_values_have_no_edge(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5)}
    folder = write_sweep(tmp_path / "s", arms, seeds=(0,), draws=(0, 1), tune=RATES)
    assert at_edge(load_sweep(folder)) == {}


def test_the_table_has_the_choice_and_its_edge(sweep: Sweep) -> None:
    heads, *rows = cells(render(sweep).split("</table>")[0])
    place = heads.index("chosen lr")
    assert {row[0]: row[place] for row in rows} == {"a": "0.004highest tried", "b": "0.001lowest tried"}
    table = pd.read_csv(StringIO(to_csv(sweep))).set_index("arm")
    assert table["chosen optim.lr"].to_dict() == {"a": 0.004, "b": 0.001}


def test_a_panel_an_arm_with_the_choice_ringed_and_the_stopped_open(sweep: Sweep) -> None:
    panels = {axes.get_title(loc="left"): axes for axes in plots.slices(sweep).axes}
    assert list(panels) == ["b", "a"]  # as they rank
    for arm, axes in panels.items():
        rings = [line for line in axes.lines if line.get_markersize() == 9]
        assert [line.get_xdata()[0] for line in rings] == chosen_values(sweep)[arm]["optim.lr"]
        assert axes.get_xscale() == "log" and "tried)" in axes.get_xlabel()
    filled = [line.get_markerfacecolor() for line in panels["b"].lines if line.get_markersize() == 4]
    assert filled.count("none") == 1 and len(filled) == 3


def test_choices_that_are_no_numbers_stand_in_order(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.7, statuses={0: "diverged"})}
    folder = write_sweep(
        tmp_path / "s", arms, seeds=(0,), draws=(0, 1), tune={"optim.kind": ["adamw", "muon"]}
    )
    sweep = load_sweep(folder)
    ticks = [tick.get_text() for tick in plots.slices(sweep).axes[0].get_xticklabels()]
    assert ticks == ["adamw", "muon"] and at_edge(sweep) == {}
    assert all(math.isfinite(value) for value in draws(sweep).query("arm == 'a'")["value"])
