"""What is still open, how many seeds would settle it, and that the launcher takes the printed commands."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import run_sweep
from analysis.compare.claims import claims_of
from analysis.compare.ranking import rank_arms, seed_table
from analysis.explain.asked import contrasts_asked
from analysis.inference.contrasts import contrast
from analysis.inference.power import seeds_needed_for
from analysis.inference.significance import Pairing
from analysis.inference.spread import upper_sd
from analysis.report.build import render, write_report
from analysis.report.limits import cannot_be_concluded
from analysis.report.open_questions import next_steps, open_questions
from analysis.report.verdicts import verdicts
from analysis.sweep import Sweep, load_sweep
from sweeps.plan.identity import resolved
from sweeps.record.tables import rebuild
from tests.analysis.played import played, played_space
from tests.analysis.synthetic import Fake, write_sweep
from tests.conftest import ROOT
from tests.sweeps.decide.test_controller import controller, play
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

SEARCH = {"draws_per_arm": 2, "seeds": [0], "keep": 1}


def _toy(folder: Path, budget: int = 10_000, **changes: Any) -> Sweep:
    """A toy sweep's results as a launch leaves them, its trials played by hand."""
    plan = toy_plan(folder, **changes)
    results = folder / "results" / plan.spec.name
    results.mkdir(parents=True)
    made = controller(plan, results)
    play(made, budget=budget)
    made.finish("completed" if made.finished else "interrupted")
    space = resolved(plan)
    space["resolved"] |= {"version": "0", "created": "now", "id": "id", "data": ""}
    (results / "sweep.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    rebuild(results)
    return load_sweep(Path("results") / plan.spec.name)


@pytest.mark.parametrize(
    "changes", [{}, {"tune": TUNE, "search": SEARCH, "scheduler": ASHA | {"scope": "arm"}}]
)
def test_the_printed_command_is_taken_and_runs_what_it_is_priced_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = _toy(tmp_path, evidence={"test": "permutation"}, **changes)
    (step,) = next_steps(sweep, open_questions(sweep))
    assert set(step.arms) == {"b", "c"} and step.command.endswith("--extend")
    page = write_report("results/toy").read_text()
    assert step.command in page and page.index("Comparisons still open") > page.index("To reproduce")
    assert run_sweep.main([*shlex.split(step.command)[2:], "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{len(sweep.trials)} have already run in results/toy" in out
    there = yaml.safe_load(Path(shlex.split(step.command)[2]).read_text())["seeds"]
    assert step.trials == 3 * (len(there) - 2) and f"x {len(there)} seeds = {3 * len(there)} trials" in out


def test_a_sweep_that_stopped_its_arms_is_run_anew_with_nothing_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = _toy(tmp_path, scheduler=ASHA)
    (step,) = next_steps(sweep, open_questions(sweep))
    assert "--extend" not in step.command and step.trials % 3 == 0
    write_report("results/toy")
    assert run_sweep.main([*shlex.split(step.command)[2:], "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"= {step.trials} trials" in out and "asha" not in out


def test_what_is_unfinished_is_first_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = _toy(tmp_path, budget=25)
    assert next_steps(sweep, open_questions(sweep)) == []
    assert "first launch with <code>--resume</code>" in render(load_sweep("results/toy"))


def test_the_price_is_that_of_every_arm_at_its_own_time(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.51), "c": Fake(0.9)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=tuple(range(1, 9)), phase="evidence"))
    (question,) = open_questions(sweep)
    assert (question.arm, question.n) == ("b", 8) and question.seeds is not None
    (step,) = next_steps(sweep, [question])
    assert step.trials == 3 * question.seeds and step.seconds == pytest.approx(40.0 * step.trials)
    assert f"--storage {tmp_path}" in step.command
    seeds = yaml.safe_load(step.space)["seeds"]
    assert seeds == list(range(9, question.seeds + 9)) and "resolved" not in yaml.safe_load(step.space)


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_seeds_are_planned_from_the_upper_limit_of_the_sd(tmp_path: Path, pairing: Pairing) -> None:
    arms, space = {"a": Fake(0.5), "b": Fake(0.48)}, {"evidence": {"pairing": pairing}}
    folder = write_sweep(tmp_path / "s", arms, seeds=tuple(range(1, 9)), phase="evidence", space=space)
    sweep = load_sweep(folder)
    (question,) = open_questions(sweep)
    table = seed_table(sweep, "test/exact_accuracy")
    sd, df = (table["b"] - table["a"]).std(), 7.0
    if pairing == "unpaired":
        parts = table.var()
        sd, df = math.sqrt(parts.sum()), parts.sum() ** 2 / (parts**2 / 7).sum()
    assert (question.sd, question.upper) == (pytest.approx(sd), pytest.approx(upper_sd(sd, df)))
    of_upper, of_seen = (
        seeds_needed_for(question.diff, each, 1, "t", pairing, alpha=0.04)
        for each in (question.upper, question.sd)
    )
    assert of_upper is not None and of_seen is not None
    assert question.seeds == of_upper > of_seen
    assert f"SD {100 * sd:.1f}, at most {100 * question.upper:.1f}" in render(load_sweep(folder))


def test_below_three_degrees_of_freedom_the_spread_comes_first(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.51)}
    folder = write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3), phase="evidence")
    (question,) = open_questions(load_sweep(folder))
    assert question.to_see and question.seeds == 4 and math.isnan(question.upper)
    (step,) = next_steps(load_sweep(folder), [question])
    assert step.trials == 8 and yaml.safe_load(step.space)["seeds"] == [4, 5, 6, 7]
    assert "to see the spread" in render(load_sweep(folder))


def test_what_is_settled_is_not_asked_again(tmp_path: Path) -> None:
    arms = {"a": Fake(0.3), "b": Fake(0.9)}
    folder = write_sweep(tmp_path / "s", arms, seeds=tuple(range(1, 9)), phase="evidence")
    assert open_questions(load_sweep(folder)) == []


def test_a_difference_within_the_margin_is_to_be_shown_equivalent(tmp_path: Path) -> None:
    """It takes fewer seeds than to show so small a difference, and the page says which of the two it is."""
    arms, seeds = {"a": Fake(0.5), "b": Fake(0.48)}, tuple(range(1, 9))
    plain = load_sweep(write_sweep(tmp_path / "plain", arms, seeds=seeds, phase="evidence"))
    (differs,) = open_questions(plain)
    margin = abs(differs.diff) + differs.sd / 2
    space = {"evidence": {"margin": margin}}
    folder = write_sweep(tmp_path / "asked", arms, seeds=seeds, phase="evidence", space=space)
    (alike,) = open_questions(load_sweep(folder))
    assert differs.seeds is not None and alike.seeds is not None and alike.seeds < differs.seeds
    assert alike.as_equivalent and not differs.as_equivalent
    assert "to show equivalence" in render(load_sweep(folder))


@pytest.mark.parametrize("question", ["effects", "spread"])
def test_what_was_asked_and_is_not_settled_is_open(tmp_path: Path, question: str) -> None:
    """Exactly the comparisons that the verdicts leave open, each with the launch that would settle it."""
    luck = np.random.default_rng(0).normal(0, 0.05, (9, 16))

    def value(arm: str, seed: int) -> float:
        kind, bonus = (part.split("=")[-1] for part in arm.split("+"))
        return float(0.5 + 0.1 * (kind == "c") + luck[3 * "abc".index(kind) + int(bonus)][seed - 1])

    ablate, asked = {"model.kind": ["a", "b", "c"], "model.bonus": [0, 1, 2]}, {"question": question}
    folder = played(tmp_path, value, ablate=ablate, seeds=list(range(1, 17)), evidence=asked)
    sweep = load_sweep(folder)
    rows = {(row["arm"], row["against"]): row for row in verdicts(sweep)["comparisons"]}
    found = {(each.arm, each.against): each for each in open_questions(sweep)}
    assert found.keys() == {key for key, row in rows.items() if row["verdict"] == "not settled"}
    assert found and (question == "spread" or found.keys() < rows.keys())
    for key, each in found.items():
        assert each.diff == pytest.approx(rows[key]["diff"]) and each.n == 16 and each.upper > each.sd > 0
    text, ranked = render(sweep), rank_arms(sweep)
    assert "each comparison is settled" not in text and "Both tests" not in text
    assert "the interval bounds its size" in " ".join(cannot_be_concluded(sweep, ranked))
    (step,) = next_steps(sweep, list(found.values()))
    assert step.file == "evidence.yaml" and min(yaml.safe_load(step.space)["seeds"]) == 17
    assert set(ranked["verdict"]) == {"baseline", "not asked"} and set(ranked["decided_by"]) == {""}


def test_the_sd_of_an_effect_is_that_of_its_contrast(tmp_path: Path) -> None:
    """Its standard error is this SD over the root of the seeds."""
    sweep = load_sweep(played_space(tmp_path, ROOT / "search_spaces" / "mini_layers.yaml"))
    values, weights = contrasts_asked(sweep, claims_of(sweep))
    for each in open_questions(sweep):
        mine = weights[each.arm, each.against]
        error = contrast(values[[*mine]], [*mine.values()], "unpaired").error
        assert each.sd == pytest.approx(error * math.sqrt(each.n))
