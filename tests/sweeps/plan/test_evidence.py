"""What `auto` comes to in `evidence`, and extensions up to the end of the reserve."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from analysis.inference.rule import Rule
from sweeps.plan.model import Plan
from sweeps.record.folder import inspect_folder, write_space
from sweeps.space.errors import SpecError
from tests.sweeps.playing import play
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

FIVE = [1, 2, 3, 4, 5]
MANY = {"bonus": {"levels": {f"l{index}": {"model.bonus": 0.1 * index} for index in range(7)}}}


def rule(plan: Plan) -> Rule:
    assert plan.rule is not None
    return plan.rule


@pytest.mark.parametrize(
    ("changes", "looks"),
    [
        ({"seeds": [1, 2, 3]}, ()),
        ({"seeds": [1, 2, 3, 4]}, (3, 4)),
        ({}, (3, 4, 5)),
        ({"seeds": list(range(8))}, (3, 4, 5, 6, 8)),
        ({"tune": TUNE}, (3, 4, 5)),
        ({"evidence": {"question": "best"}}, (3, 4, 5)),
        ({"evidence": {"looks": "none"}}, ()),
        ({"evidence": {"looks": [2, 5]}}, (2, 5)),
        ({"evidence": {"looks": "anytime", "pairing": "paired"}}, (3, 4, 5)),
        ({"evidence": {"test": "permutation"}}, ()),
        ({"evidence": {"question": "effects"}}, ()),
        ({"seeds": list(range(16)), "evidence": {"question": "spread"}}, ()),
        ({"scheduler": ASHA | {"scope": "arm"}, "tune": TUNE}, (3, 4, 5)),
    ],
)
def test_looks(tmp_path: Path, changes: dict[str, Any], looks: tuple[int, ...]) -> None:
    assert rule(toy_plan(tmp_path, **{"seeds": FIVE, **changes})).looks == looks


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, ()),
        ({"evidence": {"baseline_seeds": []}}, ()),
        ({"evidence": {"baseline_seeds": [5, 6, 20]}}, (6, 20)),
    ],
)
def test_more_seeds_of_the_baseline(tmp_path: Path, changes: dict[str, Any], more: tuple[int, ...]) -> None:
    plan = toy_plan(tmp_path, **{"ablate": MANY, "seeds": FIVE, **changes})
    assert plan.more_baseline_seeds == more
    assert plan.evidence_seeds(plan.baseline) == [*plan.spec.seeds, *more]
    assert plan.evidence_seeds(plan.arms[-1].name) == plan.spec.seeds


def test_futility_is_the_margin_where_it_is_not_given(tmp_path: Path) -> None:
    assert rule(toy_plan(tmp_path)).futility is None
    assert rule(toy_plan(tmp_path, evidence={"margin": 0.1})).futility == 0.1
    assert rule(toy_plan(tmp_path, evidence={"margin": 0.1, "futility": 0.3})).futility == 0.3


def test_a_permutation_test_may_look_where_it_can_decide(tmp_path: Path) -> None:
    evidence = {"test": "permutation", "looks": [8, 10]}
    ablate = {"model.kind": ["a", "b"]}
    assert rule(toy_plan(tmp_path, ablate=ablate, seeds=list(range(10)), evidence=evidence)).looks == (8, 10)


def test_anytime_is_an_e_process_and_needs_no_reserve(tmp_path: Path) -> None:
    def plan(seeds: int) -> Plan:
        evidence = {"looks": "anytime", "pairing": "paired", "reserve": 0}
        ablate = {"model.kind": ["a", "b"]}
        return toy_plan(tmp_path, ablate=ablate, seeds=list(range(seeds)), evidence=evidence)

    assert rule(plan(4)).anytime and not rule(toy_plan(tmp_path)).anytime
    write_space(plan(4), tmp_path, "", extended=False)
    play(plan(4), tmp_path / "journal.jsonl", random.Random(0), of=never)
    assert inspect_folder(plan(6), tmp_path, resume=False, extend=True).extended
    extended = play(plan(6), tmp_path / "journal.jsonl", random.Random(0), of=never)
    assert [stage["level"] for stage in extended.state.stages] == [0.05, 0.05]
    assert extended.state.comparisons[0].seeds == (0, 1, 2, 3, 4, 5)


def never(arm: str, seed: int) -> float:
    """All arms alike, so that nothing is settled and every extension asks again."""
    return 0.5 + 0.01 * ((7 * seed + 3 * ord(arm)) % 5)


@pytest.mark.parametrize(
    ("reserve", "levels", "words"),
    [
        (
            0.01,
            [0.04, 0.005, 0.0025, 0.00125, 0.000625],
            "was 0.01 of the 5%, of which 4 extensions left too",
        ),
        (0.002, [0.048, 0.001, 0.0005], "was 0.002 of the 5%, of which 2 extensions left too little"),
        (0.001, [0.049, 0.0005], "was 0.001 of the 5%, of which 1 extension left too little"),
        (0, [0.05], "is 0, so that this extension could claim nothing"),
    ],
)
def test_extensions_are_refused_once_the_reserve_is_spent(
    tmp_path: Path, reserve: float, levels: list[float], words: str
) -> None:
    found: list[float] = []
    for number in range(len(levels) + 1):
        plan = toy_plan(
            tmp_path,
            ablate={"model.kind": ["a", "b"]},
            seeds=list(range(2 * number + 2)),
            evidence={"looks": "none", "reserve": reserve},
        )
        if number == len(levels):
            with pytest.raises(SpecError, match=f"--extend: evidence.reserve {words}") as refused:
                inspect_folder(plan, tmp_path, resume=False, extend=True)
            assert "launch what is still open as a new sweep, on fresh seeds" in str(refused.value)
            break
        status = inspect_folder(plan, tmp_path, resume=False, extend=number > 0)
        write_space(plan, tmp_path, "", status.extended)
        stages = play(plan, tmp_path / "journal.jsonl", random.Random(0), of=never).state.stages
        found.append(stages[-1]["level"])
        with (tmp_path / "journal.jsonl").open("a") as journal:
            journal.write('{"time":0,"event":"finish","status":"completed"}\n')
    assert found == pytest.approx(levels) and sum(found) <= 0.05 + 1e-12
