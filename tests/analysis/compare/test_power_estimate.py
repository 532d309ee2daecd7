"""What the evidence will be able to tell: the spread that is reckoned with, and the difference in words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.compare.power_estimate import estimate_power, pilot_spread
from analysis.compare.ranking import seed_table
from analysis.format import NO_UNIT, PERCENT, SHARE, Unit
from analysis.inference.power import detectable
from analysis.inference.spread import upper_sd
from analysis.sweep import AnalysisError, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

ARMS = {"one": Fake(0.3), "two": Fake(0.5), "three": Fake(0.6)}


def pilot(folder: Path, seeds: tuple[int, ...] = (1, 2, 3, 4), **changes: bool) -> Path:
    return write_sweep(folder / "pilot", ARMS, seeds=seeds, phase="evidence", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", [SHARE, PERCENT, NO_UNIT])
def test_without_a_pilot_differences_are_in_sds(unit: Unit) -> None:
    found = estimate_power(OBJECTIVE, unit, 3, "permutation", "paired", None)
    assert found.sd is None and "no pilot says how large" in found.spread and "points" not in found.spread
    assert found.rule == "by the sign-flip test on paired seeds, 0.05 over all 3 (Holm)"
    assert found.fewest_seeds == 7 and found.smallest(6) == "" and found.smallest(7) == "1.9 SD"
    unpaired = estimate_power(OBJECTIVE, unit, 1, "t", "unpaired", None)
    assert unpaired.rule == "by the Welch t-test on unpaired seeds, level 0.05"
    assert unpaired.smallest(5) == f"{detectable(5, 1.0, 1, 't', 'unpaired'):.2g} SD"


def test_a_pilots_paired_spread_is_pooled_over_its_arms(tmp_path: Path) -> None:
    folder = pilot(tmp_path)
    table = seed_table(load_sweep(folder), "test/exact_accuracy")
    gaps = [table[arm] - table["one"] for arm in ("two", "three")]
    expected = math.sqrt(np.mean([gap.var(ddof=1) for gap in gaps]))  # equal numbers of seeds
    sd, said = pilot_spread(folder, OBJECTIVE, SHARE, "paired")
    assert sd == pytest.approx(upper_sd(expected, 6 / 1.25))  # the two share their baseline
    assert f"at most {100 * sd:.1f} points, the one-sided 80% upper confidence limit of the" in said
    assert f"the {100 * expected:.1f} points of test/exact_accuracy in pilot (paired, 4.8 degrees" in said
    assert estimate_power(OBJECTIVE, SHARE, 3, "t", "paired", folder).sd == sd


def test_a_pilots_unpaired_spread_is_that_within_its_arms(tmp_path: Path) -> None:
    folder = pilot(tmp_path, test=False)
    table = seed_table(load_sweep(folder), OBJECTIVE)
    sd, said = pilot_spread(folder, OBJECTIVE, SHARE, "unpaired")
    assert sd == pytest.approx(upper_sd(math.sqrt(2 * table.var(ddof=1).mean()), 9))
    assert "of val/exact_accuracy in pilot (unpaired, 9 degrees of freedom)" in said


def test_a_pilot_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="is no folder"):
        pilot_spread(tmp_path / "nowhere", OBJECTIVE, SHARE, "paired")
    with pytest.raises(AnalysisError, match="has no values of val/loss"):
        pilot_spread(pilot(tmp_path), "val/loss", NO_UNIT, "paired")
    for seeds, freedom in (((1,), "0"), ((1, 2), "1.6")):
        folder = pilot(tmp_path / f"few{len(seeds)}", seeds=seeds)
        with pytest.raises(AnalysisError, match=f"baseline share: their SD has {freedom} degrees of freedom"):
            pilot_spread(folder, OBJECTIVE, SHARE, "paired")
