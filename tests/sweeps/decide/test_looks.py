"""Sequential evidence in the controller: what is planned and decided depends on the values alone."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from analysis.inference.decision import EQUIVALENT, NOT_SETTLED, Comparison
from sweeps.decide.controller import Controller
from sweeps.decide.looks import refuse_idle_extension
from sweeps.record.journal import Event, read_journal
from sweeps.space.errors import SpecError
from tests.sweeps.playing import EIGHT, FOUR, play, seeds_of, value
from tests.sweeps.spaces import TUNE, toy_plan


def looks(journal: Path) -> list[Event]:
    return [{**event, "time": 0} for event in read_journal(journal) if event["event"] == "look"]


def rows(controller: Controller) -> dict[str, Comparison]:
    return {row.arm: row for row in controller.state.comparisons}


@pytest.mark.parametrize(
    "evidence",
    [
        {"futility": 0.05},
        {"margin": 0.05},
        {"question": "best", "futility": 0.05},
        {"pairing": "paired", "futility": 0.1},
    ],
)
@pytest.mark.parametrize("tuned", [False, True])
def test_neither_the_order_of_ends_nor_kills_change_what_is_run_and_decided(
    tmp_path: Path, evidence: dict[str, Any], tuned: bool
) -> None:
    more: dict[str, Any] = {"tune": TUNE, "search": {"draws_per_arm": 2}} if tuned else {}
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT, evidence=evidence, **more)
    first = play(plan, tmp_path / "0", random.Random(0))
    expected = looks(tmp_path / "0")
    assert expected
    for number in range(1, 6):
        journal = tmp_path / str(number)
        other = play(plan, journal, random.Random(number), kill=0.15 * (number % 3))
        assert looks(journal) == expected
        assert seeds_of(other) == seeds_of(first)


def test_a_closed_arm_gets_no_more_seeds(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT, evidence={"futility": 0.05})
    controller = play(plan, tmp_path / "journal", random.Random(0))
    found, seeds = rows(controller), seeds_of(controller)
    assert found["b"].verdict == "better" and seeds["b"] == list(found["b"].seeds)
    assert len(seeds["b"]) < 8
    futile = found["c"]
    assert futile.verdict == NOT_SETTLED and futile.note == f"stopped for futility at look {futile.look}"
    assert seeds["c"] == list(futile.seeds)
    last = max(row.look for row in found.values())
    assert seeds["a"] == EIGHT[: plan.rule.looks[last - 1]]  # the baseline runs to the last look taken


def test_equivalent_arms_are_closed(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate={"model.kind": ["a", "c"]}, seeds=EIGHT, evidence={"margin": 0.3})
    controller = play(plan, tmp_path / "journal", random.Random(0))
    row = rows(controller)["c"]
    assert row.verdict == EQUIVALENT and -0.3 <= row.low <= 0 <= row.high <= 0.3
    assert len(seeds_of(controller)["c"]) < 8


def test_without_looks_all_seeds_run_and_one_look_is_taken(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT, evidence={"looks": "none"})
    controller = play(plan, tmp_path / "journal", random.Random(0))
    assert set(map(len, seeds_of(controller).values())) == {8}
    (look,) = looks(tmp_path / "journal")
    assert (look["look"], look["seeds"]) == (1, 8)


def test_an_arm_whose_seed_was_lost_with_its_node_stays_open(tmp_path: Path) -> None:
    def lost(arm: str, seed: int) -> float:
        return math.inf if (arm, seed) == ("b", 2) else value(arm, seed)

    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT, evidence={"futility": 0.05}, max_failures=0)
    controller = play(plan, tmp_path / "journal", random.Random(0), of=lost)
    row = rows(controller)["b"]
    assert row.look == 0 and row.verdict == NOT_SETTLED and not row.closed
    assert "lost" in row.note
    assert seeds_of(controller)["b"] == [1, 2, 3]
    assert rows(controller)["d"].look > 1


def test_a_diverged_seed_is_an_outcome_and_takes_equivalence_away(tmp_path: Path) -> None:
    def diverges(arm: str, seed: int) -> float:
        return math.nan if (arm, seed) == ("c", 2) else value(arm, seed)

    plan = toy_plan(tmp_path, ablate={"model.kind": ["a", "c"]}, seeds=EIGHT, evidence={"margin": 0.3})
    controller = play(plan, tmp_path / "journal", random.Random(0), of=diverges)
    row = rows(controller)["c"]
    assert row.verdict == NOT_SETTLED and "1 of 8 seeds diverged or failed" in row.note
    assert row.seeds == (1, 3, 4, 5, 6, 7, 8)


def test_the_baseline_may_have_more_seeds(tmp_path: Path) -> None:
    levels = {f"l{index}": {"model.bonus": 0.01 * index} for index in range(7)}
    evidence = {"baseline_seeds": [9, 10, 11, 12]}
    plan = toy_plan(tmp_path, ablate={"bonus": {"levels": levels}}, seeds=EIGHT, evidence=evidence)
    controller = play(plan, tmp_path / "journal", random.Random(0), of=lambda arm, seed: value("a", seed))
    assert seeds_of(controller)[plan.baseline][:4] == [1, 2, 3, 4]
    assert all(
        set(seeds) <= set(EIGHT) for arm, seeds in seeds_of(controller).items() if arm != plan.baseline
    )


def extended(tmp_path: Path, seeds: list[int], kinds: list[str], after: list[int], **more: Any) -> Controller:
    """A sweep run on `seeds` and then extended to `after`, and by arms if `kinds` has more than two."""
    evidence = more.pop("evidence", {"looks": "none"})
    journal = tmp_path / "journal"
    plan = toy_plan(tmp_path, ablate={"model.kind": ["a", "c"]}, seeds=seeds, evidence=evidence)
    play(plan, journal, random.Random(0))
    plan = toy_plan(tmp_path, ablate={"model.kind": kinds}, seeds=after, evidence=evidence)
    return play(plan, journal, random.Random(1), kill=0.2)


def test_an_extension_claims_from_its_new_seeds_at_its_part_of_the_reserve(tmp_path: Path) -> None:
    controller = extended(tmp_path, [1, 2, 3, 4], ["a", "c"], EIGHT)
    plan, extension = controller.state.stages
    assert (plan["level"], extension["level"]) == (0.04, 0.005)
    assert rows(controller)["c"].seeds == (5, 6, 7, 8)
    assert seeds_of(controller) == {"a": EIGHT, "c": EIGHT}


def test_new_arms_are_a_family_of_their_own(tmp_path: Path) -> None:
    controller = extended(tmp_path, [1, 2, 3, 4], ["a", "c", "b"], [1, 2, 3, 4])
    found = rows(controller)
    assert [each["arm"] for each in controller.state.stages[1]["comparisons"]] == ["b"]
    assert found["b"].seeds == found["b"].seeds_against == (1, 2, 3, 4)
    assert found["c"].seeds == (1, 2, 3, 4)  # as it was published


def test_verdicts_that_were_published_stand(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=[1, 2, 3, 4, 5])
    before = rows(play(plan, tmp_path / "journal", random.Random(0)))
    assert before["b"].verdict == "better"
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT)
    controller = play(plan, tmp_path / "journal", random.Random(0))
    assert str(rows(controller)["b"]) == str(before["b"])  # NaN is not itself
    assert len(seeds_of(controller)["b"]) == len(before["b"].seeds)
    assert seeds_of(controller)["a"] == EIGHT


def test_an_extension_for_which_nothing_is_open_is_refused(tmp_path: Path) -> None:
    two: dict[str, Any] = {"ablate": {"model.kind": ["a", "b"]}, "seeds": [1, 2, 3, 4, 5]}
    journal = tmp_path / "journal"
    plan = toy_plan(tmp_path, **two)
    refuse_idle_extension(plan, journal)  # nothing has run
    assert rows(play(plan, journal, random.Random(0)))["b"].closed
    refuse_idle_extension(plan, journal)  # no extension
    with pytest.raises(SpecError, match="each comparison is settled"):
        refuse_idle_extension(toy_plan(tmp_path, **{**two, "seeds": EIGHT}), journal)
    refuse_idle_extension(toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT), journal)  # new arms


def test_a_lost_seed_is_run_again_by_the_next_launch(tmp_path: Path) -> None:
    def lost(arm: str, seed: int) -> float:
        return math.inf if (arm, seed) == ("b", 2) else value(arm, seed)

    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT, evidence={"futility": 0.05}, max_failures=0)
    undisturbed = rows(play(plan, tmp_path / "other", random.Random(0)))
    assert not rows(play(plan, tmp_path / "journal", random.Random(0), of=lost))["b"].closed
    found = rows(play(plan, tmp_path / "journal", random.Random(0)))
    assert found["b"].verdict == undisturbed["b"].verdict == "better"
    assert found["b"].seeds == undisturbed["b"].seeds


def test_an_e_process_goes_on_in_an_extension(tmp_path: Path) -> None:
    asked = {"looks": "anytime", "pairing": "paired"}
    two, journal = {"model.kind": ["a", "d"]}, tmp_path / "journal"
    play(toy_plan(tmp_path, ablate=two, seeds=[1, 2, 3, 4], evidence=asked), journal, random.Random(0))
    controller = play(toy_plan(tmp_path, ablate=two, seeds=EIGHT, evidence=asked), journal, random.Random(0))
    first, second = controller.state.stages
    assert second["looks"] == [5, 6, 7, 8] and second["level"] == first["level"]
    row = rows(controller)["d"]
    assert row.seeds == tuple(EIGHT[: second["looks"][row.look - 1]])
