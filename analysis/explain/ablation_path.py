"""The path from the baseline to the best arm: one factor at a time, the one with the largest gain first.

Fawcett and Hoos 2016, "Analysing differences between algorithm configurations through ablation", over arms
that the sweep has run instead of new runs; the path names missing arms. Each step takes the best of several
means, which biases its gain upwards: the path is an explanation, not a claim.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.compare.claims import rule_of
from analysis.compare.ranking import seed_table
from analysis.design import dependents, levels
from analysis.inference.contrasts import contrast
from analysis.inference.intervals import Limits, of_differences
from analysis.inference.significance import Pairing
from analysis.sweep import Sweep

COLUMNS = ("step", "arm", "flipped", "n", "mean", "gain", "low", "high", "values", "share", "not_run")
Levels = dict[str, Any]


def ablation_path(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row per step, the baseline first; empty if the baseline has no value or is the best arm.

    `flipped` names the changed factors and their new levels, more than one if no arm is in between. `mean` is
    over the arm's `n` seeds; `gain` is the difference to the previous arm, with a 95% interval, a contrast by
    the sweep's `evidence.pairing` (`values` as in analysis.inference.contrasts); `share` is its share of the
    whole gain. `not_run` names single changes without a
    completed trial. The objective selects the path; `metric` (default: its test counterpart) is shown.
    """
    metric = metric or sweep.shown_metric
    shown, limits = seed_table(sweep, metric), of_differences(sweep.unit(metric).limits)
    pairing = rule_of(sweep).pairing
    means = seed_table(sweep, sweep.metric).mean() * (1 if sweep.maximise else -1)
    table, ran = levels(sweep), means.dropna()
    if sweep.baseline not in ran.index or ran.idxmax() == sweep.baseline:
        return pd.DataFrame(columns=list(COLUMNS))
    best, here = str(ran.idxmax()), sweep.baseline
    rows = [_row(shown, limits, pairing, 0, here, None, "", "")]
    while here != best:
        flips = _flips(table, here, best)
        arms = {flip: _arm_with(table, wanted) for flip, wanted in flips.items()}
        found = {flip: arm for flip, arm in arms.items() if arm is not None and arm in ran.index}
        missing = "; ".join(flip for flip in flips if flip not in found)
        if found:
            flip, after = max(found.items(), key=lambda each: float(ran[each[1]]))
        else:
            flip, after = "; ".join(flips), best
        rows.append(_row(shown, limits, pairing, len(rows), after, here, flip, missing))
        here = after
    total = rows[-1]["mean"] - rows[0]["mean"]
    for row in rows[1:]:
        row["share"] = row["gain"] / total if total else math.nan
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _flips(table: pd.DataFrame, here: str, best: str) -> dict[str, Levels]:
    """Each single change towards the best arm, as text, and the resulting levels.

    Factors that apply only with the new level change with it, as d_state does with an SSM mixer.
    """
    now, goal = (_levels_at(table, arm) for arm in (here, best))
    found: dict[str, Levels] = {}
    for factor in now:
        if now[factor] == goal[factor] or now[factor] is None or goal[factor] is None:
            continue
        along = [
            other for other in dependents(table, factor) if (now[other] is None) != (goal[other] is None)
        ]
        changed = {name: goal[name] for name in (factor, *along)}
        found[f"{factor}: {now[factor]} to {goal[factor]}"] = {**now, **changed}
    return found


def _arm_with(table: pd.DataFrame, wanted: Levels) -> str | None:
    return next((str(arm) for arm in table.index if _levels_at(table, str(arm)) == wanted), None)


def _levels_at(table: pd.DataFrame, arm: str) -> Levels:
    return {str(factor): table.at[arm, factor] for factor in table.columns}


def _row(
    shown: pd.DataFrame,
    limits: Limits,
    pairing: Pairing,
    step: int,
    arm: str,
    before: str | None,
    flipped: str,
    not_run: str,
) -> dict[str, Any]:
    own = contrast(shown[[arm]], [1], pairing)
    row: dict[str, Any] = {"step": step, "arm": arm, "flipped": flipped, "n": own.n, "mean": own.value}
    row["values"] = ()
    if before is not None:
        gap = contrast(shown[[arm, before]], [1, -1], pairing)
        ends = gap.interval.cut(limits)
        row |= {"gain": gap.value, "low": ends.low, "high": ends.high, "values": gap.values}
    return row | {"share": math.nan, "not_run": not_run}
