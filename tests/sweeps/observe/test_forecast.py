"""The end of a dry run: what the evidence can tell, what it costs, what more seeds would buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import run_sweep
from sweeps.dry_run import power_estimate
from sweeps.observe.preview import preview
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration
from sweeps.record.folder import update_units, write_space
from sweeps.running import Run
from tests.analysis.synthetic import Fake, write_sweep
from tests.sweeps.spaces import ASHA, TUNE, toy_plan
from tests.sweeps.spaces import write_space as write_yaml

EXACT = {"test": "permutation", "pairing": "paired"}
HOUR = Calibration(36.0)  # a trial of a hundred samples
SHARE = {"metric": "accuracy", "mode": "max", "unit": "share"}


def shown(plan: Plan, costs: dict[str, Calibration] | None = None) -> str:
    concurrency_by_arm = dict.fromkeys([arm.name for arm in plan.arms], 2)
    return preview(plan, concurrency_by_arm, "here", costs, power_estimate(plan))


def row(text: str, first: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(first))


def test_a_sweep_without_tune_is_told_what_its_seeds_find_and_what_more_would_buy(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path, objective=SHARE, seeds=[1, 2, 3, 4, 5, 6, 7], evidence=EXACT))
    assert "To settle: 2 comparisons with a, by the sign-flip test on paired seeds, 0.04 over all 2" in text
    assert "no pilot says how large" in text and "SD of a difference: " not in text
    assert row(text, "7 ")[1:] == ["1.9", "SD", "21", "2,100", "2.1e+05"]
    assert row(text, "8 (+1)")[2:] == ["1.5", "SD", "+3", "+300", "+3e+04"]
    assert row(text, "10 (+3)")[4] == "+9" and row(text, "12 (+5)")[4] == "+15"
    assert row(text, "b, c")[2:] == ["7", "700", "7e+04"]
    assert row(text, "a, which all share")[-3:] == ["7", "700", "7e+04"]
    assert "Too few seeds" not in text and "time of the trials" not in text


def test_too_few_seeds_are_named_with_the_number_that_would_do(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path, objective=SHARE, seeds=[1, 2, 3], evidence=EXACT))
    assert "Too few seeds: no result can be significant; 7 would be needed" in text
    assert row(text, "3 ")[1] == "none" and row(text, "4 (+1)")[2] == "none"
    assert row(text, "7 (+4)")[2:4] == ["1.9", "SD"]
    by_t = shown(toy_plan(tmp_path, objective=SHARE, seeds=[1, 2, 3]))
    assert "Too few seeds" not in by_t and "by the Welch t-test" in by_t and row(by_t, "3 ")[2] == "SD"


def test_of_a_search_only_the_evidence_is_counted(tmp_path: Path) -> None:
    search = {"draws_per_arm": 4, "seeds": [0], "keep": 2}
    text = shown(toy_plan(tmp_path, seeds=[1, 2, 3, 4, 5, 6, 7], tune=TUNE, search=search))
    assert row(text, "7 ")[-3:] == ["42", "4,200", "4.2e+05"]


def test_measured_times_price_it(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, seeds=[1, 2], resources={"cpu": 1, "gpu": 0.5})
    text = shown(plan, {"a": HOUR, "b": HOUR, "c": Calibration(72.0)})
    assert row(text, "2 ")[-6:] == ["8", "h", "0", "min,", "4", "GPU-hours"]
    assert row(text, "3 (+1)")[-6:] == ["+4", "h", "0", "min,", "2", "GPU-hours"]
    assert row(text.partition("each comparison")[2], "c ")[-6:] == ["4", "h", "0", "min,", "2", "GPU-hours"]


@pytest.mark.parametrize("changes", [{"scheduler": ASHA}, {"ablate": None, "tune": TUNE}])
def test_where_nothing_is_to_be_settled_nothing_is_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "To settle" not in shown(toy_plan(tmp_path, **changes))


def test_what_a_foreign_trainer_does_not_say_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.sweeps.toy_trainer.describe", lambda config: {})
    assert row(shown(toy_plan(tmp_path, seeds=[1, 2], evidence=EXACT)), "2 ") == ["2", "none", "6"]


def test_the_spread_is_taken_from_a_pilot_beside_the_space(tmp_path: Path) -> None:
    arms = {"x": Fake(0.3), "y": Fake(0.5)}
    pilot = write_sweep(tmp_path / "results" / "earlier", arms, seeds=(1, 2, 3, 4), phase="evidence")
    trials = pd.read_parquet(pilot / "trials.parquet")
    trials.assign(accuracy=[0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 0.3]).to_parquet(pilot / "trials.parquet")
    evidence = {"pilot": "results/earlier", "pairing": "paired"}
    text = shown(toy_plan(tmp_path, objective=SHARE, evidence=evidence))
    assert "SD of a difference: at most 14.1 points, the one-sided 80% upper confidence limit" in text
    assert "of the 8.2 points of accuracy in earlier (paired, 3 degrees of freedom)" in text


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_a_pilot_that_cannot_be_read_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry_run: list[str]
) -> None:
    monkeypatch.setattr(Run, "to_its_end", lambda *_: pytest.fail("the sweep was launched"))
    pilot = write_sweep(tmp_path / "earlier", {"x": Fake(0.3)}, seeds=(1, 2), phase="evidence")
    (pilot / "trials.parquet").write_bytes(b"torn")
    path = write_yaml(tmp_path, evidence={"pilot": "earlier"})
    arguments = [str(path), "--storage", str(tmp_path / "results"), *dry_run]
    assert run_sweep.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and not (tmp_path / "results").exists()
    assert f"{path}: evidence.pilot: {pilot}" in err and "is not a readable parquet file" in err


def test_a_unit_given_later_is_kept_in_sweep_yaml(tmp_path: Path) -> None:
    """Also in that of a sweep from before units."""
    plan, share = toy_plan(tmp_path), toy_plan(tmp_path, objective=SHARE)
    space = write_space(plan, tmp_path, "", False)
    del space["objective"]["unit"], space["resolved"]["units"]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(space))
    update_units(share, tmp_path)
    again = yaml.safe_load((tmp_path / "sweep.yaml").read_text())
    assert again["objective"] == SHARE and again["resolved"]["units"] == {"accuracy": "share"}


def test_the_rule_is_kept_in_sweep_yaml_as_it_was_given(tmp_path: Path) -> None:
    space = write_space(toy_plan(tmp_path, evidence={"margin": 0.01}), tmp_path, "", False)
    assert space["evidence"]["margin"] == 0.01 and space["evidence"]["looks"] == "auto"
    assert space["resolved"]["identity"]["evidence"]["looks"] == []  # of two seeds


def test_of_all_pairs_each_arm_is_priced_and_no_baseline_is_shared(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path, seeds=[1, 2, 3], evidence={"question": "best"}))
    assert "To settle: 3 comparisons of all pairs, by the Welch t-test" in text
    assert row(text.partition("each arm takes")[2], "a, b, c")[3:] == ["3", "300", "3e+04"]
    assert "which all share" not in text


def test_more_seeds_of_the_baseline_are_priced(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path, seeds=[1, 2, 3], evidence={"baseline_seeds": list(range(4, 14))}))
    assert "3 arms x 3 seeds, and a x 10 seeds more = 19 trials" in text
    assert row(text, "3 ")[3] == "19" and row(text, "4 (+1)")[4] == "+3"
    assert row(text, "a, which all share")[4] == "13"
