"""What the page says of a sweep that was decided look by look."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare.ranking import rank_arms
from analysis.format import p_words
from analysis.report.build import render
from analysis.report.latex import to_latex
from analysis.report.limits import cannot_be_concluded
from analysis.report.sentences import by_all_pairs, verdict
from analysis.report.summary import ranking_text
from analysis.report.table import how_decided, to_csv
from analysis.sweep import Sweep, load_sweep
from tests.analysis.played import played
from tests.analysis.report.sections.cells import cells
from tests.analysis.report.test_verdicts import SHARE, asked_again, far_apart
from tests.analysis.synthetic import Fake, write_sweep
from tests.sweeps.playing import value


def ranking(sweep: Sweep) -> dict[str, dict[str, str]]:
    """The rows of the page's first table, by arm, which is a letter, and the column's head."""
    heads, *rows = cells(render(sweep).split("</table>")[0])
    return {row[0][0]: dict(zip(heads, row, strict=True)) for row in rows}


def limits(sweep: Sweep) -> str:
    return "\n".join(cannot_be_concluded(sweep, rank_arms(sweep)))


def test_each_row_has_its_verdict_and_its_look(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path, evidence={"futility": 0.05}))
    rows, ranked = ranking(sweep), rank_arms(sweep).set_index("arm")
    assert (rows["a"]["difference to baseline"], rows["a"]["p (Holm)"]) == ("baseline", "–")
    b, c = ranked.loc["b"], ranked.loc["c"]
    assert b["look"] < 5 and rows["b"]["p (Holm)"].endswith(f"betterclosed at look {b['look']} of 5")
    assert rows["c"]["p (Holm)"].endswith(f"not settledclosed at look {c['look']} of 5; stopped for futility")
    assert f"{p_words(b['p_adjusted'])}, look {b['look']} of 5" in verdict(sweep, rank_arms(sweep))


def test_the_note_says_the_level_the_looks_and_what_the_interval_is(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path, evidence={"futility": 0.05}))
    said, taken = how_decided(sweep), rank_arms(sweep)["look"].max()
    assert "decided at a level of 4%; 1% more is kept for extensions" in said
    assert f"5 looks were planned, at 3, 4, 5, 6 and 8 seeds, and {taken} taken" in said
    assert "leaves out 0 exactly where the verdict is better or worse" in said and "diverged" not in said
    assert said in render(sweep) and "more is kept for extensions" in to_latex(sweep)


def test_one_look_has_no_repeated_p(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    old = load_sweep(write_sweep(tmp_path / "old", arms, seeds=(1, 2, 3, 4), phase="evidence"))
    assert how_decided(old).startswith("All comparisons together are decided at a level of 5%. The interval")
    one = load_sweep(played(tmp_path, evidence={"looks": "none"}))
    assert "repeated" not in how_decided(one) and "look" not in ranking(one)["b"]["p (Holm)"]


def test_below_four_seeds_the_values_stand_where_an_interval_would(tmp_path: Path) -> None:
    folder = played(tmp_path, seeds=[1, 2, 3])
    sweep = load_sweep(folder)
    shown = "seeds: " + ", ".join(f"{value('b', seed):.4g}" for seed in (1, 2, 3))
    assert ranking(sweep)["b"]["accuracy"].endswith(shown) and shown in ranking_text(folder)
    table = pd.read_csv(StringIO(to_csv(sweep)))
    assert "accuracy low" not in table and "difference to baseline low" in table
    assert shown in to_latex(sweep)


def test_the_table_has_the_interval_once_some_arm_has_one(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path))
    table, ranked = pd.read_csv(StringIO(to_csv(sweep))), rank_arms(sweep)
    assert table["accuracy low"].tolist() == ranked["low"].tolist()
    assert table["look"].tolist() == ranked["look"].tolist() and list(table["against"]) == ["a"] * 4


def test_of_all_pairs_each_row_names_the_other_arm(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path, evidence={"question": "best"}))
    rows, ranked = ranking(sweep), rank_arms(sweep)
    assert all(rows[arm]["difference"].endswith("to b") for arm in "acd")
    assert "b is the best, with 95% confidence" in verdict(sweep, ranked)
    assert "Holm-adjusted over 6 comparisons" in render(sweep) and by_all_pairs(sweep) == ""
    assert "How large the difference of " in limits(sweep) and " from b" in limits(sweep)


def test_beside_the_question_of_the_baseline_all_pairs_are_exploratory(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path))
    assert by_all_pairs(sweep) == "By all pairs (exploratory) b is the best."
    assert by_all_pairs(sweep) in render(sweep)
    same = load_sweep(played(tmp_path, lambda arm, seed: value("c", seed + ord(arm)), name="same"))
    assert by_all_pairs(same) == "By all pairs (exploratory) each arm may be the best."


def test_with_a_margin_equivalence_is_counted_and_its_interval_is_shown(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path, ablate={"model.kind": ["a", "c"]}, evidence={"margin": 0.1}))
    row = rank_arms(sweep).set_index("arm").loc["c"]
    assert row["verdict"] == "equivalent"
    assert "equivalent, p " in ranking(sweep)["c"]["p (Shaffer)"]
    both = next(each for each in cells(render(sweep).split("Both tests, paired")[1]) if each[0] == "c")
    ends = (row["equivalent_low"], row["equivalent_high"])
    assert both[5].endswith("[{:+.4g}, {:+.4g}]".format(*ends).replace("-", "−"))
    assert -0.1 < ends[0] <= 0 <= ends[1] < 0.1


def test_what_stopped_early_is_said_to_be_exaggerated(tmp_path: Path) -> None:
    said = limits(load_sweep(played(tmp_path)))
    assert "How large the difference of b" in said and "on average too large" in said
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    old = load_sweep(write_sweep(tmp_path / "old", arms, seeds=(1, 2, 3, 4), phase="evidence"))
    assert "too large" not in limits(old)


def test_a_comparison_that_waits_says_for_what(tmp_path: Path) -> None:
    """A seed of d was lost with its node after the second look: the others go on, d waits."""

    def of(arm: str, seed: int) -> float:
        return math.inf if (arm, seed) == ("d", 5) else value(arm, seed)

    sweep = load_sweep(played(tmp_path, of, max_failures=0))
    seen = rank_arms(sweep).set_index("arm").loc["d"]
    assert seen["look"] == 2 and seen["n"] == 4
    assert "a seed was lost with its node" in ranking(sweep)["d"]["p (Holm)"]


def test_trials_beyond_the_last_look_are_in_no_mean(tmp_path: Path) -> None:
    folder = played(tmp_path)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if json.loads(line)["event"] == "look")
    (folder / "journal.jsonl").write_text("".join(lines[:last]))
    sweep = load_sweep(folder)
    assert "no look has come to these seeds" in limits(sweep)
    assert "a (seeds 7 and 8)" in limits(sweep) and rank_arms(sweep).set_index("arm").loc["a", "n"] == 6


def test_what_is_no_claim_is_a_limit(tmp_path: Path) -> None:
    again: dict[str, Any] = {"pairing": "paired"}
    said = limits(load_sweep(asked_again(played(tmp_path), **again)))
    assert "Any difference between arms, as a claim at 5%: analysed again under another rule" in said


def test_at_the_worst_value_is_said_where_seeds_were_lost(tmp_path: Path) -> None:
    def of(arm: str, seed: int) -> float:
        return math.nan if (arm, seed) == ("b", 2) else value(arm, seed)

    sweep = load_sweep(played(tmp_path, of))
    assert "with them at the worst value" in how_decided(sweep)
    assert "seeds diverged or failed" in ranking(sweep)["b"]["p (Holm)"]


def test_an_interval_that_says_nothing_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    sweep = load_sweep(played(tmp_path, far_apart, seeds=[1, 2], objective=SHARE))
    assert ranking(sweep)["b"]["difference to baseline (points)"].endswith(
        "– (too few seeds)"
    ) and "100.0, +100.0" not in render(sweep)
    assert "difference to baseline (points) low" not in pd.read_csv(StringIO(to_csv(sweep)))
    (again := tmp_path / "alike").mkdir()
    alike = load_sweep(played(again, lambda arm, seed: 1.0, objective=SHARE))
    assert ranking(alike)["b"]["difference to baseline (points)"].endswith("– (no spread)")


def test_an_exploratory_interval_that_says_nothing_is_a_dash(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.5)}, seeds=(0, 1)))
    for metric in (sweep.metric, str(sweep.test_metric)):
        sweep.trials[metric] = (sweep.trials["seed"] == 1).astype(float)
    assert sweep.is_exploratory and ranking(sweep)["b"]["difference to baseline (points)"].endswith(
        "– (too few seeds)"
    )
