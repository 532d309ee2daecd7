"""Every figure in a study's table in docs/results.md follows from the files that are committed with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from analysis.compare.claims import claims_of
from analysis.inference.decision import Comparison, decide
from analysis.inference.samples import Pair
from analysis.inference.sequential import schedule_of
from analysis.report.verdicts import verdicts
from analysis.sweep import load_sweep
from tests.conftest import ROOT

STUDIES = sorted(path.parent for path in (ROOT / "docs" / "results").glob("*/trials.parquet"))
METRIC = "test/exact_accuracy"
HEAD = ["arm", "n", "mean [95% interval]", "lowest, highest", "against", "difference [repeated interval]",
        "p (adjusted)", "verdict", "parameters", "FLOPs a sample", "learning rate"]  # fmt: skip


def table_of(study: str) -> list[dict[str, str]]:
    """The rows of the table that has HEAD, in the section that links to the study's report."""
    sections = re.split(r"^## ", (ROOT / "docs" / "results.md").read_text(), flags=re.MULTILINE)
    [section] = [each for each in sections if f"results/{study}/report.html" in each]
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines()]
    start = lines.index(HEAD) + 2  # after the line that divides them
    rows = []
    for cells in lines[start:]:
        if len(cells) != len(HEAD):
            break
        rows.append(dict(zip(HEAD, cells, strict=True)))
    return rows


def points(share: float, sign: str = "") -> str:
    return format(100 * share, f"{sign}.1f")


def row_of(arm: str, trials: pd.DataFrame, decided: dict[str, Any]) -> dict[str, str]:
    """What stands in the table for an arm, from its evidence by hand, and from verdicts.json."""
    values = trials[METRIC]
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    low, high = max(0.0, values.mean() - half), min(1.0, values.mean() + half)
    compared = decided.get(arm)
    against, difference, p, verdict = "–", "baseline", "–", "–"
    if compared:
        against = compared["against"]
        ends = ", ".join(points(compared[end], "+") for end in ("low", "high"))
        difference = f"{points(compared['diff'], '+')} [{ends}]"
        p = "< 0.001" if compared["p_adjusted"] < 0.001 else f"{compared['p_adjusted']:.3f}"
        verdict = f"{compared['verdict']} at look {compared['look']}"
    [parameters], [flops], [rate] = (
        trials[column].unique() for column in ("num_params", "flops_per_sample", "optim.lr")
    )
    cells = [
        arm,
        str(len(values)),
        f"{points(values.mean())}% [{points(low)}, {points(high)}]",
        f"{points(values.min())}, {points(values.max())}",
        against,
        difference,
        p,
        verdict,
        f"{parameters / 1e3:.1f}k",
        f"{flops / 1e6:.1f}M",
        f"{rate:.1e}".replace("e-0", "e-"),
    ]
    return dict(zip(HEAD, cells, strict=True))


def expected_rows(folder: Path) -> list[dict[str, str]]:
    """The arms of a study, the best first."""
    trials = pd.read_parquet(folder / "trials.parquet")
    evidence = trials[(trials["phase"] == "evidence") & (trials["status"] == "completed")]
    found = json.loads((folder / "verdicts.json").read_text())
    decided = {row["arm"]: row for row in found["comparisons"]}
    order = evidence.groupby("arm")[METRIC].mean().sort_values(ascending=False).index
    return [row_of(arm, evidence[evidence["arm"] == arm], decided) for arm in order]


def test_there_is_a_study() -> None:
    assert STUDIES


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_table_follows_from_the_trials(folder: Path) -> None:
    assert table_of(folder.name) == expected_rows(folder)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_verdicts_follow_from_the_trials(folder: Path) -> None:
    """Every look taken anew, from the values in trials.parquet alone."""
    sweep = load_sweep(folder)
    rule, looks = claims_of(sweep).rule, claims_of(sweep).looks
    values: dict[str, dict[int, float]] = {}
    for row in sweep.trials[sweep.trials["phase"] == "evidence"].sort_values("seed").itertuples():
        values.setdefault(row.arm, {})[row.seed] = float(sweep.trials.loc[row.Index, METRIC])
    recorded = json.loads((folder / "verdicts.json").read_text())
    found = [Comparison(row["arm"], row["against"]) for row in recorded["comparisons"]]
    for number, seeds in enumerate(looks):
        first = {arm: dict(list(by_seed.items())[:seeds]) for arm, by_seed in values.items()}
        pairs = {
            (each.arm, each.against): Pair(first[each.arm], first[each.against], rule, limits=(0.0, 1.0))
            for each in found
        }
        found = decide(found, pairs, rule, number, schedule_of(looks), rule.level(0))
    for row, each in zip(recorded["comparisons"], found, strict=True):
        for name in ("diff", "low", "high", "p", "p_adjusted"):
            assert row[name] == pytest.approx(getattr(each, name), abs=1e-9), (row["arm"], name)
        assert (row["verdict"], row["look"], tuple(row["seeds"])) == (each.verdict, each.look, each.seeds)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_what_is_committed_is_what_the_code_makes_of_the_trials(folder: Path) -> None:
    assert verdicts(load_sweep(folder)) == json.loads((folder / "verdicts.json").read_text())


def test_the_further_steps_of_mini_mixers() -> None:
    trials = pd.read_parquet(ROOT / "docs" / "results" / "mini_mixers" / "trials.parquet")
    means = trials[trials["phase"] == "evidence"].groupby("arm").mean(numeric_only=True)
    page = (ROOT / "docs" / "results.md").read_text()
    for arm, row in means.iterrows():
        shares = [f"{points(row[f'test/exact_accuracy_at_{steps}'])}%" for steps in (1, 8, 32, 128)]
        assert f"| {arm} | {' | '.join(shares)} |" in page
    told = {"mlp": 0.97, "mamba": 0.91, "attention": 0.81, "mamba2": 0.68, "parallel": 0.63}
    assert means["test/q_auroc"].round(2).to_dict() == told


@pytest.mark.parametrize(("study", "page"), [("mini_hybrids", "results.md"), ("mini_frontier", "mixers.md")])
def test_a_first_look_has_its_trials_values(study: str, page: str) -> None:
    """One seed an arm: arm, val, test, parameters."""
    summary = pd.read_csv(ROOT / "docs" / "results" / study / "summary.csv")
    text = (ROOT / "docs" / page).read_text()
    for row in summary.itertuples():
        size = f"{row.num_params / 1e3:.1f}k"
        assert f"| {row.arm} | {points(row.mean)}% | {points(row.test_mean)}% | {size} |" in text


def test_the_readmes_result_is_mini_mixers() -> None:
    trials = pd.read_parquet(ROOT / "docs" / "results" / "mini_mixers" / "trials.parquet")
    evidence = trials[trials["phase"] == "evidence"]
    result = " ".join((ROOT / "README.md").read_text().partition("**A result")[2].partition("![")[0].split())
    names = {"mlp": "MLP mixer", "mamba": "Mamba", "mamba2": "Mamba-2", "attention": "attention",
             "parallel": "attention and Mamba-2 heads in parallel"}  # fmt: skip
    for arm, mean in evidence.groupby("arm")[METRIC].mean().items():
        assert f"{names[arm]} {points(mean)}%" in result
    attention = evidence[evidence["arm"] == "attention"][METRIC]
    assert f"from {points(attention.min())}% to {points(attention.max())}%" in result


def test_the_horizon_of_mini_table1_comes_from_its_pilot() -> None:
    """Of the first row alone, on a seed that is not among the study's."""
    pilot = ROOT / "docs" / "results" / "mini_table1" / "pilot"
    reports = [json.loads(line) for line in (pilot / "metrics.jsonl").read_text().splitlines()]
    solved = {report["samples"]: report["val/exact_accuracy"] for report in reports}
    space = (ROOT / "search_spaces" / "mini_table1.yaml").read_text()
    text = " ".join(line.removeprefix("# ") for line in space.splitlines() if line.startswith("#"))
    first, second = f"{solved[28_800]:.0%}", f"{solved[33_600]:.0%}"
    assert f"at 28,800 samples it had solved {first} of 128 val puzzles, at 33,600 {second}" in text
    assert "max_t: 33600" in space
    seed = json.loads((pilot / "run.json").read_text())["seed"]
    assert f"seed {seed}" in text and seed not in range(11, 17) and "seeds: [11, 12, 13, 14, 15, 16]" in space
