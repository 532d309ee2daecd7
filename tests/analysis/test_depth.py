"""What trials report at their end, as tables by supervision steps, rating and measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.depth import by_rating, depth_curve, halting
from analysis.load import load_sweep
from tests.analysis.synthetic import Fake, write_sweep


def test_steps_and_ratings_come_in_their_order_with_means_over_completed_seeds(tmp_path: Path) -> None:
    arms = {"a": Fake(0.8, statuses={2: "failed"}), "b": Fake(0.5), "stopped": Fake(0.4, stop=0.25)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3), phase="evidence", depth=True))
    curve = depth_curve(sweep)
    assert list(curve.loc[curve["arm"] == "a", "supervision_steps"]) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert set(curve.loc[curve["arm"] == "a", "n"]) == {2} and set(curve["arm"]) == {"a", "b"}
    done = sweep.trials[(sweep.trials["arm"] == "b") & (sweep.trials["status"] == "completed")]
    row = curve[(curve["arm"] == "b") & (curve["supervision_steps"] == 16)].iloc[0]
    assert row["mean"] == pytest.approx(done["test/exact_accuracy_at_16"].mean())
    assert row["low"] < row["mean"] < row["high"]
    assert list(by_rating(sweep)["bucket"].unique()) == ["0", "1–9", "10–29", "30+"]
    assert set(halting(sweep)["measure"]) == {"q_auroc", "q_ece", "solved_then_lost"}


def test_a_trainer_that_reports_none_of_it_has_empty_tables(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.8)}))
    assert depth_curve(sweep).empty and by_rating(sweep).empty and halting(sweep).empty
