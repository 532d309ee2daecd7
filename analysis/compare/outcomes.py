"""How often an arm's runs diverge, fail or collapse, over the seeds of the evidence.

A mean leaves these runs out, or averages over them: an arm that is good where it trains and loses one seed in
five is another arm than its mean says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.inference.intervals import Values, finite, share_interval
from analysis.sweep import Sweep

LOST = 0.5  # share of its gain that a collapsed run has lost at its end
ABOVE_NOISE = 8  # the least gain, in median steps between reports late in the run
MIN_REPORTS = 8  # below, the steps late in the run are too few
OUTCOMES = ("diverged", "failed", "collapsed")


def has_collapsed(values: Values, maximise: bool = True) -> bool:
    """Whether a run, given as the metric at each report in their order, has lost at the end at least half of
    its gain, the best report less the first.

    Only where the gain is at least ABOVE_NOISE times the median absolute step between reports in the second
    half of the run: what is no more than noise cannot be lost. Of runs of nothing but noise that finds about
    one in a hundred. False with fewer than MIN_REPORTS reports.
    """
    values = finite(values) if maximise else -finite(values)
    if len(values) < MIN_REPORTS:
        return False
    gain, loss = values.max() - values[0], values.max() - values[-1]
    steps = np.abs(np.diff(values))
    noise = np.median(steps[len(steps) // 2 :])
    return bool(gain > 0 and gain >= ABOVE_NOISE * noise and loss >= LOST * gain)


def outcomes(sweep: Sweep) -> pd.DataFrame:
    """A row an arm: `n`, the seeds of its evidence whose runs have all ended; the number of them with a run
    that `diverged`, `failed`, or completed and `collapsed`; and for each, as `diverged_low` and so on, the
    ends of the exact interval of its share."""
    trials = sweep.trials[sweep.trials["phase"] == "evidence"]
    trials = trials[~trials["trial_id"].isin(sweep.lost_with_node)]
    reports = sweep.history.sort_values("step", kind="stable").groupby("trial_id")[sweep.metric]
    fallen = {str(trial) for trial, values in reports if has_collapsed(values, sweep.maximise)}
    status = trials["status"]
    runs = trials[["arm", "seed"]].assign(
        ended=status.isin(("completed", "diverged", "failed")),
        diverged=status == "diverged",
        failed=status == "failed",
        collapsed=(status == "completed") & trials["trial_id"].isin(fallen),
    )
    seeds = runs.groupby(["arm", "seed"]).agg({"ended": "all", **dict.fromkeys(OUTCOMES, "any")})
    seeds = seeds[seeds["ended"]].reset_index()
    rows = []
    for arm in sweep.arms:
        mine = seeds[seeds["arm"] == arm]
        row: dict[str, Any] = {"arm": arm, "n": len(mine)}
        for outcome in OUTCOMES:
            count = int(mine[outcome].sum())
            low, high = share_interval(count, len(mine))
            row |= {outcome: count, f"{outcome}_low": low, f"{outcome}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)
