"""What a dry run says of the rule: the question, the reason of each `auto`, the looks and their cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.observe.preview import preview
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

FIVE = [1, 2, 3, 4, 5]
SIXTEEN = list(range(16))
MANY = {"bonus": {"levels": {f"l{index}": {"model.bonus": 0.1 * index} for index in range(7)}}}


def shown(plan: Plan, hours: float = 0.0) -> str:
    names = [arm.name for arm in plan.arms]
    costs = dict.fromkeys(names, Calibration(36 * hours)) if hours else {}
    return preview(plan, dict.fromkeys(names, 2), "here", costs)


def test_five_seeds_are_looked_at_three_times(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path, seeds=FIVE))
    assert "Question: baseline (which arms differ from a)" in text
    assert "test: Welch t-test; unpaired seeds (auto: without seed_keys" in text
    assert "level: 0.04 over 2 comparisons (Holm), 0.01 in reserve for extensions" in text
    assert "more seeds of" not in text
    assert "looks: at 3, 4 and 5 seeds (auto, of 5 seeds)" in text
    # A tenth of 0.04 / 2, half of it at each of the two early looks.
    assert "a look decides where p is at most 0.001, 0.0011, 0.019 (the level / 2, by Bonferroni)" in text
    assert "evidence: 15 trials at most; about 15 if no arm differs, about 1" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": [1, 2, 3]}, "looks: one, when all seeds have run (auto: below 4 seeds)"),
        ({"evidence": {"looks": "none"}}, "looks: one, when all seeds have run (given)"),
        ({"evidence": {"looks": [2, 5]}}, "looks: at 2 and 5 seeds (given)"),
        (
            {"evidence": {"looks": "anytime", "pairing": "paired"}},
            "looks: at 3 to 5 seeds and at any later one (given)",
        ),
        ({"evidence": {"test": "permutation"}}, "looks: one, when all seeds have run (auto: a permutation"),
        (
            {"evidence": {"question": "effects"}},
            "looks: one, when all seeds have run (auto: question effects",
        ),
        ({"evidence": {"pairing": "paired"}}, "test: paired t-test; paired seeds (given)"),
        ({"evidence": {"baseline_seeds": [7, 8]}}, "more seeds of a: 7, 8"),
        ({"evidence": {"reserve": 0}}, "level: 0.05 over 2 comparisons (Holm), nothing in reserve"),
        ({"evidence": {"margin": 0.1}}, "margin: within 0.1 arms are equivalent"),
        ({"evidence": {"margin": 0.1}}, "(simulated, without margin or futility, as no pilot says"),
        ({"evidence": {"futility": 0.2}}, "futility: an arm stops once a difference of 0.2 or more is"),
        ({"evidence": {"question": "best"}}, "Question: best (which arms are the best, by all pairs)"),
        ({"evidence": {"question": "best"}}, "over 3 comparisons (Holm)"),
        ({"ablate": MANY}, "evidence: 35 trials at most"),
        ({"ablate": MANY, "evidence": {"baseline_seeds": [6, 7]}}, "evidence: 37 trials at most"),
        ({"tune": TUNE, "search": {"keep": 2}}, "evidence: 30 trials at most"),
        ({"seeds": SIXTEEN, "evidence": {"question": "spread"}}, "Question: spread (which arms' SD"),
        (
            {"seeds": SIXTEEN, "evidence": {"question": "spread"}},
            "each seed's distance from the arm's median",
        ),
        ({"seeds": SIXTEEN, "evidence": {"question": "spread"}}, "level: 0.04 over 2 comparisons (Holm)"),
        ({"evidence": {"question": "effects"}}, "level: 0.04 over all effects and interactions (Holm)"),
    ],
)
def test_each_choice_is_said_with_its_reason(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in shown(toy_plan(tmp_path, **{"seeds": FIVE, **changes}))


@pytest.mark.parametrize("changes", [{"scheduler": ASHA}, {"ablate": None, "tune": TUNE}])
def test_where_nothing_is_compared_no_rule_is_shown(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "Question" not in shown(toy_plan(tmp_path, **changes))


def test_workers_wait_at_each_look(tmp_path: Path) -> None:
    """Two at a time: of nine trials of an hour, then three, then three, one runs alone each time."""
    text = shown(toy_plan(tmp_path, seeds=FIVE), hours=1)
    assert "Time of the sweep without looks: about 8 h 0 min" in text
    assert "wait for its last trial: about 9 h 0 min at most, " in text
    assert "min if no arm differs, " in text
    without = shown(toy_plan(tmp_path, seeds=FIVE, evidence={"looks": "none"}), hours=1)
    assert "Time of the sweep: about 8 h 0 min" in without and "with looks" not in without
