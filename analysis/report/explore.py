"""explore.html: a sweep's trials to look through, in one file that opens offline. Nothing there is a claim.

Its drawing is explore.js, without a library: the page is as large as its data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.compare.ranking import arms_in_order
from analysis.explain.tuning import draws, is_logarithmic, tuned
from analysis.figures.style import looks
from analysis.format import name_of
from analysis.report import page
from analysis.sweep import Sweep

FILE = "explore.html"
NUMBERS = 120_000  # in the curves: about a megabyte
DIGITS = 4
OVER = {"samples": "training samples", "flops": "training FLOPs", "wall_s": "wall time (s)"}
METRICS = 6  # that curves are drawn of


def explore(sweep: Sweep) -> str:
    """The page as text."""
    searched = bool((sweep.trials["phase"] == "search").any())
    return page.render("explore.html.j2", name=sweep.name, data=content(sweep), searched=searched)


def content(sweep: Sweep) -> dict[str, Any]:
    """What the page draws: `arms` in the order of the ranking, tuned `keys`, `trials` with their curves, of
    which every n-th report is kept where there are more than the page can hold."""
    unit, keys, how = sweep.unit(sweep.metric), tuned(sweep), looks(sweep)
    tried = draws(sweep)
    chosen = set(zip(tried.loc[tried["chosen"], "arm"], tried.loc[tried["chosen"], "draw"], strict=True))
    metrics = _metrics(sweep)
    over = [name for name in OVER if sweep.history[name].notna().any()]
    reports = dict(list(sweep.history.sort_values("step", kind="stable").groupby("trial_id")))
    keep = max(1, -(-len(sweep.history) * (len(metrics) + len(over)) // NUMBERS))
    trials = []
    for trial in sweep.trials.to_dict("records"):
        mine = reports.get(trial["trial_id"], sweep.history.iloc[:0])
        mine = pd.concat([mine.iloc[:-1:keep], mine.iloc[-1:]])
        trials.append({
            "id": trial["trial_id"], "arm": trial["arm"], "draw": _plain(trial["draw"]),
            "seed": _plain(trial["seed"]), "phase": trial["phase"], "status": trial["status"],
            "chosen": (trial["arm"], trial["draw"]) in chosen,
            "value": _plain(trial[sweep.metric] * unit.factor),
            "tuned": [_setting(trial[key]) for key in keys],
            "curves": {name: [_plain(each) for each in mine[name]] for name in (*over, *metrics)},
        })  # fmt: skip
    return {
        "arms": [
            {"name": arm, "color": page.themed(how[arm].color), "mark": how[arm].outline,
             "dashes": how[arm].dashes}
            for arm in arms_in_order(sweep)
        ],
        "objective": {"name": sweep.metric, "label": name_of(sweep.metric), "unit": unit.suffix},
        "keys": [{"name": key, "log": is_logarithmic(sweep, key)} for key in keys],
        "metrics": [
            {"name": each, "label": name_of(each), "factor": sweep.unit(each).factor,
             "unit": sweep.unit(each).suffix}
            for each in metrics
        ],
        "over": [{"name": name, "label": OVER[name]} for name in over],
        "trials": trials,
    }  # fmt: skip


def _metrics(sweep: Sweep) -> list[str]:
    """Those that are reported in the course of training: the objective, the one that trials are judged by,
    then the others by name."""
    often = sweep.history.drop(columns=["trial_id", "step", *OVER]).count()
    reported = [str(name) for name in often.index if often[name] > sweep.history["trial_id"].nunique()]
    first = [name for name in dict.fromkeys((sweep.metric, sweep.judged_metric)) if name in sweep.history]
    others = sorted(name for name in reported if name not in first and "/" in name)
    return [*first, *others][:METRICS]


def _setting(value: Any) -> Any:
    """A tuned value; a whole one in full, also where other arms lack the key, so that the column is of
    floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else _plain(value)


def _plain(value: Any) -> Any:
    """For JSON: a number of a few digits, None if it is not finite."""
    if value is None or value is pd.NA:
        return None
    if isinstance(value, float | np.floating):
        return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)
