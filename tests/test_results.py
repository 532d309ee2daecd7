"""Every figure in a study's table in docs/results.md follows from the files that are committed with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from analysis.report.verdicts import verdicts
from analysis.sweep import load_sweep
from tests.conftest import ROOT

STUDIES = sorted(path.parent for path in (ROOT / "docs" / "results").glob("*/trials.parquet"))
METRIC = "test/exact_accuracy"
HEAD = ["arm", "n", "mean [95% interval]", "lowest, highest", "difference [repeated interval]", "p (Holm)",
        "verdict", "parameters", "FLOPs a sample", "learning rate"]  # fmt: skip


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


def row_of(arm: str, trials: pd.DataFrame, decided: dict[str, Any], baseline: str) -> dict[str, str]:
    """What stands in the table for an arm, from its evidence by hand, and from verdicts.json."""
    values = trials[METRIC]
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    low, high = max(0.0, values.mean() - half), min(1.0, values.mean() + half)
    compared = decided.get(arm)
    difference, p, verdict = "baseline", "–", "–"
    if compared:
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
    return [row_of(arm, evidence[evidence["arm"] == arm], decided, found["baseline"]) for arm in order]


def test_there_is_a_study() -> None:
    assert STUDIES


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_table_follows_from_the_trials(folder: Path) -> None:
    assert table_of(folder.name) == expected_rows(folder)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_verdicts_follow_from_the_trials(folder: Path) -> None:
    recorded = json.loads((folder / "verdicts.json").read_text())
    assert verdicts(load_sweep(folder)) == recorded
