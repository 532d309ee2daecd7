"""Question effects: factors and interactions as one family; and question spread."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.compare.claims import claims_of
from analysis.explain.asked import asked
from analysis.sweep import Sweep, load_sweep
from tests.analysis.inference.oracles import welch
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

FULL = {"a": ["a1", "a2"], "b": ["b1", "b2"]}


def crossed(tmp_path: Path, truth: dict[tuple[str, str], float], **evidence: Any) -> Sweep:
    """A 2 x 2 design on eight seeds, SD 0.01, with these means."""
    arms = {f"{a}-{b}": Fake(0.5, levels={"a": a, "b": b}) for a, b in truth}
    asked = {"ablate": FULL, "evidence": {"question": "effects", "pairing": "unpaired", **evidence}}
    seeds = tuple(range(8))
    sweep = load_sweep(
        write_sweep(tmp_path / "s", arms, seeds=seeds, phase="evidence", space=asked, test=False)
    )
    rng = np.random.default_rng(0)
    for (a, b), mean in truth.items():
        rows = sweep.trials["arm"] == f"{a}-{b}"
        sweep.trials.loc[rows, OBJECTIVE] = mean + 0.01 * rng.normal(size=8)
    return sweep


def test_effects_and_interactions_are_one_family(tmp_path: Path) -> None:
    truth = {("a1", "b1"): 0.5, ("a1", "b2"): 0.5, ("a2", "b1"): 0.6, ("a2", "b2"): 0.7}
    sweep = crossed(tmp_path, truth)
    rows = {row.arm: row for row in asked(sweep, claims_of(sweep))}
    assert set(rows) == {"a=a2", "b=b2", "a=a2 x b=b2"}
    assert {arm: row.verdict for arm, row in rows.items()} == dict.fromkeys(rows, "better")
    assert rows["a=a2"].diff == pytest.approx(0.15, abs=0.01)
    assert rows["a=a2 x b=b2"].diff == pytest.approx(0.1, abs=0.02)
    for row in rows.values():
        assert row.low > 0 and row.p <= row.p_adjusted <= 3 * row.p


def test_a_diverged_run_takes_a_claim_that_does_not_hold_at_the_worst(tmp_path: Path) -> None:
    truth = {("a1", "b1"): 0.5, ("a1", "b2"): 0.5, ("a2", "b1"): 0.55, ("a2", "b2"): 0.55}
    sweep = crossed(tmp_path, truth)
    lost = (sweep.trials["arm"] == "a2-b1") & (sweep.trials["seed"] == 3)
    sweep.trials.loc[lost, "status"] = "diverged"
    row = next(row for row in asked(sweep, claims_of(sweep)) if row.arm == "a=a2")
    assert row.verdict == "not settled" and row.low < 0 < row.high and "diverged or failed" in row.note


def test_without_spread_there_is_no_test_and_the_verdict_says_why(tmp_path: Path) -> None:
    truth = {("a1", "b1"): 0.0, ("a1", "b2"): 0.0, ("a2", "b1"): 1.0, ("a2", "b2"): 1.0}
    sweep = crossed(tmp_path, truth)
    sweep.trials[OBJECTIVE] = sweep.trials[OBJECTIVE].round()
    row = next(row for row in asked(sweep, claims_of(sweep)) if row.arm == "a=a2")
    assert (row.diff, row.verdict) == (1.0, "not settled") and math.isnan(row.p)
    assert row.note == "no spread over seeds, so that there is no test"


def test_spread_is_compared_by_distances_from_the_median(tmp_path: Path) -> None:
    arms = {"quiet": Fake(0.5), "loud": Fake(0.5), "same": Fake(0.5)}
    seeds = tuple(range(24))
    space = {"evidence": {"question": "spread", "pairing": "unpaired"}}
    sweep = load_sweep(
        write_sweep(tmp_path / "s", arms, seeds=seeds, phase="evidence", space=space, test=False)
    )
    rng = np.random.default_rng(1)
    for arm, sd in {"quiet": 0.01, "loud": 0.06, "same": 0.01}.items():
        sweep.trials.loc[sweep.trials["arm"] == arm, OBJECTIVE] = 0.5 + sd * rng.normal(size=24)
    rows = {row.arm: row for row in asked(sweep, claims_of(sweep))}
    assert rows["loud"].verdict == "worse" and rows["same"].verdict == "not settled"
    assert rows["loud"].diff == pytest.approx(0.05, abs=0.03)
    values = [sweep.trials.loc[sweep.trials["arm"] == arm, OBJECTIVE] for arm in ("loud", "quiet")]
    far = [np.abs(each - each.median()) for each in values]
    assert rows["loud"].p == pytest.approx(welch(*far)[0])


def test_what_has_not_ended_is_not_claimed(tmp_path: Path) -> None:
    truth = {("a1", "b1"): 0.5, ("a1", "b2"): 0.5, ("a2", "b1"): 0.6, ("a2", "b2"): 0.7}
    sweep = crossed(tmp_path, truth, reserve=0.01)
    identity = {"identity": {"evidence": {**sweep.space["evidence"], "looks": []}}}
    space = {**sweep.space, "resolved": {**sweep.resolved, **identity}}
    sweep.trials.loc[0, "status"] = "interrupted"
    claims = claims_of(replace(sweep, space=space))
    assert not claims.carried and "have not run to their end" in claims.note
    assert math.isclose(claims.level, 0.04)
