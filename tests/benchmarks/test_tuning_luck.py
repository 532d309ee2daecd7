"""The simulation of tuning luck: statistics as the library's, draws as the plan's, and what it finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from analysis.inference.intervals import ALPHA, difference_of, mean_of
from analysis.inference.significance import holm
from benchmarks import tuning_luck
from benchmarks.decisions import make_plans
from benchmarks.truth import World, load_setup
from benchmarks.tuning_luck import Design, Sweeps, chosen_row, design_row, play
from sweeps.decide.surface import expected_results

SETUP = load_setup(tuning_luck.FILE)
EFFECTS = tuning_luck.main_effects(SETUP)


def world(drop: float) -> World:
    tuned = SETUP.truth.tuned.model_copy(update={"drop": drop})
    return SETUP.truth.model_copy(update={"tuned": tuned})


def null(design: Design, drop: float = 8, shape: str = "quadratic", sweeps: int = 400) -> Sweeps:
    return play(world(drop), shape, np.zeros(4), design, sweeps, np.random.default_rng(0))


def false(found: Sweeps, pairing: str = "paired") -> float:
    return float(tuning_luck.claims(found.table, pairing).any(axis=1).mean())


def test_the_effects_and_the_draws_are_those_of_the_simulated_plan() -> None:
    assert list(EFFECTS) == [0, 1.5, 2, 3.5]
    plan = make_plans(SETUP)["full"]
    assert list(tuning_luck.tuned_values(16)) == [draw.values["x"] for draw in plan.draws(plan.arms[0])]


def test_p_claims_and_intervals_are_those_of_the_library() -> None:
    table = np.random.default_rng(1).normal(size=(6, 5, 4))
    table[:, :, 2] += 3
    for pairing in ("paired", "unpaired"):
        gap, error, df = tuning_luck.differences(table, pairing)
        p = 2 * special.stdtr(df, -np.abs(gap) / error)
        claimed = tuning_luck.claims(table, pairing)
        missed = tuning_luck.misses(Sweeps(np.zeros((6, 4)), np.zeros((6, 4)), table), pairing)
        for sweep, values in enumerate(table):
            arms = [(values[:, arm], values[:, 0]) for arm in (1, 2, 3)]
            is_paired = pairing == "paired"
            wanted = [(mean_of(a - b) if is_paired else difference_of(a, b)).p for a, b in arms]
            assert p[sweep] == pytest.approx(wanted)
            assert list(claimed[sweep] != 0) == list(holm(wanted) <= ALPHA)
            confidence = 1 - ALPHA / 3
            ends = [
                (mean_of(a - b) if is_paired else difference_of(a, b)).t_ends(confidence) for a, b in arms
            ]
            assert missed[sweep] == any(not low <= 0 <= high for low, high in ends)


def test_the_nested_test_of_two_arms_is_the_t_test_of_equal_variance() -> None:
    table = np.random.default_rng(2).normal(size=(3, 3, 2))
    gap, error, df = tuning_luck.differences(table, None)
    for sweep, values in enumerate(table):
        wanted = stats.ttest_ind(values[:, 1], values[:, 0])
        assert (gap / error)[sweep, 0] == pytest.approx(wanted.statistic) and df[sweep, 0] == wanted.df


def test_the_parabola_is_the_least_squares_fit() -> None:
    rng = np.random.default_rng(3)
    values = tuning_luck.tuned_values(6)
    results = -30 * (values - np.array([0.3, 0.5])[:, None]) ** 2 + 0.3 * rng.normal(size=(2, 6))
    columns = np.zeros((2, 6, 5))  # two levels, two slopes, a curvature
    for arm in (0, 1):
        columns[arm, :, arm], columns[arm, :, 2 + arm], columns[arm, :, 4] = 1, values, values**2
    fit = np.linalg.lstsq(columns.reshape(12, 5), results.ravel(), rcond=None)[0]
    assert tuning_luck.parabola_top(values, results[None])[0] == pytest.approx(-fit[2:4] / (2 * fit[4]))
    assert np.isnan(tuning_luck.parabola_top(values, -results[None])).all()


def test_without_noise_both_surfaces_find_the_optimum() -> None:
    values, optima = tuning_luck.tuned_values(16), np.array([0.3, 0.5, 0.7])
    results = -8 * ((values - optima[:, None]) / 0.5) ** 2
    assert tuning_luck.parabola_top(values, results[None])[0] == pytest.approx(optima)
    top = tuning_luck.process_top(values, results[None], tuning_luck.PLACES)
    assert top[0] == pytest.approx(optima, abs=0.03)
    smoothed = tuning_luck.choose(Design(choice="smoothed"), values, results[None])
    assert smoothed[0, :, 0] == pytest.approx(optima, abs=0.07)  # draws are about 0.06 apart
    assert np.isin(smoothed, values).all()


def test_where_tuning_does_not_matter_every_design_keeps_to_alpha() -> None:
    for design in (Design(), Design(4, keep=2), Design(choice="process"), Design(4, 2, replicates=6)):
        found = null(design, drop=0, sweeps=1500)
        assert not found.regret.any()
        assert false(found) == pytest.approx(ALPHA, abs=0.02)
        assert tuning_luck.misses(found, "paired").mean() == pytest.approx(ALPHA, abs=0.02)


def test_a_claim_holds_at_the_chosen_draws_and_fails_at_the_best() -> None:
    row = chosen_row(world(30), 4, Design(4), 1500, np.random.default_rng(4))
    for pairing in ("paired", "unpaired"):
        assert row[f"{pairing}_missed"] <= 0.07 and row[f"{pairing}_wrong"] <= 0.03
        assert row[f"{pairing}_false"] > 0.4


def test_more_draws_and_seeds_lose_less_and_more_evidence_shows_what_was_lost() -> None:
    few, many, thrice = null(Design(4)), null(Design(16)), null(Design(16, search_seeds=3))
    assert few.regret.mean() > many.regret.mean() > thrice.regret.mean()
    assert false(few) > false(thrice)
    assert false(null(Design(8, 16))) > false(null(Design(8, 4))) + 0.1


def test_a_process_chooses_better_than_the_best_draw_whatever_the_shape() -> None:
    for shape in tuning_luck.SHAPES:
        best = null(Design(), shape=shape)
        for choice in ("process", "smoothed"):
            found = null(Design(choice=choice), shape=shape)
            assert found.regret.mean() < 0.8 * best.regret.mean()
            assert false(found) < false(best)


@pytest.mark.parametrize(("drop", "shape"), [(8, "quadratic"), (30, "cliff")])
def test_the_smoothed_choice_is_that_of_a_sweep(drop: float, shape: str) -> None:
    rng, values = np.random.default_rng(0), tuning_luck.tuned_values(16)
    optimum = rng.uniform(0.3, 0.7, size=(50, 4, 1))
    results = rng.normal(-tuning_luck.SHAPES[shape]((values - optimum) / 0.5, drop), 1.3)
    expected = [expected_results([values[:, None]] * 4, list(sweep)) for sweep in results]
    chosen = values[np.array(expected).argmax(axis=2)]
    assert np.array_equal(chosen, tuning_luck.process_top(values, results, values))
    assert not np.array_equal(chosen, values[results.argmax(axis=2)])


def test_a_parabola_is_right_about_parabolas_alone() -> None:
    assert null(Design(choice="quadratic")).regret.mean() < 0.03
    cliff = null(Design(choice="quadratic"), shape="cliff")
    assert cliff.regret.mean() > 2 * null(Design(), shape="cliff").regret.mean()
    assert null(Design(choice="shared"), drop=30).regret.mean() > 1  # the arms' optima differ


def test_a_check_turns_down_a_value_beyond_the_cliff() -> None:
    taken, checked = (null(Design(5, choice=choice), shape="cliff") for choice in ("process", "checked"))
    assert checked.regret.mean() < taken.regret.mean() / 2


def test_nested_and_replicated_tuning_seldom_claim() -> None:
    for design in (Design(8, keep=2, nested=True), Design(4, 2, replicates=4)):
        row = design_row(world(8), "quadratic", EFFECTS, design, 400, [5])
        present = design_row(world(8), "quadratic", EFFECTS, Design(), 400, [5])
        assert row["runs"] == present["runs"] == tuning_luck.FULL and row["cost"] == 1
        test = "nested" if design.nested else "paired"
        assert row[f"{test}_false"] < 0.08 < present["paired_false"]
        assert row[f"{test}_power"] < present["paired_power"]


def test_the_command_prints_two_tables_and_writes_them(tmp_path: Path, monkeypatch, capsys) -> None:
    designs = [Design(8, 8, search_seeds=2), Design(8, 8, keep=2, nested=True), Design(2, 1, replicates=8)]
    for name, small in (
        ("CHOSEN", [Design(4)]), ("ARMS", (4,)), ("DESIGNS", designs), ("OF_OTHER_SIZE", [Design(4)]),
    ):  # fmt: skip
        monkeypatch.setattr(tuning_luck, name, small)
    out = tmp_path / "luck.json"

    def run(seed: int) -> str:
        arguments = ["tuning_luck", "--sweeps", "3", "--seed", str(seed), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", arguments)
        tuning_luck.main()
        return out.read_text()

    first = run(0)
    found, shown = json.loads(first), capsys.readouterr().out
    assert (len(found["chosen"]), len(found["designs"])) == (2, 6 * (3 + 2))
    assert {row["arms"] for row in found["designs"]} == {2, 4, 10}
    for name in ("8 draws x 2 seeds, 8 seeds", "keep 2 nested", "2 draws, 1 seed; all x 8"):
        assert name in shown
    widths = [line.count("|") for line in shown.splitlines() if line]
    assert len(set(widths)) == 2  # each row has its table's columns
    assert run(0) == first != run(1)


def test_no_sweeps_are_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["tuning_luck", "--sweeps", "0"])
    with pytest.raises(SystemExit) as stopped:
        tuning_luck.main()
    assert stopped.value.code == 2 and "--sweeps is 0" in capsys.readouterr().err
