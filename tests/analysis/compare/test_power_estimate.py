"""What the evidence will be able to tell: the spread that is reckoned with, and the difference in words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.compare.power_estimate import SEED_SD, estimate_power, pilot_spread
from analysis.compare.ranking import seed_table
from analysis.format import NO_UNIT, PERCENT, SHARE
from analysis.inference.power import detectable
from analysis.sweep import AnalysisError, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

ARMS = {"one": Fake(0.3), "two": Fake(0.5), "three": Fake(0.6)}


def pilot(folder: Path, seeds: tuple[int, ...] = (1, 2, 3, 4), **changes: bool) -> Path:
    return write_sweep(folder / "pilot", ARMS, seeds=seeds, phase="evidence", **changes)  # type: ignore[arg-type]


def test_without_a_pilot_a_spread_of_shares_is_assumed_and_said() -> None:
    paired = estimate_power(OBJECTIVE, SHARE, 3, "permutation", "paired", None)
    assert paired.sd == pytest.approx(math.sqrt(2) * SEED_SD / 100)
    assert "1.8 points, assumed (1.3 points over an arm's seeds, the arms uncorrelated" in paired.spread
    assert paired.rule == "by the sign-flip test on paired seeds, 5% over all 3 (Holm)"
    assert paired.fewest_seeds == 7 and paired.smallest(6) == "" and paired.smallest(7) == "3.4 points"
    unpaired = estimate_power(OBJECTIVE, SHARE, 1, "t", "unpaired", None)
    assert unpaired.rule == "by the Welch t-test on unpaired seeds, 5%"
    assert "uncorrelated" not in unpaired.spread


def test_of_percentages_the_same_points_are_assumed() -> None:
    found = estimate_power("val/accuracy", PERCENT, 3, "permutation", "paired", None)
    assert found.sd == pytest.approx(math.sqrt(2) * SEED_SD)
    assert "1.8 points, assumed (1.3 points over" in found.spread and found.smallest(7) == "3.4 points"


def test_of_a_metric_without_a_unit_nothing_is_assumed() -> None:
    found = estimate_power("val/accuracy", NO_UNIT, 1, "t", "paired", None)
    assert found.sd is None and "no pilot says how large" in found.spread
    assert found.smallest(5) == f"{detectable(5, 1.0, 1, 't', 'paired'):.2g} SD"


def test_a_pilots_paired_spread_is_pooled_over_its_arms(tmp_path: Path) -> None:
    folder = pilot(tmp_path)
    table = seed_table(load_sweep(folder), "test/exact_accuracy")
    gaps = [table[arm] - table["one"] for arm in ("two", "three")]
    expected = math.sqrt(np.mean([gap.var(ddof=1) for gap in gaps]))  # equal numbers of seeds
    sd, said = pilot_spread(folder, OBJECTIVE, SHARE, "paired")
    assert sd == pytest.approx(expected)
    assert "as of test/exact_accuracy in pilot (paired, 6 degrees of freedom)" in said
    assert estimate_power(OBJECTIVE, SHARE, 3, "t", "paired", folder).sd == sd


def test_a_pilots_unpaired_spread_is_that_within_its_arms(tmp_path: Path) -> None:
    folder = pilot(tmp_path, test=False)
    table = seed_table(load_sweep(folder), OBJECTIVE)
    sd, said = pilot_spread(folder, OBJECTIVE, SHARE, "unpaired")
    assert sd == pytest.approx(math.sqrt(2 * table.var(ddof=1).mean()))
    assert "as of val/exact_accuracy in pilot (unpaired, 9 degrees of freedom)" in said


def test_a_pilot_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="is no folder"):
        pilot_spread(tmp_path / "nowhere", OBJECTIVE, SHARE, "paired")
    with pytest.raises(AnalysisError, match="has no values of val/loss"):
        pilot_spread(pilot(tmp_path), "val/loss", NO_UNIT, "paired")
    with pytest.raises(AnalysisError, match="no two completed seeds that an arm and the baseline share"):
        pilot_spread(pilot(tmp_path / "few", seeds=(1,)), OBJECTIVE, SHARE, "paired")
