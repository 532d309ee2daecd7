"""Which draws go on to the evidence."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.judge import Decision
from sweeps.decide.selection import DrawResult, ranked, smoothed
from sweeps.record.state import LOST, TrialState
from tests.sweeps.spaces import ASHA, TUNE, toy_plan


def draw(index: int, *values: float, status: str = "completed", seed: int = 0) -> TrialState:
    """A trial with a value at 10, 20, ... samples."""
    made = TrialState(f"a-d{index}-s{seed}", "a", index, {}, seed, "search")
    for step, value in enumerate(values, start=1):
        made.report(step, {"samples": 10.0 * step, "accuracy": value, "step": step})
    made.status = status  # type: ignore[assignment]
    return made


def draws(results: list[DrawResult]) -> list[int]:
    return [result.draw for result in results]


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    return toy_plan(tmp_path, tune=TUNE, scheduler=ASHA | {"scope": "arm"}).spec


def stops(*decided: tuple[int, float, float], action: Any = "stop") -> dict[str, Decision]:
    """Decisions on draws: (draw, rung, judged value there)."""
    return {
        f"a-d{draw}": Decision(f"a-d{draw}", rung, value, 0.5, action, "") for draw, rung, value in decided
    }


def test_whole_draws_come_before_stopped_ones_and_these_by_their_rung_and_value_there(spec: Any) -> None:
    """Not by how far they ran past the rung, nor by the objective."""
    trials = [
        draw(0, 0.1, 0.2),
        draw(1, 0.9, 0.9, 0.9, status="pruned"),  # stopped at 10, and heard of it late
        draw(2, 0.3, 0.4, status="pruned"),
        draw(3, 0.2, 0.6),
        draw(4, 0.99, status="failed"),
        draw(5, 0.99, status="diverged"),
        draw(6, 0.0, status="pruned"),
    ]
    decisions = stops((1, 10.0, 0.2), (2, 20.0, 0.1), (6, 10.0, 0.3))
    assert draws(ranked(trials, spec, decisions)) == [3, 0, 2, 6, 1]


def test_stopped_draws_are_compared_in_the_direction_of_the_judged_metric(tmp_path: Path) -> None:
    scheduler = ASHA | {"scope": "arm", "metric": "total", "mode": "min"}
    spec = toy_plan(tmp_path, tune=TUNE, scheduler=scheduler).spec
    trials = [draw(0, 0.9, status="pruned"), draw(1, 0.1, status="pruned")]
    assert draws(ranked(trials, spec, stops((0, 20.0, 5.0), (1, 20.0, 3.0)))) == [1, 0]


def test_a_draw_is_the_mean_of_its_seeds_and_out_where_one_failed(spec: Any) -> None:
    trials = [
        *(draw(0, 0.5, seed=seed) for seed in (0, 1)),
        *(draw(1, value, seed=seed) for seed, value in enumerate((0.9, 0.2))),
        draw(2, 0.9, seed=0),
        draw(2, 0.9, seed=1, status="failed"),
    ]
    assert draws(ranked(trials, spec, {})) == [1, 0]


def test_a_seed_that_was_lost_with_its_node_does_not_count_against_its_draw(spec: Any) -> None:
    lost = [draw(0, 0.9, seed=1, status="failed"), draw(2, status="failed")]
    for trial in lost:
        trial.cause = LOST
    trials = [draw(0, 0.9), *lost, draw(1, 0.5), draw(1, 0.5, seed=1)]
    assert draws(ranked(trials, spec, {})) == [0, 1]


def test_an_audited_draw_chooses_nothing_with_what_it_did_after_its_stop(spec: Any) -> None:
    audit = stops((1, 20.0, 0.1), action="audit")
    trials = [draw(0, 0.1, 0.3, 0.4), draw(1, 0.1, 0.1, 0.9), draw(2, 0.1, 0.05, status="pruned")]
    assert draws(ranked(trials, spec, audit | stops((2, 20.0, 0.05)))) == [0, 1, 2]
    assert draws(ranked(trials, spec, audit | stops((2, 20.0, 0.2)))) == [0, 2, 1]


def test_a_draw_that_completed_as_its_stop_was_decided_has_completed(spec: Any) -> None:
    trials = [draw(0, 0.3), draw(1, 0.4)]
    assert draws(ranked(trials, spec, stops((1, 20.0, 0.1)))) == [1, 0]


def lucky(*, completed: int = 12, stopped: int = 2) -> list[DrawResult]:
    """A peak at draw 4 of 12 with the best result at draw 10, by luck; then stopped draws."""
    rates = [0.01 * 100 ** (place / 11) for place in range(12)]
    scores = [0.5 - 0.004 * (place - 4) ** 2 + 0.15 * (place == 10) for place in range(12)]
    scores[10] = 0.51
    results = [
        DrawResult(place, {"lr": rates[place]}, scores[place], place < completed) for place in range(12)
    ]
    more = [DrawResult(12 + place, {"lr": 0.5}, 0.9, False) for place in range(stopped)]
    return sorted(results + more, key=lambda each: (-each.completed, -each.score, each.draw))


def test_the_smoothed_choice_passes_over_a_lucky_result_and_leaves_stopped_draws_last(spec: Any) -> None:
    results = lucky()
    assert draws(results)[0] == 10
    found = draws(smoothed({"a": results}, spec)["a"])
    assert found[0] == 4 and found[-2:] == [12, 13]
    assert sorted(found) == sorted(draws(results))


def test_the_smoothed_choice_does_not_depend_on_the_order_of_trials(spec: Any) -> None:
    trials = [
        TrialState(f"a-d{each.draw}-s0", "a", each.draw, dict(each.values), 0, "search", "completed")
        for each in lucky(stopped=0)
    ]
    for trial, result in zip(trials, lucky(stopped=0), strict=True):
        trial.report(1, {"samples": 10.0, "accuracy": result.score})
    shuffled = random.Random(0).sample(trials, len(trials))
    one, other = (smoothed({"a": ranked(each, spec, {})}, spec) for each in (trials, shuffled))
    assert one == other


def test_an_arm_with_few_completed_draws_is_left_out_of_the_fit(spec: Any) -> None:
    few = lucky(completed=7)
    assert smoothed({"b": few}, spec) == {}
    alone = smoothed({"a": lucky()}, spec)
    assert smoothed({"a": lucky(), "b": few}, spec) == alone


def test_equal_results_keep_the_order_of_the_best(spec: Any) -> None:
    equal = [DrawResult(place, {"lr": 0.01 * 1.3**place}, 0.1, True) for place in range(12)]
    assert draws(smoothed({"a": equal, "b": lucky()}, spec)["a"]) == list(range(12))
