"""What the sweeps over real curves and the reruns come to, as Markdown and JSON.

    right    share of sweeps that name the best arm; gap: right minus the full plan's, task by task
    near     share that name an arm which the whole data cannot tell from the best one
    regret   how far the named arm's mean is below the best's, in standard deviations of the arms' means
    samples  spent, search and evidence together, as a share of the full plan's

Behind each figure stands its standard error over tasks (false claims: over groups of reruns).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curve_sweeps import FULL, MEASURES, about, playable, sweeps_of
from benchmarks.curves import SOURCES, read_tasks
from benchmarks.reruns import false_claims, groups_of


def run(folder: Path, replicates: int, seed: int) -> dict[str, Any]:
    """Play and split all that the folder holds; print the tables. Raises ValueError as `read_tasks` does."""
    everything = read_tasks(folder)
    tasks = playable(everything)
    rows: list[dict[str, Any]] = []
    print("| task | policy | right % | near % | regret SD | samples % |\n|---|---|---|---|---|---|")
    for task in tasks:
        for row in sweeps_of(task, replicates, seed):
            rows.append(row)
            shares = [f"{100 * row[name]:.0f}" for name in ("right", "near", "samples")]
            cells = [row["task"], row["policy"], *shares[:2], f"{row['regret']:.3f}", shares[2]]
            print(f"| {' | '.join(cells)} |", flush=True)
    summary = list(summarise(rows))
    print(sweeps_table(summary))
    splits = [summarised(row) for row in false_claims(groups_of(everything), replicates, seed)]
    print(reruns_table(splits))
    names = dict.fromkeys(task.dataset for task in everything)
    return {
        "replicates": replicates,
        "seed": seed,
        "sources": {name: SOURCES.get(name, "see the data's own folder") for name in names},
        "tasks": [about(task) for task in tasks],
        "rows": rows,
        "summary": summary,
        "reruns": splits,
    }


def summarise(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a group and policy: means over tasks with their standard errors over tasks, and the same of the
    difference from the full plan, task by task."""
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        full = {row["task"]: row for row in members if row["policy"] == FULL}
        for policy in dict.fromkeys(row["policy"] for row in members):
            chosen = [row for row in members if row["policy"] == policy]
            found: dict[str, Any] = {"group": group, "tasks": len(chosen), "policy": policy}
            for name in MEASURES:
                values = np.array([row[name] for row in chosen])
                gaps = values - [full[row["task"]][name] for row in chosen]
                found[name], found[f"{name}_se"] = mean_and_error(values)
                found[f"{name}_gap"], found[f"{name}_gap_se"] = mean_and_error(gaps)
            yield found


def mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """The mean and its standard error, None for a single value."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
    return round(float(values.mean()), 4), None if error is None else round(float(error), 4)


def summarised(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `false_claims` with the mean over its groups."""
    rate, error = mean_and_error(np.array(row["rates"]))
    return {**row, "groups": len(row["rates"]), "false": rate, "false_se": error}


def sweeps_table(summary: list[dict[str, Any]]) -> str:
    """A table a group of tasks; shares in percent."""
    parts = []
    for group in dict.fromkeys(row["group"] for row in summary):
        members = [row for row in summary if row["group"] == group]
        parts.append(f"\n{group}: {members[0]['tasks']} tasks\n")
        parts.append("| policy | right % | gap | near % | regret SD | samples % |\n|---|---|---|---|---|---|")
        for row in members:
            cells = [
                cell(row, "right", 100, 0), cell(row, "right_gap", 100, 0), cell(row, "near", 100, 0),
                cell(row, "regret", 1, 2), cell(row, "samples", 100, 0),
            ]  # fmt: skip
            parts.append(f"| {row['policy']} | {' | '.join(cells)} |")
    return "\n".join(parts)


def reruns_table(splits: list[dict[str, Any]]) -> str:
    """A row a number of seeds and arms, a column a rule; percent."""
    rules = " | ".join(dict.fromkeys(row["rule"] for row in splits))
    parts = [f"\nFalse claims (%) among reruns of one config\n\n| seeds | arms | groups | {rules} |"]
    parts.append("|---" * (4 + rules.count("|")) + "|")
    for (seeds, arms, groups), members in itertools.groupby(
        splits, lambda row: (row["seeds"], row["arms"], row["groups"])
    ):
        cells = [cell(row, "false", 100, 1) for row in members]
        parts.append(f"| {seeds} | {arms} | {groups} | {' | '.join(cells)} |")
    return "\n".join(parts)


def cell(row: dict[str, Any], name: str, scale: float, digits: int) -> str:
    value, error = scale * row[name], row[f"{name}_se"]
    return f"{value:.{digits}f}" + ("" if error is None else f" ±{scale * error:.{digits}f}")
